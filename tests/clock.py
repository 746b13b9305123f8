"""A clock that tests turn by hand, put in place of every clock of a cache."""

from __future__ import annotations

import time

from tiercache import TierCache
from tiercache.tiers.memory import MemoryTier


class Clock:
    """Seconds that pass only when `turn` says so."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds


class Hands:
    """The two clocks of one cache without a shared tier: the process's own and the one on the wall."""

    def __init__(self, cache: TierCache) -> None:
        assert cache.settings.url is None, "the shared tier has a clock that no test can turn"
        self.cache = cache
        self.clock = Clock()
        self._offset = float(int(time.time())) - self.clock.now
        engine = cache._engine
        engine.begin(
            engine.settings,
            MemoryTier(cache.settings.l1_size, timer=self.clock),
            None,
            clock=self.clock,
            wall=self.wall,
        )

    def wall(self) -> float:
        return self.clock.now + self._offset

    def turn(self, seconds: float) -> None:
        self.clock.turn(seconds)
