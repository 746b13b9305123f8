"""What the parts of a write-behind store tell each other: plain values.

A write that was acknowledged lies in two places until the database has it: as a *job* in the queue of its partition,
and as what is *pending* under its key, where readers find it.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """One partition of one store: what lies in it keeps its order."""

    store: str
    partition: int


class Receipt(NamedTuple):
    """Where in which history a write was put."""

    history: str
    """Random, another one after each change of the server that might have lost the end of the queue: numbers are only
    comparable within it."""
    number: int
    """Dense within a history, in the order of the writes."""


class Write(NamedTuple):
    """One write as it is put."""

    id: str
    """Random: a write that is sent once more, since its answer was lost, is the same one."""
    name: str
    """Of the key."""
    body: bytes


class Sum(NamedTuple):
    """A number to be added, as it is put."""

    id: str
    name: str
    number: int


class Errand(NamedTuple):
    """What one partition is asked for beside others: to put writes, all or none, or to add a number."""

    place: Place
    writes: tuple[Write, ...] = ()
    sum: Sum | None = None


class Pending(NamedTuple):
    """What is newest under a key, as long as the database does not have it."""

    receipt: Receipt
    body: bytes


class Job(NamedTuple):
    """One write that the database does not have yet."""

    receipt: Receipt
    name: str
    """Of the key, as `Pending` is found by."""
    body: bytes
    at: float
    """When it was put, Unix time of the shared tier, seconds."""


class Letter(NamedTuple):
    """A write that the database did not take."""

    receipt: Receipt
    name: str
    body: bytes
    error: str
    at: float
    """When it was given up, Unix time of the shared tier, seconds."""
    attempts: int
    superseded: bool
    """Whether its key has been written again since: then it is old news."""


class QueueState(NamedTuple):
    """How far the database is behind."""

    jobs: int
    pending: int
    """Keys with a value that the database does not have."""
    letters: int
    oldest: float | None
    """When the oldest job was put, Unix time of the shared tier, seconds."""


class Durability(NamedTuple):
    """What the server says of how it keeps what it acknowledges; None where it does not say."""

    maxmemory: int | None
    """Bytes; 0 for no limit."""
    policy: str | None
    """What it does when memory is full: `noeviction`, or one that removes what is kept."""
    appendonly: bool | None
    """Whether it writes a log of all commands."""
    appendfsync: str | None
    """When that log goes to the disk: `always`, `everysec` or `no`."""


class Base(NamedTuple):
    """A number as the database has it."""

    total: int
    cleared: str
    """What `Added.cleared` said before it was read: if more has been cleared since, it may be old."""


class Added(NamedTuple):
    """What became of adding to a number: `total`, or why not."""

    receipt: Receipt | None = None
    total: int | None = 0
    """None where the number had been taken before, and the database has the sum by now."""
    full: bool = False
    """There is no room in the queue."""
    cleared: str | None = None
    """The sum in the database is needed: read it after this was learned, and say both."""
