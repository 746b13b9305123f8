"""Read your own writes: the purges of a request are told to its client, who brings the word of them to every process.

The context variable holds one object per call of the app, shared by every task and thread that the call goes through.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from math import ceil
from typing import TYPE_CHECKING

from tiercache.core.records import Message, Stamp
from tiercache.core.session_mark import COOKIE, FIELD, MAX_AGE, UNCONFIRMED, read, sign

if TYPE_CHECKING:
    from tiercache.core.messages import Request
    from tiercache.engine.engine import Engine

Pairs = list[tuple[bytes, bytes]]

_IN_COOKIE = re.compile(rb"(?:^|;)[ \t]*" + re.escape(COOKIE.encode()) + rb"[ \t]*=[ \t]*\"?([^;\" \t]*)")


_SHARING = re.compile(rb"(?:.*-)?cache-control|expires|surrogate-control")
"""Fields that tell L0 what it may keep."""


class Purges:
    """The last purge of one call of the app."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: Stamp | None = None


_current: ContextVar[Purges | None] = ContextVar("tiercache_purges", default=None)


def watch() -> Purges:
    """Note the purges of the call of the app that follows in this context."""
    purges = Purges()
    _current.set(purges)
    return purges


def note(engine: Engine, messages: list[Message]) -> None:
    """A purge has been made; no messages: the shared tier has not confirmed it."""
    purges = _current.get()
    if purges is None:
        return
    if messages:
        last = messages[-1]
        if purges.last is None or purges.last.epoch != UNCONFIRMED:
            purges.last = Stamp(last.epoch, last.number)
    else:
        purges.last = Stamp(UNCONFIRMED, int(engine.wall()) + lasts(engine))


def lasts(engine: Engine) -> int:
    """Seconds that a client carries its mark."""
    return max(MAX_AGE, ceil(2 * engine.settings.staleness_bound))


def lines(engine: Engine, purges: Purges, *, secure: bool) -> Pairs:
    """The fields that tell a client of its purges; none if there were none."""
    secret = engine.settings.session_secret
    if purges.last is None or secret is None:
        return []
    last, known = purges.last, engine.ledger.stamp()
    if last.epoch == known.epoch:
        # All that this process knows of: of two answers to one client the later may be that of the earlier purge.
        last = max(last, known)
    value = sign(secret, last).encode()
    age = lasts(engine)
    cookie = b"%b=%b; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax" % (COOKIE.encode(), value, age)
    return [(FIELD, value), (b"set-cookie", cookie + b"; Secure" if secure else cookie)]


def told(headers: Pairs, marks: Pairs, method: str) -> Pairs:
    """The fields of a response with those marks, which are for this client alone."""
    if method in ("GET", "HEAD"):
        headers = [pair for pair in headers if not _SHARING.fullmatch(pair[0].lower())]
        headers.append((b"cache-control", b"no-store"))
    return [*headers, *marks]


def asked(engine: Engine, request: Request) -> Stamp | None:
    """What the client of a request must not be answered without; None if it has made no purge."""
    secret = engine.settings.session_secret
    if secret is None:
        return None
    field, cookies = request.field(FIELD), request.field(b"cookie")
    if field is None and cookies is None:
        return None
    values = [field or b"", *_IN_COOKIE.findall(cookies or b"")]
    stamps = [stamp for value in values if value and (stamp := read(secret, value.decode("latin-1"))) is not None]
    if not stamps:
        return None
    lasting = [s for s in stamps if s.epoch == UNCONFIRMED and s.number > engine.wall()]
    known = [s for s in stamps if s.epoch != UNCONFIRMED]
    # Several marks come from several hosts or paths. What one process lacks of any of them it must look up.
    behind = [s for s in known if not engine.ledger.reached(s)]
    return next(iter([*lasting, *behind, *known]), None)
