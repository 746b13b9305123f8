"""The clock of isolated caches, which a test turns."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count

from tiercache.core.policy import parse_duration
from tiercache.core.policy_settings import Duration
from tiercache.engine.clocks import boot_clock
from tiercache.engine.settling import Settling


class Clock:
    """The time of all isolated caches, on their own clock and on the wall. It stands still until `advance`.

    `runs=True`: it goes on by itself too, as it must where a real Redis counts the time.
    """

    def __init__(self, *, runs: bool = False) -> None:
        self._runs = runs
        self._turned = 0.0
        # At full seconds: what is told in whole ones, such as ages, is then exactly what has been turned.
        self._boot, self._wall = float(int(boot_clock())), float(int(time.time()))
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()

    def advance(self, duration: Duration) -> None:
        """Let time pass: seconds, a `timedelta`, or text such as `"10m"`. What falls due meanwhile is done at once.

        Raises `ConfigError` for what is no duration.
        """
        end = self._turned + parse_duration("clock.advance", duration)
        while self._due and self._due[0][0] <= end:
            due, _, job = heapq.heappop(self._due)
            self._turned = max(self._turned, due)
            job()
        self._turned = end

    @property
    def turned(self) -> float:
        """Seconds by which it has been turned."""
        return self._turned

    def boot(self) -> float:
        """Seconds that never go back."""
        return (boot_clock() if self._runs else self._boot) + self._turned

    def wall(self) -> float:
        """Unix time, seconds."""
        return (time.time() if self._runs else self._wall) + self._turned

    def later(self, seconds: float, job: Callable[[], None]) -> None:
        """Run `job` when it has been turned this far from now."""
        heapq.heappush(self._due, (self._turned + seconds, next(self._serial), job))

    def forget(self) -> None:
        """Nothing is due any more."""
        self._due.clear()


class TurnedSettling(Settling):
    """Purges that are repeated (`settle`) when the clock has been turned so far, instead of by a thread."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def later(self, seconds: float, job: Callable[[], None]) -> None:
        """As there, but never raises."""
        self._clock.later(seconds, job)
