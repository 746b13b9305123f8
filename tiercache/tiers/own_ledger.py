"""The ledger of a process by itself, for a store of values that has none: what it purges is dead in this process.

Others may share the values, so the epoch is the same in all of them and the numbers are those of the clock: an entry
that another process has filled after a purge here is alive here. Nothing is heard of the purges of others, and nothing
is known of one's own after a restart.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence

from tiercache.core.records import (
    BATCH,
    KEYS_KEPT,
    TAGS_KEPT,
    Message,
    Row,
    Stamp,
    SyncPage,
    SyncRequest,
    Wake,
    bucket_of_key,
    is_of_key,
    last_of,
)
from tiercache.errors import TierUnavailable
from tiercache.tiers.immediate import awaitable

EPOCH = "own"


class Silence:
    """A subscription to a bus that nobody uses."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def wait(self, timeout: float) -> Message | Wake | None:
        if self._closed.wait(max(0.0, timeout)):
            raise TierUnavailable("the subscription was closed")
        return None

    def close(self) -> None:
        self._closed.set()


class OwnLedger:
    """Nothing here waits, or goes over a wire."""

    sessions = None
    """They would end with the process, where others that share its values know nothing of them."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        # Reentrant: a collection that happens to run meanwhile may end a write that was left under way, and purge.
        self._lock = threading.RLock()
        self._head = 0
        self._floor = 0
        self._members: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        """Those that can be folded."""
        self._subscriptions: weakref.WeakSet[Silence] = weakref.WeakSet()

    def purge(
        self, members: Sequence[str], everything: bool, deadline: float, seen: Stamp | None = None, *, ack: bool = False
    ) -> list[Message]:
        """As in the shared ledger; 1,000 members at most share a number."""
        with self._lock:
            if everything:
                return [self._number((), everything=True)]
            batches = [tuple(members[start : start + BATCH]) for start in range(0, len(members), BATCH)]
            return [self._number(batch, everything=False) for batch in batches]

    def _number(self, members: tuple[str, ...], *, everything: bool) -> Message:
        prev = self._head
        self._head = number = max(prev + 1, self._now())
        previous = tuple([self._keys.get(member) or last_of(self._members, member) for member in members])
        if everything:
            self._floor = number
            self._members.clear()
            self._keys.clear()
        # The oldest come first.
        for member in members:
            known = self._keys if is_of_key(member) else self._members
            known.pop(member, None)
            known[member] = number
        while len(self._keys) > KEYS_KEPT:
            oldest = next(iter(self._keys))
            bucket = bucket_of_key(oldest[2:])
            self._members[bucket] = max(self._members.get(bucket, 0), self._keys.pop(oldest))
        while len(self._members) > TAGS_KEPT:
            oldest = next(iter(self._members))
            self._floor = max(self._floor, self._members.pop(oldest))
        return Message(EPOCH, number, prev, self._floor, members, previous=previous)

    def sync(
        self, request: SyncRequest, process_id: str, deadline: float, bound: float, *, fleet: bool = False
    ) -> SyncPage:
        """The head is the time: a fill that begins now is newer than any purge until now."""
        with self._lock:
            self._head = max(self._head, self._now())
            seen = max(self._floor, request.seen if request.epoch == EPOCH else 0)
            known = self._members | self._keys
            records = tuple([(member, number) for member, number in known.items() if number > seen])
            now = self._wall()
            rows = (Row(process_id, now, EPOCH, self._head, bound),) if fleet else None
            return SyncPage(EPOCH, self._head, self._floor, now, records, self._head, True, rows, since=0.0)

    def _now(self) -> int:
        return int(self._wall() * 1000)

    def leave(self, process_id: str, deadline: float) -> None:
        """Nobody else is told."""

    def acquire(self, name: str, token: str, ttl_ms: int, deadline: float) -> bool:
        """Nobody else is known: each process fills for itself."""
        return True

    def renew(self, name: str, token: str, ttl_ms: int, deadline: float) -> bool:
        return True

    def release(self, name: str, token: str, made: bool, deadline: float) -> None:
        """Nobody waits."""

    # The same for event loops

    apurge = awaitable(purge)
    asynchronise = awaitable(sync)
    aleave = awaitable(leave)
    aacquire = awaitable(acquire)
    arenew = awaitable(renew)
    arelease = awaitable(release)

    def listen(self, deadline: float | None = None) -> Silence:
        subscription = Silence()
        self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in list(self._subscriptions):
            subscription.close()

    aclose = awaitable(close)

    def reset_after_fork(self) -> None:
        """A child goes on with its copy: what the parent has purged until now is dead in it too."""
        self._lock = threading.RLock()
        self._subscriptions = weakref.WeakSet()
