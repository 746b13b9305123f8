"""One fill at a time per key: who waits, for how long, and who is let go."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import pytest
import redis

from tests.parity.conftest import World
from tests.parity.faces import GUARD, Asked, Face, Origin, Reply
from tests.servers import RedisServer

TEXT = ("Content-Type", "text/plain")
PATIENT: Any = {"lease_wait": "30s"}
"""Followers that wait for the outcome, however slow the machine is."""


def followers_of(face: Face) -> int:
    return sum(flight.followers for flight in list(face.cache._engine.flights._by_key.values()))


def await_followers(face: Face, count: int) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.002)):
        if followers_of(face) >= count:
            return
        pause.wait(0.002)
    raise AssertionError(f"{followers_of(face)} followers, not {count}")


def test_200_requests_for_a_cold_key_call_the_app_once(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"once", before=gate))
    face = world.face(origin, **PATIENT)
    calls = [face.begin("/p/1") for _ in range(200)]
    await_followers(face, 199)
    gate.set()
    responses = [call.result() for call in calls]
    assert origin.calls == 1
    assert {response.body for response in responses} == {b"once"}
    outcomes = [response.outcome for response in responses]
    assert outcomes.count("tiercache; fwd=miss; stored") == 1
    assert outcomes.count("tiercache; fwd=miss; collapsed") == 199
    assert face.cache.stats()["collapsed"] == 199
    assert len(face.cache._engine.flights) == 0


def test_different_urls_do_not_wait_for_each_other(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(before=gate if asked.path == "/p/slow" else None))
    face = world.face(origin, **PATIENT)
    slow = face.begin("/p/slow")
    origin.wait_for_call()
    assert face.get("/p/fast").outcome == "tiercache; fwd=miss; stored"
    gate.set()
    slow.result()


@pytest.mark.parametrize(
    "headers",
    [
        [TEXT, ("Cache-Control", "private")],
        [("Content-Type", "text/event-stream")],
        [TEXT, ("Set-Cookie", "a=b")],
        [TEXT, ("Content-Length", "5000")],
    ],
)
def test_followers_are_let_go_when_the_head_says_no(world: World, headers: list[tuple[str, str]]) -> None:
    head, end = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Reply:
        if origin.calls == 1:
            return Reply([b"x" * 4_999, end, b"x"], headers, before=head)
        return Reply(b"x" * 5_000, headers)

    origin = Origin(answer)
    face = world.face(origin, max_body=4_000, **PATIENT)
    leader = face.begin("/p/1")
    origin.wait_for_call()
    followers = [face.begin("/p/1") for _ in range(5)]
    await_followers(face, 5)
    head.set()
    # The leader's body goes on for as long as the test wants; nobody waits for its end.
    assert {len(follower.result().body) for follower in followers} == {5_000}
    assert not leader.future.done()
    end.set()
    assert len(leader.result().body) == 5_000
    assert origin.calls == 6
    assert face.cache.stats()["stored"] == 0


def test_followers_are_let_go_when_the_body_passes_max_body(world: World) -> None:
    more, end = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Reply:
        return Reply([b"x" * 600, more, b"x" * 600, end, b"x"] if origin.calls == 1 else [b"y" * 1_201])

    origin = Origin(answer)
    face = world.face(origin, max_body=1_000, **PATIENT)
    leader = face.begin("/p/1")
    leader.wait_for_chunk()
    followers = [face.begin("/p/1") for _ in range(5)]
    await_followers(face, 5)
    more.set()
    assert {follower.result().body for follower in followers} == {b"y" * 1_201}
    assert not leader.future.done()
    end.set()
    assert leader.result().body == b"x" * 1_201


def test_followers_are_let_go_when_the_app_fails(world: World) -> None:
    gate = threading.Event()

    def answer(asked: Asked) -> Reply:
        return Reply([b"a", gate, ValueError("the first")] if origin.calls == 1 else b"fine")

    origin = Origin(answer)
    face = world.face(origin, **PATIENT)
    leader = face.begin("/p/1")
    leader.wait_for_chunk()
    followers = [face.begin("/p/1") for _ in range(3)]
    await_followers(face, 3)
    gate.set()
    assert {follower.result().body for follower in followers} == {b"fine"}
    with pytest.raises(ValueError, match="the first"):
        leader.result()
    assert face.get("/p/1").hit


def test_an_uncacheable_url_is_never_queued_again(world: World) -> None:
    """Hit-for-miss: the first answer was not for sharing, so the next requests run side by side."""
    gates = [threading.Event() for _ in range(3)]

    def answer(asked: Asked) -> Reply:
        number = origin.calls
        headers = [TEXT, ("Cache-Control", "no-store")]
        return Reply(b"%d" % number, headers, before=gates[number - 2] if number > 1 else None)

    origin = Origin(answer)
    face = world.face(origin, **PATIENT)
    face.get("/p/1")
    origin.wait_for_call()
    calls = [face.begin("/p/1") for _ in range(3)]
    for _ in range(3):
        origin.wait_for_call()
    assert followers_of(face) == 0
    for gate in gates:
        gate.set()
    assert {call.result().body for call in calls} == {b"2", b"3", b"4"}


def test_an_uncacheable_url_costs_no_read_of_l2(world: World, redis_server: RedisServer) -> None:
    for path, rules in (("/p/1", None), ("/other", None)):
        origin = Origin(Reply(headers=[TEXT, ("Cache-Control", "private")]))
        face = world.face(origin, redis_server.url) if rules is None else world.face(origin, redis_server.url, rules)
        face.get(path)
        before = gets(redis_server)
        for _ in range(10):
            face.get(path)
        assert gets(redis_server) == before
        assert origin.calls == 11
        assert before >= 1


def gets(server: RedisServer) -> int:
    """How many values have been asked of the server."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        stats: Any = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("get", "mget", "getex"))


def test_a_url_that_can_be_stored_again_is_stored(world: World) -> None:
    answers = iter([Reply(headers=[TEXT, ("Cache-Control", "private")]), Reply(b"shared"), Reply(b"never")])
    origin = Origin(lambda asked: next(answers))
    face = world.face(origin)
    assert face.get("/p/1").outcome == "tiercache; fwd=miss; detail=private"
    # Without a length, after one that was not stored: the head promises nothing.
    assert face.get("/p/1").outcome == "tiercache; fwd=miss"
    assert face.get("/p/1").body == b"shared"
    assert face.get("/p/1").hit
    # And it may be waited for again, once it has expired or was purged.
    assert len(face.cache._engine.unshareable) == 0


def test_a_url_without_a_rule_is_looked_at_again_after_a_while(world: World) -> None:
    headers = [TEXT]
    origin = Origin(lambda asked: Reply(headers=list(headers)))
    face, hands = world.turnable(origin)
    face.get("/other")
    headers.append(("Cache-Control", "max-age=60"))
    assert face.get("/other").outcome == "tiercache; fwd=bypass; detail=remembered"
    hands.turn(61)
    assert face.get("/other").outcome == "tiercache; fwd=miss; stored"
    assert face.get("/other").hit


def test_a_follower_waits_no_longer_than_lease_wait(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"%d" % origin.calls, before=gate if origin.calls == 1 else None))
    face = world.face(origin, lease_wait="20ms")
    leader = face.begin("/p/1")
    origin.wait_for_call()
    follower = face.get("/p/1")
    assert follower.body == b"2"
    assert not leader.future.done()
    gate.set()
    leader.result()
    assert followers_of(face) == 0


def test_lease_wait_of_0_is_not_to_wait(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(before=gate if origin.calls == 1 else None))
    face = world.face(origin, lease_wait=0)
    leader = face.begin("/p/1")
    origin.wait_for_call()
    face.get("/p/1")
    gate.set()
    leader.result()
    assert origin.calls == 2


def test_followers_for_another_variant_are_not_given_the_leaders(world: World) -> None:
    gate = threading.Event()

    def answer(asked: Asked) -> Reply:
        language = asked.fields.get("accept-language", "")
        return Reply(language.encode(), [TEXT, ("Vary", "Accept-Language")], before=gate)

    origin = Origin(answer)
    face = world.face(origin, **PATIENT)
    calls = [face.begin("/p/1", [("Accept-Language", language)]) for language in ("de", "fr", "de", "fr", "it")]
    origin.wait_for_call()
    await_followers(face, 4)
    gate.set()
    assert [call.result().body for call in calls] == [b"de", b"fr", b"de", b"fr", b"it"]
    assert origin.calls == 3


def test_a_purge_during_a_fill_kills_what_it_brings(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"%d" % origin.calls, before=gate if origin.calls == 1 else None))
    face = world.face(origin, **PATIENT)
    leader = face.begin("/p/1")
    origin.wait_for_call()
    follower = face.begin("/p/1")
    await_followers(face, 1)
    face.cache.purge(tags="p:1")
    gate.set()
    assert leader.result().body == b"1"
    # The follower's request may have come after the purge: it is not given what was made before.
    assert follower.result().body == b"2"
    assert face.get("/p/1").body == b"2"


def test_streams_reach_the_client_as_they_are_made(world: World) -> None:
    gate, last = threading.Event(), threading.Event()
    origin = Origin(Reply([b"first", gate, b"second", last, b"third"]))
    face = world.face(origin)
    call = face.begin("/p/1")
    call.wait_for_chunk()
    assert call.response.body == b"first"
    gate.set()
    call.wait_for_chunk()
    assert call.response.body == b"firstsecond"
    last.set()
    assert call.result().body == b"firstsecondthird"
    assert face.get("/p/1").body == b"firstsecondthird"
    assert origin.calls == 1


@pytest.mark.parametrize("path", ["/p/1", "/other"])
def test_a_body_of_200_mb_passes_with_flat_memory(world: World, path: str) -> None:
    piece = bytes(1 << 20)
    face = world.face(Origin(lambda asked: Reply([piece] * 200 if asked.path == path else b"warm")))
    face.get("/p/warm")
    gate = threading.Event()
    call = face.begin(path, gate=gate)
    # The driver would keep it all; a client that reads on does not.
    sizes: list[int] = []
    call.took = lambda data: sizes.append(len(data))  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        gate.set()
        call.result()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 200 << 20
    assert peak < 8 << 20
