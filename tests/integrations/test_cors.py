"""The extensions that people use for CORS, inside of the cache, in whatever order visitors come."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import falcon
import falcon.asgi
import httpx
import pytest
from flask import Flask
from flask_cors import CORS
from quart import Quart
from quart_cors import cors
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tiercache import TierCache

A, B, EVIL = "https://a.example", "https://b.example", "https://evil.example"
ORIGINS = [A, B]
OPEN = {("*", None)}
Calls = list[str]


def flask_app(calls: Calls, **options: Any) -> Any:
    app = Flask("shop")
    CORS(app, **options)
    app.get("/p/<page>")(lambda page: calls.append(page) or "page")  # type: ignore[func-returns-value]
    return app.wsgi_app


def quart_app(calls: Calls, **options: Any) -> Any:
    app = cors(Quart("shop"), **options)

    @app.get("/p/<page>")
    async def show(page: str) -> str:
        calls.append(page)
        return "page"

    return app.asgi_app


def falcon_app(calls: Calls, **options: Any) -> Any:
    class Page:
        def on_get(self, req: Any, resp: Any, page: str) -> None:
            calls.append(page)
            resp.text = "page"

    app = falcon.App(middleware=falcon.CORSMiddleware(**options))
    app.add_route("/p/{page}", Page())
    return app


def starlette_app(calls: Calls, **options: Any) -> Any:
    async def page(request: Any) -> PlainTextResponse:
        calls.append(request.path_params["id"])
        return PlainTextResponse("page")

    app = Starlette(routes=[Route("/p/{id}", page)])
    app.add_middleware(CORSMiddleware, **options)
    return app


Build = Callable[..., Any]
APPS: list[tuple[Build, dict[str, Any]]] = [
    (flask_app, {"origins": ORIGINS}),
    (flask_app, {"origins": ORIGINS, "always_send": False, "supports_credentials": True}),
    (flask_app, {"origins": A}),
    (flask_app, {}),
    (flask_app, {"supports_credentials": True}),
    (quart_app, {"allow_origin": ORIGINS}),
    (quart_app, {"allow_origin": ORIGINS, "allow_credentials": True}),
    (quart_app, {}),
    (falcon_app, {"allow_origins": ORIGINS}),
    (falcon_app, {"allow_origins": ORIGINS, "allow_credentials": A}),
    (falcon_app, {"allow_origins": "*", "allow_credentials": "*"}),
    (falcon_app, {}),
    (starlette_app, {"allow_origins": ORIGINS}),
    (starlette_app, {"allow_origins": ORIGINS, "allow_credentials": True}),
    (starlette_app, {"allow_origin_regex": "https://[ab].example"}),
    (starlette_app, {"allow_origins": ["*"]}),
]


def client_of(app: Any, build: Build) -> httpx.AsyncClient | httpx.Client:
    if build in (quart_app, starlette_app):
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")
    return httpx.Client(transport=httpx.WSGITransport(app), base_url="http://shop")


async def get(client: httpx.AsyncClient | httpx.Client, path: str, origin: str | None) -> httpx.Response:
    headers = {} if origin is None else {"origin": origin}
    if isinstance(client, httpx.AsyncClient):
        return await client.get(path, headers=headers)
    return client.get(path, headers=headers)


def said(response: httpx.Response) -> tuple[str | None, str | None]:
    return tuple(response.headers.get(f"access-control-allow-{what}") for what in ("origin", "credentials"))  # type: ignore[return-value]


@pytest.mark.parametrize(("build", "options"), APPS, ids=lambda value: getattr(value, "__name__", str(value)))
async def test_the_cache_says_to_each_origin_what_the_app_would(build: Build, options: dict[str, Any]) -> None:
    calls: Calls = []
    cache = TierCache()
    cache.route("/p/{id}", ttl="10m")
    app = build(calls, **options)
    around = cache.asgi(app) if build in (quart_app, starlette_app) else cache.wsgi(app)
    bare, cached = client_of(app, build), client_of(around, build)
    told = {origin: said(await get(bare, "/p/bare", origin)) for origin in (None, A, B, EVIL)}
    for number, order in enumerate(itertools.permutations((None, A, B, EVIL))):
        for origin in (*order, *order):
            response = await get(cached, f"/p/{number}", origin)
            # Without an `Origin` nobody looks at what is said of them; what is said to nobody in particular is for all.
            assert origin is None or said(response) in (told[origin], *OPEN.intersection([told[None]])), (order, origin)
    calls.clear()
    for _ in range(2):
        assert "hit" in (await get(cached, "/p/0", A)).headers["cache-status"]
    assert not calls
    cache.close()
