"""Writes of a write-behind store that are under way at once: who goes with whom, and what befalls who carries them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.data.stores import in_thread
from tests.parity.waiting import eventually
from tiercache import PurgeUnconfirmed, QueueFull, TierCache, TierRejected, TierUnavailable
from tiercache.core.queued_values import name_of
from tiercache.core.write_queue import Errand
from tiercache.engine import convoys, session
from tiercache.engine.effects import drive
from tiercache.engine.enqueueing import Enqueue
from tiercache.engine.flights import RELEASED, Flight, Flights
from tiercache.tiers.redis import RedisTier
from tiercache.write_behind import WriteBehind

CALM = {"l2_budget": "10s", "l2_slow": "10s", "purge_timeout": "10s"}


class Road:
    """A store, and a Redis on whose way the first write can be held up."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.cache = TierCache(url, namespace="shop", **CALM)
        self.rows: dict[Any, int] = {}
        self.store: WriteBehind[Any, int] = self.cache.write_behind(
            "stock",
            load=self.rows.get,
            aload=self._aload,
            write=lambda batch: None,
            ttl="10m",
            durability="memory",
            **{"partitions": 4, **settings},
        )
        self.store.set("examined", 1)
        self.gate = threading.Event()
        self.groups: list[int] = []
        self.purges: list[list[str]] = []
        tier: Any = self.cache._engine.shared
        assert isinstance(tier, RedisTier)
        self.tier = tier
        for name in ("put", "aput", "submit", "asubmit", "purge", "apurge"):
            monkeypatch.setattr(tier, name, getattr(self, name)(getattr(tier, name)))
        monkeypatch.setattr(convoys, "PATIENCE", 20.0)

    async def _aload(self, key: Any) -> Any:
        return self.rows.get(key)

    @property
    def waiting(self) -> int:
        return len(self.store._convoy._line.waiting)

    def put(self, put: Any) -> Any:
        def putting(*args: Any) -> Any:
            assert self.gate.wait(20)
            return put(*args)

        return putting

    def aput(self, aput: Any) -> Any:
        async def putting(*args: Any) -> Any:
            while not self.gate.is_set():
                await asyncio.sleep(0.001)
            return await aput(*args)

        return putting

    def submit(self, submit: Any) -> Any:
        def submitting(errands: list[Errand], *args: Any) -> Any:
            self.groups.append(sum(len(one.writes) or 1 for one in errands))
            return submit(errands, *args)

        return submitting

    def asubmit(self, asubmit: Any) -> Any:
        async def submitting(errands: list[Errand], *args: Any) -> Any:
            self.groups.append(sum(len(one.writes) or 1 for one in errands))
            return await asubmit(errands, *args)

        return submitting

    def purge(self, purge: Any) -> Any:
        def purging(members: list[str], *args: Any, **more: Any) -> Any:
            self.purges.append(list(members))
            return purge(members, *args, **more)

        return purging

    def apurge(self, apurge: Any) -> Any:
        async def purging(members: list[str], *args: Any, **more: Any) -> Any:
            self.purges.append(list(members))
            return await apurge(members, *args, **more)

        return purging

    def held_up(self, *works: Callable[[], Any]) -> list[Callable[[], Any]]:
        """Begin them in this order, behind a first write that has not ended; what each brings."""
        first = in_thread(lambda: self.store.set("first", 0))
        eventually(lambda: self.store._convoy._line.busy)
        results = []
        for number, work in enumerate(works, 1):
            results.append(in_thread(work))
            eventually(lambda number=number: self.waiting == number)
        self.gate.set()
        first()
        return results

    def queued(self, key: Any) -> bytes:
        queue = self.store._queue
        (pending,) = queue._pending(queue.place(name_of(key)), [name_of(key)])
        assert pending is not None
        return pending.body


@pytest.fixture
def road(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    road = Road(redis_url, monkeypatch)
    yield road
    road.gate.set()
    road.cache.close()


def test_those_that_come_meanwhile_go_together_and_purge_once(road: Road) -> None:
    works = [lambda n=n: road.store.set(n, n) for n in range(20)]
    works += [lambda: road.store.add("a", 2), lambda: road.store.add("a", 3), lambda: road.store.delete("gone")]
    road.store._wiring.engine.stats.purges = 0
    results = [result() for result in road.held_up(*works)]
    assert results[:20] == [None] * 20
    # Sums go by themselves where the database has to be asked for what there is.
    assert sorted(results[20:22]) in ([2, 5], [3, 5])
    assert road.groups == [23]
    together = max(road.purges, key=len)
    assert len(together) == 21
    assert [road.queued(n) for n in range(20)] == [b"n%d" % n for n in range(20)]
    assert (road.queued("a"), road.queued("gone")) == (b"n5", b"d")
    # Each was stored under the number of its own purge, and is handed out from memory.
    loads = road.cache.stats()["data"]["stock"]["loads"]
    assert [road.store.get(n) for n in range(20)] == list(range(20))
    assert road.cache.stats()["data"]["stock"]["loads"] == loads


async def test_tasks_go_together_too(road: Road) -> None:
    road.gate.set()
    await asyncio.gather(*[road.store.aset(n, n) for n in range(40)])
    assert sum(road.groups) == 39
    assert len(road.groups) <= 2
    assert [road.queued(n) for n in range(40)] == [b"n%d" % n for n in range(40)]
    road.groups.clear()
    sums = await asyncio.gather(*[road.store.aadd(n, 100) for n in range(40)])
    assert sums == [n + 100 for n in range(40)]
    assert sum(road.groups) == 39


def test_a_single_one_goes_as_it_always_did(road: Road) -> None:
    road.gate.set()
    for n in range(5):
        road.store.set(n, n)
        road.store.add(n, 1)
    assert road.groups == []
    assert not road.store._convoy._line.busy


def test_of_two_writes_of_one_key_the_last_in_the_queue_is_read(road: Road) -> None:
    for result in road.held_up(lambda: road.store.set("k", 1), lambda: road.store.set("k", 2)):
        result()
    assert road.groups == [2]
    assert road.queued("k") == b"n2"
    assert road.store.get("k") == 2
    assert road.cache.stats()["data"]["stock"]["loads"] == 1, "neither was kept"


def test_a_full_partition_is_full_for_its_own_alone(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    road = Road(redis_url, monkeypatch, max_queued=3, full_wait="20ms", partitions=2)
    try:
        place = road.store._queue.place
        keys: dict[int, list[int]] = {0: [], 1: []}
        for n in range(100):
            keys[place(name_of(n)).partition].append(n)
        held = place(name_of("first")).partition
        full, free = keys[held][:4], keys[1 - held][:1]
        results = road.held_up(*[lambda n=n: road.store.set(n, n) for n in (*full, *free)])
        assert results[-1]() is None
        assert road.queued(free[0]) == b"n%d" % free[0]
        outcomes = []
        for result in results[:-1]:
            try:
                outcomes.append(result())
            except QueueFull as error:
                outcomes.append(error)
        # One or two of "first" and "examined" lie there already.
        assert sum(one is None for one in outcomes) in (1, 2)
    finally:
        road.cache.close()


def test_an_error_of_one_is_nobody_elses(road: Road) -> None:
    road.gate.set()
    road.store.set("text", "a word")  # type: ignore[arg-type]
    road.gate.clear()
    bad, good = road.held_up(lambda: road.store.add("text", 1), lambda: road.store.set("k", 1))
    with pytest.raises(TierRejected, match="no number"):
        bad()
    assert good() is None
    assert road.queued("k") == b"n1"


def test_where_redis_does_not_answer_each_is_told_and_old_values_are_barred(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.gate.set()
    for key in ("a", "b"):
        road.store.set(key, 0)
    road.gate.clear()
    error = TierUnavailable("away")
    monkeypatch.setattr(road.tier, "submit", lambda errands, *_: [error for _ in errands])
    errors = []
    for result in road.held_up(lambda: road.store.set("a", 1), lambda: road.store.set("b", 1)):
        with pytest.raises(TierUnavailable) as told:
            result()
        errors.append(told.value)
    assert errors[0] is not errors[1]
    loads = road.cache.stats()["data"]["stock"]["loads"]
    assert (road.store.get("a"), road.store.get("b")) == (0, 0)
    assert road.cache.stats()["data"]["stock"]["loads"] == loads + 2, "what was in memory may be out of date"


def test_a_purge_that_is_not_confirmed_is_told_to_each(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **more: Any) -> Any:
        raise TierUnavailable("away")

    def last(errands: Any, *args: Any) -> Any:
        monkeypatch.setattr(road.tier, "purge", away)
        return submit(errands, *args)

    submit = road.tier.submit
    monkeypatch.setattr(road.tier, "submit", last)
    errors = []
    for result in road.held_up(lambda: road.store.set("a", 1), lambda: road.store.set("b", 1)):
        with pytest.raises(PurgeUnconfirmed) as told:
            result()
        errors.append(told.value)
    assert errors[0] is not errors[1]
    assert (road.queued("a"), road.queued("b")) == (b"n1", b"n1")
    waiting = [member for item in road.cache._engine.ledger.pending() for member in item.members]
    assert len(waiting) == 2


def test_where_the_one_who_carries_breaks_down_the_others_write_for_themselves(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    submit = road.tier.submit

    def broken(*args: Any) -> Any:
        submit(*args)  # Redis has them all
        raise Interrupted

    monkeypatch.setattr(road.tier, "submit", broken)
    works = [lambda n=n: road.store.add("sum", 1) for n in range(3)]
    road.rows["sum"] = 10
    carrier, *others = road.held_up(lambda: road.store.set("k", 1), *works)
    with pytest.raises(Interrupted):
        carrier()
    assert sorted(result() for result in others) == [11, 12, 13]
    assert road.queued("sum") == b"n13"
    assert not road.store._convoy._line.busy


def test_what_breaks_in_the_carrying_itself_is_no_error_of_a_write(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("a fault of a client library")

    monkeypatch.setattr(road.tier, "submit", broken)
    for result in road.held_up(*[lambda n=n: road.store.set(n, n) for n in range(3)]):
        assert result() is None
    assert [road.queued(n) for n in range(3)] == [b"n0", b"n1", b"n2"]


async def test_a_task_that_is_cancelled_in_line_takes_nobody_along(road: Road) -> None:
    first = asyncio.create_task(road.store.aset("first", 1))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(road.store.aset(n, n)) for n in range(4)]
    while road.waiting < 4:
        await asyncio.sleep(0.001)
    tasks[0].cancel()  # it would have carried
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert road.waiting == 3
    road.gate.set()
    await asyncio.gather(first, *tasks[1:])
    assert road.groups == [3]


async def test_a_task_that_is_cancelled_while_it_carries_loses_nothing(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = asyncio.Event()
    asubmit = road.tier.asubmit

    async def hang(*args: Any) -> Any:
        monkeypatch.setattr(road.tier, "asubmit", asubmit)
        stuck.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(road.tier, "asubmit", hang)
    first = asyncio.create_task(road.store.aset("first", 1))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(road.store.aset(n, n)) for n in range(4)]
    while road.waiting < 4:
        await asyncio.sleep(0.001)
    road.gate.set()
    await stuck.wait()
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    await asyncio.gather(first, *tasks[1:])
    assert [road.queued(n) for n in (1, 2, 3)] == [b"n1", b"n2", b"n3"]
    # Nobody knows whether the one of the carrier came to Redis.
    assert any(road.store._rule.changed_by(0, road.store._key(0))[0] in members for members in road.purges)
    assert not road.store._convoy._line.busy


def turn_of(road: Road, key: str) -> convoys._Turn:
    queue = road.store._queue
    members = road.store._rule.changed_by(key, road.store._key(key))
    turn = convoys._Turn(Enqueue(queue, name_of(key), b"n1"), members)
    turn.flight = Flight(road.cache._engine.flights, turn)
    return turn


def test_who_has_gone_before_it_is_sent_is_not_carried(road: Road) -> None:
    gone, there = turn_of(road, "gone"), turn_of(road, "there")
    gone.left = True
    drive(road.store._convoy._carry([gone, there]))
    assert (gone.written, there.written is not None) == (None, True)
    assert road.queued("there") == b"n1"
    assert road.store._queue._pending(road.store._queue.place(name_of("gone")), [name_of("gone")]) == [None]
    assert road.purges == [list(there.members)]


def test_one_who_has_gone_does_not_hold_up_those_behind(road: Road) -> None:
    line = road.store._convoy._line
    gone, there, first = turn_of(road, "gone"), turn_of(road, "there"), turn_of(road, "first")
    gone.left = line.busy = True
    line.waiting = {gone: None, there: None}
    road.store._convoy._pass_on(line, first)
    assert (there.flight.outcome, there.carries, line.busy) == (RELEASED, [], False)


def test_the_first_one_holds_nobody_up_while_it_waits_for_the_database(road: Road) -> None:
    asked, told = threading.Event(), threading.Event()

    def slow(key: Any) -> int:
        asked.set()
        assert told.wait(20)
        return 5

    road.gate.set()
    road.store._base_load = slow
    first = in_thread(lambda: road.store.add("slow", 1))
    assert asked.wait(20)
    assert not road.store._convoy._line.busy
    road.store.set("k", 1)
    told.set()
    assert first() == 6
    assert road.groups == []


def test_who_has_waited_for_long_goes_alone(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoys, "PATIENCE", 0.001)
    first = in_thread(lambda: road.store.set("first", 0))
    eventually(lambda: road.store._convoy._line.busy)
    road.rows["k"] = 1
    assert road.store.add("k", 1) == 2, "by itself, while the first one is still under way"
    assert (road.groups, road.waiting) == ([], 0)
    road.gate.set()
    first()


def test_each_is_told_of_the_purge_by_which_its_client_reads_its_own_write(road: Road) -> None:
    def write(key: str) -> Any:
        purges = session.watch()
        road.store.set(key, 1)
        return purges.last

    first, second = road.held_up(lambda: write("a"), lambda: write("b"))
    assert first() == second() != None  # noqa: E711
    assert first().number == road.cache._engine.ledger.stamp().number


def test_nobody_stands_in_the_line_of_a_forked_child(road: Road) -> None:
    first = in_thread(lambda: road.store.set("first", 0))
    eventually(lambda: road.store._convoy._line.busy)
    before, road.cache._engine.flights = road.cache._engine.flights, Flights()
    try:
        assert not road.store._convoy._line_of().busy
    finally:
        road.cache._engine.flights = before
        road.gate.set()
        first()


def test_a_crowd_of_threads_loses_and_doubles_nothing(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoys, "PATIENCE", 0.002)
    road.gate.set()

    def work(number: int) -> None:
        for turn in range(30):
            road.store.add("sum", 1)
            road.store.set(("own", number), turn)

    for result in [in_thread(lambda number=number: work(number)) for number in range(8)]:
        result()
    assert road.queued("sum") == b"n240"
    assert [road.store.get(("own", number)) for number in range(8)] == [29] * 8
    assert road.groups
    assert not road.store._convoy._line.busy
