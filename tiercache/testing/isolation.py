"""Every cache of the process with stores and a clock of the test's own, for the length of a block."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import inf
from types import TracebackType
from typing import NamedTuple, Self, Unpack

from tiercache.config import Settings
from tiercache.core.records import Message, Wake
from tiercache.engine import flows
from tiercache.engine.effects import drive
from tiercache.engine.engine import Engine
from tiercache.engine.flights import RELEASED, RETRY
from tiercache.engine.lifecycle import Lifecycle, every_cache
from tiercache.engine.ports import Clock as Timer
from tiercache.engine.ports import PurgeWatcher, SharedStore
from tiercache.engine.purging import PurgeSettings, purge_for
from tiercache.engine.settling import Settling
from tiercache.errors import ConfigError
from tiercache.testing.clock import Clock, TurnedSettling
from tiercache.testing.purges import AskedPurge, listed, missing
from tiercache.testing.real_redis import RealRedis
from tiercache.testing.shared import MemorySharedTier
from tiercache.tiers.memory import MemoryTier

_PATIENCE = 5.0
"""Seconds that fills which go on behind answers may take when the block ends, and a call of a shared tier."""


class _Before(NamedTuple):
    """What a cache goes back to."""

    settings: Settings
    shared: SharedStore | None
    clock: Timer
    wall: Timer
    watcher: PurgeWatcher | None
    enabled: bool


class Isolation:
    """What a test does with its isolated caches. Made by `isolated`; a context manager.

    While it lasts, each cache of the process (those that there are, and those that are made meanwhile) is empty at
    first, keeps what it stores to itself, and goes by `clock`. Caches with a URL share what they would share in
    production, purges above all: in memory, or in the Redis that `url` names. When it ends they have again the stores
    and clocks of before, empty.
    """

    clock: Clock
    """Of all of them."""
    purges: list[AskedPurge]
    """What was purged, in order; `clear` it to look at what follows."""

    def __init__(self, *, url: str | None = None, enabled: bool | None = None) -> None:
        if enabled is not None and not isinstance(enabled, bool):
            raise ConfigError("isolated: enabled", enabled, "True or False; None: as each cache's settings say")
        self._redis = None if url is None else RealRedis(url)
        self._enabled = enabled
        self.clock = Clock(runs=url is not None)
        self.purges = []
        self._caches: dict[Lifecycle, _Before] = {}
        self._shared: dict[tuple[str, str], MemorySharedTier] = {}
        self._lock = threading.Lock()
        self._block: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        if self._block is not None:
            raise RuntimeError("this isolation has begun already")
        self._block = every_cache(self._isolate)
        self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(kind, error, trace)
        for lifecycle, before in self._caches.items():
            self._give_back(lifecycle, before)
        self._caches.clear()
        self._shared.clear()
        if self._redis is not None:
            self._redis.close()

    # -- what a test asks ---------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget all that is stored, purged and due. The clock stays as it is."""
        self.clock.forget()
        self.purges.clear()
        with self._lock:
            self._shared.clear()
            for lifecycle in list(self._caches):
                self._begin(lifecycle)

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Cut the caches off from their shared tier for a block, and let them catch up at its end.

        They notice once the clock has been turned past `staleness_bound`; until then they trust what they know.
        Raises `ConfigError` with a real Redis, which is the test's to stop.
        """
        if self._redis is not None:
            raise ConfigError("isolated: url", "set", "None for unreachable(): a real Redis is the test's to stop")
        for tier in self._shared.values():
            tier.reachable = False
        try:
            yield
        finally:
            for tier in self._shared.values():
                tier.reachable = True
            for lifecycle in list(self._caches):
                self._catch_up(lifecycle.engine)

    def assert_purged(self, **named: Unpack[PurgeSettings]) -> None:
        """All this was purged meanwhile, by one purge or by several; named as for `TierCache.purge`.

        A path in `urls` was purged too if a successful unsafe request has invalidated it. Raises `ConfigError` for
        what `purge` does not take.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        wanted, everything = self._wanted(named)
        lacking = missing(wanted, everything, self.purges)
        if lacking:
            these = AskedPurge(() if everything else tuple(lacking), everything)
            raise AssertionError(f"expected a purge of {these}; {self._seen(wanted, everything)}")

    def assert_not_purged(self, **named: Unpack[PurgeSettings]) -> None:
        """Nothing of this was purged meanwhile; named as for `TierCache.purge`. Without a name: nothing at all."""
        __tracebackhide__ = True
        if not named:
            if self.purges:
                raise AssertionError(f"expected no purge; {listed(self.purges)}")
            return
        wanted, everything = self._wanted(named)
        lacking = missing(wanted, everything, self.purges)
        found = tuple(member for member in wanted if member not in lacking)
        if found or (everything and not lacking):
            raise AssertionError(f"expected no purge of {AskedPurge(found, everything)}; {listed(self.purges)}")

    def _wanted(self, named: PurgeSettings) -> tuple[Sequence[str], bool]:
        errors: list[ConfigError] = []
        # A template is known to the cache that has the rule.
        for lifecycle in self._caches:
            try:
                purge = purge_for(lifecycle.engine.routes, named)
            except ConfigError as error:
                errors.append(error)
            else:
                return purge.members, purge.everything
        if errors:
            raise errors[0]
        raise RuntimeError("there is no cache in this process, or the isolation has ended")

    def _seen(self, wanted: Sequence[str], everything: bool) -> str:
        others = {"h:": "s:", "s:": "h:"}
        other = [others.get(member[:2], "") + member[2:] for member in wanted]
        seen = listed(self.purges)
        if not everything and wanted and not missing(other, False, self.purges):
            seen += f"\n  it was purged, but {'softly' if wanted[0][:2] == 'h:' else 'hard'}: say soft=True or not"
        return seen

    # -- how it is done -----------------------------------------------------------------------------------------------

    def _isolate(self, lifecycle: Lifecycle) -> None:
        engine = lifecycle.engine
        with self._lock:
            if lifecycle in self._caches:
                return
            if lifecycle.running:
                lifecycle.stop()
            self._caches[lifecycle] = _Before(
                engine.settings, engine.shared, engine.clock, engine.wall, engine.purge_watcher, engine.enabled
            )
            lifecycle.settle_by(TurnedSettling(self.clock))
            self._begin(lifecycle)

    def _begin(self, lifecycle: Lifecycle) -> None:
        engine = lifecycle.engine
        before = self._caches[lifecycle]
        if self._redis is not None and lifecycle.running:
            lifecycle.stop()
        memory = MemoryTier(before.settings.l1_size, timer=self.clock.boot)
        shared = self._shared_tier(engine, before.settings) if before.shared is not None else None
        lifecycle.listens = self._redis is not None
        engine.begin(before.settings, memory, shared, clock=self.clock.boot, wall=self.clock.wall)
        engine.enabled = before.enabled if self._enabled is None else self._enabled
        engine.purge_watcher = self._note

    def _shared_tier(self, engine: Engine, settings: Settings) -> SharedStore:
        if self._redis is not None:
            return self._redis.tier(settings, self.clock)
        place = (settings.url or "", settings.namespace)
        tier = self._shared.get(place)
        if tier is None:
            tier = self._shared[place] = MemorySharedTier(secrets.token_hex(8), self.clock)

        def hear(message: Message | Wake) -> None:
            # One that has never been used has nothing that a purge could reach, and catches up when it is.
            if engine.shared is not tier or engine.ledger.last_good_sync == -inf:
                return
            if isinstance(message, Wake):
                engine.wakes.wake(message.name, RETRY if message.made else RELEASED)
            elif engine.ledger.heard(message, engine.clock()):
                drive(flows.sync(engine, time.monotonic() + _PATIENCE))

        tier.followers.append(hear)
        return tier

    def _note(self, members: Sequence[str], everything: bool) -> None:
        self.purges.append(AskedPurge(tuple(members), everything))

    @staticmethod
    def _catch_up(engine: Engine) -> None:
        """What the listener of a process does when the shared tier is back."""
        if engine.shared is not None:
            until = time.monotonic() + _PATIENCE
            drive(flows.sync(engine, until))
            if drive(flows.replay(engine, until)):
                drive(flows.sync(engine, until))

    @staticmethod
    def _give_back(lifecycle: Lifecycle, before: _Before) -> None:
        engine = lifecycle.engine
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            # What a test has left going on behind its answers ends in the stores that it began with.
            engine.limits.drained(_PATIENCE)
        if lifecycle.running:
            lifecycle.stop()
        lifecycle.listens = True
        lifecycle.settle_by(Settling())
        memory = MemoryTier(before.settings.l1_size, timer=before.clock)
        engine.begin(before.settings, memory, before.shared, clock=before.clock, wall=before.wall)
        engine.enabled, engine.purge_watcher = before.enabled, before.watcher


def isolated(*, url: str | None = None, enabled: bool | None = None) -> Isolation:
    """Isolate every cache of the process for the length of a `with` block.

    Args:
        url: of a Redis for tests (`redis://`, `rediss://` or `unix://`), which then stands in for the shared tier of
            the caches that have one, under names that nobody else uses; None: memory.
        enabled: whether anything is cached; None: as each cache's settings say.

    Raises:
        ConfigError: what is not accepted.
    """
    return Isolation(url=url, enabled=enabled)
