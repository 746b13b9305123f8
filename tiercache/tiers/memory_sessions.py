"""Sessions of users in the memory of one process, for development, tests and apps that run as one process.

The same calls as the sessions of a Redis tier, without its promises: they end with the process, and no other one knows
them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Concatenate, NamedTuple, Never, ParamSpec, TypeVar

from cachetools import TLRUCache

from tiercache.core.user_sessions import Lifetime, Rotation, SessionChanges, StoredSession
from tiercache.errors import TierTooLarge

P = ParamSpec("P")
R = TypeVar("R")

MOST = 64 * 2**20
"""Bytes of all sessions of a cache together."""


class _Kept(NamedTuple):
    stored: StoredSession
    begun: float
    until: float
    size: int


def _at_once(
    call: Callable[Concatenate[MemorySessions, P], R],
) -> Callable[Concatenate[MemorySessions, P], Generator[Never, None, R]]:
    """The same as a flow: one that asks the world for nothing."""

    def flow(self: MemorySessions, /, *args: P.args, **kwargs: P.kwargs) -> Generator[Never, None, R]:
        yield from ()
        self._reach()
        # Time stands still meanwhile: what is there is not to end between two looks at it.
        with self._lock, self._kept.timer:
            return call(self, *args, **kwargs)

    return flow


class MemorySessions:
    """Safe to share between threads. Nothing waits, so that deadlines do not matter.

    `most` bounds the bytes of all sessions together; past it the one that was used longest ago goes. `timer` gives
    seconds. `reach` is called before anything else, and raises where they are to seem out of reach.
    """

    def __init__(
        self,
        most: int = MOST,
        timer: Callable[[], float] = time.monotonic,
        reach: Callable[[], object] = lambda: None,
    ) -> None:
        self._most = most
        self._timer = timer
        self._reach = reach
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._kept: TLRUCache[str, _Kept] = TLRUCache(
            self._most, lambda _key, kept, _now: kept.until, timer=self._timer, getsizeof=lambda kept: kept.size
        )

    @_at_once
    def load(self, session: str, lifetime: Lifetime, deadline: float) -> StoredSession | None:
        """What there is; it lives on for the idle time from now."""
        kept = self._kept.get(session)
        if kept is None:
            return None
        if not kept.stored.moved:
            self._keep(session, kept.stored, kept.begun, lifetime)
        return kept.stored if session in self._kept else None

    @_at_once
    def begin(self, session: str, changes: SessionChanges, token: str, lifetime: Lifetime, deadline: float) -> bool:
        """Begin a session. False: it would be over at once."""
        return self._put(session, changes.upon(StoredSession({}, "")), token, self._kept.timer(), lifetime)

    @_at_once
    def save(self, session: str, changes: SessionChanges, token: str, lifetime: Lifetime, deadline: float) -> bool:
        """Change a session that there is. False: it is gone."""
        kept = self._kept.get(session)
        if kept is None or kept.stored.moved:
            return False
        return self._put(session, changes.upon(kept.stored), token, kept.begun, lifetime)

    @_at_once
    def rotate(
        self,
        session: str,
        fresh: str,
        rotation: Rotation,
        token: str,
        lifetime: Lifetime,
        grace: float,
        deadline: float,
    ) -> bool:
        """Let it go on under another id, and say so under the old one for `grace` seconds. False: it is over."""
        kept = self._kept.get(session)
        whole = rotation.becomes(None if kept is None else kept.stored)
        if kept is None:
            return bool(whole) and self._put(fresh, whole, token, self._kept.timer(), lifetime)
        moved = StoredSession({}, "", moved=True)
        self._kept[session] = _Kept(moved, kept.begun, self._kept.timer() + grace, moved.size)
        return self._put(fresh, whole, token, kept.begun, lifetime)

    @_at_once
    def drop(self, session: str, deadline: float) -> None:
        """End it."""
        self._kept.pop(session, None)

    @_at_once
    def revoke(self, tag: str, deadline: float) -> int:
        """End every session with this tag; how many there were."""
        found = [session for session, kept in self._kept.items() if tag in kept.stored.tags]
        for session in found:
            del self._kept[session]
        return len(found)

    def reset_after_fork(self) -> None:
        """In the child of a fork: it goes on with its copy, unless another thread of the parent was changing that."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._begin()

    def _put(self, session: str, whole: SessionChanges, token: str, begun: float, lifetime: Lifetime) -> bool:
        self._keep(session, StoredSession(whole.written, token, whole.tags), begun, lifetime)
        return session in self._kept

    def _keep(self, session: str, stored: StoredSession, begun: float, lifetime: Lifetime) -> None:
        until = min(self._kept.timer() + lifetime.idle, begun + lifetime.absolute)
        if stored.size > self._most:
            raise TierTooLarge(f"a session of about {stored.size} bytes, where all together may have {self._most}")
        # An item that has ended already is not taken by the store, and what was there would stay.
        self._kept.pop(session, None)
        self._kept[session] = _Kept(stored, begun, until, stored.size)
