"""What observers are told: counters of everything that happened, and log lines that never flood.

A counter is a plain attribute. `x += 1` on an attribute holds no lock: under the GIL no other thread can come between
its instructions, and on a free-threaded build a count may be lost, never more than that.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tiercache.core.redaction import redact
from tiercache.engine.ports import Clock
from tiercache.engine.troubles import HTTP, TROUBLES

LONGEST_PROBLEM = 1_000
"""Characters of a problem that are logged."""
COMPLAINT_INTERVAL = 60.0
"""Seconds between two log lines of one kind."""

_LONGEST_READ = 4 * LONGEST_PROBLEM
"""Characters of a problem that are looked through for secrets, so that none is cut in two and shown by half."""

_http = logging.getLogger(HTTP)


STORE_COUNTERS = {
    "hits_l1": "values from the memory of this process",
    "hits_l2": "values from Redis",
    "collapsed": "values from a load that another caller in this process had begun",
    "misses": "keys that neither tier had: each is loaded, or answered with the default where nothing loads",
    "loads": "keys that a loader was called for, refreshes behind answers included",
    "stale": "values that had expired, while they were loaded anew or in place of an error",
    "stored": "values that were stored",
    "failed": "loads that raised",
    "writes": "changes by `set`, `delete` and `invalidate` that the database, if any, has taken",
    "refused": "a dict: values that were not stored, by reason: `value` (its codec cannot take it), `none`, "
    "`no-store`, `data` (as [for a response](cache-status.md#reasons)), `no-lifetime`, `too-large`",
}
"""What a store counts, for the reference."""


class StoreStats:
    """Counts of one store of data: see `STORE_COUNTERS`."""

    def __init__(self) -> None:
        self.hits_l1 = 0
        self.hits_l2 = 0
        self.collapsed = 0
        self.misses = 0
        self.loads = 0
        self.stale = 0
        self.stored = 0
        self.failed = 0
        self.writes = 0
        self.refused: Counter[str] = Counter()

    def snapshot(self) -> dict[str, Any]:
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}


class Stats:
    """Counts since the process began. `snapshot` gives them as a plain dict."""

    def __init__(self) -> None:
        self.hits_l1 = 0
        self.hits_l2 = 0
        self.collapsed = 0
        """Answered by a fill that another request had begun."""
        self.misses = 0
        self.stored = 0
        self.not_modified = 0
        self.stale = 0
        self.purges = 0
        self.purges_queued = 0
        self.bypassed: Counter[str] = Counter()
        """Requests in which the store took no part, by reason."""
        self.refused: Counter[str] = Counter()
        """Responses that were not stored, by reason."""
        self.swallowed: Counter[str] = Counter()
        """Failures that no request was allowed to notice, by kind."""
        self.data: dict[str, StoreStats] = {}
        """By store of data."""

    def of_store(self, name: str) -> StoreStats:
        """The counts of one store."""
        return self.data.setdefault(name, StoreStats())

    def reset(self) -> None:
        """Count from nothing, in place: the faces hold on to the counters."""
        for name, value in vars(self).items():
            if isinstance(value, Counter):
                value.clear()
            elif isinstance(value, dict):
                for counts in value.values():
                    counts.__init__()
            else:
                setattr(self, name, 0)

    def snapshot(self) -> dict[str, Any]:
        counts = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}
        return {**counts, "data": {name: store.snapshot() for name, store in self.data.items()}}


def one_line(problem: object, redact: Callable[[str], str] = redact) -> str:
    """A problem as one line: messages of exceptions repeat what clients sent, and could forge lines of a log."""
    text = str(problem)[:_LONGEST_READ]
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return redact(text)[:LONGEST_PROBLEM]


def remark(kind: str, *words: object) -> None:
    """A line of the debug log, for what is as it should be and yet surprises whoever looks for the reason."""
    if _http.isEnabledFor(logging.DEBUG):
        _http.debug("%s: %s", kind, ": ".join([one_line(word) for word in words]))


class Complaints:
    """Log lines for what goes wrong: counted each time, written once a minute and kind, without secrets."""

    def __init__(self, stats: Stats, clock: Clock, redact: Callable[[str], str] = redact) -> None:
        self._stats = stats
        self._clock = clock
        self._redact = redact
        # Reentrant: a collection that happens to run meanwhile may end what was left under way, and that may complain.
        self._lock = threading.RLock()
        self._written: dict[str, tuple[float, int]] = {}
        """By kind: when a line was written, and how many have been left out since."""

    def swallow(self, kind: str, problem: object) -> None:
        """Count a failure that must not reach a request, and say so in the log if the last time is a while ago.

        `kind` is one of `troubles.TROUBLES`, never from input: it is a key here and in the counters.
        """
        now = self._clock()
        with self._lock:
            self._stats.swallowed[kind] += 1
            last, left_out = self._written.get(kind, (None, 0))
            if last is not None and now - last < COMPLAINT_INTERVAL:
                self._written[kind] = (last, left_out + 1)
                return
            self._written[kind] = (now, 0)
        if last is None:
            more = "further ones are counted in stats() and logged once a minute"
        else:
            more = f"{left_out} more since the last line"
        _logger_of(kind).warning("%s: %s (%s)", kind, one_line(problem, self._redact), more)

    def settle(self, kind: str, message: str) -> None:
        """A trouble of this kind is over: log it if it was complained of, and let the next one be heard at once."""
        with self._lock:
            known = self._written.pop(kind, None)
        if known is not None:
            more = f" ({known[1]} more since the last line)" if known[1] else ""
            _logger_of(kind).info("%s: %s%s", kind, message, more)

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()


def _logger_of(kind: str) -> logging.Logger:
    trouble = TROUBLES.get(kind)
    return logging.getLogger("tiercache" if trouble is None else trouble.logger)
