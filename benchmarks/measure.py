"""Timing of many small cases against each other in one interleaved run.

A shared machine works at half its speed for a tenth of a second and at all of it for the next. So a round passes
several times over all cases in short batches and keeps the fastest of each, and a ratio is the median of the ratios
within the rounds: what slows down a whole round slows down both sides of it.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TypeVar

T = TypeVar("T")
PASSES = 3
"""Batches of each case in one round, of which the fastest counts."""
LEAST_CALLS = 4
"""Calls in a batch, however long they take."""


@dataclass(slots=True)
class Case:
    """One thing that is timed. `batch(n)` does it n times and returns the nanoseconds that took."""

    name: str
    batch: Callable[[int], int]
    check: Callable[[], None]
    """Raises where the case does not do what its name says; called before and after the run."""
    calls: int = 1
    """Calls in one batch."""
    samples: list[float] = field(default_factory=list)
    """Microseconds of one call, a sample for each round."""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


def timed(call: Callable[[], object]) -> Callable[[int], int]:
    """A batch of calls, timed together."""

    def batch(n: int) -> int:
        start = perf_counter_ns()
        for _ in range(n):
            call()
        return perf_counter_ns() - start

    return batch


def timed_async(runner: asyncio.Runner, call: Callable[[], Awaitable[object]]) -> Callable[[int], int]:
    """A batch of awaited calls, one after the other on a running loop; getting onto the loop is not counted."""

    async def batch(n: int) -> int:
        start = perf_counter_ns()
        for _ in range(n):
            await call()
        return perf_counter_ns() - start

    return lambda n: runner.run(batch(n))


def timed_prepared(
    runner: asyncio.Runner, prepare: Callable[[], T], call: Callable[[T], Awaitable[object]]
) -> Callable[[int], int]:
    """As `timed_async`, with what each call is given made before the clock starts."""

    async def batch(n: int) -> int:
        prepared = [prepare() for _ in range(n)]
        start = perf_counter_ns()
        for one in prepared:
            await call(one)
        return perf_counter_ns() - start

    return lambda n: runner.run(batch(n))


def think() -> None:
    """Work of a moment, as an app has between two requests. A server that is asked without a pause never falls asleep,
    and answers in half the time that it needs once it has: whoever asks it must ask at the same pace."""
    for _ in range(2_000):
        pass


def timed_singly(call: Callable[[], object], before: Callable[[], object]) -> Callable[[int], int]:
    """As `timed`, with something to be done before each call that is not counted, and a moment's thought."""

    def batch(n: int) -> int:
        total = 0
        for _ in range(n):
            before()
            think()
            start = perf_counter_ns()
            call()
            total += perf_counter_ns() - start
        return total

    return batch


def timed_singly_async(
    runner: asyncio.Runner, call: Callable[[], Awaitable[object]], before: Callable[[], object]
) -> Callable[[int], int]:
    """As `timed_async`, with something to be done before each call that is not counted, and a moment's thought."""

    async def batch(n: int) -> int:
        total = 0
        for _ in range(n):
            before()
            think()
            start = perf_counter_ns()
            await call()
            total += perf_counter_ns() - start
        return total

    return lambda n: runner.run(batch(n))


def timed_together(
    runner: asyncio.Runner, calls: Sequence[Callable[[], Awaitable[object]]], before: Callable[[], object]
) -> Callable[[int], int]:
    """As `timed_singly_async`, of rounds in which all of `calls` are under way at once; the time of one of them."""

    async def batch(n: int) -> int:
        total = 0
        for _ in range(n):
            before()
            think()
            start = perf_counter_ns()
            await asyncio.gather(*(call() for call in calls))
            total += perf_counter_ns() - start
        return total // len(calls)

    return lambda n: runner.run(batch(n))


def run(cases: Sequence[Case], *, rounds: int, batch_ms: float) -> None:
    """Fill the samples of all cases. The collector runs between rounds and never within a batch."""
    for case in cases:
        case.check()
        case.calls = _calibrate(case.batch, batch_ms)
    order = range(len(cases))
    gc.collect()
    gc.freeze()  # what is alive now need not be walked through again between rounds
    enabled = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            gc.collect()
            fastest = [float("inf")] * len(cases)
            for turn in range(PASSES):
                # Back and forth, so that no case always follows the same one closely.
                for at in order if (number + turn) % 2 == 0 else reversed(order):
                    case = cases[at]
                    fastest[at] = min(fastest[at], case.batch(case.calls) / case.calls / 1_000)
            for case, sample in zip(cases, fastest, strict=True):
                case.samples.append(sample)
    finally:
        if enabled:
            gc.enable()
        gc.unfreeze()
    for case in cases:
        case.check()


def ratio(case: Case, base: Case) -> float:
    """How many times as long as its base a case takes: the median over the rounds."""
    return statistics.median(one / other for one, other in zip(case.samples, base.samples, strict=True))


def _calibrate(batch: Callable[[int], int], batch_ms: float) -> int:
    """How many calls take about `batch_ms`; warms the case up on the way."""
    n = 1
    while True:
        took = batch(n)
        if took >= batch_ms * 1e6 / 4:
            return max(LEAST_CALLS, round(n * batch_ms * 1e6 / took))
        n *= 4
