"""L2 as the faces see it: what survives the way through it, what it does when it is broken or away."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.parity.conftest import World
from tests.parity.faces import GUARD, Face, Origin, Reply
from tests.servers import RedisServer, free_port
from tiercache import PurgeUnconfirmed

TEXT = ("Content-Type", "text/plain")
STORED = "tiercache; fwd=miss; stored"
ALONE = "tiercache; fwd=miss; stored; detail=isolated"
AWAY = "shared tier unreachable, serving from L1 alone"


def eventually(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to that")


NUMBERS = itertools.count(100)


def of_one_mind(face: Face, other: Face) -> bool:
    """Whether what one stores is found by the other."""
    url = f"/p/{next(NUMBERS)}"
    face.get(url)
    return other.get(url).outcome == "tiercache; hit; detail=l2"


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_switched_off_it_still_purges_for_the_others(
    world: World, redis_url: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = world.face(Origin(), redis_url)
    if how == "environment":
        monkeypatch.setenv("TIERCACHE_DISABLED", "1")
    off = world.face(Origin(), redis_url, **({"enabled": False} if how == "argument" else {}))
    assert [off.get("/p/1").outcome for _ in range(2)] == ["", ""]
    assert other.get("/p/1").outcome == STORED
    assert other.get("/p/1").hit
    assert off.cache.purge(tags="p:1").shared
    eventually(lambda: not other.get("/p/1").hit)
    assert off.cache.stats()["purges"] == 1


def test_the_way_through_l2_changes_nothing(world: World, redis_url: str) -> None:
    lines = [("X-Raw", "caf\xe9 \xff"), TEXT, ("Link", "</a>"), ("X-Empty", ""), ("Link", "</b>")]
    reply = Reply(bytes(range(256)) * 100, lines, reason="Just So")
    one, two = world.face(Origin(reply), redis_url), world.face(Origin(reply), redis_url)
    first = one.get("/p/1")
    for detail in ("l2", "l1"):
        hit = two.get("/p/1")
        assert hit.outcome == f"tiercache; hit; detail={detail}"
        assert (hit.status, hit.reason, hit.body) == (200, first.reason, reply.body)
        own = ("age", "cache-status", "etag", "content-length")
        assert [pair for pair in hit.headers if pair[0] not in own] == [
            pair for pair in first.headers if pair[0] not in own
        ]
    assert two.origin.calls == 0
    stats = two.cache.stats()
    assert (stats["hits_l2"], stats["hits_l1"], stats["misses"]) == (1, 1, 0)


def test_a_large_binary_body_goes_through_l2(world: World, redis_url: str) -> None:
    body = bytes(range(256)) * 4_000
    one, two = (world.face(Origin(Reply(body)), redis_url) for _ in range(2))
    assert one.get("/p/1").body == two.get("/p/1").body == body
    assert two.cache.stats()["hits_l2"] == 1


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "foreign", "flip"])
def test_an_unreadable_value_is_a_counted_miss(world: World, redis_url: str, damage: str) -> None:
    one, two = world.face(Origin(), redis_url), world.face(Origin(), redis_url)
    one.get("/p/1")
    one.get("/p/2")
    two.get("/other")
    with redis.Redis.from_url(redis_url) as client:
        values = {key: client.get(key) for key in client.keys("tc:*") if client.type(key) == b"string"}
        assert len(values) == 2
        (key, value), (_, other) = values.items()
        assert isinstance(value, bytes)
        spoilt: Any = {
            "truncate": value[:-3],
            "garbage": b"\x00\xff" * 40,
            "empty": b"",
            "foreign": other,
            "flip": value[: len(value) // 2] + bytes([value[len(value) // 2] ^ 1]) + value[len(value) // 2 + 1 :],
        }[damage]
        for key in values:
            client.set(key, spoilt)
    bodies = {url: two.get(url) for url in ("/p/1", "/p/2")}
    misses = [response for response in bodies.values() if not response.hit]
    # The foreign value is the right one for one of the two keys.
    assert len(misses) == (1 if damage == "foreign" else 2)
    assert two.cache.stats()["swallowed"]["unreadable value in L2"] == len(misses)
    third = world.face(Origin(), redis_url)
    assert all(third.get(url).outcome == "tiercache; hit; detail=l2" for url in ("/p/1", "/p/2"))


def complaints(caplog: pytest.LogCaptureFixture, port: int) -> int:
    """How often it was said that this server is away; others of this process may speak of servers of their own."""
    return sum(AWAY in line and str(port) in line for line in caplog.text.splitlines())


def test_the_server_dies_and_comes_back(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer() as server:
        face, other = (world.face(Origin(), server.url) for _ in range(2))
        assert face.get("/p/1").outcome == STORED
        assert other.get("/p/1").hit
        server.kill()
        eventually(lambda: face.cache._engine.failing and other.cache._engine.failing)
        # What it has it may go on serving for a while, and the app answers the rest, stored here.
        assert face.get("/p/2").outcome in (STORED, ALONE)
        assert face.get("/p/2").hit
        assert face.cache.stats()["swallowed"][AWAY] >= 1
        with pytest.raises(PurgeUnconfirmed):
            face.cache.purge(tags="p:2")
        assert not face.get("/p/2").hit
        assert complaints(caplog, server.port) <= 2
        server.start()
        eventually(lambda: not face.cache._engine.failing and not other.cache._engine.failing)
        eventually(lambda: not face.cache._engine.ledger.pending())
        eventually(lambda: of_one_mind(face, other))


def test_an_unreachable_server_at_start(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tiercache")
    port = free_port()
    face = world.face(Origin(), f"redis://127.0.0.1:{port}/0")
    assert face.get("/p/1").outcome == ALONE
    assert face.get("/p/1").outcome == "tiercache; hit; detail=isolated"
    eventually(lambda: face.cache.stats()["swallowed"].get(AWAY, 0) >= 2)
    assert complaints(caplog, port) == 1
    assert "127.0.0.1" in caplog.text
    with RedisServer(port=port) as server:
        eventually(lambda: not face.cache._engine.failing)
        assert f"{AWAY}: it answers again" in caplog.text
        other = world.face(Origin(), server.url)
        eventually(lambda: of_one_mind(face, other))


@pytest.mark.parametrize("password", ["", "wrong:wrong@", ":wrong@"])
def test_a_password_that_is_missing_or_wrong(world: World, password: str, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(requirepass="secret-word") as server:
        face = world.face(Origin(), f"redis://{password}127.0.0.1:{server.port}/0")
        assert face.get("/p/1").outcome == ALONE
        assert face.get("/p/1").hit
        eventually(lambda: face.cache.stats()["swallowed"].get(AWAY, 0) >= 1)
        assert "assword" in caplog.text or "uthenti" in caplog.text
        assert "wrong:wrong" not in caplog.text
        assert "secret-word" not in caplog.text
        right = world.face(Origin(), server.url)
        right.get("/p/1")
        assert right.cache.purge(everything=True).shared


def test_a_server_without_scripting(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(rename_command=[("EVAL", "nope"), ("EVALSHA", "nopesha")]) as server:
        face = world.face(Origin(), server.url)
        assert face.get("/p/1").outcome == ALONE
        assert face.get("/p/1").outcome == "tiercache; hit; detail=isolated"
        eventually(lambda: face.cache.stats()["swallowed"].get(AWAY, 0) >= 1)
        assert "EVAL" in caplog.text or "script" in caplog.text.lower()
        with pytest.raises(PurgeUnconfirmed, match=r"(?i)eval|script"):
            face.cache.purge(tags="p:1")
        assert not face.get("/p/1").hit


def test_a_server_that_never_answers_costs_a_request_its_budget_at_most(world: World) -> None:
    """The request is answered while the server is paused, which is all that can be said without a watch."""
    with RedisServer() as server:
        face = world.face(Origin(), server.url, l2_budget="50ms")
        face.get("/p/1")
        server.pause()
        try:
            assert face.get("/p/2").body == b"answer 2"
            assert face.get("/p/1").status == 200
            assert face.get("/p/1", method="POST").status == 200
        finally:
            server.resume()


def test_tiers_of_a_rule(world: World, redis_url: str) -> None:
    rules = {"/l1": {"ttl": "10m", "tiers": ["l1"]}, "/l2": {"ttl": "10m", "tiers": ["l2"]}}
    one, two = (world.face(Origin(), redis_url, rules) for _ in range(2))
    for url in rules:
        assert one.get(url).outcome == STORED
    assert one.get("/l1").outcome == "tiercache; hit; detail=l1"
    assert one.get("/l2").outcome == "tiercache; hit; detail=l2"
    assert two.get("/l1").outcome == STORED
    assert two.get("/l2").outcome == two.get("/l2").outcome == "tiercache; hit; detail=l2"


@pytest.mark.parametrize(
    "purge",
    [
        {"tags": "p:1"},
        {"tags": ["other", "p:1"]},
        {"urls": "/p/1"},
        {"urls": "http://shop.example/p/1"},
        {"route": "/p/{id}"},
        {"everything": True},
    ],
)
def test_a_purge_reaches_the_other_process(world: World, redis_url: str, purge: Any) -> None:
    origin = Origin()
    one, two = (world.face(origin, redis_url) for _ in range(2))
    assert one.get("/p/1").body == two.get("/p/1").body == two.get("/p/1").body == b"answer 1"
    one.cache.purge(**purge)
    assert one.get("/p/1").body == b"answer 2"
    eventually(lambda: two.get("/p/1").body == b"answer 2")
    assert origin.calls == 2
