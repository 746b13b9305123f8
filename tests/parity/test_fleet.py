"""The barrier behind a purge, its repetition, and how a process leaves the fleet."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis

from tests.parity.conftest import World
from tests.parity.faces import Face, Origin
from tests.parity.waiting import attach, eventually, halt, purge, silence
from tiercache.engine import flows
from tiercache.engine.effects import drive

RULES: Any = {"/p/{id}": {"ttl": "10m", "tags": ["p:{id}"]}}
MEMBERS = "tc:{default}:members"


def fleet(world: World, url: str, count: int, bound: str) -> list[Face]:
    """Processes that know all there is to know, with `/p/1` in memory."""
    faces = [attach(world.face(Origin(), url, RULES, staleness_bound=bound)) for _ in range(count)]
    for face in faces:
        face.get("/p/1")
        assert face.get("/p/1").hit
    with redis.Redis.from_url(url, decode_responses=True) as client:
        # The rows speak for all once they are older than the bound.
        since, epoch = str(client.hget(MEMBERS, "@")).split()
        client.hset(MEMBERS, "@", f"{float(since) - 10_000:.6f} {epoch}")
    return faces


def name(face: Face) -> str:
    return face.cache._engine.process_id


def rows(url: str) -> set[str]:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        found: Any = client.hkeys(MEMBERS)
        return set(found) - {"@"}


def test_when_it_returns_all_have_applied_it(world: World, redis_url: str) -> None:
    """With a bound so long that nothing but what they were told can have moved them."""
    faces = fleet(world, redis_url, 3, "600s")
    receipt = purge(faces[0], tags="p:1", wait=True)
    assert receipt.acknowledged == tuple(sorted(map(name, faces)))
    assert receipt.isolated == ()
    assert [face.cache._engine.ledger.stamp().number for face in faces] == [receipt.number] * 3
    assert not faces[2].get("/p/1").hit


def test_one_that_tells_nothing_is_waited_for_and_named(world: World, redis_url: str) -> None:
    one, stopped, other = fleet(world, redis_url, 3, "500ms")
    halt(stopped)
    receipt = purge(one, tags="p:1", wait=True)
    assert receipt.isolated == (name(stopped),)
    assert receipt.acknowledged == tuple(sorted([name(one), name(other)]))
    # It has not heard of it, and does not trust what it knows any more.
    assert stopped.cache._engine.ledger.stamp().number < receipt.number
    assert not stopped.cache._engine.trusted()
    assert not stopped.get("/p/1").hit


def test_one_that_hears_nothing_tells_with_its_next_sync(world: World, redis_url: str) -> None:
    one = fleet(world, redis_url, 1, "1s")[0]
    deaf = silence(world.face(Origin(), redis_url, RULES, staleness_bound="1s"))
    assert deaf.get("/p/1").hit
    receipt = purge(one, tags="p:1", wait=True)
    assert receipt.acknowledged == tuple(sorted([name(one), name(deaf)]))
    assert not deaf.get("/p/1").hit


def test_where_the_rows_are_lost_no_silence_counts(world: World, redis_url: str) -> None:
    one, stopped = fleet(world, redis_url, 2, "2s")
    halt(stopped)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(MEMBERS)
    assert stopped.cache._engine.trusted()
    purge(one, tags="p:1", wait=True)
    assert not stopped.cache._engine.trusted()


@pytest.mark.parametrize("named", [{"soft": True, "tags": "p:1"}, {"prefix": "/p"}, {"everything": True}])
def test_any_purge_can_be_waited_for(world: World, redis_url: str, named: Any) -> None:
    one, other = fleet(world, redis_url, 2, "600s")
    receipt = purge(one, wait=True, **named)
    assert receipt.acknowledged == tuple(sorted([name(one), name(other)]))
    assert other.origin.calls == 0
    other.get("/p/1")
    assert other.origin.calls == 1


def test_without_a_shared_tier_there_is_nobody_to_wait_for(world: World) -> None:
    face = world.face(Origin(), rules=RULES)
    receipt = purge(face, tags="p:1", wait=True)
    assert (receipt.shared, receipt.acknowledged, receipt.isolated) == (False, (), ())


@pytest.mark.parametrize("shared", [False, True])
def test_a_purge_is_repeated(world: World, redis_url: str, shared: bool) -> None:
    face = world.face(Origin(), redis_url if shared else None, RULES)
    face.get("/p/1")
    assert purge(face, tags="p:1", settle="200ms").number == 1
    # From a database that lags, say: made after the purge, and old all the same.
    assert face.get("/p/1").body == b"answer 2"
    eventually(lambda: face.cache._engine.ledger.stamp().number == 2)
    assert face.get("/p/1").body == b"answer 3"
    assert face.cache.stats()["purges"] == 2


@pytest.mark.parametrize("named", [{"tags": "p:1"}, {"everything": True}, {"tags": "p:1", "soft": True}])
def test_closing_repeats_it_at_once(world: World, redis_url: str, named: Any) -> None:
    one, other = fleet(world, redis_url, 2, "600s")
    number = purge(one, settle="1h", **named).number
    one.get("/p/1")
    close(one)
    eventually(lambda: other.cache._engine.ledger.stamp().number == number + 1)


def test_a_repetition_that_no_thread_can_make_does_not_fail_the_purge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = world.face(Origin(), rules=RULES)
    face.get("/p/1")
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if self.name == "tiercache-settling":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert purge(face, tags="p:1", settle="1h").number == 1
    assert not face.get("/p/1").hit
    close(face)
    assert face.cache._engine.ledger.stamp().number == 2


def close(face: Face) -> None:
    if face.kind == "asgi":
        face.run(face.cache.aclose())  # type: ignore[attr-defined]
    else:
        face.cache.close()


def test_one_that_closes_leaves_no_row_and_no_trust(world: World, redis_url: str) -> None:
    one, other = fleet(world, redis_url, 2, "600s")
    gone = name(other)
    assert rows(redis_url) == {name(one), gone}
    close(other)
    assert rows(redis_url) == {name(one)}
    assert not other.cache._engine.trusted()
    # So nobody waits for it.
    assert purge(one, tags="p:1", wait=True).acknowledged == (name(one),)
    # The next request starts again, as somebody else, and catches up first.
    assert not other.get("/p/1").hit or other.get("/p/1").body == one.get("/p/1").body
    eventually(other.cache._engine.trusted)
    assert rows(redis_url) == {name(one), name(other)}
    assert name(other) != gone


def test_one_that_syncs_while_it_leaves_has_a_row_if_it_has_trust(world: World, redis_url: str) -> None:
    """Else a barrier would not wait for it."""
    _, other = fleet(world, redis_url, 2, "600s")
    engine = other.cache._engine
    shared: Any = engine.shared
    leave, aleave = shared.leave, shared.aleave

    def late(process_id: str, deadline: float) -> None:
        drive(flows.sync(engine, time.monotonic() + 10))
        leave(process_id, deadline)

    async def alate(process_id: str, deadline: float) -> None:
        late(process_id, deadline)

    shared.leave, shared.aleave = late, alate
    close(other)
    shared.leave, shared.aleave = leave, aleave
    assert not engine.trusted()
