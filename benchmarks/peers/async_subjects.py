"""Async functions whose values are kept, side by side. Each makes a callable: a call with one key, or with another.

All share a Redis, so each has names of its own in it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from benchmarks.peers.subjects import TTL, Handler, Place, Value, tiercache_in, tiers_of

KEY = 7


def _function() -> Any:
    handler = Handler()

    async def product(number: int) -> dict[str, Any]:
        return handler.product()

    return product


def bare(place: Place) -> Value:
    """A dict: nothing can be leaner, and nothing in it ever ends."""
    values = {KEY: Handler().product()}

    async def product(number: int) -> Any:
        return values[number]

    return lambda key=KEY: product(key)


def tiercache(place: Place) -> Value:
    product = tiercache_in(place).memoize("products:{number}", ttl=TTL, tiers=tiers_of(place))(_function())
    return lambda key=KEY: product(key)


def cashews(place: Place) -> Value:
    from cashews import Cache

    cache = Cache()
    cache.setup(place.url or "mem://")
    place.closing_async.append(cache.close)
    product = cache(ttl=TTL, key="cashews:{number}")(_function())
    return lambda key=KEY: product(key)


def aiocache(place: Place) -> Value:
    from aiocache import Cache, cached
    from aiocache.serializers import JsonSerializer

    redis = urlsplit(place.url)
    more = {"endpoint": redis.hostname, "port": redis.port, "serializer": JsonSerializer()} if place.url else {}
    kept = cached(ttl=TTL, cache=Cache.REDIS if place.url else Cache.MEMORY, key_builder=_key, **more)
    product = kept(_function())
    place.closing_async.append(product.cache.close)
    return lambda key=KEY: product(key)


def _key(function: object, number: int) -> str:
    return f"aiocache:{number}"
