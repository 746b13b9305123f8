"""The ASGI app under load: one FastAPI view over the origin, as it is or cached by the library that is on trial.

Each library is set up as its own documentation does it. The configuration comes as JSON in LOAD_CONFIG.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from fastapi import FastAPI, HTTPException

from benchmarks.load.origin import Origin, OriginFailed
from benchmarks.load.subjects import Config
from tiercache import TierCache

View = Callable[[str], Awaitable[Any]]
TEMPLATE = "/items/{key}"


def make() -> Any:
    config = Config.from_environment()
    origin = Origin(config.origin)

    async def item(key: str) -> dict[str, Any]:
        try:
            return await origin.afetch(key)
        except OriginFailed:
            raise HTTPException(503) from None

    return _LIBRARIES[config.library](item, config)


def _app(item: View, start: Callable[[], None] = lambda: None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        start()
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_api_route(TEMPLATE, item, methods=["GET"])
    app.add_api_route("/ready", _ready, methods=["GET"])
    return app


async def _ready() -> dict[str, bool]:
    return {"ready": True}


def _bare(item: View, config: Config) -> Any:
    return _app(item)


def _tiercache(item: View, config: Config) -> Any:
    cache = TierCache(config.redis, namespace="load", **config.cache)
    cache.route(TEMPLATE, **config.rule)
    return cache.asgi(_app(item))


def _cashews(item: View, config: Config) -> Any:
    from cashews import cache

    cache.setup(config.redis, **config.cache)
    rule = dict(config.rule)
    early = rule.pop("early", None)
    if early is None:
        return _app(cache(key="item:{key}", **rule)(item))
    return _app(cache.early(key="item:{key}", early_ttl=timedelta(seconds=early), **rule)(item))


def _fastapi_cache(item: View, config: Config) -> Any:
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.redis import RedisBackend
    from fastapi_cache.decorator import cache
    from redis import asyncio as aioredis

    def start() -> None:
        FastAPICache.init(RedisBackend(aioredis.from_url(config.redis)), prefix="fastapi-cache")

    return _app(cache(**config.rule)(item), start)


_LIBRARIES: dict[str, Callable[[View, Config], Any]] = {
    "none": _bare,
    "tiercache": _tiercache,
    "cashews": _cashews,
    "fastapi-cache2": _fastapi_cache,
}
