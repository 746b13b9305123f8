"""The ASGI apps that stand side by side. Each is imported only when it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.apps import ASGIApp, constant_asgi
from benchmarks.peers.subjects import FIELDS_OF_A_HIT, PATH, TTL, Handler, Place, bare_body, tiercache_rule

Step = Callable[[], Awaitable[object]]


def bare(place: Place) -> ASGIApp:
    return constant_asgi(len(bare_body()))


def alike(place: Place) -> ASGIApp:
    return constant_asgi(len(bare_body()), *((name.encode(), value.encode()) for name, value in FIELDS_OF_A_HIT))


def starlette(place: Place, *, start: Step | None = None, stop: Step | None = None) -> Starlette:
    handler = Handler()

    async def item(request: Request) -> JSONResponse:
        return JSONResponse(handler.product())

    return Starlette(routes=[Route(PATH, item)], lifespan=_lifespan(start, stop))


def _lifespan(start: Step | None, stop: Step | None) -> Any:
    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        if start is not None:
            await start()
        yield
        if stop is not None:
            await stop()

    return lifespan


def tiercache(place: Place) -> ASGIApp:
    return tiercache_rule(place).asgi(starlette(place))


def asgi_caches(place: Place) -> ASGIApp:
    from asgi_caches.middleware import CacheMiddleware
    from caches import Cache

    cache = Cache(place.url or "locmem://", ttl=TTL)
    app: ASGIApp = CacheMiddleware(starlette(place, start=cache.connect, stop=cache.disconnect), cache=cache)
    return app


def starlette_caches(place: Place) -> ASGIApp:
    from aiocache import Cache
    from starlette_caches.middleware import CacheMiddleware
    from starlette_caches.rules import Rule

    cache = Cache.from_url(place.url) if place.url else Cache(Cache.MEMORY)
    app: ASGIApp = CacheMiddleware(starlette(place, stop=cache.close), cache=cache, rules=[Rule(ttl=TTL)])
    return app


def cashews(place: Place) -> ASGIApp:
    """Its decorator around what the view asks for, which is leaner than the FastAPI route of its documentation."""
    from cashews import Cache

    cache = Cache()
    cache.setup(place.url or "mem://")
    handler = Handler()

    async def product() -> dict[str, Any]:
        return handler.product()

    cached = cache(ttl=TTL, key="item")(product)

    async def item(request: Request) -> JSONResponse:
        return JSONResponse(await cached())

    return Starlette(routes=[Route(PATH, item)], lifespan=_lifespan(None, cache.close))


def fastapi(place: Place) -> ASGIApp:
    return _fastapi(lambda view: view)


def fastapi_cache(place: Place) -> ASGIApp:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.inmemory import InMemoryBackend
    from fastapi_cache.backends.redis import RedisBackend
    from fastapi_cache.decorator import cache
    from redis import asyncio as aioredis

    FastAPICache.reset()  # it knows one store in each process
    backend = RedisBackend(aioredis.from_url(place.url)) if place.url else InMemoryBackend()
    FastAPICache.init(backend, prefix="fastapi-cache")
    return _fastapi(cache(expire=TTL))


def _fastapi(around: Callable[[Any], Any]) -> ASGIApp:
    from fastapi import FastAPI

    handler = Handler()

    async def item() -> dict[str, Any]:
        return handler.product()

    app = FastAPI(openapi_url=None)
    app.add_api_route(PATH, around(item), methods=["GET"])
    return app


def litestar(place: Place) -> ASGIApp:
    return _litestar(place, cached=False)


def litestar_cached(place: Place) -> ASGIApp:
    return _litestar(place, cached=True)


def _litestar(place: Place, *, cached: bool) -> ASGIApp:
    from litestar import Litestar, get
    from litestar.stores.memory import MemoryStore
    from litestar.stores.redis import RedisStore

    handler = Handler()

    async def item() -> dict[str, Any]:
        return handler.product()

    route = get(PATH, cache=TTL if cached else False)(item)
    kept = RedisStore.with_client(place.url) if place.url else MemoryStore()
    app: ASGIApp = Litestar([route], stores={"response_cache": kept}, openapi_config=None, logging_config=None)
    return app


def hishel(place: Place) -> ASGIApp:
    """By method and URL alone (`rfc=False`), which is its leaner way; it has no store in memory but SQLite's."""
    from hishel import AsyncRedisStorage, AsyncSqliteStorage
    from hishel.asgi import ASGICacheMiddleware

    storage: Any
    start: Step | None = None
    if place.url:
        from redis.asyncio import Redis

        storage = AsyncRedisStorage(Redis.from_url(place.url), default_ttl=TTL)
    else:
        import anysqlite

        storage = AsyncSqliteStorage(default_ttl=TTL)

        async def start() -> None:
            storage.connection = await anysqlite.connect(":memory:", isolation_level=None)

    app: ASGIApp = ASGICacheMiddleware(starlette(place, start=start, stop=storage.close), storage, rfc=False)
    return app


def django(place: Place) -> ASGIApp:
    return _django(place, cached=False)


def django_cached(place: Place) -> ASGIApp:
    return _django(place, cached=True)


def _django(place: Place, *, cached: bool) -> ASGIApp:
    from django.core.handlers.asgi import ASGIHandler

    from benchmarks.peers import django_site

    with django_site.configured(place.url, cached=cached):
        app: ASGIApp = ASGIHandler()
    return app
