from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from flask import Flask
from starlette.applications import Starlette

from tests.test_wsgi import app_with, environ_for
from tiercache import ConfigError, Policy, TierCache


def asked(cache: TierCache, path: str = "/p/1", times: int = 2) -> str:
    """`Cache-Status` of the last of several requests."""
    app = cache.wsgi(app_with(lambda: [b"hello"]))
    said = ""

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        nonlocal said
        said = dict(headers).get("Cache-Status", "")

    for _ in range(times):
        body = app(environ_for(path), start_response)
        b"".join(body)
        getattr(body, "close", lambda: None)()
    return said


def test_a_rule_starts_from_a_policy() -> None:
    cache = TierCache()
    route = cache.route("/p/{id}", Policy(ttl="1m", tags=["all"]), ttl="5s", tags=["p:{id}"])
    assert (route.policy.ttl, route.policy.tags) == (5.0, ("p:{id}", "all"))
    assert asked(cache).startswith("tiercache; hit")


def test_rules_may_come_after_the_app_was_wrapped() -> None:
    cache = TierCache()
    assert "detail=no-lifetime" in asked(cache, times=1)
    cache.route("/q/{id}", ttl="1m")
    assert asked(cache, "/q/1").startswith("tiercache; hit")


@pytest.mark.parametrize(
    ("template", "settings", "named"),
    [
        ("/p/{id", {}, "route '/p/{id'"),
        ("/p/{id}", {"tll": "5s"}, "did you mean 'ttl'"),
        ("/p/{id}", {"ttl": "5 parsecs"}, "route '/p/{id}': ttl: '5 parsecs'"),
        ("/p/{id}", {"ttl": "5s", "tags": ["x:{name}"]}, "route '/p/{id}': tags"),
    ],
)
def test_a_bad_rule_is_named_with_its_setting_and_value(template: str, settings: Any, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TierCache().route(template, **settings)
    assert named in str(raised.value)


def test_a_shadowed_rule_is_refused_and_leaves_no_trace() -> None:
    cache = TierCache()
    cache.route("/p/{rest:path}", ttl="1m")
    with pytest.raises(ConfigError, match=r"'/p/\{rest:path\}' comes first"):
        cache.route("/p/{id}", cache=False)
    assert asked(cache).startswith("tiercache; hit")


def test_switched_off_everything_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERCACHE_DISABLED", "1")
    cache = TierCache()
    cache.route("/p/{id}", ttl="1m")
    assert asked(cache) == ""
    assert cache.stats()["misses"] == 0


def test_counters_add_up() -> None:
    cache = TierCache()
    cache.route("/p/{id}", ttl="1m")
    cache.route("/never", cache=False)
    asked(cache, times=5)
    asked(cache, "/never", times=3)
    stats = cache.stats()
    assert (stats["misses"], stats["stored"], stats["hits_l1"]) == (1, 1, 4)
    assert stats["bypassed"] == {"route": 3}
    assert stats["swallowed"] == {}


def test_one_cache_serves_several_loops_and_is_closed_twice() -> None:
    cache = TierCache()
    cache.route("/p/{id}", ttl="1m")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    wrapped = cache.asgi(app)
    sent: list[Any] = []

    async def once() -> None:
        scope = {"type": "http", "method": "GET", "path": "/p/1", "query_string": b"", "headers": [(b"host", b"x")]}

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        await wrapped(scope, receive, send)
        await cache.aclose()

    for _ in range(3):
        asyncio.run(once())
    assert cache.stats()["hits_l1"] == 2
    cache.close()
    cache.close()


def test_an_app_of_the_other_kind_is_refused_and_one_that_is_wrapped_already() -> None:
    cache = TierCache()
    flask, starlette = Flask("shop"), Starlette()
    with pytest.raises(ConfigError, match=r"this one is WSGI: cache.wsgi\(app\)"):
        cache.asgi(flask)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"this one is ASGI: cache.asgi\(app\)"):
        cache.wsgi(starlette)  # type: ignore[arg-type]
    for wrap, app in ((cache.asgi, starlette), (cache.wsgi, flask)):
        wrapped = wrap(app)  # type: ignore[operator]
        with pytest.raises(ConfigError, match="not been put around yet"):
            wrap(wrapped)  # type: ignore[operator]
    # Another cache may stand around it, and what does not say what it takes is taken.
    TierCache().asgi(cache.asgi(starlette))
    cache.asgi(lambda *everything: None)  # type: ignore[arg-type, return-value]


def test_a_purge_of_a_template_is_done_and_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    cache = TierCache()
    # Said in so many words: benchmarks, which tests run as well, silence the logger.
    with caplog.at_level(logging.WARNING, "tiercache"):
        assert cache.purge(tags=["product:{id}"], urls=["/p/{id}"]).members == ("t:product:{id}", "p:/p/{id}")
    assert "f'product:{id}' would be" in caplog.text
    assert cache.stats()["swallowed"] == {"purge of a template": 1}
    cache.purge(tags=["product:7", "json:{}", "{ id }"])
    assert cache.stats()["swallowed"] == {"purge of a template": 1}


def test_a_lifetime_in_the_place_of_a_policy_is_told_where_it_belongs() -> None:
    cache = TierCache()
    with pytest.raises(ConfigError, match="ttl='10m'"):
        cache.route("/p", "10m")
    cache.policy("10m", ttl="5m")
    assert cache.route("/p", "10m").policy.ttl == 300.0
