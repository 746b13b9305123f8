"""Workers of write-behind stores, on real queues; the database is a dict that fails when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import pytest

from tiercache import TierCache
from tiercache.core.write_queue import Job, Place, Write
from tiercache.engine import writers
from tiercache.engine.writers import Worker
from tiercache.errors import LostPartition
from tiercache.tiers.redis import RedisTier

PATIENCE = 20.0
_ids = count()


class OperationalError(Exception):
    """As drivers call it."""


class IntegrityError(Exception):
    """As drivers call it."""


class Database:
    """Takes writes, in one place for all workers."""

    name = "stock"
    partitions = 4
    batch = 10
    attempts = 3

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rows: dict[str, bytes] = {}
        self.taken: list[tuple[int, str, bytes]] = []
        self.calls = 0
        self.fail: Callable[[Sequence[Job]], None] = lambda jobs: None
        self.invalidated: list[str] = []
        self.finished = False

    def write(self, place: Place, jobs: Sequence[Job], fence: int) -> None:
        self.calls += 1
        self.fail(jobs)
        with self.lock:
            for job in jobs:
                self.rows[job.name] = job.body
                self.taken.append((place.partition, job.name, job.body))

    def finish(self) -> None:
        self.finished = True

    def members(self, job: Job) -> Sequence[str]:
        self.invalidated.append(job.name)
        return [f"h:t:{job.name}"]


@pytest.fixture
def cache(redis_url: str) -> Iterator[TierCache]:
    cache = TierCache(redis_url, namespace="shop")
    yield cache
    cache.close()


@pytest.fixture
def queue(cache: TierCache) -> RedisTier:
    tier = cache._engine.shared
    assert isinstance(tier, RedisTier)
    return tier


@contextmanager
def working(cache: TierCache, database: Database, *, owned: float = 1.0) -> Iterator[Worker]:
    queue = cache._engine.shared
    assert isinstance(queue, RedisTier)
    worker = Worker(cache._engine, queue, [database], interval=0.005, owned=owned)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(0)
        assert not worker.running


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def put(queue: RedisTier, partition: int, *writes: tuple[str, bytes]) -> None:
    batch = [Write(f"id{next(_ids)}", name, body) for name, body in writes]
    assert queue.put(Place("stock", partition), batch, 10_000, time.monotonic() + PATIENCE)


def left(queue: RedisTier) -> int:
    return sum(queue.queue_state(Place("stock", n), time.monotonic() + PATIENCE).jobs for n in range(4))


def in_order(database: Database) -> bool:
    """Whether no key went back, but for what was written once more by the next owner."""
    last: dict[str, int] = {}
    for _, name, body in database.taken:
        if int(body) < last.get(name, -1):
            return False
        last[name] = int(body)
    return True


def test_everything_is_written_in_order(cache: TierCache, queue: RedisTier) -> None:
    database = Database()
    for value in range(50):
        for partition in range(4):
            put(queue, partition, (f"k{partition}", b"%d" % value))
    with working(cache, database) as worker:
        until(lambda: left(queue) == 0)
    assert worker.written == 200
    assert database.rows == {f"k{partition}": b"49" for partition in range(4)}
    assert len(database.taken) == 200
    assert in_order(database)
    assert database.calls <= 20
    assert database.finished


def test_workers_share_the_partitions_and_take_over(cache: TierCache, queue: RedisTier) -> None:
    first, second = Database(), Database()
    with working(cache, first) as left_alone:
        until(lambda: len(left_alone._owned) == 4)
        with working(cache, second) as other:
            until(lambda: len(left_alone._owned) == len(other._owned) == 2)
            for partition in range(4):
                put(queue, partition, (f"k{partition}", b"1"))
            until(lambda: left(queue) == 0)
            assert len(first.rows) == len(second.rows) == 2
        until(lambda: len(left_alone._owned) == 4)


def test_a_worker_that_dies_is_replaced(cache: TierCache, queue: RedisTier) -> None:
    database = Database()
    stuck, go = threading.Event(), threading.Event()

    def hang(jobs: Sequence[Job]) -> None:
        stuck.set()
        go.wait(PATIENCE)

    dead = Database()
    dead.fail = hang
    put(queue, 1, ("k", b"1"))
    with working(cache, dead, owned=0.3) as gone:
        assert stuck.wait(PATIENCE)
        # As if its process had been stopped: nothing renews what it owns.
        gone._stopped.set()
        gone._threads[0].join(PATIENCE)
        put(queue, 1, ("k", b"2"))
        with working(cache, database, owned=0.3):
            until(lambda: database.rows == {"k": b"2"})
            go.set()
    assert gone.written == 0
    assert left(queue) == 0


def test_a_database_that_is_away_is_waited_for(cache: TierCache, queue: RedisTier) -> None:
    database = Database()
    away = 4

    def fail(jobs: Sequence[Job]) -> None:
        nonlocal away
        if away:
            away -= 1
            raise OperationalError("server closed the connection unexpectedly")

    database.fail = fail
    put(queue, 2, ("a", b"1"), ("b", b"2"))
    with working(cache, database) as worker:
        until(lambda: left(queue) == 0)
        assert database.rows == {"a": b"1", "b": b"2"}
        assert database.calls == 5
        assert worker.buried == 0
    assert cache.stats()["swallowed"]["write-behind: database away"] == 4


def test_what_is_refused_is_kept_aside_and_the_rest_is_written(cache: TierCache, queue: RedisTier) -> None:
    database = Database()

    def refuse(jobs: Sequence[Job]) -> None:
        if any(job.name == "bad" for job in jobs):
            raise IntegrityError("no such product")

    database.fail = refuse
    put(queue, 3, ("a", b"1"), ("bad", b"2"), ("b", b"3"), ("a", b"4"))
    with working(cache, database) as worker:
        until(lambda: left(queue) == 0)
    assert database.rows == {"a": b"4", "b": b"3"}
    assert worker.buried == 1
    (letter,) = queue.letters(Place("stock", 3), time.monotonic() + PATIENCE)
    assert (letter.name, letter.body, letter.attempts) == ("bad", b"2", 3)
    assert "no such product" in letter.error
    assert database.invalidated == ["bad"]
    assert cache.stats()["purges"] == 1


def test_after_what_was_refused_it_writes_many_at_once_again(cache: TierCache, queue: RedisTier) -> None:
    database = Database()
    database.attempts = 1

    def refuse(jobs: Sequence[Job]) -> None:
        if any(job.body == b"0" for job in jobs):
            raise ValueError("no")

    database.fail = refuse
    put(queue, 0, *[(f"k{n}", b"%d" % n) for n in range(10)])
    with working(cache, database):
        until(lambda: left(queue) == 0)
        before = database.calls
        put(queue, 0, *[(f"k{n}", b"%d" % n) for n in range(1, 31)])
        until(lambda: left(queue) == 0)
    # One that finds the end of those to be written alone, and then ten at a time.
    assert database.calls - before <= 5


def test_it_drains_before_it_stops(cache: TierCache, queue: RedisTier) -> None:
    database = Database()
    database.batch = 1
    database.fail = lambda jobs: time.sleep(0.01)
    with working(cache, database) as worker:
        until(lambda: len(worker._owned) == 4)
        put(queue, 0, *[(f"k{n}", b"1") for n in range(40)])
        assert worker.stop(PATIENCE)
        assert left(queue) == 0
        assert len(database.rows) == 40
        # Nobody has to wait for its leases to end.
        assert queue.take(Place("stock", 0), "next", 1000, time.monotonic() + PATIENCE) is not None
        assert queue.attend("stock", "next", 1000, time.monotonic() + PATIENCE) == ["next"]


def test_one_that_is_about_to_stop_takes_no_more_partitions(cache: TierCache, queue: RedisTier) -> None:
    """Another one is to have them, and would wait for leases that nobody gives back."""
    worker = Worker(cache._engine, queue, [Database()], owned=30.0)
    soon = time.monotonic() + PATIENCE
    assert queue.take(Place("stock", 2), "another", 30_000, soon) is not None
    worker._share(worker._sinks["stock"])
    assert sorted(place.partition for place in worker._owned) == [0, 1, 3]
    worker._draining.set()
    queue.give(Place("stock", 2), "another", soon)
    worker._share(worker._sinks["stock"])
    assert sorted(place.partition for place in worker._owned) == [0, 1, 3]
    # What it owns it keeps, until it is written.
    assert queue.take(Place("stock", 0), "another", 30_000, soon) is None
    assert queue.take(Place("stock", 2), "another", 30_000, soon) is not None


def test_it_stops_though_the_database_is_away(cache: TierCache, queue: RedisTier) -> None:
    database = Database()

    def fail(jobs: Sequence[Job]) -> None:
        raise ConnectionRefusedError

    database.fail = fail
    put(queue, 0, ("k", b"1"))
    with working(cache, database) as worker:
        until(lambda: database.calls > 0)
        assert not worker.stop(0.05)
    assert left(queue) == 1


def test_who_has_been_replaced_asks_for_a_newer_token(cache: TierCache, queue: RedisTier) -> None:
    database = Database()
    fences: list[int] = []

    def write(place: Place, jobs: Sequence[Job], fence: int) -> None:
        fences.append(fence)
        if fence <= 41:
            raise LostPartition("another one writes", 41)
        Database.write(database, place, jobs, fence)

    database.write = write  # type: ignore[method-assign]
    put(queue, 0, ("k", b"1"))
    with working(cache, database, owned=0.3):
        until(lambda: left(queue) == 0)
    assert database.rows == {"k": b"1"}
    assert fences == [1, 42]
    assert queue.letters(Place("stock", 0), time.monotonic() + PATIENCE) == []


class TestAnErrorThatDoesNotSayWhoseFaultItIs:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writers, "FIRST_PAUSE", 0.001)
        monkeypatch.setattr(writers, "LONGEST_PAUSE", 0.004)

    def test_while_the_database_takes_others_it_is_a_refusal(self, cache: TierCache, queue: RedisTier) -> None:
        database = Database()

        def refuse(jobs: Sequence[Job]) -> None:
            if any(job.name == "bad" for job in jobs):
                raise OperationalError("1118: row size too large")

        database.fail = refuse
        put(queue, 3, ("a", b"1"), ("bad", b"2"), ("b", b"3"))
        with working(cache, database) as worker:
            until(lambda: database.calls > 20)
            assert worker.buried == 0, "nothing else was written: who knows"
            assert left(queue) == 3
            for number in range(1_000):
                put(queue, number % 3, (f"other{number % 3}", b"%d" % number))
                until(lambda: left(queue) <= 3)
                if worker.buried:
                    break
            until(lambda: left(queue) == 0)
        assert (worker.buried, database.rows["a"], database.rows["b"]) == (1, b"1", b"3")
        (letter,) = queue.letters(Place("stock", 3), time.monotonic() + PATIENCE)
        assert (letter.name, letter.attempts) == ("bad", 3)

    def test_a_database_that_comes_and_goes_loses_nothing(self, cache: TierCache, queue: RedisTier) -> None:
        database = Database()
        calls = count()

        def flap(jobs: Sequence[Job]) -> None:
            # Nobody has to wait for a third time that it comes: by then it has taken them all.
            if next(calls) % 65 < 40:
                raise OperationalError("server closed the connection unexpectedly")

        database.fail = flap
        with working(cache, database) as worker:
            for number in range(40):
                put(queue, number % 4, (f"k{number}", b"1"))
            until(lambda: left(queue) == 0)
        assert (worker.buried, len(database.rows)) == (0, 40)
