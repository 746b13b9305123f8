"""A circuit breaker for the shared tier: after enough trouble it is left alone, and tried again by one at a time.

It counts calls, failed and slow ones alike: a tier that answers, but later than the app would, is no help. Purges and
syncs are not asked for permission: they are what must get through, and the syncs of the listener tell when it is well.
"""

from __future__ import annotations

import threading
from collections import deque

CALLS = 20
"""The last calls by which the tier is judged."""
LEAST = 5
"""With fewer there is no judgement."""
SHARE = 0.5
"""Opens when this share of them was trouble."""
PROBE_EVERY = 0.5
"""Seconds between two calls that are let through while it is open."""
WELL = 3
"""Good calls in a row, or good syncs, that close it again."""


class Breaker:
    """Closed (all calls go), open (none but a probe now and then). Times are of one clock, in seconds.

    `slow` is the time from which an answered call counts as trouble.
    """

    def __init__(self, slow: float) -> None:
        self.slow = slow
        self.open = False
        """Read without a lock: one bool."""
        self.opened = 0
        """How often it has opened."""
        self._lock = threading.Lock()
        self._calls: deque[bool] = deque(maxlen=CALLS)
        self._next_probe = 0.0
        self._well = 0

    def allows(self, now: float) -> bool:
        """Whether a call may be made. While it is open, one now and then may: it finds out how things stand."""
        if not self.open:
            return True
        with self._lock:
            if now < self._next_probe:
                return not self.open
            self._next_probe = now + PROBE_EVERY
            return True

    def note(self, took: float, now: float, *, failed: bool) -> bool:
        """A call has ended after `took` seconds. True: this has opened it."""
        trouble = failed or took >= self.slow
        if not trouble and not self.open and not any(self._calls):
            # The common case, without the lock: nothing is wrong and nothing was.
            self._calls.append(False)
            return False
        with self._lock:
            if self.open:
                self._well = 0 if trouble else self._well + 1
                if self._well >= WELL:
                    self.open = False
                    self._calls.clear()
                return False
            self._calls.append(trouble)
            if len(self._calls) < LEAST or sum(self._calls) < SHARE * len(self._calls):
                return False
            self.open = True
            self.opened += 1
            self._well = 0
            self._next_probe = now + PROBE_EVERY
            return True

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()
