"""A shared tier in memory: what Redis is to the caches of one namespace, for those of one process.

It answers as Redis does (`tests/testing/test_shared.py` holds one against the other), but for three things: it never
loses its history, it keeps every record of a purge, and whoever follows it has heard of a purge before `purge` returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from tiercache.core.records import BATCH, Message, Row, Stamp, SyncPage, SyncRequest, Wake
from tiercache.engine.ports import Subscription
from tiercache.errors import TierUnavailable
from tiercache.testing.clock import Clock
from tiercache.tiers.immediate import awaitable
from tiercache.tiers.memory_sessions import MemorySessions


class MemorySharedTier:
    """One for each namespace. `reachable = False` cuts everybody off from it."""

    apart = alone = False
    queue = None

    def __init__(self, epoch: str, clock: Clock) -> None:
        self.reachable = True
        self.sessions = MemorySessions(timer=clock.boot, reach=self._reach)
        self.followers: list[Callable[[Message | Wake], None]] = []
        self._clock = clock
        # Reentrant: whoever hears of a purge may sync at once.
        self._lock = threading.RLock()
        self._values: dict[str, tuple[bytes, float]] = {}
        self._leases: dict[str, tuple[str, float]] = {}
        self._waited_for: set[str] = set()
        self._epoch = epoch
        self._head = self._floor = 0
        self._members: dict[str, int] = {}
        self._rows: dict[str, Row] = {}

    def _reach(self) -> None:
        if not self.reachable:
            raise TierUnavailable("the test has cut the caches off from it")

    # Values

    def get(self, key: str, deadline: float) -> bytes | None:
        self._reach()
        value, until = self._values.get(key, (None, 0.0))
        return value if self._clock.wall() < until else None

    def get_many(self, keys: Sequence[str], deadline: float) -> list[bytes | None]:
        return [self.get(key, deadline) for key in keys]

    def set(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        self._reach()
        self._values[key] = (value, self._clock.wall() + ttl_ms / 1000)

    # The ledger

    def purge(
        self, members: Sequence[str], everything: bool, deadline: float, seen: Stamp, *, ack: bool = False
    ) -> list[Message]:
        with self._lock:
            self._reach()
            if everything:
                return [self._number((), everything=True, ack=ack)]
            batches = [tuple(members[start : start + BATCH]) for start in range(0, len(members), BATCH)]
            return [self._number(batch, everything=False, ack=ack and batch is batches[-1]) for batch in batches]

    def _number(self, members: tuple[str, ...], *, everything: bool, ack: bool) -> Message:
        prev, self._head = self._head, self._head + 1
        previous = tuple([self._members.get(member, 0) for member in members])
        if everything:
            self._floor = self._head
            self._members.clear()
        self._members.update(dict.fromkeys(members, self._head))
        message = Message(self._epoch, self._head, prev, self._floor, members, ack)
        self._tell(message)
        return message._replace(previous=previous)

    def sync(
        self, request: SyncRequest, process_id: str, deadline: float, bound: float, *, fleet: bool = False
    ) -> SyncPage:
        with self._lock:
            self._reach()
            now = self._clock.wall()
            self._rows[process_id] = Row(process_id, now, request.epoch or "-", request.applied, bound)
            seen = max(self._floor, request.seen if request.epoch == self._epoch else 0)
            records = tuple([(member, number) for member, number in self._members.items() if number > seen])
            rows = tuple(self._rows.values()) if fleet else None
            # The rows are complete: whoever is not among them has never been here.
            return SyncPage(self._epoch, self._head, self._floor, now, records, self._head, True, rows, since=0.0)

    def probe(self, deadline: float) -> None:
        self._reach()

    def leave(self, process_id: str, deadline: float) -> None:
        with self._lock:
            self._reach()
            self._rows.pop(process_id, None)

    def _tell(self, message: Message | Wake) -> None:
        for follower in list(self.followers):
            follower(message)

    # Leases

    def _holder(self, name: str) -> str | None:
        token, until = self._leases.get(name, (None, 0.0))
        return token if self._clock.wall() < until else None

    def acquire(self, name: str, token: str, ttl_ms: int, deadline: float) -> bool:
        with self._lock:
            self._reach()
            if self._holder(name) is not None:
                self._waited_for.add(name)
                return False
            self._leases[name] = (token, self._clock.wall() + ttl_ms / 1000)
            self._waited_for.discard(name)
            return True

    def renew(self, name: str, token: str, ttl_ms: int, deadline: float) -> bool:
        with self._lock:
            self._reach()
            held = self._holder(name) == token
            if held:
                self._leases[name] = (token, self._clock.wall() + ttl_ms / 1000)
            return held

    def release(self, name: str, token: str, made: bool, deadline: float) -> None:
        with self._lock:
            self._reach()
            if self._holder(name) == token:
                del self._leases[name]
                if name in self._waited_for:
                    self._tell(Wake(name, made))

    # The same for event loops

    aget = awaitable(get)
    aget_many = awaitable(get_many)
    apurge = awaitable(purge)
    asynchronise = awaitable(sync)
    aleave = awaitable(leave)
    aacquire = awaitable(acquire)
    arenew = awaitable(renew)
    arelease = awaitable(release)

    async def aset(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        self.set(key, value, ttl_ms, deadline)

    # Life

    def listen(self, deadline: float | None = None) -> Subscription:
        """Nobody needs to: see `followers`."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TierUnavailable("a shared tier in memory tells its followers by itself")

    def reset_after_fork(self) -> None:
        """A child goes on with its copy."""
        self._lock = threading.RLock()
        self.sessions.reset_after_fork()

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""
