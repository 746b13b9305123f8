"""Which origins have been told nothing: what a stored response that says nothing of origins may answer.

A request without `Origin` gets nothing of CORS from most apps that have it, and neither does an origin that is not
allowed. Such a response is stored, and the next one to ask may be an origin that is allowed. It is asked for each
origin, then, until it is plain that what stands inside of the cache says nothing to any: as where CORS stands outside.
"""

from __future__ import annotations

from tiercache.core.entries import Kept
from tiercache.core.keys import Key
from tiercache.core.messages import Request
from tiercache.core.origins import ORIGIN
from tiercache.engine.memo import MEMORABLE, Memo
from tiercache.engine.ports import Clock

ENOUGH = 16
"""Different origins that have been told nothing, after which none is asked for any more, unless one is told something:
an app that answers by origin and has met so many strangers has met one of its own."""
TOLD_FOR = 60.0
"""Seconds for which an origin that was told nothing need not be asked for again, at least."""


class Origins:
    """What this process knows of the answers to requests with an `Origin`."""

    __slots__ = ("_speaks", "_strangers", "_told")

    def __init__(self, clock: Clock) -> None:
        self._speaks = False
        """Whether a response has said something of origins."""
        self._strangers: set[bytes] = set()
        self._told: Memo[tuple[Key, bytes | None]] = Memo(clock)

    def may_have(self, entry: Kept, request: Request) -> bool:
        """Whether a stored response can answer a request with an `Origin`, by which its key may or may not go."""
        to_origins = entry.to_origins
        if to_origins is not None:
            return to_origins
        if len(self._strangers) >= ENOUGH and not self._speaks:
            return True
        return (request.key, request.field(ORIGIN)) in self._told

    def met(self, entry: Kept) -> None:
        """A response has been made here, or read from the shared tier."""
        if entry.to_origins is not None:
            self._speaks = True

    def answered(self, entry: Kept, request: Request, now: float) -> None:
        """The app has answered a request so."""
        origin = request.field(ORIGIN)
        if origin is None or entry.to_origins is not None:
            return
        if len(self._strangers) < ENOUGH and len(origin) <= MEMORABLE:
            self._strangers.add(origin)
        self._told.add((request.key, origin), max(TOLD_FOR, entry.fresh_until - now))
