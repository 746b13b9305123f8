"""Falcon needs no integration: what its guide says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import falcon
import falcon.asgi
import httpx
import pytest

import tiercache
from tiercache import TierCache

LOST = "said in a thread without its request"
STORED, KEPT_OUT = "tiercache; fwd=miss; stored", "tiercache; fwd=miss; detail=view"


@pytest.fixture
def cache() -> TierCache:
    cache = TierCache()
    cache.route("/p", ttl="10m")
    return cache


async def said(cache: TierCache, app: Any) -> str:
    transport = httpx.ASGITransport(cache.asgi(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        found: str = (await http.get("/p")).headers["cache-status"]
    return found


@pytest.mark.parametrize(
    ("in_thread", "outcome"),
    [(falcon.sync_to_async, STORED), (asyncio.to_thread, KEPT_OUT)],
    ids=["sync_to_async", "to_thread"],
)
async def test_only_threads_that_take_the_context_along_are_heard(
    cache: TierCache, in_thread: Callable[..., Awaitable[None]], outcome: str
) -> None:
    """If this fails for Falcon's own, its guide may say so: then the warning there can go."""

    class Page:
        async def on_get(self, req: Any, resp: Any) -> None:
            await in_thread(tiercache.no_store)
            resp.text = "page"

    app = falcon.asgi.App()
    app.add_route("/p", Page())
    assert await said(cache, app) == outcome
    # Silence would be worse than not being heard: the page is stored.
    assert cache.stats()["swallowed"] == ({LOST: 1} if outcome == STORED else {})


async def test_what_is_carried_is_heard(cache: TierCache) -> None:
    class Page:
        async def on_get(self, req: Any, resp: Any) -> None:
            await falcon.sync_to_async(tiercache.carry(tiercache.no_store))
            resp.text = "page"

    app = falcon.asgi.App()
    app.add_route("/p", Page())
    assert await said(cache, app) == KEPT_OUT
    assert cache.stats()["swallowed"] == {}


@pytest.mark.parametrize("where", ["hook", "middleware"])
async def test_hooks_and_middleware_are_heard(cache: TierCache, where: str) -> None:
    async def speak(req: Any, resp: Any, resource: Any, params: Any) -> None:
        tiercache.no_store()

    class Speaking:
        async def process_response(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
            tiercache.no_store()

    class Page:
        async def on_get(self, req: Any, resp: Any) -> None:
            resp.text = "page"

    class Hooked(Page):
        on_get = falcon.before(speak)(Page.on_get)

    app = falcon.asgi.App(middleware=[Speaking()] if where == "middleware" else [])
    app.add_route("/p", Hooked() if where == "hook" else Page())
    assert await said(cache, app) == KEPT_OUT
