"""The vocabulary of the tables: a row is one behaviour, a step one request and what comes of it.

A whole number in the place of a field's value stands for a date that many seconds from now: in what the app answers
from the moment at which it answers, anywhere else from the beginning of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

Value = str | int
Line = tuple[str, Value]
PAUSE = 3
"""Seconds between the two requests of a row that does not say otherwise."""


class Kind(StrEnum):
    """How binding a behaviour is."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    """Worth having: it saves a request, and no RFC asks for it."""
    OPEN = "open"
    """The RFCs leave it to the cache; the row says what this one does."""


REQUIRED, OPTIONAL, OPEN = Kind


class Outcome(StrEnum):
    """What becomes of a request."""

    REUSED = "answered from the store"
    STALE = "answered from the store, and refreshed behind the answer"
    ASKED = "answered by the app"
    VALIDATED = "answered from the store, once the app has said that it still holds"
    INSTEAD = "answered from the store in place of the app's error"
    FAILED = "the app's failure reaches the client"
    AGAIN = "answered by the app when it is asked once more, without a condition"
    REFUSED = "answered by the cache alone, with nothing from the store"


REUSED, STALE, ASKED, VALIDATED, INSTEAD, FAILED, AGAIN, REFUSED = Outcome


@dataclass(frozen=True)
class Answer:
    """What the app says."""

    fields: Sequence[Line] = ()
    status: int = 200
    body: bytes | None = None
    """None: a body that names the step."""
    fails: bool = False
    """It raises in place of an answer."""
    breaks: bool = False
    """It raises behind the first piece of the body."""
    early: Sequence[tuple[str, str]] = ()
    """The fields of a 103 in front of it."""
    plainly: Answer | None = None
    """What it says to a request without a condition, where that is something else."""


@dataclass(frozen=True)
class Step:
    """One request."""

    outcome: Outcome
    app: Answer = Answer()
    sent: Sequence[Line] = ()
    method: str = "GET"
    at: str = ""
    """What stands behind the row's own URL."""
    after: float = 0
    """Seconds that pass before it."""
    content: bytes = b""
    status: int | None = None
    """None: that of the app, or of what is stored."""
    body: bytes | None = None
    """None: that of the app, or of what was stored last."""
    has: Sequence[Line] = ()
    lacks: Sequence[str] = ()
    lists: Sequence[Line] = ()
    """All lines of a field, in order, joined by ` | `."""
    starts: Sequence[Line] = ()
    """How these begin."""
    seen: Sequence[Line] = ()
    """What the app found in the request."""
    unseen: Sequence[str] = ()
    older: int | None = None
    """The least value of `Age`."""
    early: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Row:
    """One behaviour."""

    id: str
    section: str
    """RFC and section, as in `9111 §5.2.2.1`."""
    kind: Kind
    says: str
    steps: Sequence[Step]
    rule: str = "all"
    """The rule under whose path it runs: a key of `RULES` in `stage.py`."""
    only: str = ""
    """The one face that can show it, and behind a colon why the other cannot."""
    otherwise: str = ""
    """Why tiercache deliberately does not do what such a row usually asks for; the steps show what it does."""
    beyond: bool = False
    """Not among the behaviours of the public suite."""


def answer(*fields: Line, status: int = 200, body: bytes | None = None) -> Answer:
    return Answer(fields, status, body)


def first(*fields: Line, sent: Sequence[Line] = (), status: int = 200, body: bytes | None = None) -> Step:
    """The request that may fill the store."""
    return Step(ASKED, Answer(fields, status, body), sent)


def pair(key: str, section: str, kind: Kind, says: str, head: Step, tail: Step, otherwise: str = "") -> Row:
    return Row(key, section, kind, says, (head, tail), otherwise=otherwise)


def reused(
    key: str, section: str, kind: Kind, says: str, *fields: Line, after: float = PAUSE, otherwise: str = ""
) -> Row:
    """The response with these fields answers the next request too."""
    return pair(key, section, kind, says, first(*fields), Step(REUSED, after=after), otherwise)


def asked(
    key: str, section: str, kind: Kind, says: str, *fields: Line, after: float = PAUSE, otherwise: str = ""
) -> Row:
    """The response with these fields does not answer the next request."""
    return pair(key, section, kind, says, first(*fields), Step(ASKED, after=after), otherwise)


def cc(value: str) -> Line:
    return ("Cache-Control", value)


def beyond(*rows: Row) -> tuple[Row, ...]:
    """Rows for what the public suite does not ask."""
    return tuple(replace(row, beyond=True) for row in rows)


HOUR = cc("max-age=3600")
DATE: Line = ("Date", 0)
FRESH: tuple[Line, ...] = (HOUR, DATE)
BRIEF: tuple[Line, ...] = (cc("max-age=2"),)
"""Over before the second request of a row."""
