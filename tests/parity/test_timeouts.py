"""The app is slow, fails, or has enough to do: what clients get, and what becomes of the fill."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import pytest

from tests.parity.conftest import World
from tests.parity.faces import Asked, Call, Face, Origin, Reply
from tests.parity.test_coalescing import begin, eventually, fleet, lease_keys, nothing_left, waiting_here
from tiercache.engine import opening

TEXT = ("Content-Type", "text/plain")
PRIVATE = ("Cache-Control", "private")
AT_ONCE = "1ms"
"""Less than what the app of these tests takes: it waits for an event."""
FAR = "10m"
HIT = "tiercache; hit; detail=l1"


def rules(**more: Any) -> Any:
    return {"/p/{id}": {"ttl": "10s", "tags": ["p:{id}"], **more}}


SOFT: Any = {"stale_if_error": "1h", "serve_stale_after": AT_ONCE}
HARD: Any = {"fill_timeout": AT_ONCE}


class Gates:
    """An app whose calls wait, each for a gate of its own; the ones in `free` go through."""

    def __init__(self, *free: int, then: Any = None) -> None:
        self.gates = [threading.Event() for _ in range(40)]
        for number in free:
            self.gates[number].set()
        self.then = then or {}
        self.origin = Origin(self.answer)

    def answer(self, asked: Asked) -> Reply:
        number = self.origin.calls
        gate = self.gates[number]
        reply: Reply = self.then.get(number) or Reply(b"answer %d" % number)
        reply.before = gate
        return reply

    def release(self) -> None:
        for gate in self.gates:
            gate.set()


def aged(world: World, gates: Gates, **policy: Any) -> tuple[Face, Any]:
    """A face with an answer that has become stale."""
    face, hands = world.turnable(gates.origin, rules=rules(**policy), lease_wait="30s")
    face.get("/p/1")
    hands.turn(11)
    return face, hands


# -- serve_stale_after -----------------------------------------------------------------------------------------------


def test_a_slow_app_is_hidden_by_the_old_answer_and_its_own_is_stored(world: World) -> None:
    gates = Gates(1)
    face, _ = aged(world, gates, **SOFT)
    answers = [face.get("/p/1") for _ in range(5)]
    assert {answer.body for answer in answers} == {b"answer 1"}
    assert {answer.outcome for answer in answers} == {"tiercache; hit; detail=slow"}
    assert gates.origin.calls == 2
    gates.release()
    eventually(lambda: face.get("/p/1").outcome == HIT)
    assert face.get("/p/1").body == b"answer 2"
    assert gates.origin.calls == 2
    nothing_left(face)


def test_one_that_answers_in_time_answers_itself(world: World) -> None:
    gates = Gates(1, 2)
    face, _ = aged(world, gates, stale_if_error="1h", serve_stale_after=FAR)
    answer = face.get("/p/1")
    assert (answer.body, answer.outcome) == (b"answer 2", "tiercache; fwd=stale; fwd-status=200; stored")
    nothing_left(face)


def test_without_an_old_answer_the_client_waits(world: World) -> None:
    gates = Gates()
    face = world.face(gates.origin, rules=rules(**SOFT), lease_wait="30s")
    calls = [face.begin("/p/1") for _ in range(4)]
    gates.origin.wait_for_call()
    eventually(lambda: waiting_here(face) == 4)
    assert not any(call.future.done() for call in calls)
    gates.release()
    assert {call.result().body for call in calls} == {b"answer 1"}
    assert gates.origin.calls == 1
    outcomes = sorted(call.response.outcome for call in calls)
    assert outcomes == [*["tiercache; fwd=miss; collapsed"] * 3, "tiercache; fwd=miss; fwd-status=200; stored"]
    nothing_left(face)


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_purged_is_not_served_however_slow_the_app_is(world: World, soft: bool) -> None:
    gates = Gates(1)
    face, _ = aged(world, gates, **SOFT)
    face.cache.purge(tags="p:1", soft=soft)
    call = face.begin("/p/1")
    gates.origin.wait_for_call()
    gates.origin.wait_for_call()
    if soft:
        assert call.result().body == b"answer 1"
        gates.release()
    else:
        eventually(lambda: waiting_here(face) == 1)
        assert not call.future.done()
        gates.release()
        assert call.result().body == b"answer 2"
    nothing_left(face)


def test_a_purge_while_the_app_works_takes_the_old_answer_away(world: World) -> None:
    gates = Gates(1)
    face, _ = aged(world, gates, stale_if_error="1h", serve_stale_after=FAR)
    call = face.begin("/p/1")
    gates.origin.wait_for_call()
    gates.origin.wait_for_call()
    face.cache.purge(tags="p:1")
    gates.gates[3].set()
    gates.gates[2].set()
    # What the fill behind brought is from before the purge, as is the old one: the app is asked once more.
    assert call.result().body == b"answer 3"
    nothing_left(face)


def test_past_stale_if_error_there_is_no_old_answer(world: World) -> None:
    gates = Gates(1)
    face, hands = aged(world, gates, stale_if_error="20s", serve_stale_after=AT_ONCE)
    hands.turn(30)
    call = face.begin("/p/1")
    eventually(lambda: waiting_here(face) == 1)
    assert not call.future.done()
    gates.release()
    assert call.result().body == b"answer 2"


# -- fill_timeout ----------------------------------------------------------------------------------------------------


def test_504_and_then_the_page(world: World) -> None:
    gates = Gates()
    face = world.face(gates.origin, rules=rules(**HARD), lease_wait="30s")
    first = face.get("/p/1")
    assert (first.status, first.outcome) == (504, "tiercache; detail=timeout")
    assert first.header("cache-control") == "no-store"
    # Those who come while it is under way do not call the app either, and wait no longer.
    assert [face.get("/p/1").status for _ in range(5)] == [504] * 5
    assert gates.origin.calls == 1
    gates.release()
    eventually(lambda: face.get("/p/1").outcome == HIT)
    assert face.get("/p/1").body == b"answer 1"
    assert gates.origin.calls == 1
    nothing_left(face)


def test_those_who_came_together_get_504_together(world: World) -> None:
    gates = Gates()
    face = world.face(gates.origin, rules=rules(fill_timeout="20ms"), lease_wait="30s")
    calls = [face.begin("/p/1") for _ in range(8)]
    assert {call.result().status for call in calls} == {504}
    assert gates.origin.calls == 1
    gates.release()
    nothing_left(face)


def test_who_has_no_patience_left_for_others_is_bounded_too(world: World) -> None:
    """Past `lease_wait` a follower has the app asked for itself, no longer than the rule says."""
    gates = Gates()
    face = world.face(gates.origin, rules=rules(fill_timeout="60ms"), lease_wait=0)
    calls = [face.begin("/p/1") for _ in range(3)]
    assert {call.result().status for call in calls} == {504}
    assert gates.origin.calls == 3
    gates.release()
    nothing_left(face)


def test_a_fill_that_hangs_for_good_does_not_take_its_url_along(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = Gates(2)
    face = world.face(gates.origin, rules=rules(fill_timeout="20ms"), lease_wait="30s")
    assert face.get("/p/1").status == 504
    assert face.get("/p/1").status == 504
    assert gates.origin.calls == 1
    monkeypatch.setattr(opening, "HUNG", 0.0)
    eventually(lambda: face.get("/p/1").status == 200)
    assert gates.origin.calls >= 2
    gates.release()
    nothing_left(face)


def test_a_fill_that_its_rule_gives_more_time_does_not_hang(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = Gates()
    face = world.face(gates.origin, rules=rules(fill_timeout=FAR), lease_wait="30s")
    monkeypatch.setattr(opening, "HUNG", 0.0)
    calls = [face.begin("/p/1") for _ in range(3)]
    gates.origin.wait_for_call()
    eventually(lambda: waiting_here(face) == 3)
    gates.release()
    assert {call.result().status for call in calls} == {200}
    assert gates.origin.calls == 1
    nothing_left(face)


def test_an_old_answer_is_better_than_504(world: World) -> None:
    gates = Gates(1)
    face, _ = aged(world, gates, stale_if_error="1h", fill_timeout=AT_ONCE)
    assert [face.get("/p/1").outcome for _ in range(3)] == ["tiercache; hit; detail=slow"] * 3
    assert gates.origin.calls == 2
    gates.release()
    nothing_left(face)


def test_what_is_not_for_sharing_is_asked_for_by_each_client_itself(world: World) -> None:
    secret = [TEXT, PRIVATE]
    gates = Gates(*range(1, 30), then={number: Reply(b"own %d" % number, secret) for number in range(1, 30)})
    face = world.face(gates.origin, rules=rules(fill_timeout=FAR), lease_wait="30s")
    calls = [face.begin("/p/1", [("X-Number", str(number))]) for number in range(5)]
    bodies = [call.result().body for call in calls]
    assert len(set(bodies)) == 5
    assert not any(call.response.hit for call in calls)
    # The clients themselves, and at least one fill behind that found out.
    assert gates.origin.calls in range(6, 11)
    before = gates.origin.calls
    assert face.get("/p/1").body == b"own %d" % (before + 1)
    assert gates.origin.calls == before + 1, "it is known by now"
    nothing_left(face)


@pytest.mark.parametrize("late", [False, True])
def test_an_app_that_raises_behind_raises_for_the_client(world: World, late: bool) -> None:
    def answer(asked: Asked) -> Reply:
        error = ValueError(f"call {origin.calls}")
        return Reply([b"half", error]) if late else Reply(failure=error)

    origin = Origin(answer)
    face = world.face(origin, rules=rules(fill_timeout=FAR), lease_wait="30s")
    with pytest.raises(ValueError, match="call 2"):
        face.get("/p/1")
    assert face.cache.stats()["swallowed"] == {"fill without its client": 1}
    nothing_left(face)


def test_an_app_that_raises_behind_is_hidden_by_the_old_answer(world: World) -> None:
    gates = Gates(1, then={2: Reply(failure=ValueError("no"))})
    face, _ = aged(world, gates, stale_if_error="1h", serve_stale_after=FAR)
    calls = [face.begin("/p/1") for _ in range(4)]
    eventually(lambda: waiting_here(face) == 4)
    gates.release()
    assert {call.result().body for call in calls} == {b"answer 1"}
    assert gates.origin.calls == 2
    nothing_left(face)


def test_a_304_behind_answers_the_client(world: World) -> None:
    tag = [TEXT, ("ETag", '"v1"')]
    gates = Gates(1, 2, then={1: Reply(b"same", tag), 2: Reply(b"", tag[1:], 304, "Not Modified")})
    face, _ = aged(world, gates, stale_if_error="1h", serve_stale_after=FAR)
    answer = face.get("/p/1")
    assert (answer.status, answer.body) == (200, b"same")
    assert gates.origin.asked[1].fields["if-none-match"] == '"v1"'
    assert face.get("/p/1").outcome == HIT
    nothing_left(face)


def test_a_client_that_has_it_gets_a_304_from_the_fill_behind(world: World) -> None:
    tag = [TEXT, ("ETag", '"v1"')]
    gates = Gates(1, then={1: Reply(b"same", tag)})
    face = world.face(gates.origin, rules=rules(fill_timeout=FAR), lease_wait="30s")
    assert face.get("/p/1", [("If-None-Match", '"v1"')]).status == 304
    assert "if-none-match" not in gates.origin.asked[0].fields
    assert face.get("/p/1").body == b"same"


def test_a_client_that_wants_the_store_alone_has_nobody_asked(world: World) -> None:
    gates = Gates()
    face = world.face(gates.origin, rules=rules(client_directives=True, fill_timeout=AT_ONCE))
    answer = face.get("/p/1", [("Cache-Control", "only-if-cached")])
    assert (answer.status, answer.outcome) == (504, "tiercache; detail=only-if-cached")
    assert gates.origin.calls == 0
    nothing_left(face)


@pytest.mark.parametrize("policy", [{**SOFT}, {**HARD}])
def test_the_rule_has_no_more_patience_with_another_process(world: World, redis_url: str, policy: Any) -> None:
    gates = Gates(1, 2)
    one, other = fleet(world, gates.origin, redis_url, 2, **policy)
    if policy == SOFT:
        one.get("/p/1")
        other.get("/p/1")
        one.cache.purge(tags="p:1", soft=True)
        eventually(lambda: other.cache._engine.ledger.stamp() == one.cache._engine.ledger.stamp())
    tier: Any = one.cache._engine.shared
    held: list[str] = []
    acquire = tier.acquire

    # A process that hangs holds the lease of whatever these two ask for.
    def taken(name: str, *rest: Any) -> bool:
        held.append(name)
        acquire(name, "0123456789abcdef", *rest[1:])
        return False

    async def ataken(name: str, *rest: Any) -> bool:
        return taken(name, *rest)

    tier.acquire, tier.aacquire = taken, ataken
    before = gates.origin.calls
    answers = [one.get("/p/1") for _ in range(2)]
    if policy == SOFT:
        assert {(answer.body, answer.outcome) for answer in answers} == {(b"answer 1", "tiercache; hit; detail=slow")}
    else:
        assert {answer.status for answer in answers} == {504}
    assert gates.origin.calls == before
    assert held
    nothing_left(one)


# -- retry_after_error -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [Reply(b"x", status=503), Reply(failure=ValueError("down"))])
def test_after_a_failure_the_app_is_left_alone_for_a_while(world: World, failure: Any) -> None:
    gates = Gates(*range(1, 10), then=dict.fromkeys((2, 3), failure))
    face, hands = aged(world, gates, stale_if_error="1h", retry_after_error="5s")
    assert face.get("/p/1").body == b"answer 1"
    assert gates.origin.calls == 2
    answers = [face.get("/p/1") for _ in range(10)]
    assert {(answer.body, answer.outcome) for answer in answers} == {
        (b"answer 1", "tiercache; hit; detail=stale-if-error")
    }
    assert gates.origin.calls == 2
    hands.turn(6)
    assert face.get("/p/1").body == b"answer 1"
    assert gates.origin.calls == 3
    hands.turn(6)
    assert face.get("/p/1").body == b"answer 4"
    assert face.get("/p/1").outcome == HIT
    nothing_left(face)


def test_left_alone_or_not_what_is_purged_is_not_served(world: World) -> None:
    gates = Gates(*range(1, 10), then={2: Reply(b"x", status=500)})
    face, _ = aged(world, gates, stale_if_error="1h", retry_after_error="1h")
    assert face.get("/p/1").body == b"answer 1"
    face.cache.purge(tags="p:1")
    assert face.get("/p/1").body == b"answer 3"
    nothing_left(face)


def test_without_a_pause_each_request_asks(world: World) -> None:
    gates = Gates(*range(1, 10), then={number: Reply(b"x", status=500) for number in range(2, 6)})
    face, _ = aged(world, gates, stale_if_error="1h", retry_after_error=0)
    assert {face.get("/p/1").body for _ in range(4)} == {b"answer 1"}
    assert gates.origin.calls == 5


def test_with_no_old_answer_no_failure_is_hidden(world: World) -> None:
    gates = Gates(*range(1, 10), then={1: Reply(b"x", status=500)})
    face = world.face(gates.origin, rules=rules(stale_if_error="1h", retry_after_error="1h"))
    assert face.get("/p/1").status == 500
    assert face.get("/p/1").body == b"answer 2"


# -- max_fills -------------------------------------------------------------------------------------------------------


def filling(face: Face) -> int:
    return sum(face.cache._engine.limits._filling.values())


def test_beyond_the_limit_503(world: World) -> None:
    gates = Gates()
    face = world.face(gates.origin, rules=rules(max_fills=2), lease_wait="30s")
    busy = [face.begin(f"/p/{number}") for number in range(2)]
    gates.origin.wait_for_call()
    gates.origin.wait_for_call()
    answer = face.get("/p/9")
    assert (answer.status, answer.reason in (None, "Service Unavailable")) == (503, True)
    assert (answer.header("retry-after"), answer.header("cache-control")) == ("1", "no-store")
    assert answer.outcome == "tiercache; detail=overload"
    # Who follows a fill that is under way takes no place.
    follower = face.begin("/p/0")
    eventually(lambda: waiting_here(face) == 1)
    gates.release()
    assert {call.result().status for call in [*busy, follower]} == {200}
    assert face.get("/p/9").status == 200
    assert face.get("/other").status == 200
    nothing_left(face)


def test_requests_that_pass_the_cache_by_do_not_count(world: World) -> None:
    gates = Gates()
    face = world.face(gates.origin, rules=rules(max_fills=1), lease_wait="30s")
    first = face.begin("/p/1")
    gates.origin.wait_for_call()
    own = face.begin("/p/1", [("Authorization", "Basic eDp5")], "HEAD")
    gates.origin.wait_for_call()
    gates.release()
    assert (first.result().status, own.result().status) == (200, 200)
    nothing_left(face)


def test_an_old_answer_is_better_than_503(world: World) -> None:
    gates = Gates(1)
    face, _ = aged(world, gates, stale_if_error="1h", max_fills=1)
    busy = face.begin("/p/2")
    eventually(lambda: gates.origin.calls == 2)
    answers = [face.get("/p/1") for _ in range(3)]
    assert {(a.body, a.outcome) for a in answers} == {(b"answer 1", "tiercache; hit; detail=overload")}
    face.cache.purge(tags="p:1")
    assert face.get("/p/1").status == 503
    gates.release()
    busy.result()
    nothing_left(face)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        Reply(b"fine"),
        Reply(b"own", [TEXT, PRIVATE]),
        Reply(b"no", status=404),
        Reply(b"no", status=500),
        Reply([b"half", ValueError("no")]),
        Reply([b"short"], [TEXT, ("Content-Length", "50")]),
        Reply(b"x" * 5_000),
        Reply(failure=ValueError("no")),
    ],
    ids=["stored", "private", "404", "500", "breaks off", "short", "too large", "raises"],
)
def test_a_place_comes_back_whatever_happens(world: World, how: Any, behind: bool) -> None:
    policy = {"max_fills": 1, **({"fill_timeout": FAR} if behind else {})}
    face = world.face(Origin(how), rules=rules(**policy), max_body=4_000)
    for number in range(3):
        # The validators of the WSGI side refuse a body that is too short.
        with suppress(ValueError, AssertionError):
            face.get(f"/p/{number}")
        # Each of them has reached the app.
        assert face.origin.calls > number
        eventually(lambda: filling(face) == 0)
    nothing_left(face)


@pytest.mark.parametrize("status", [304, 200, 500])
def test_a_place_comes_back_where_something_stale_was_asked_about(world: World, status: int) -> None:
    tag = [TEXT, ("ETag", '"v1"')]
    gates = Gates(1, 2, then={1: Reply(b"same", tag), 2: Reply(b"x", tag[status == 304 :], status)})
    face, _ = aged(world, gates, stale_if_error="1h", max_fills=1)
    assert face.get("/p/1").status == 200
    assert filling(face) == 0
    nothing_left(face)


@pytest.mark.parametrize("behind", [False, True])
def test_a_crowd_never_has_more_than_its_share(world: World, behind: bool) -> None:
    gates = Gates()
    policy = {"max_fills": 3, **({"fill_timeout": FAR} if behind else {})}
    face = world.face(gates.origin, rules=rules(**policy), lease_wait="30s")
    calls: list[Call] = [face.begin(f"/p/{number}") for number in range(20)]
    eventually(lambda: sum(call.future.done() for call in calls) == 17)
    assert gates.origin.calls == 3
    gates.release()
    assert sorted(call.result().status for call in calls) == [200] * 3 + [503] * 17
    nothing_left(face)


def test_the_wait_of_a_full_house_is_the_same_in_the_fleet(world: World, redis_url: str) -> None:
    gates = Gates()
    faces = fleet(world, gates.origin, redis_url, 2, max_fills=1, fill_timeout=FAR)
    busy = [faces[0].begin("/p/1")]
    gates.origin.wait_for_call()
    assert faces[0].get("/p/2").status == 503
    busy += begin(faces[1:], 1, "/p/2")
    gates.origin.wait_for_call()
    gates.release()
    assert {call.result().status for call in busy} == {200}
    nothing_left(*faces)
    assert lease_keys(redis_url) == []
