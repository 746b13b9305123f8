"""What is measured of each way: reads of the database, writes, how long an old price is seen, what a crash loses."""

from __future__ import annotations

import json
import math
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import quantile
from benchmarks.strategies.member import WATCHED
from benchmarks.strategies.ways import PRODUCTS, Prices, ReadThrough, Way, WriteBehind
from tools.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
LIST = 20
"""Products of a list."""
MANY = 100
"""Changes of one `set_many`."""
EVERY = 50
"""Page views between two changes, where reads are counted."""
THREADS = 8
PATIENCE = 60.0
"""Seconds for a worker to write what is queued."""
GAP = 0.015
"""Seconds between two changes that are watched."""


class Amounts(NamedTuple):
    """How much of everything."""

    views: int = 10_000
    rounds: int = 5
    seconds: float = 1.0
    """Of writing, for each way in each round."""
    reads: int = 1_000
    """That are timed one by one."""
    updates: int = 200
    """Whose old prices are looked for."""
    acknowledged: int = 2_000
    """Before Redis is killed."""


FEW = Amounts(views=200, rounds=1, seconds=0.05, reads=5, updates=5, acknowledged=20)
"""To see that it runs."""


class Reads(NamedTuple):
    per_1000: float
    """Reads of the database for 1,000 page views, one change for each 50 included."""
    of_a_list: int
    """Reads for a list of 20 that nobody has asked for."""


class Costs(NamedTuple):
    """Microseconds, medians."""

    load: float
    """A read of the database."""
    hit: float
    """A read that memory answers."""
    miss: float
    """What a read that has to load takes beyond the load: looking into Redis, and storing."""
    invalidation: float

    @property
    def hit_rate(self) -> float:
        """From which on a cache saves time, where nothing changes."""
        return self.miss / (self.load + self.miss)

    @property
    def reads_per_write(self) -> float:
        """From which on a cache saves time, where each write invalidates, and reads and writes of a key come at random:
        r reads after each write then have a hit rate of r / (1 + r)."""
        wasted = self.miss + self.invalidation
        return (wasted + math.sqrt(wasted**2 + 4 * self.load * self.invalidation)) / (2 * self.load)


class Written(NamedTuple):
    per_second: float
    """Changes that were acknowledged."""
    arrived: float
    """Changes per second until the database had all."""


def reads(way: Way, views: int) -> Reads:
    """Visitors look at pages as they do: a few are looked at most (Zipf). All have been looked at before."""
    dice = random.Random(7)
    way.prices.reads = 0
    way.listing(range(PRODUCTS - LIST + 1, PRODUCTS + 1))
    of_a_list = way.prices.reads
    products = range(1, PRODUCTS + 1)
    weights = list(accumulate(1 / product for product in products))
    for product in products:
        way.view(product)
    way.prices.reads = 0
    for number, product in enumerate(dice.choices(products, cum_weights=weights, k=views)):
        way.view(product)
        if number % EVERY == 0:
            way.change(dice.choices(products, cum_weights=weights)[0], 100 + number)
    return Reads(way.prices.reads * 1000 / views, of_a_list)


def costs(way: ReadThrough, times: int) -> Costs:
    """By one thread, of read-through."""

    def median(calls: Sequence[Callable[[], object]]) -> float:
        taken = []
        for call in calls:
            start = time.perf_counter()
            call()
            taken.append((time.perf_counter() - start) * 1e6)
        return statistics.median(taken)

    products = [1 + number % PRODUCTS for number in range(times)]
    load = median([partial(way.prices.price, product) for product in products])
    invalidation = median([partial(way.store.invalidate, product) for product in products])
    whole = []
    for product in products:
        way.store.invalidate(product)
        whole.append(median([partial(way.view, product)]))
    hit = median([partial(way.view, product) for product in products])
    return Costs(load, hit, max(0.0, statistics.median(whole) - load), invalidation)


Change = Callable[[int, int], int]
"""Called with the number of a thread and of a round; returns how many changes it has made."""


def one_by_one(way: Way, threads: int) -> Change:
    """Each thread changes its own share of the products, one after the other."""

    def change(thread: int, number: int) -> int:
        way.change(1 + (number * threads + thread) % PRODUCTS, 100 + number)
        return 1

    return change


def many(way: WriteBehind) -> Change:
    """`set_many`."""

    def change(_thread: int, number: int) -> int:
        first = number * MANY
        way.store.set_many({1 + (first + one) % PRODUCTS: 100 + number for one in range(MANY)})
        return MANY

    return change


def writes(way: Way, change: Change, threads: int, amounts: Amounts, turn: int) -> Written:
    """Change prices for a while. `turn`: of the measurements of this way, so that each writes something else."""
    counts = [0] * threads
    failed: list[BaseException] = []
    start = time.perf_counter()
    until = start + amounts.seconds

    def run(thread: int) -> None:
        number = turn * 1_000_000
        try:
            while time.perf_counter() < until:
                counts[thread] += change(thread, number)
                number += 1
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    acknowledged = time.perf_counter() - start
    if isinstance(way, WriteBehind):
        empty(way)
    return Written(sum(counts) / acknowledged, sum(counts) / (time.perf_counter() - start))


def empty(way: WriteBehind) -> None:
    """Wait until the worker has written everything."""
    end = time.monotonic() + PATIENCE
    while way.store.state().jobs:
        if time.monotonic() > end:
            raise RuntimeError(f"the worker has not written everything in {PATIENCE:g} s")
        time.sleep(0.005)


def middle(found: Sequence[Written]) -> Written:
    return Written(
        statistics.median(one.per_second for one in found), statistics.median(one.arrived for one in found)
    )


class Member:
    """A process of `benchmarks.strategies.member`."""

    def __init__(self, kind: str, redis: str, database: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.strategies.member", kind, redis, database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the shop has ended")
        return line

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def member(kind: str, redis: str, database: str) -> Iterator[Member]:
    """One that is ready."""
    process = Member(kind, redis, database)
    try:
        process.hear()
        yield process
    finally:
        process.close()


def staleness(way: Way, reader: Member, updates: int, seen_by: str = "") -> float:
    """p99 of the milliseconds from the return of a change until another process shows an older price for the last time.
    `seen_by`: the way in which that process reads, if it is not the same."""
    first = max(100, way.prices.price(WATCHED)) + 1
    way.change(WATCHED, first)
    reader.say(seen_by or way.name)
    reader.hear()
    returned: dict[int, float] = {}
    for cents in range(first + 1, first + 1 + updates):
        time.sleep(GAP)
        way.change(WATCHED, cents)
        returned[cents] = time.monotonic()
    # The last one is seen sooner or later, or the figure would not count it.
    time.sleep(10 * GAP)
    reader.say("")
    sights: dict[int, tuple[float, float]] = {cents: (asked, had) for cents, (asked, had) in json.loads(reader.hear())}
    return quantile(last_old(returned, sights), 0.99) * 1000


def last_old(returned: dict[int, float], sights: dict[int, tuple[float, float]]) -> list[float]:
    """Of each change (rising cents -> when it returned), the seconds until an older price was seen for the last time by
    somebody who asked after that; 0 where none was. `sights`: when each price was last asked for, and seen."""
    found = []
    for cents, moment in returned.items():
        old = [had for seen, (asked, had) in sights.items() if seen < cents and asked > moment]
        found.append(max(old, default=moment) - moment)
    return found


def lost_by_redis(prices: Prices, appendfsync: str, acknowledged: int) -> int:
    """How many acknowledged writes of the queue are gone once Redis was killed at once and started from its log."""
    with RedisServer(appendonly="yes", appendfsync=appendfsync) as server:
        way = WriteBehind(prices, server.url)
        try:
            for product in range(1, acknowledged + 1):
                way.change(product, 100)
            server.kill()
            server.start()
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    return acknowledged - way.store.state().pending
                except Exception:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)
        finally:
            way.close()
