"""One small site in each framework, and the test client that its users have."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import httpx

from tiercache import TierCache
from tiercache.integrations.flask import FlaskTierCache
from tiercache.integrations.starlette import TierCacheMiddleware

TEMPLATE = "/p/{id}"


def starlette(cache: TierCache) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    app = Starlette(routes=[Route(TEMPLATE, lambda request: PlainTextResponse("page"), methods=["GET", "POST"])])
    app.add_middleware(TierCacheMiddleware, cache=cache)
    return _client_of_starlette(app)


def fastapi(cache: TierCache) -> Any:
    from fastapi import FastAPI

    app = FastAPI()
    for add in (app.get, app.post):
        add(TEMPLATE)(lambda: "page")
    app.add_middleware(TierCacheMiddleware, cache=cache)
    return _client_of_starlette(app)


def _client_of_starlette(app: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions ask for another client beneath, and work with this one
        from starlette.testclient import TestClient
    return TestClient(app)


def flask(cache: TierCache) -> Any:
    from flask import Flask

    app = Flask("pages")
    app.route("/p/<page>", methods=["GET", "POST"])(lambda page: "page")
    FlaskTierCache(app, cache)
    return app.test_client()


def django(cache: TierCache) -> Any:
    # A process has one Django: it is set up there.
    import_module("tests.frameworks.apps.django_app")
    from tiercache.testing.django import CachedClient

    return CachedClient(cache)


def plain(cache: TierCache) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"page"]

    return httpx.Client(transport=httpx.WSGITransport(app=cache.wsgi(app)), base_url="http://testserver")


CLIENTS: dict[str, Callable[[TierCache], Any]] = {
    "django": django,
    "fastapi": fastapi,
    "flask": flask,
    "httpx": plain,
    "starlette": starlette,
}
