"""One fill per key: in one process, in the fleet, or not at all; and what lets those who wait go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import redis

from tests.parity.conftest import World
from tests.parity.faces import GUARD, Asked, Call, Face, Origin, Reply
from tests.servers import Proxy, RedisServer, free_port
from tiercache.engine import leases
from tiercache.tiers.redis import RedisTier

TEXT = ("Content-Type", "text/plain")
PATIENT: Any = {"lease_wait": "30s"}
"""Whoever waits is let go by what happens, however slow the machine is."""


def rules(**more: Any) -> Any:
    return {"/p/{id}": {"ttl": "10m", "tags": ["p:{id}"], "coalesce": "fleet", **more}}


def eventually(condition: Callable[[], object]) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError("it never came to that")


def waiting_for_others(*faces: Face) -> int:
    """Requests that wait for a fill in another process."""
    return sum(flight.followers for face in faces for flight in list(face.cache._engine.wakes._by_name.values()))


def waiting_here(*faces: Face) -> int:
    return sum(flight.followers for face in faces for flight in list(face.cache._engine.flights._by_key.values()))


def fleet(world: World, origin: Origin, url: str, count: int = 3, **more: Any) -> list[Face]:
    """Caches that have joined, as if each were a process of its own."""
    settings = {name: more.pop(name) for name in ("staleness_bound",) if name in more}
    faces = [world.face(origin, url, rules=rules(**more), **PATIENT, **settings) for _ in range(count)]
    for face in faces:
        face.cache.start()
        eventually(face.cache._engine.trusted)
    return faces


def nothing_left(*faces: Face) -> None:
    for face in faces:
        engine = face.cache._engine
        eventually(lambda e=engine: not e.leases and not len(e.flights) and not e.wakes._by_name)  # type: ignore[misc]
        limits = engine.limits
        eventually(lambda n=limits: (n.refreshing, n.behind, +n._filling) == (0, 0, {}))  # type: ignore[misc]


def lease_keys(url: str) -> list[bytes]:
    with redis.Redis.from_url(url) as client:
        return [key for key in client.keys("tc:*") if key.endswith(b":lease")]


def begin(faces: list[Face], each: int, url: str = "/p/1") -> list[Call]:
    return [face.begin(url) for _ in range(each) for face in faces]


@pytest.mark.parametrize("together", [True, False])
def test_one_call_of_the_app_for_the_whole_fleet(world: World, redis_url: str, together: bool) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"once", before=gate))
    faces = fleet(world, origin, redis_url)
    calls = begin(faces, 20) if together else [faces[0].begin("/p/1")]
    origin.wait_for_call()
    if not together:
        calls += begin(faces[1:], 20)
    eventually(lambda: waiting_for_others(*faces) == 2)
    eventually(lambda: waiting_here(*faces) == len(calls) - 3)
    gate.set()
    assert {call.result().body for call in calls} == {b"once"}
    assert origin.calls == 1
    outcomes = [call.response.outcome for call in calls]
    assert outcomes.count("tiercache; fwd=miss; stored") == 1
    assert outcomes.count("tiercache; hit; detail=l2") == 2
    nothing_left(*faces)
    assert lease_keys(redis_url) == []


@pytest.mark.parametrize("coalesce", ["process", False])
def test_without_the_fleet_each_process_or_each_request_asks(world: World, redis_url: str, coalesce: Any) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"each", before=gate))
    faces = fleet(world, origin, redis_url, 2, coalesce=coalesce)
    calls = begin(faces, 5)
    expected = 2 if coalesce == "process" else 10
    for _ in range(expected):
        origin.wait_for_call()
    eventually(lambda: waiting_here(*faces) == len(calls) - expected)
    gate.set()
    assert {call.result().body for call in calls} == {b"each"}
    assert origin.calls == expected
    assert all(face.get("/p/1").hit for face in faces)
    nothing_left(*faces)


@pytest.mark.parametrize(
    "headers", [("Cache-Control", "private"), ("Cache-Control", "no-store"), ("Set-Cookie", "a=b")]
)
def test_what_is_not_for_sharing_lets_everybody_go_when_the_head_says_so(
    world: World, redis_url: str, headers: tuple[str, str]
) -> None:
    head, end = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Reply:
        if origin.calls == 1:
            return Reply([b"mine", end], [TEXT, headers], before=head)
        return Reply(b"own", [TEXT, headers])

    origin = Origin(answer)
    faces = fleet(world, origin, redis_url)
    first = faces[0].begin("/p/1")
    origin.wait_for_call()
    others = begin(faces[1:], 4)
    eventually(lambda: waiting_for_others(*faces) == 2)
    eventually(lambda: waiting_here(*faces) == 6)
    head.set()
    # Its body goes on for as long as the test wants.
    assert {call.result().body for call in others} == {b"own"}
    assert not first.future.done()
    end.set()
    assert first.result().body == b"mine"
    assert origin.calls == 9
    nothing_left(*faces)
    assert lease_keys(redis_url) == []


@pytest.mark.parametrize("late", [False, True])
def test_an_app_that_raises_lets_everybody_go(world: World, redis_url: str, late: bool) -> None:
    gate = threading.Event()

    def answer(asked: Asked) -> Reply:
        if origin.calls > 1:
            return Reply(b"fine")
        return Reply([b"half"] * late + [gate, ValueError("the first")])

    origin = Origin(answer)
    faces = fleet(world, origin, redis_url)
    first = faces[0].begin("/p/1")
    origin.wait_for_call()
    others = begin(faces[1:], 3)
    eventually(lambda: waiting_for_others(*faces) == 2)
    eventually(lambda: waiting_here(*faces) == 4)
    gate.set()
    assert {call.result().body for call in others} == {b"fine"}
    with pytest.raises(ValueError, match="the first"):
        first.result()
    nothing_left(*faces)
    assert faces[0].get("/p/1").hit


def test_who_comes_after_the_holder_died_takes_over(world: World, redis_url: str) -> None:
    origin = Origin(Reply(b"anew"))
    faces = fleet(world, origin, redis_url)
    engine = faces[0].cache._engine
    # The lease as a process has left it that was killed in the middle of its fill: nobody renews it.
    faces[0].get("/p/1")
    faces[0].cache.purge(everything=True)
    eventually(lambda: len({face.cache._engine.ledger.stamp() for face in faces}) == 1)
    with redis.Redis.from_url(redis_url) as client:
        value = next(key for key in client.keys("tc:*") if client.type(key) == b"string")
        dead = b"tc:{" + value + b"}:lease"
        assert client.set(dead, "0123456789abcdef", px=int(leases.ttl(engine) * 1000))
        calls = begin(faces, 5)
        eventually(lambda: waiting_for_others(*faces) == 3)
        assert bytes(client.get(dead) or b"")[-1:] == b"*"
    assert {call.result().body for call in calls} == {b"anew"}
    assert origin.calls == 2
    nothing_left(*faces)


def test_the_lease_of_a_dead_holder_ends_within_the_patience_of_those_who_wait(world: World) -> None:
    engine = world.face(Origin()).cache._engine
    assert leases.ttl(engine) + leases.LOOK_AGAIN <= engine.settings.lease_wait


def test_a_long_fill_keeps_its_lease(world: World, redis_url: str) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"once", before=gate))
    faces = fleet(world, origin, redis_url, 2)
    calls = [faces[0].begin("/p/1")]
    origin.wait_for_call()
    calls.append(faces[1].begin("/p/1"))
    eventually(lambda: waiting_for_others(*faces) == 1)
    with redis.Redis.from_url(redis_url) as client:
        (key,) = lease_keys(redis_url)
        seen: list[int] = []

        def renewed() -> bool:
            left: Any = client.pttl(key)
            seen.append(left)
            return sum(after > before for before, after in pairwise(seen)) >= 2

        eventually(renewed)
    gate.set()
    assert {call.result().body for call in calls} == {b"once"}
    assert origin.calls == 1


def test_word_that_is_lost_is_made_up_for(world: World, redis_server: RedisServer, redis_url: str) -> None:
    """The one who waits looks for itself now and then."""
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"once", before=gate))
    one, other = fleet(world, origin, redis_url, 2)
    first = one.begin("/p/1")
    origin.wait_for_call()
    other.cache._engine.wakes.wake = lambda name, outcome: None  # type: ignore[method-assign]
    second = other.begin("/p/1")
    eventually(lambda: waiting_for_others(other) == 1)
    gate.set()
    assert {first.result().body, second.result().body} == {b"once"}
    assert origin.calls == 1
    nothing_left(one, other)


def test_nobody_waits_longer_than_lease_wait(world: World, redis_url: str) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"%d" % origin.calls, before=gate if origin.calls == 1 else None))
    one = world.face(origin, redis_url, rules=rules(), **PATIENT)
    other = world.face(origin, redis_url, rules=rules(), lease_wait="50ms")
    for face in (one, other):
        face.cache.start()
        eventually(face.cache._engine.trusted)
    first = one.begin("/p/1")
    origin.wait_for_call()
    assert other.get("/p/1").body == b"2"
    assert not first.future.done()
    gate.set()
    first.result()
    nothing_left(one, other)


def test_variants_are_filled_once_each(world: World, redis_url: str) -> None:
    gate = threading.Event()

    def answer(asked: Asked) -> Reply:
        return Reply(asked.fields["accept-language"].encode(), [TEXT, ("Vary", "Accept-Language")], before=gate)

    origin = Origin(answer)
    faces = fleet(world, origin, redis_url, 2)
    languages = ["de", "fr", "it"]
    calls = [(face, language, face.begin("/p/1", [("Accept-Language", language)])) for language in languages * 2
             for face in faces]  # fmt: skip
    origin.wait_for_call()
    eventually(lambda: waiting_for_others(*faces) == 1)
    eventually(lambda: waiting_here(*faces) == 10)
    gate.set()
    for _, language, call in calls:
        assert call.result().body == language.encode()
    # Nobody knew that there were any: those who were let go at once may have met at the same variant.
    assert {asked.fields["accept-language"] for asked in origin.asked} == {*languages}
    assert origin.calls <= 2 * len(languages)
    before = origin.calls
    # Now it is known: a variant each.
    calls = [(face, language, face.begin("/p/1", [("Accept-Language", language)])) for language in ["en", "es"]
             for face in faces]  # fmt: skip
    for _, language, call in calls:
        assert call.result().body == language.encode()
    assert origin.calls == before + 2
    nothing_left(*faces)


def test_without_redis_each_process_asks_for_itself(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"each", before=gate))
    url = f"redis://127.0.0.1:{free_port()}/0"
    faces = [world.face(origin, url, rules=rules(), **PATIENT) for _ in range(2)]
    calls = begin(faces, 5)
    for _ in range(2):
        origin.wait_for_call()
    eventually(lambda: waiting_here(*faces) == 8)
    gate.set()
    assert {call.result().body for call in calls} == {b"each"}
    assert origin.calls == 2


def test_a_write_to_l2_that_fails_lets_everybody_go_at_once(world: World, redis_url: str) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"%d" % origin.calls, before=gate if origin.calls == 1 else None))
    faces = fleet(world, origin, redis_url)
    words: list[bool] = []
    for face in faces:
        store: Any = face.cache._engine.shared
        release, arelease = store.release, store.arelease

        def refuse(*args: Any) -> None:
            raise OSError("full")

        async def arefuse(*args: Any) -> None:
            raise OSError("full")

        def told(name: str, token: str, made: bool, deadline: float, release: Any = release) -> Any:
            words.append(made)
            return release(name, token, made, deadline)

        async def atold(name: str, token: str, made: bool, deadline: float, arelease: Any = arelease) -> Any:
            words.append(made)
            return await arelease(name, token, made, deadline)

        store.set, store.aset, store.release, store.arelease = refuse, arefuse, told, atold
    first = faces[0].begin("/p/1")
    origin.wait_for_call()
    others = begin(faces[1:], 3)
    eventually(lambda: waiting_for_others(*faces) == 2)
    gate.set()
    assert first.result().status == 200
    assert all(call.result().status == 200 for call in others)
    assert origin.calls == 3
    eventually(lambda: words)
    assert not any(words)
    nothing_left(*faces)


def test_a_holder_that_is_cut_off_from_redis_still_answers(world: World, redis_server: RedisServer) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"once", before=gate))
    proxy = Proxy(redis_server.port)
    try:
        face = fleet(world, origin, proxy.url, 1)[0]
        call = face.begin("/p/1")
        origin.wait_for_call()
        assert len(face.cache._engine.leases) == 1
        proxy.on_reply = lambda data: None
        proxy.cut()
        gate.set()
        assert call.result().body == b"once"
        assert face.cache._engine.leases == {}
        assert face.get("/p/1").hit
    finally:
        proxy.close()


def test_a_full_house_gives_its_lease_back(world: World, redis_url: str) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"a" + asked.path.encode(), before=gate if asked.path == "/p/2" else None))
    one, other = fleet(world, origin, redis_url, 2, max_fills=1, stale_if_error="1h")
    one.get("/p/1")
    one.cache.purge(tags="p:1", soft=True)
    busy = one.begin("/p/2")
    while not any(asked.path == "/p/2" for asked in origin.asked):
        time.sleep(0.001)
    assert one.get("/p/1").outcome == "tiercache; hit; detail=overload"
    assert one.get("/p/3").status == 503
    assert list(one.cache._engine.leases) != []
    assert len(one.cache._engine.leases) == 1
    assert len(lease_keys(redis_url)) == 1
    # The other has room, and is not kept waiting by one that has none.
    assert other.get("/p/3").body == b"a/p/3"
    gate.set()
    busy.result()
    nothing_left(one, other)


def test_a_client_that_wants_the_store_alone_takes_no_lease(world: World, redis_url: str) -> None:
    origin = Origin()
    (face,) = fleet(world, origin, redis_url, 1, client_directives=True)
    assert face.get("/p/1", [("Cache-Control", "only-if-cached")]).status == 504
    nothing_left(face)
    assert lease_keys(redis_url) == []
    assert origin.calls == 0


def test_the_tier_of_these_tests_names_a_lease_as_they_do(redis_url: str) -> None:
    tier = RedisTier(redis_url, "default")
    assert tier._lease_key("x") == "tc:{tc:default:x}:lease"
    tier.close()
