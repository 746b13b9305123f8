"""What an error says of a database: that it is away, that it refuses what was written, or neither for certain.

Drivers derive their errors from the classes of PEP 249, which have names in common and nothing else, and call both
`OperationalError`: a server that cannot be reached, and a row that is too long for its table. Where a driver tells the
code that the database has answered with, that decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

_NAMES = frozenset({"OperationalError", "InterfaceError", "TimeoutError"})
"""Errors that come from a database that is away, and from others."""
_AWAY_STATES = ("08", "25006", "28", "40", "53", "55006", "55P", "57", "58")
"""How an SQLSTATE begins that says nothing of what was written: no connection, a server that only reads (after a
failover), a login, a deadlock, no memory or disk, a lock that somebody has, a statement that was broken off, a server
that stops, and trouble beneath it."""
_SQLITE_REFUSALS = frozenset({1, 18, 19, 20, 25})
"""SQLITE_ERROR (of the statement itself: no such table or column), TOOBIG, CONSTRAINT, MISMATCH and RANGE."""


class Verdict(Enum):
    """What an error says."""

    AWAY = "away"
    """The database cannot be reached or has no time: what was written has not been looked at."""
    REFUSED = "refused"
    """It has answered that it does not take this."""
    UNCLEAR = "unclear"
    """One or the other."""


def verdict(error: BaseException) -> Verdict:
    """What an error of a function that writes says."""
    chain = list(_causes(error))
    if any(isinstance(one, OSError) for one in chain):
        return Verdict.AWAY
    for one in chain:
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if isinstance(state, str) and len(state) == 5:
            return Verdict.AWAY if state.startswith(_AWAY_STATES) else Verdict.REFUSED
        code = getattr(one, "sqlite_errorcode", None)
        if isinstance(code, int):
            # The lower byte; what is above it says more of the same.
            return Verdict.REFUSED if code & 0xFF in _SQLITE_REFUSALS else Verdict.AWAY
    if any(kind.__name__ in _NAMES for one in chain for kind in type(one).__mro__):
        return Verdict.UNCLEAR
    return Verdict.REFUSED


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
