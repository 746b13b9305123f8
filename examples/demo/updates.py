"""How long an old price is still seen: updates through one worker, while others are asked without a pause."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from examples.demo.visitor import Reply, Visitor

PATIENCE = 10.0
"""Seconds to wait for a new price before it counts as never shown."""


class Update(NamedTuple):
    cents: int
    returned: float
    """When its answer was there."""


class Seen(NamedTuple):
    path: str
    cents: int
    sent: float
    received: float


class Staleness(NamedTuple):
    """Of each update, the milliseconds from its return to the last old price seen; 0.0 where none was."""

    milliseconds: list[float]
    answers: int
    """How many answers were looked at."""
    strange: list[str]
    """What should not have happened at all: a status other than 200, a page without a price, a lost connection."""

    def quantile(self, share: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __str__(self) -> str:
        p50, p99, top = self.quantile(0.5), self.quantile(0.99), max(self.milliseconds)
        return f"p50 {p50:.1f} ms   p99 {p99:.1f} ms   max {top:.1f} ms"

    @property
    def none_seen(self) -> int:
        return sum(1 for value in self.milliseconds if value == 0)


class _Poller(threading.Thread):
    """Asks one worker for the pages again and again, and notes the price on each with its times."""

    def __init__(self, visitor: Visitor, product: int, paths: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self.seen: list[Seen] = []
        self.strange: list[str] = []
        self._visitor = visitor
        self._product = product
        self._paths = itertools.cycle(paths)
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set():
            try:
                path = next(self._paths)
                reply = self._visitor.get(path)
                self.seen.append(Seen(path, cents_of(reply, self._product), reply.sent, reply.received))
            except Exception as error:  # to be told at the end, not lost in a thread
                self.strange.append(f"{self._visitor.name}: {type(error).__name__}: {error}")
                self._done.wait(0.05)
            # A pause as between two visitors: four loops at full speed would measure the machine, not the cache.
            self._done.wait(0.0005)

    def finish(self) -> None:
        self._done.set()
        self.join()


def pages_of(product: int) -> tuple[str, str]:
    """Its own page, and the front page: one goes by its path too, the other only by its tag."""
    return f"/products/{product}", "/"


def cents_of(reply: Reply, product: int) -> int:
    """The price of a product on either of its pages."""
    found = re.search(rf'(?:<strong>|href="/products/{product}">[^<]*</a></td><td>)([0-9]+)\.([0-9][0-9])', reply.text)
    if reply.status != 200 or found is None:
        raise ValueError(f"status {reply.status}, and {'a' if found else 'no'} price")
    return int(found[1] + found[2])


def measure(
    visitors: Sequence[Visitor], product: int, change: Callable[[int], None], prices: Sequence[int]
) -> Staleness:
    """Change a price to each of `prices` (rising, in cents) in turn, while every visitor watches the pages with it.

    An answer counts as old for an update if it was asked for after the update had returned and shows a lower price.
    The time counted is that at which it arrived: the worker had decided a little earlier.
    """
    paths = pages_of(product)
    pollers = [_Poller(visitor, product, paths) for visitor in visitors]
    for poller in pollers:
        poller.start()
    updates: list[Update] = []
    strange: list[str] = []
    try:
        for cents in prices:
            marks = [len(poller.seen) for poller in pollers]
            change(cents)
            update = Update(cents, time.perf_counter())
            updates.append(update)
            if not _wait_for_all(pollers, marks, update, paths):
                strange.append(f"{cents} cents was not shown everywhere within {PATIENCE:g} s")
                break
    finally:
        for poller in pollers:
            poller.finish()
    for poller in pollers:
        strange += poller.strange
    seen = [one for poller in pollers for one in poller.seen]
    return Staleness(last_old(updates, seen), len(seen), strange)


def _wait_for_all(pollers: Sequence[_Poller], marks: Sequence[int], update: Update, paths: Collection[str]) -> bool:
    end = update.returned + PATIENCE
    while not all(_agrees(poller, mark, update, paths) for poller, mark in zip(pollers, marks, strict=True)):
        if time.perf_counter() > end:
            return False
        time.sleep(0.001)
    return True


def _agrees(poller: _Poller, mark: int, update: Update, paths: Collection[str]) -> bool:
    """Whether this worker has shown the new price on every page, when asked after the update had returned."""
    seen = {one.path for one in poller.seen[mark:] if one.sent > update.returned and one.cents == update.cents}
    return len(seen) == len(paths)


def last_old(updates: Sequence[Update], seen: Sequence[Seen]) -> list[float]:
    """Per update, the milliseconds until the last answer that was asked for after it and is older than it; else 0."""
    last = [0.0] * len(updates)
    for one in seen:
        for number, update in enumerate(updates):
            # Of those that it misses, the first: it has been out of date for that long.
            if one.cents < update.cents:
                if one.sent > update.returned:
                    last[number] = max(last[number], (one.received - update.returned) * 1000)
                break
    return last
