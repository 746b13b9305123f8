"""Events of the application: declared in code and in files, emitted from any process, as safe as a purge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parity.waiting import eventually
from tests.servers import RedisServer, free_port
from tests.test_cache import asked
from tiercache import ConfigError, PurgeError, PurgeUnconfirmed, TierCache
from tiercache.engine.emitting import purges_of, united

ROOT = Path(__file__).resolve().parents[1]


def shop(**settings: Any) -> TierCache:
    cache = TierCache(**settings)
    cache.route("/p/{id}", ttl="10m", tags=["product:{id}", "category:{id}"], stale_while_revalidate="1h")
    return cache


def filled(cache: TierCache, *paths: str) -> None:
    for path in paths:
        assert "hit" in asked(cache, path)


def test_an_event_purges_what_its_rules_say() -> None:
    cache = shop()
    cache.on("product.updated", tags=["product:{id}"])
    filled(cache, "/p/7", "/p/8")
    receipt = cache.emit("product.updated", id=7)
    assert receipt.members == ("t:product:7",)
    assert "stored" in asked(cache, "/p/7", 1)
    assert "hit" in asked(cache, "/p/8", 1)


async def test_the_same_from_async_code() -> None:
    cache = shop()
    cache.on("product.updated", tags=["product:{id}"])
    with pytest.raises(PurgeError, match=r"await cache\.aemit"):
        cache.emit("product.updated", id=7)
    assert (await cache.aemit("product.updated", id=7)).members == ("t:product:7",)


def test_one_rule_that_waits_has_the_purge_of_all_wait() -> None:
    cache = shop()
    cache.on("moved", tags="product:{id}", wait=True)
    cache.on("moved", tags="category:{id}")
    (purge,) = [united(purges_of(cache.routes, cache.events, "moved", {"id": 7}))]
    assert (purge.wait, purge.members) == (True, ("h:t:product:7", "h:t:category:7"))
    cache.on("closed", tags="product:{id}")
    assert not united(purges_of(cache.routes, cache.events, "closed", {"id": 7})).wait


def test_several_rules_add_up_to_one_purge() -> None:
    cache = shop()
    cache.on("moved", tags="product:{id}", soft=True)
    cache.on("moved", tags=lambda old, new, **rest: [f"category:{old}", f"category:{new}"])
    cache.on("moved", urls=["/p/{new}"], glob="/x/*/{id}", route="/p/{id}")
    filled(cache, "/p/1", "/p/7")
    receipt = cache.emit("moved", id=7, old=1, new=2)
    assert receipt.members == (
        "t:product:7", "t:category:1", "t:category:2", "p:/p/2", "r:/p/{id}", "b:g:/x/*/7",
    )  # fmt: skip
    assert cache.stats()["purges"] == 1
    assert not receipt.everything


def test_a_soft_rule_beside_a_hard_one_stays_soft() -> None:
    cache = shop()
    cache.on("moved", tags="product:{id}", soft=True)
    cache.on("moved", tags="category:{old}")
    filled(cache, "/p/1", "/p/7")
    cache.emit("moved", id=7, old=1)
    assert "hit" in asked(cache, "/p/7", 1)  # stale, while it is made anew
    assert cache.stats()["stale"] == 1
    assert "stored" in asked(cache, "/p/1", 1)


def test_everything_and_nothing() -> None:
    cache = shop()
    cache.on("imported", everything=True)
    cache.on("imported", tags="catalog")
    cache.on("seen", tags=lambda ids: [f"product:{one}" for one in ids])
    filled(cache, "/p/7")
    before = cache.stats()["purges"]
    receipt = cache.emit("seen", ids=[])
    assert (receipt.members, receipt.everything, cache.stats()["purges"]) == ((), False, before)
    assert receipt.epoch
    assert "hit" in asked(cache, "/p/7", 1)
    assert cache.emit("imported").everything
    assert "stored" in asked(cache, "/p/7", 1)


def test_each_rule_is_repeated_after_its_own_time() -> None:
    cache = shop()
    cache.on("moved", tags="product:{id}", settle="1h")
    cache.on("moved", tags="catalog", settle="2h")
    cache.on("moved", tags="front")
    cache.emit("moved", id=7)
    due = cache._lifecycle._settling._due
    assert len(due) == 2
    told: list[Any] = []
    cache._engine.purge_watcher = lambda members, everything: told.append(tuple(members))
    cache.close()
    assert sorted(told) == [("h:t:catalog",), ("h:t:product:7",)]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"urls": "products/{id}"}, "event 'e': urls: 'products/0'"),
        ({"urls": "/products?id={id}"}, "event 'e': urls: '/products?id=0'"),
        ({"prefix": "{id}/x"}, "event 'e': prefix"),
        ({"prefix": "/x", "soft": True}, "event 'e': prefix"),
        ({"everything": 1}, "event 'e': everything"),
    ],
)
def test_what_can_be_told_when_it_is_declared_is(settings: Any, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TierCache().on("e", **settings)
    assert named in str(raised.value)


def test_a_rule_for_paths_may_come_later_but_must_be_there_for_the_purge() -> None:
    cache = TierCache()
    cache.on("e", route="/later/{id}")
    with pytest.raises(ConfigError, match=r"event 'e': route: '/later/\{id\}'"):
        cache.emit("e")
    cache.route("/later/{id}", ttl="1m")
    assert cache.emit("e").members == ("r:/later/{id}",)


def test_an_event_that_cannot_be_filled_purges_nothing() -> None:
    cache = shop()
    cache.on("moved", tags="category:{old}")
    cache.on("moved", tags="product:{id}")
    for arguments in ({"old": 1}, {"old": 1, "id": None}, {"old": 1, "id": object()}):
        with pytest.raises(ConfigError, match="event 'moved': id"):
            cache.emit("moved", **arguments)
    with pytest.raises(ConfigError, match="did you mean 'moved'"):
        cache.emit("mvoed", id=1)
    assert cache.stats()["purges"] == 0


def test_names_of_arguments_are_free() -> None:
    cache = TierCache()
    cache.on("e", tags="{event}:{self}")
    assert cache.emit("e", event="a", self="b").members == ("t:a:b",)


def test_a_purge_that_is_not_confirmed_is_told_and_queued() -> None:
    cache = shop(url=f"redis://127.0.0.1:{free_port()}/0")
    cache.on("product.updated", tags="product:{id}")
    with pytest.raises(PurgeUnconfirmed):
        cache.emit("product.updated", id=7)
    assert [item.members for item in cache._engine.ledger.pending()] == [("h:t:product:7",)]
    cache.close()


EVENTS = """
namespace = "shop"

[[routes]]
path = "/p/{id}"
ttl = "10m"
tags = ["product:{id}"]

[[events]]
event = "product.updated"
tags = ["product:{id}"]

[[events]]
event = "product.updated"
urls = "/lists/{list}"
wait = true
"""


def file(folder: Path, text: str) -> Path:
    path = folder / "shop.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_declares_events_and_code_adds_to_them(tmp_path: Path) -> None:
    cache = TierCache.from_toml(file(tmp_path, EVENTS), environ={})
    cache.on("product.updated", tags="more")
    assert cache.emit("product.updated", id=7, list="new").members == ("t:product:7", "p:/lists/new", "t:more")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("events = 3", "shop.toml: events: 3"),
        ("events = [3]", "shop.toml: events"),
        ("[[events]]\ntags = ['a']", "shop.toml: [[events]] 1: None"),
        ("[[events]]\nevent = 'e'", "shop.toml: [[events]] 1 'e': {}"),
        ("[[events]]\nevent = 'e'\ntag = 'a'", "did you mean 'tags'"),
        ("[[events]]\nevent = 'e'\ntags = ['{id']", "shop.toml: [[events]] 1 'e': tags: ['{id']"),
        ("[[events]]\nevent = 'e'\nurls = 'x'", "shop.toml: [[events]] 1 'e': urls: 'x'"),
        ("[[event]]\nevent = 'e'", "did you mean 'events'"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_table_and_setting(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        TierCache.from_toml(file(tmp_path, text), environ={})
    assert named in str(raised.value).replace(str(tmp_path) + "/", "")


SCRIPT = """
import sys
from tiercache import TierCache

cache = TierCache.from_toml(sys.argv[1], url=sys.argv[2])
print(cache.emit("product.updated", id=7, list="new").number)
cache.close()
"""


def test_a_script_that_knows_the_file_alone_reaches_the_app(tmp_path: Path, one_redis: RedisServer) -> None:
    cache = TierCache.from_toml(
        file(tmp_path, EVENTS), environ={}, url=one_redis.url, l2_budget="10s", l2_slow="10s"
    )
    try:
        cache.start()
        eventually(cache._engine.trusted)
        filled(cache, "/p/7", "/p/8")
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "shop.toml"), one_redis.url],
            capture_output=True, text=True, check=False, cwd=ROOT, timeout=50,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        number = int(done.stdout)
        # It has waited for this process to have heard of it.
        assert cache._engine.ledger.stamp().number >= number > 0
        assert "stored" in asked(cache, "/p/7", 1)
        assert "hit" in asked(cache, "/p/8", 1)
    finally:
        cache.close()
