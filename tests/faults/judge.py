"""What was read, against the purges before it: records in, verdicts out. No clock, no network.

A purge has two times: when it was *invoked* and when it *returned*. An answer is **older** than a purge if the app
call that made it began before the purge was invoked. Nothing older may be served by a decision later than a limit
after the purge returned. A reader cannot see the decision, but knows that it fell between the sending of the request
and the arrival of the answer; so only what was *sent* later than the limit is a violation for certain. With one time
for the purge in place of two, everything that was decided while it was under way would be a false alarm.

From when a purge binds, and with which limit:

- In the process that was asked, from the return of the call, with no limit: it has applied the purge before it
  answers, confirmed or not. A process that was killed and started again is another process, with another pid.
- Elsewhere a confirmed purge binds from the return of the call. One that raised `PurgeUnconfirmed` (and one that an
  unsafe request caused, which never raises) binds elsewhere only from the arrival of a later answer of that same
  process which says that nothing is queued any more. If the process dies before, it never binds elsewhere; the caller
  had been told.
- The limit elsewhere is D; the longer of D and `isolated_ttl` if the answer says that its process is isolated, or that
  it waited for the fill of another request, which leaves that open. There is none on a strong route, and none after a
  confirmed purge that waited for the fleet, unless the answer may be of an isolated process. After a soft purge an
  answer may go out stale for as long again as the route's `stale_while_revalidate`.
- On a session route the last purge of the same client, confirmed or not, binds everywhere from its return, with no
  limit.
- A purge whose outcome the caller never learned (the process was killed meanwhile) binds nobody.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from tests.faults.terms import BOUND, Terms

REMEMBERED = 2_000
"""Purges of one key that are kept; a read is compared with those since its app call began."""


@dataclass(slots=True, eq=False)
class Purge:
    """One call of purge. Times are seconds of the clock that all processes share."""

    what: str
    keys: frozenset[str]
    invoked: float
    worker: int = 0
    """The pid of the process that was asked, known from its answer."""
    soft: bool = False
    waited: bool = False
    """It was to return when the whole fleet had applied it."""
    session: int | None = None
    """The client, if its answer came with the mark of a session, and each purge is of another."""
    returned: float = inf
    confirmed: float = inf
    """From when it binds other processes."""
    at: object = None
    """Epoch and number, for those who look into a violation."""

    def __str__(self) -> str:
        return (
            f"purge of {self.what} by {self.worker}: invoked {self.invoked:.4f}, returned {self.returned:.4f}, "
            f"confirmed {self.confirmed:.4f}, at {self.at}"
        )


@dataclass(slots=True)
class Read:
    """One answer."""

    key: str
    worker: int
    sent: float
    received: float
    began: float
    """When the app call that made it began."""
    version: int
    tier: str
    """`l1`, `l2` or `isolated` for a hit; else `app`, `collapsed`, `validated`."""
    session: int | None = None


@dataclass(slots=True)
class Verdict:
    """Something that must not be."""

    kind: str
    text: str
    late: float = 0.0
    """Seconds past the limit."""


@dataclass(slots=True)
class Finding:
    """What one read amounts to."""

    staleness: float = 0.0
    """Seconds from the return of the first purge that it is older than to the sending: it was at least as stale."""
    softly: float = 0.0
    """The same for purges that let it go out stale for a while."""
    verdicts: list[Verdict] = field(default_factory=list)


class Judge:
    """Keeps what has been purged and committed, and judges each read by it.

    Purges are given when they are invoked, in that order; their other times are filled in later, and must be before
    a read is given that was sent after them by more than the limit.
    """

    def __init__(self, terms: Mapping[str, Terms], bound: float = BOUND) -> None:
        self._terms = terms
        self._bound = bound
        self._purges: dict[str, list[Purge]] = {}
        self._commits: dict[str, list[float]] = {}

    def committed(self, key: str, at: float) -> None:
        """The next version of a key stands at the origin since `at`; the first call is version 1."""
        self._commits.setdefault(key, []).append(at)

    def invoked(self, purge: Purge) -> None:
        for key in purge.keys:
            purges = self._purges.setdefault(key, [])
            purges.append(purge)
            if len(purges) > REMEMBERED:
                del purges[: REMEMBERED // 2]

    def read(self, read: Read) -> Finding:
        finding = Finding()
        self._check_version(read, finding)
        if read.tier == "app" and read.began < read.sent:
            early = read.sent - read.began
            text = f"said to come from the app, whose call began {early:.4f} s before the request: {read}"
            finding.verdicts.append(Verdict("answer of another request", text))
        for purge in self.newer(read.key, read.began):
            start, limit, kind = self.binding(read, purge)
            stale = read.sent - start
            if stale <= 0:
                continue
            if purge.soft and self._terms[read.key[1]].stale_for:
                finding.softly = max(finding.softly, stale)
            else:
                finding.staleness = max(finding.staleness, stale)
            if stale > limit:
                text = f"{stale:.4f} s after {purge} (limit {limit} s): {read}"
                finding.verdicts.append(Verdict(kind, text, stale - limit))
        return finding

    def newer(self, key: str, began: float) -> list[Purge]:
        """The purges of a key that were invoked after this moment."""
        purges = self._purges.get(key, [])
        return purges[bisect_right(purges, began, key=lambda purge: purge.invoked) :]

    def may_be_gone(self, read: Read) -> bool:
        """Whether a purge can have killed what a process has made: one that was invoked later, or that it may have
        heard of only then."""
        return any(purge.confirmed + self._bound > read.began for purge in self._purges.get(read.key, []))

    def binding(self, read: Read, purge: Purge) -> tuple[float, float, str]:
        """From when the purge binds who answered, the limit in seconds, and the kind of violation past it."""
        terms = self._terms[read.key[1]]
        stale_for = terms.stale_for if purge.soft else 0.0
        if read.worker == purge.worker:
            return purge.returned, stale_for, "served by the process that purged"
        if terms.consistency == "session" and read.session is not None and read.session == purge.session:
            return purge.returned, stale_for, "session"
        if terms.consistency == "strong":
            return purge.confirmed, stale_for, "strong"
        if read.tier == "isolated" or (read.tier == "collapsed" and terms.isolated_ttl):
            return purge.confirmed, max(self._bound, terms.isolated_ttl) + stale_for, "isolated"
        if purge.waited and purge.confirmed == purge.returned:
            return purge.confirmed, stale_for, "barrier"
        return purge.confirmed, self._bound + stale_for, "bounded"

    def _check_version(self, read: Read, finding: Finding) -> None:
        commits = self._commits.get(read.key, [])
        least = bisect_right(commits, read.began)
        if not least <= read.version <= len(commits) + 1:  # the next one may be there and not yet reported
            text = f"version {read.version} where {least} to {len(commits)} can be: {read}"
            finding.verdicts.append(Verdict("impossible version", text))


def kept_exactly(judge: Judge, before: Iterable[Read], after: Iterable[Read]) -> list[Verdict]:
    """Whether each process that lived on, and lost no history, still answers with what it held and nobody purged."""
    then = {(read.worker, read.key): read for read in before}
    verdicts = []
    for read in after:
        old = then.get((read.worker, read.key))
        if old is None or judge.may_be_gone(old):
            continue
        if read.tier not in ("l1", "isolated") or read.began != old.began:
            verdicts.append(Verdict("flushed", f"nobody purged it, and it was not kept: {old} then {read}"))
    return verdicts
