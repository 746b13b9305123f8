"""Which word counts, in real apps: what the view does > the file and the environment > the rule > the decorator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask, Response
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import tiercache
from tests.clock import Hands
from tiercache import TierCache
from tiercache.errors import ConfigError
from tiercache.integrations.flask import FlaskTierCache
from tiercache.integrations.starlette import TierCacheMiddleware

TTL = re.compile(r"tiercache; hit; ttl=(\d+); detail=l1")
Ask = Callable[[str], dict[str, str]]
"""A path; the fields of the response, by lower-case name."""

FILE = """
app = "file"
max_body = "1KiB"

[policies.pages]
ttl = 50
stale_if_error = 500

[[routes]]
path = "/in-file/{id}"
ttl = 30

[[routes]]
path = "/by-policy/{id}"
policy = "pages"

[[routes]]
path = "/switched-off/{id}"
cache = false

[[routes]]
path = "/left-open/{id}"
ttl = "none"
"""


class Views:
    """What the views of one app do, beside their answers."""

    def __init__(self) -> None:
        self.ttl: str | None = None
        self.refuses = False
        self.headers: dict[str, str] = {}
        self.body = "a page"

    def run(self) -> dict[str, str]:
        if self.ttl is not None:
            tiercache.ttl(self.ttl)
        if self.refuses:
            tiercache.no_store("as it is")
        return self.headers


PATHS = ("in-file", "by-policy", "switched-off", "left-open", "in-code", "bare")


def flask_app(cache: TierCache, views: Views, declared: dict[str, Any]) -> Ask:
    app = Flask("shop")

    def view(number: str) -> Response:
        return Response(views.body, headers=views.run(), mimetype="text/plain")

    for name in PATHS:
        app.add_url_rule(f"/{name}/<number>", name, cache.cached(**declared)(view) if declared else view)
    FlaskTierCache(app, cache)
    client = app.test_client()
    return lambda path: {k.lower(): v for k, v in client.get(path, buffered=True).headers.items()}


def starlette_app(cache: TierCache, views: Views, declared: dict[str, Any]) -> Ask:
    async def view(request: Any) -> PlainTextResponse:
        return PlainTextResponse(views.body, headers=views.run())

    endpoint = cache.cached(**declared)(view) if declared else view
    app = Starlette(routes=[Route(f"/{name}/{{id}}", endpoint) for name in PATHS])
    app.add_middleware(TierCacheMiddleware, cache=cache)

    async def ask(path: str) -> dict[str, str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop.example") as client:
            return dict((await client.get(path)).headers)

    return lambda path: asyncio.run(ask(path))


@pytest.fixture(params=[flask_app, starlette_app])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Makes an app with all four layers: `(ask, views, hands)`."""
    file = tmp_path / "shop.toml"
    file.write_text(FILE, encoding="utf-8")

    def make(environ: dict[str, str] | None = None, declared: dict[str, Any] | None = None, **rule: Any) -> Any:
        cache = TierCache.from_toml(file, environ=environ or {})
        if rule:
            for name in PATHS[:-1]:
                cache.route(f"/{name}/{{id}}", **rule)
        views = Views()
        ask = request.param(cache, views, declared or {})
        return ask, views, Hands(cache)

    return make


def lifetime(ask: Ask, path: str) -> int | None:
    """For how long a second request finds it fresh; None where it is not stored."""
    ask(path)
    found = TTL.fullmatch(ask(path)["cache-status"])
    return None if found is None else int(found[1])


def test_the_file_is_stronger_than_the_rule_and_the_rule_than_the_decorator(shop: Any) -> None:
    ask, _, _ = shop(declared={"ttl": 10}, ttl=20)
    assert lifetime(ask, "/bare/1") == 10
    assert lifetime(ask, "/in-code/1") == 20
    assert lifetime(ask, "/in-file/1") == 30
    assert lifetime(ask, "/by-policy/1") == 50


def test_a_decorator_gives_what_neither_file_nor_rule_does(shop: Any) -> None:
    ask, _, _ = shop(declared={"ttl": 10, "browser_ttl": 7}, stale_if_error=5)
    assert lifetime(ask, "/in-code/1") == 10
    assert lifetime(ask, "/in-file/1") == 30
    # Setting by setting: the lifetime of the file, that of the decorator in browsers.
    for name in ("in-code", "in-file"):
        assert ask(f"/{name}/1")["cache-control"] == "max-age=7"


def test_what_the_view_does_is_stronger_than_all(shop: Any) -> None:
    ask, views, _ = shop(declared={"ttl": 10}, ttl=20)
    views.ttl = "40s"
    assert [lifetime(ask, f"/{name}/1") for name in ("bare", "in-code", "in-file", "by-policy")] == [40] * 4
    # Its function is stronger than its own header, and the header than file, rule and decorator.
    views.headers = {"Cache-Control": "max-age=44"}
    assert [lifetime(ask, f"/{name}/2") for name in ("bare", "in-code", "in-file")] == [40] * 3
    views.ttl = None
    assert [lifetime(ask, f"/{name}/3") for name in ("bare", "in-code", "in-file", "by-policy")] == [44] * 4
    views.refuses = True
    assert [lifetime(ask, f"/{name}/4") for name in ("bare", "in-code", "in-file", "by-policy")] == [None] * 4
    views.refuses, views.headers = False, {"Cache-Control": "private"}
    assert [lifetime(ask, f"/{name}/5") for name in ("bare", "in-code", "in-file", "by-policy")] == [None] * 4


def test_the_file_switches_a_rule_off_whatever_the_view_says(shop: Any) -> None:
    ask, views, _ = shop(declared={"ttl": 10}, ttl=20)
    views.ttl = "40s"
    assert lifetime(ask, "/switched-off/1") is None
    assert ask("/switched-off/1")["cache-status"] == "tiercache; fwd=bypass; detail=route"


def test_none_in_the_file_leaves_it_to_the_app_and_not_to_the_weaker_layers(shop: Any) -> None:
    ask, views, _ = shop(declared={"ttl": 10}, ttl=20)
    assert lifetime(ask, "/left-open/1") is None
    views.headers = {"Cache-Control": "max-age=44"}
    assert lifetime(ask, "/left-open/2") == 44


def test_the_environment_is_stronger_than_the_file(shop: Any) -> None:
    ask, views, _ = shop(ttl=20)
    views.body = "x" * 2_000
    assert lifetime(ask, "/in-code/1") is None
    assert ask("/in-code/1")["cache-status"] == "tiercache; fwd=miss; detail=too-large"
    ask, views, _ = shop(environ={"TIERCACHE_MAX_BODY": "4KiB"}, ttl=20)
    views.body = "x" * 2_000
    assert lifetime(ask, "/in-code/1") == 20
    # A rule is narrower than a setting for all, wherever either stands.
    ask, views, _ = shop(environ={"TIERCACHE_MAX_BODY": "1"}, ttl=20, max_body="4KiB")
    views.body = "x" * 2_000
    assert lifetime(ask, "/in-code/1") == 20


def test_the_environment_switches_everything_off_against_the_file(shop: Any) -> None:
    ask, _, _ = shop(environ={"TIERCACHE_DISABLED": "1"}, ttl=20)
    assert "cache-status" not in ask("/in-file/1")


def test_tags_of_all_layers_add_up(shop: Any) -> None:
    ask, _, hands = shop(declared={"ttl": 10, "tags": ["declared"]}, tags=["rule:{id}"], ttl=20)
    for tag in ("declared", "rule:1"):
        assert lifetime(ask, "/in-file/1") == 30
        hands.cache.purge(tags=tag)
        assert ask("/in-file/1")["cache-status"] == "tiercache; fwd=miss; stored"


def test_a_policy_of_the_file_holds_setting_by_setting(shop: Any) -> None:
    ask, views, hands = shop(ttl=20, stale_if_error=5)
    assert lifetime(ask, "/by-policy/1") == 50
    assert lifetime(ask, "/in-code/1") == 20
    hands.turn(60)
    views.ttl = "nonsense"  # the view fails
    # 10 s past its end: within the 500 s of the policy, and not within the 5 s of the rule.
    assert ask("/by-policy/1")["cache-status"].endswith("detail=stale-if-error")
    try:
        assert "stale-if-error" not in ask("/in-code/1")["cache-status"]
    except ConfigError:
        pass  # as the framework lets it through
