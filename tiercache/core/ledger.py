"""The invalidation record of this process: the mirror of the shared ledger, and what it says about an entry.

An invalidation is a record with a number. Every stored response carries the stamp (epoch, number) at which its
fill *began*; the reader compares it with its own mirror of the ledger. Pub/sub is only the fast way to hear of a
record, a sync is the sure one, and trust runs out D seconds after the last good sync was *sent*.
"""

from __future__ import annotations

from typing import NamedTuple

LOCAL = "local"


class Stamp(NamedTuple):
    """Where in which history a fill began."""

    epoch: str
    number: int


class Message(NamedTuple):
    """One invalidation as published, and as answered to the process that asked for it (then it counts as heard)."""

    epoch: str
    number: int
    """This invalidation."""
    prev: int
    """The head before it: a reader whose `seq` is another has missed something."""
    floor: int
    members: tuple[str, ...]
    """Ledger members raised to `number`, e.g. `h:t:product:7`. Empty where only the floor rose."""


class SyncPage(NamedTuple):
    """One page of the answer to a sync: whole numbers only, in rising order."""

    epoch: str
    head: int
    floor: int
    time: float
    """Unix time of the shared tier, seconds."""
    records: tuple[tuple[str, int], ...]
    """(member, number) with number above max(seen, floor)."""
    last: int
    """Every surviving record up to and including this number has been sent once this page is applied."""
    complete: bool
    """False: ask again with `seen = (epoch, last)`."""


class SyncRequest(NamedTuple):
    """What a sync tells the shared tier, and when it was sent."""

    epoch: str
    seen: int
    sent: float
    """On this process's own clock, before the first attempt: trust runs from here."""
