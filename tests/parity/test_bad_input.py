"""What cannot work is refused when it is written down, naming the setting, the value and what is accepted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.parity.conftest import World
from tests.parity.faces import Origin, Reply
from tiercache import ConfigError, Policy, PurgeError, TierCache, no_store
from tiercache.integrations.flask import FlaskTierCache


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"namespace": "a b"}, ["namespace", "'a b'", "letters, digits"]),
        ({"namespace": "{shop}"}, ["namespace", "{shop}"]),
        ({"namespace": "a:b"}, ["namespace"]),
        ({"namespace": ""}, ["namespace"]),
        ({"l2_budget": "50 parsecs"}, ["l2_budget", "50 parsecs", "5s"]),
        ({"staleness_bound": -1}, ["staleness_bound", "-1"]),
        ({"l1_size": "64 MiBs"}, ["l1_size", "64 MiBs"]),
        ({"max_body": 0}, ["max_body", "0"]),
        ({"pool_size": True}, ["pool_size", "True"]),
        ({"pool_sise": 3}, ["pool_sise", "pool_size"]),
        ({"enabled": "yes please"}, ["enabled"]),
        ({"url": "http://localhost"}, ["url", "redis://"]),
        ({"url": ""}, ["url"]),
        ({"url": 7}, ["url"]),
        ({"trust_forwarded": ["X-Forwarded-For"]}, ["trust_forwarded", "x-forwarded-host"]),
    ],
)
def test_settings_of_the_cache(settings: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        TierCache(**settings)
    for word in words:
        assert word in str(caught.value)


def test_a_password_in_a_bad_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        TierCache("redis://:hunter2@localhost:notaport/0")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)


@pytest.mark.parametrize(
    ("template", "settings", "words"),
    [
        ("/p/{id", {"ttl": 1}, ["/p/{id"]),
        ("p/{id}", {"ttl": 1}, ["p/{id}"]),
        ("/p/{id:uuidd}", {"ttl": 1}, ["uuidd"]),
        ("/p/{id}/{id}", {"ttl": 1}, ["id"]),
        ("/p/{id}", {"ttl": "10 minutes-ish"}, ["ttl", "10 minutes-ish", "10m"]),
        ("/p/{id}", {"ttl": -1}, ["ttl", "-1"]),
        ("/p/{id}", {"tttl": 1}, ["tttl", "ttl"]),
        ("/p/{id}", {"ttl": 1, "tags": ["p:{no}"]}, ["no"]),
        ("/p/{id}", {"ttl": 1, "tiers": ["l3"]}, ["tiers", "l3"]),
        ("/p/{id}", {"cache": False, "ttl": 1}, ["ttl", "cache=False"]),
        ("/p/<int:id>", {"ttl": 1}, ["'/p/<int:id>'", "write {id:int} for <int:id>"]),
        ("/p/<id>", {"ttl": 1}, ["write {id} for <id>"]),
        ("/p/<slug:id>/x", {"ttl": 1}, ["write {id} for <slug:id>"]),
        ("/p/<any(a, b):id>", {"ttl": 1}, ["write {id} for <any(a, b):id>"]),
        ("/p/{id}", {}, ["route '/p/{id}'", "at least one setting", "ttl='10m'"]),
        ("/p/{id}", {"policy": Policy()}, ["at least one setting"]),
        ("/p/{id}", {"policy": {"ttl": "10m"}}, ["route '/p/{id}': policy: {'ttl': '10m'}", "ttl='10m'"]),
    ],
)
def test_settings_of_a_rule(template: str, settings: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        TierCache().route(template, **settings)
    for word in words:
        assert word in str(caught.value)


def test_a_rule_that_an_earlier_one_shadows_entirely() -> None:
    cache = TierCache()
    cache.route("/p/{rest:path}", ttl=1)
    with pytest.raises(ConfigError, match=r"/p/\{id:int\}.*/p/\{rest:path\}"):
        cache.route("/p/{id:int}", ttl=1)


@pytest.mark.parametrize(
    "purge",
    [
        {},
        {"tags": ""},
        {"tags": [7]},
        {"tags": 5},
        {"urls": "p/1"},
        {"urls": "/p?x=1"},
        {"urls": "ftp://x/"},
        {"route": "/no"},
    ],
)
def test_purges_that_name_nothing(purge: Any) -> None:
    cache = TierCache()
    with pytest.raises(ConfigError, match="purge"):
        cache.purge(**purge)
    with pytest.raises(ConfigError, match="purge"):
        asyncio.run(cache.apurge(**purge))


def test_a_purge_on_a_running_loop_names_the_other_one() -> None:
    async def main() -> None:
        with pytest.raises(PurgeError, match="apurge"):
            TierCache().purge(tags="x")

    asyncio.run(main())


def test_a_template_may_hold_angles_that_are_no_parameter() -> None:
    assert TierCache().route("/a<b/{id}/c>d", ttl=1).params == ("id",)


def test_a_rule_may_leave_all_to_the_app() -> None:
    assert TierCache().route("/p/{id}", ttl=None).policy.ttl is None


@pytest.mark.parametrize("of", ["cache", "flask"])
def test_a_decorator_without_settings(of: str) -> None:
    cache: Any = TierCache() if of == "cache" else FlaskTierCache()

    def view() -> str:
        return "page"

    for misused in (lambda: cache.cached(view), lambda: cache.cached(Policy(ttl=1)), cache.cached):
        with pytest.raises(ConfigError, match=r"^cached: .*@cache\.cached\(ttl='10m'\)"):
            misused()


@pytest.mark.parametrize("face", ["asgi", "wsgi"])
def test_what_is_no_app(face: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{face}: None is not accepted; accepted: .* application"):
        getattr(TierCache(), face)(None)


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_a_switch_in_the_environment_that_could_mean_either(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERCACHE_DISABLED", value)
    with pytest.raises(ConfigError, match="TIERCACHE_DISABLED"):
        TierCache()


def test_the_switch_in_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERCACHE_DISABLED", "1")
    face = world.face(Origin())
    assert [face.get("/p/1").body for _ in range(2)] == [b"answer 1", b"answer 2"]


def test_a_view_that_will_not_have_it_stored(world: World) -> None:
    def answer(asked: Any) -> Reply:
        no_store("priced for one user")
        return Reply()

    face = world.face(Origin(answer), rules={"/p/{id}": {"ttl": "10m", "cdn_ttl": "1d"}})
    for _ in range(2):
        response = face.get("/p/1")
        assert response.outcome == "tiercache; fwd=miss; detail=view"
        assert response.header("cdn-cache-control") is None
        assert response.header("cache-control") == "no-store"
