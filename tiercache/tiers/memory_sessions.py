"""Sessions of users in the memory of one process, for development, tests and apps that run as one process.

The same calls as the sessions of a Redis tier, without its promises: they end with the process, and no other one knows
them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from cachetools import TLRUCache

from tiercache.core.user_sessions import Rotation, SessionChanges, StoredSession

MOST = 100_000
"""Sessions that are kept; past it the one that was used longest ago goes."""


class _Kept(NamedTuple):
    stored: StoredSession
    begun: float
    until: float


class MemorySessions:
    """Safe to share between threads. Nothing waits, so that deadlines do not matter."""

    def __init__(self, most: int = MOST, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._lock = threading.Lock()
        self._kept: TLRUCache[str, _Kept] = TLRUCache(most, lambda _key, kept, _now: kept.until, timer=timer)

    def load_session(self, session: str, idle: float, absolute: float, deadline: float) -> StoredSession | None:
        """What there is; it lives on for `idle` from now."""
        with self._lock:
            kept = self._kept.get(session)
            if kept is None:
                return None
            if not kept.stored.moved:
                self._keep(session, kept.stored, kept.begun, idle, absolute)
            return kept.stored if session in self._kept else None

    async def aload_session(self, session: str, idle: float, absolute: float, deadline: float) -> StoredSession | None:
        """`load_session` for event loops."""
        return self.load_session(session, idle, absolute, deadline)

    def save_session(
        self,
        session: str,
        changes: SessionChanges,
        token: str,
        idle: float,
        absolute: float,
        deadline: float,
        *,
        begins: bool = False,
    ) -> bool:
        """Change a session that there is, or begin one. False: it is gone."""
        with self._lock:
            kept = _Kept(StoredSession({}, ""), self._timer(), 0.0) if begins else self._kept.get(session)
            if kept is None or kept.stored.moved:
                return False
            return self._put(session, changes.upon(kept.stored), token, kept.begun, idle, absolute)

    async def asave_session(
        self,
        session: str,
        changes: SessionChanges,
        token: str,
        idle: float,
        absolute: float,
        deadline: float,
        *,
        begins: bool = False,
    ) -> bool:
        """`save_session` for event loops."""
        return self.save_session(session, changes, token, idle, absolute, deadline, begins=begins)

    def rotate_session(
        self,
        session: str,
        fresh: str,
        rotation: Rotation,
        token: str,
        idle: float,
        absolute: float,
        grace: float,
        deadline: float,
    ) -> bool:
        """Let it go on under another id, and say so under the old one for `grace` seconds. False: it is over."""
        with self._lock:
            kept = self._kept.get(session)
            whole = rotation.becomes(None if kept is None else kept.stored)
            if kept is None:
                return bool(whole) and self._put(fresh, whole, token, self._timer(), idle, absolute)
            moved = StoredSession({}, "", moved=True)
            self._kept[session] = _Kept(moved, kept.begun, self._timer() + grace)
            return self._put(fresh, whole, token, kept.begun, idle, absolute)

    async def arotate_session(
        self,
        session: str,
        fresh: str,
        rotation: Rotation,
        token: str,
        idle: float,
        absolute: float,
        grace: float,
        deadline: float,
    ) -> bool:
        """`rotate_session` for event loops."""
        return self.rotate_session(session, fresh, rotation, token, idle, absolute, grace, deadline)

    def drop_session(self, session: str, deadline: float) -> None:
        """End it."""
        with self._lock:
            self._kept.pop(session, None)

    async def adrop_session(self, session: str, deadline: float) -> None:
        """`drop_session` for event loops."""
        self.drop_session(session, deadline)

    def revoke_sessions(self, tag: str, deadline: float) -> int:
        """End every session with this tag; how many there were."""
        with self._lock:
            found = [session for session, kept in self._kept.items() if tag in kept.stored.tags]
            for session in found:
                del self._kept[session]
            return len(found)

    async def arevoke_sessions(self, tag: str, deadline: float) -> int:
        """`revoke_sessions` for event loops."""
        return self.revoke_sessions(tag, deadline)

    def _put(self, session: str, whole: SessionChanges, token: str, begun: float, idle: float, absolute: float) -> bool:
        self._keep(session, StoredSession(whole.written, token, whole.tags), begun, idle, absolute)
        return session in self._kept

    def _keep(self, session: str, stored: StoredSession, begun: float, idle: float, absolute: float) -> None:
        until = min(self._timer() + idle, begun + absolute)
        # An item that has ended already is not taken by the store, and what was there would stay.
        self._kept.pop(session, None)
        self._kept[session] = _Kept(stored, begun, until)
