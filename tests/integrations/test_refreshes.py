"""Refreshes behind stale answers where a framework stands around the cache: what is its own in the scope goes along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from litestar import Litestar, get
from litestar import Request as LitestarRequest
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.asgi_client import GUARD
from tests.clock import Hands
from tiercache import TierCache
from tiercache.integrations.litestar import TierCachePlugin
from tiercache.integrations.starlette import TierCacheMiddleware


class Noting:
    """A layer outside of the cache that notes something of the client in the scope."""

    def __init__(self, app: Any, **_: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["client"] = scope["client_name"] = dict(scope["headers"])[b"user-agent"]
        await self.app(scope, receive, send)


def noted(scope: Any) -> str:
    return f"{scope.get('client_name')} {scope.get('state', {}).get('client')}"


def starlette_app(cache: TierCache) -> Any:
    async def page(request: Request) -> PlainTextResponse:
        request.app.state.calls += 1
        where = request.url_for("page", number=1)
        return PlainTextResponse(f"{request.app.state.calls} {where} {noted(request.scope)}")

    app = Starlette(routes=[Route("/t/p/{number}", page, name="page")])
    app.state.calls = 0
    app.add_middleware(TierCacheMiddleware, cache=cache)
    app.add_middleware(Noting)
    return app


def fastapi_app(cache: TierCache) -> Any:
    app, router = FastAPI(), APIRouter(prefix="/t")
    app.state.calls = 0

    @router.get("/p/{number}", name="page")
    def page(number: int, request: Request) -> PlainTextResponse:
        app.state.calls += 1
        assert request.app is app
        return PlainTextResponse(f"{app.state.calls} {request.url_for('page', number=1)} {noted(request.scope)}")

    app.include_router(router)
    app.add_middleware(TierCacheMiddleware, cache=cache)
    app.add_middleware(Noting)
    return app


def mounted_app(cache: TierCache) -> Any:
    """Within one of the routes of the app around it: a part of the path is known only from there."""
    calls = 0

    async def page(request: Request) -> PlainTextResponse:
        nonlocal calls
        calls += 1
        assert request.path_params["tenant"] == "t"
        where = request.url_for("tenant:page", tenant="t", number=1)
        return PlainTextResponse(f"{calls} {where} {noted(request.scope)}")

    inner = Starlette(routes=[Route("/p/{number}", page, name="page")], middleware=[])
    mount = Mount("/{tenant}", app=cache.asgi(inner.router), name="tenant")
    # The mount has to find the routes of what is wrapped.
    mount._base_app = inner.router
    app = Starlette(routes=[mount])
    app.add_middleware(Noting)
    return app


def litestar_app(cache: TierCache) -> Any:
    calls = 0

    @get("/{tenant:str}/p/{number:int}", name="page", sync_to_thread=False)
    def page(request: LitestarRequest[Any, Any, Any]) -> str:
        nonlocal calls
        calls += 1
        tenant = request.path_params["tenant"]
        assert request.scope["path_template"]
        where = "http://shop" + request.app.route_reverse("page", tenant=tenant, number=1)
        return f"{calls} {where} {noted(request.scope)}"

    class Around(TierCachePlugin):
        def on_app_init(self, app_config: Any) -> Any:
            app_config = super().on_app_init(app_config)
            app_config.middleware.insert(0, DefineMiddleware(Noting))
            return app_config

    return Litestar([page], plugins=[Around(cache)])


@pytest.mark.parametrize("build", [starlette_app, fastapi_app, mounted_app, litestar_app])
@pytest.mark.parametrize("rule", [{"stale_while_revalidate": "1h"}, {"early_refresh": 0.5}], ids=["stale", "early"])
async def test_a_refresh_reaches_the_view(build: Callable[[TierCache], Any], rule: dict[str, Any]) -> None:
    cache = TierCache()
    cache.route("/{tenant}/p/{number}", ttl="10s", **rule)
    hands = Hands(cache)
    app = build(cache)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as http:
        first = await http.get("/t/p/1", headers={"user-agent": "alice"})
        assert first.text == "1 http://shop/t/p/1 b'alice' b'alice'"
        hands.turn(11 if "stale_while_revalidate" in rule else 8)
        assert (await http.get("/t/p/1", headers={"user-agent": "bob"})).text == first.text
        async with asyncio.timeout(GUARD):
            while cache._engine.limits.behind:
                await asyncio.sleep(0.001)
        refreshed = await http.get("/t/p/1", headers={"user-agent": "carol"})
    assert cache.stats()["swallowed"] == {}
    assert refreshed.text == "2 http://shop/t/p/1 None None"


async def test_a_page_that_is_gone_is_no_failure_of_its_refresh() -> None:
    """What handles the exceptions of a route stands around it, and the cache may stand between."""
    gone = False

    async def page(request: Request) -> PlainTextResponse:
        if gone:
            raise HTTPException(404)
        return PlainTextResponse("page")

    cache = TierCache()
    cache.route("/p/{number}", ttl="10s", stale_while_revalidate="1h")
    hands = Hands(cache)
    app = Starlette(routes=[Mount("/", app=cache.asgi(Starlette(routes=[Route("/p/{number}", page)]).router))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as http:
        assert (await http.get("/p/1")).status_code == 200
        gone = True
        hands.turn(11)
        assert (await http.get("/p/1")).status_code == 200
        async with asyncio.timeout(GUARD):
            while cache._engine.limits.behind:
                await asyncio.sleep(0.001)
    assert cache.stats()["swallowed"] == {}
