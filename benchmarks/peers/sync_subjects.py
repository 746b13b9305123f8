"""Functions whose values are kept, side by side. Each makes a callable without arguments: one call with one key."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import urlsplit

from benchmarks.peers.subjects import TTL, Handler, Place, Value, tiercache_in, tiers_of

KEY = 7


def _function() -> Any:
    handler = Handler()

    def product(number: int) -> dict[str, Any]:
        return handler.product()

    return product


def bare(place: Place) -> Value:
    """A dict: nothing can be leaner, and nothing in it ever ends."""
    values = {KEY: _function()(KEY)}

    def product(number: int) -> Any:
        return values[number]

    return lambda: product(KEY)


def lru_cache(place: Place) -> Value:
    product = functools.lru_cache(maxsize=1024)(_function())
    return lambda: product(KEY)


def tiercache(place: Place) -> Value:
    product = tiercache_in(place).memoize("products:{number}", ttl=TTL, tiers=tiers_of(place))(_function())
    return lambda: product(KEY)


def dogpile(place: Place) -> Value:
    from dogpile.cache import make_region

    region = make_region()
    if place.url:
        redis = urlsplit(place.url)
        region.configure(
            "dogpile.cache.redis", expiration_time=TTL, arguments={"host": redis.hostname, "port": redis.port}
        )
    else:
        region.configure("dogpile.cache.memory", expiration_time=TTL)
    product = region.cache_on_arguments()(_function())
    return lambda: product(KEY)


def flask_caching(place: Place) -> Value:
    from flask import Flask
    from flask_caching import Cache

    app = Flask("values")
    in_redis = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": place.url}
    cache = Cache(app, config=in_redis if place.url else {"CACHE_TYPE": "SimpleCache"})
    product = cache.memoize(timeout=TTL)(_function())
    # As in a request, for as long as it is measured.
    place.closing.enter_context(app.app_context())
    return lambda: product(KEY)
