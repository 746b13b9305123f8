"""Refresh before expiry: one request has it done behind its answer, and nobody waits. And lifetimes with jitter."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import tiercache
from tests.parity.conftest import World
from tests.parity.faces import Asked, Face, Origin, Reply
from tests.parity.test_coalescing import eventually, fleet, lease_keys, nothing_left
from tiercache.engine import engine as engine_module
from tiercache.engine import recording

TEXT = ("Content-Type", "text/plain")
HIT = "tiercache; hit; detail=l1"


def rules(**more: Any) -> Any:
    return {"/p/{id}": {"ttl": "100s", "early_refresh": 0.8, **more}}


def gated(*, after: int = 1) -> tuple[Origin, threading.Event]:
    """An app whose later calls wait for an event."""
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"answer %d" % origin.calls, before=gate if origin.calls > after else None))
    return origin, gate


def idle(face: Face) -> bool:
    limits = face.cache._engine.limits
    return (limits.behind, limits.refreshing) == (0, 0) and not len(face.cache._engine.flights)


def test_one_request_has_it_made_anew_and_nobody_waits(world: World) -> None:
    origin, gate = gated()
    face, hands = world.turnable(origin, rules=rules())
    face.get("/p/1")
    hands.turn(79)
    assert [face.get("/p/1").outcome for _ in range(3)] == [HIT] * 3
    assert origin.calls == 1
    hands.turn(2)
    answers = [face.begin("/p/1") for _ in range(30)]
    assert {call.result().body for call in answers} == {b"answer 1"}
    assert {call.response.outcome for call in answers} == {HIT}
    origin.wait_for_call()
    origin.wait_for_call()
    # It goes on for longer than the pause in which nobody else is chosen; still it is the only one.
    hands.turn(5)
    assert {face.get("/p/1").body for _ in range(5)} == {b"answer 1"}
    assert origin.calls == 2
    gate.set()
    eventually(lambda: face.get("/p/1").body == b"answer 2")
    eventually(lambda: idle(face))
    hands.turn(79)
    assert face.get("/p/1").body == b"answer 2"
    assert origin.calls == 2


def test_by_chance_the_likelier_the_nearer_the_end_and_the_dearer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = [0.5]
    monkeypatch.setattr(engine_module.random, "random", lambda: chance[0])
    origin = Origin()
    face, hands = world.turnable(origin, rules=rules(early_refresh="probabilistic"))
    answer = origin.answer

    def slow(asked: Asked) -> Reply:
        hands.turn(4)
        return Reply(b"answer %d" % origin.calls)

    assert answer is None
    origin.answer = slow
    face.get("/p/1")
    # It took 4 s, and ends 100 s after its head: with a chance of 1/2 it is due 4 * ln 2 = 2.8 s before that.
    hands.turn(97)
    assert face.get("/p/1").outcome == HIT
    assert origin.calls == 1
    chance[0] = 0.4
    assert face.get("/p/1").body == b"answer 1"
    eventually(lambda: origin.calls == 2 and idle(face))
    assert face.get("/p/1").body == b"answer 2"


def test_an_early_refresh_that_fails_leaves_what_is_there(world: World) -> None:
    answers = [Reply(b"one"), Reply(b"x", status=500), Reply([ValueError("no")])]
    origin = Origin(lambda asked: answers[min(origin.calls, 3) - 1])
    face, hands = world.turnable(origin, rules=rules(retry_after_error="3s"))
    face.get("/p/1")
    hands.turn(81)
    assert face.get("/p/1").body == b"one"
    eventually(lambda: origin.calls == 2 and idle(face))
    # The app is left alone for a while.
    hands.turn(2)
    assert face.get("/p/1").body == b"one"
    assert idle(face)
    assert origin.calls == 2
    hands.turn(2)
    assert face.get("/p/1").body == b"one"
    eventually(lambda: origin.calls == 3 and idle(face))
    assert face.get("/p/1").outcome == HIT


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", []),
        ("GET", [("Authorization", "Basic eDp5")]),
        ("GET", [("Cookie", "session=1")]),
        ("GET", [("Range", "bytes=0-1")]),
    ],
)
def test_who_cannot_have_it_refreshed_does_not(world: World, method: str, headers: Any) -> None:
    origin = Origin(lambda asked: Reply(b"answer %d" % origin.calls, [TEXT, ("Cache-Control", "public, max-age=100")]))
    face, hands = world.turnable(origin, rules=rules())
    face.get("/p/1")
    hands.turn(81)
    response = face.get("/p/1", headers, method)
    assert response.hit
    assert response.status == (206 if ("Range", "bytes=0-1") in headers else 200)
    eventually(lambda: idle(face))
    assert origin.calls == 1
    # And keeps nobody else from it for longer than the pause.
    hands.turn(2)
    assert face.get("/p/1").body == b"answer 1"
    eventually(lambda: origin.calls == 2 and idle(face))
    assert origin.asked[1].fields.keys().isdisjoint({"authorization", "cookie", "range"})


def test_a_client_that_has_it_gets_a_304_and_the_refresh_asks_plainly(world: World) -> None:
    origin = Origin()
    face, hands = world.turnable(origin, rules=rules())
    etag = face.get("/p/1").header("etag") or face.get("/p/1").header("etag")
    hands.turn(81)
    assert face.get("/p/1", [("If-None-Match", str(etag))]).status == 304
    eventually(lambda: origin.calls == 2 and idle(face))
    assert "if-none-match" not in origin.asked[1].fields
    assert face.get("/p/1").body == b"answer 2"


AT_ONCE: Any = {"early_refresh": 1e-9, "ttl": "20m"}


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is chosen to have it refreshed, where there is no reason against it."""
    monkeypatch.setattr(engine_module, "EARLY_PAUSE", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_one_process_of_the_fleet_refreshes(world: World, redis_url: str) -> None:
    origin, gate = gated()
    faces = fleet(world, origin, redis_url, **AT_ONCE)
    assert {face.get("/p/1").body for face in faces} == {b"answer 1"}
    assert {face.get("/p/1").body for face in faces} == {b"answer 1"}
    eventually(lambda: origin.calls == 2)
    for _ in range(3):
        for face in faces:
            assert face.get("/p/1").body == b"answer 1"
    assert origin.calls == 2
    assert len(lease_keys(redis_url)) == 1
    gate.set()
    nothing_left(*faces)
    # Where it is still the old one, the newer one in L2 is taken in place of another refresh.
    assert [face.get("/p/1").body for face in faces[1:]] == [b"answer 2"] * 2
    assert origin.calls == 2
    assert lease_keys(redis_url) == []


@pytest.mark.usefixtures("no_pause")
def test_where_nobody_can_say_who_refreshes_each_process_does(world: World, redis_url: str) -> None:
    """A server that is full refuses a lease and yet is not away."""
    origin = Origin()
    (face,) = fleet(world, origin, redis_url, 1, **AT_ONCE)
    face.get("/p/1")
    store: Any = face.cache._engine.shared

    def refuse(*args: Any) -> bool:
        raise tiercache.TierCacheError("OOM command not allowed")

    async def arefuse(*args: Any) -> bool:
        raise tiercache.TierCacheError("OOM command not allowed")

    store.acquire, store.aacquire = refuse, arefuse
    assert face.get("/p/1").body == b"answer 1"
    eventually(lambda: face.get("/p/1").body == b"answer 2")
    nothing_left(face)


@pytest.mark.usefixtures("no_pause")
def test_a_refresh_that_finds_no_room_gives_its_lease_back(world: World, redis_url: str) -> None:
    origin, gate = gated()
    (face,) = fleet(world, origin, redis_url, 1, **AT_ONCE, max_fills=1)
    face.get("/p/1")
    busy = face.begin("/p/2")
    eventually(lambda: origin.calls == 2)
    assert face.get("/p/1").outcome == HIT
    assert len(face.cache._engine.leases) == 1, "the one of the fill under way"
    assert len(lease_keys(redis_url)) == 1
    gate.set()
    busy.result()
    nothing_left(face)


@pytest.mark.parametrize("coalesce", ["process", False])
def test_stale_or_early_one_refresh_at_a_time(world: World, coalesce: Any) -> None:
    origin, gate = gated()
    policy = rules(coalesce=coalesce, stale_while_revalidate="1h", early_refresh=None)
    face, hands = world.turnable(origin, rules=policy)
    face.get("/p/1")
    hands.turn(101)
    assert {face.get("/p/1").body for _ in range(6)} == {b"answer 1"}
    eventually(lambda: origin.calls == 2)
    assert {face.get("/p/1").body for _ in range(6)} == {b"answer 1"}
    assert origin.calls == 2
    gate.set()
    eventually(lambda: face.get("/p/1").body == b"answer 2")
    eventually(lambda: idle(face))


@pytest.mark.parametrize("failure", [Reply(b"x", status=503), Reply([OSError("down")])])
def test_refreshes_that_fail_are_not_repeated_at_once(world: World, failure: Reply) -> None:
    origin = Origin(lambda asked: Reply(b"one") if origin.calls == 1 else failure)
    policy = {"/p/{id}": {"ttl": "100s", "stale_while_revalidate": "1h", "retry_after_error": "10s"}}
    face, hands = world.turnable(origin, rules=policy)
    face.get("/p/1")
    hands.turn(101)
    for _ in range(5):
        assert face.get("/p/1").body == b"one"
        eventually(lambda: idle(face))
    assert origin.calls == 2
    hands.turn(11)
    assert face.get("/p/1").body == b"one"
    eventually(lambda: origin.calls == 3 and idle(face))


# -- jitter ----------------------------------------------------------------------------------------------------------


def ttl_of(face: Face, url: str = "/p/1") -> int:
    return int(face.get(url).header("cache-status").partition("ttl=")[2].partition(";")[0])  # type: ignore[union-attr]


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 100), (0.5, 95), (0.999_999, 90)])
def test_jitter_shortens_by_its_share_at_most(
    world: World, monkeypatch: pytest.MonkeyPatch, chance: float, expected: int
) -> None:
    monkeypatch.setattr(recording.random, "random", lambda: chance)
    face, _ = world.turnable(Origin(), rules=rules(early_refresh=None, jitter=0.1))
    face.get("/p/1")
    assert ttl_of(face) == expected


def test_lifetimes_differ(world: World) -> None:
    face, _ = world.turnable(Origin(), rules=rules(early_refresh=None, jitter=0.5))
    for number in range(30):
        face.get(f"/p/{number}")
    lifetimes = {ttl_of(face, f"/p/{number}") for number in range(30)}
    assert len(lifetimes) > 5
    assert 50 <= min(lifetimes) <= max(lifetimes) <= 100


@pytest.mark.parametrize("how", ["max-age", "s-maxage", "ttl()"])
def test_what_the_app_states_is_kept(world: World, how: str) -> None:
    def answer(asked: Asked) -> Reply:
        if how == "ttl()":
            tiercache.ttl("100s")
            return Reply()
        return Reply(headers=[TEXT, ("Cache-Control", f"{how}=100")])

    face, _ = world.turnable(Origin(answer), rules=rules(early_refresh=None, jitter=1.0, ttl="7s"))
    face.get("/p/1")
    assert ttl_of(face) == 100


