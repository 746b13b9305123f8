"""How much one process asks of its app at once on behalf of the cache."""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop
from collections import Counter

from tiercache.core.routes import Route

MAX_REFRESHES = 8
"""Refreshes behind answers at once, in one process."""


class Limits:
    """Counts what is under way. Every permission is given back by the one who got it."""

    def __init__(self) -> None:
        # Reentrant: a collection that happens to run meanwhile may end a fill that was left under way.
        self._lock = threading.RLock()
        self._over = threading.Condition(self._lock)
        self.behind = 0
        """Fills that run behind answers, or whose clients have gone."""
        self._loops: Counter[AbstractEventLoop] = Counter()
        """Of those behind, how many are tasks, by their event loop."""
        self.refreshing = 0
        self._filling: Counter[Route] = Counter()

    def may_refresh(self) -> bool:
        """Whether one more refresh may run behind the answers; `refreshed` ends it."""
        with self._lock:
            if self.refreshing >= MAX_REFRESHES:
                return False
            self.refreshing += 1
            return True

    def refreshed(self) -> None:
        """A refresh that `may_refresh` allowed has ended."""
        with self._lock:
            self.refreshing -= 1

    def begins_behind(self, loop: AbstractEventLoop | None = None) -> None:
        """A fill goes on without a client, as a task of `loop` if it is one."""
        with self._lock:
            self.behind += 1
            if loop is not None:
                self._loops[loop] += 1

    def ends_behind(self, loop: AbstractEventLoop | None = None) -> None:
        """It has ended."""
        with self._over:
            self.behind -= 1
            if loop is not None:
                self._loops[loop] -= 1
                if not self._loops[loop]:
                    del self._loops[loop]
            self._over.notify_all()

    def drained(self, seconds: float) -> bool:
        """Wait until no fill goes on without a client, for some seconds at most; whether that was reached.

        Tasks of an event loop that has stopped are not waited for: a server that tells of no shutdown (daphne, or
        Django's ASGI application) has stopped it before this process ends, and they have no end to come to.
        """
        with self._over:
            return self._over.wait_for(lambda: self.behind <= self._stopped(), seconds)

    def _stopped(self) -> int:
        return sum([count for loop, count in self._loops.items() if not loop.is_running()])

    def may_fill(self, route: Route) -> bool:
        """Whether the app may work on one more request of this route for the store; `filled` ends it."""
        limit = route.policy.max_fills
        if limit is None:
            return True
        with self._lock:
            if self._filling[route] >= limit:
                return False
            self._filling[route] += 1
            return True

    def filled(self, route: Route) -> None:
        """A fill that `may_fill` allowed has ended."""
        if route.policy.max_fills is not None:
            with self._lock:
                self._filling[route] -= 1
