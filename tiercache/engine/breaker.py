"""A circuit breaker for the shared tier: in trouble it is left alone, and tried again by one at a time.

Calls that fail and calls that are slow count alike: a tier that answers later than the app would is no help. But a call
can be slow because this process is: a crowd of requests on one event loop sees every answer late, and to leave L2
alone then would send the crowd to the database. So the listener's syncs, from a thread of their own, are the *probes*:
the calls of requests count only while the last probe was in trouble too, or is overdue. And a probe that is slow counts
only where the listener itself was woken in time.
"""

from __future__ import annotations

import threading
from collections import deque
from math import inf

CALLS = 20
"""The last calls by which the tier is judged."""
LEAST = 3
"""With fewer there is no judgement. So many probes in a row are enough by themselves."""
SHARE = 0.5
"""Opens when this share of them was trouble."""
TRY_EVERY = 0.5
"""Seconds between two calls that are let through while it is open."""
WELL = 2
"""Good calls or probes in a row that close it again."""


class Breaker:
    """Closed (all calls go) or open (none but one now and then). Times are of one clock, in seconds.

    An answer counts as trouble when it took `slow` seconds, and longer than the app usually takes.
    """

    def __init__(self, slow: float) -> None:
        self.slow = slow
        self.worth = 0.0
        """Seconds that the app has taken of late: what an answer of L2 saves."""
        self._late = False
        self.open = False
        """Read without a lock: one bool."""
        # Reentrant: a collection that happens to run meanwhile may end a call that was left under way.
        self._lock = threading.RLock()
        self._calls: deque[bool] = deque(maxlen=CALLS)
        self._bad_probes = 0
        self._probe_sent = inf
        self._next_try = 0.0
        self._well = 0

    def allows(self, now: float) -> bool:
        """Whether a call may be made. While it is open, one now and then may: it finds out how things stand."""
        if not self.open:
            return True
        with self._lock:
            if now < self._next_try:
                return not self.open
            self._next_try = now + TRY_EVERY
            return True

    def note(self, took: float, now: float, *, failed: bool) -> bool:
        """A call of a request has ended after `took` seconds. True: this has opened or closed it."""
        trouble = failed or took >= max(self.slow, self.worth)
        if not self.open and not self._bad_probes and now - self._probe_sent < self.slow:
            return False
        with self._lock:
            if self.open:
                return self._recovers(trouble)
            self._calls.append(trouble)
            return self._gives_way(now)

    def probing(self, now: float, late: float = 0.0) -> None:
        """A probe is on its way, so many seconds later than it was meant to be."""
        self._probe_sent = now
        self._late = late >= self.slow / 4

    def took(self, seconds: float) -> None:
        """The app has answered after so long."""
        self.worth += 0.1 * (seconds - self.worth)

    def probed(self, took: float, now: float, *, failed: bool) -> bool:
        """A probe has ended. True: this has opened or closed it."""
        trouble = failed or (took >= max(self.slow, self.worth) and not self._late)
        with self._lock:
            self._probe_sent = inf
            self._bad_probes = self._bad_probes + 1 if trouble else 0
            if self.open:
                return self._recovers(trouble)
            if not trouble:
                self._calls.clear()
                return False
            self._calls.append(True)
            return self._gives_way(now)

    def _recovers(self, trouble: bool) -> bool:
        self._well = 0 if trouble else self._well + 1
        if self._well < WELL:
            return False
        self.open = False
        self._calls.clear()
        return True

    def _gives_way(self, now: float) -> bool:
        enough = len(self._calls) >= LEAST and sum(self._calls) >= SHARE * len(self._calls)
        if not enough and self._bad_probes < LEAST:
            return False
        self.open = True
        self._well = 0
        self._next_try = now + TRY_EVERY
        return True

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock, and its probe is not ours."""
        self._lock = threading.RLock()
        self._probe_sent = inf
