"""How a write-behind store keeps what it has acknowledged, which servers keep it so, and how long writers wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from tiercache.core.write_queue import Durability
from tiercache.errors import QueueFull

SHORTEST_WAIT, LONGEST_WAIT = 0.01, 0.2
"""Seconds between two looks whether a full queue has room."""


class QueueTerms(NamedTuple):
    """How a write-behind store keeps what it has acknowledged."""

    partitions: int
    most: int
    """Jobs of one partition."""
    batch: int
    attempts: int
    full_wait: float
    """Seconds that a writer waits for room."""
    durability: str
    evicting: bool
    """Whether a Redis that drops what it holds when memory is full is accepted."""


def objection(said: Durability, terms: QueueTerms) -> str:
    """What speaks against keeping acknowledged writes on a server; "" if nothing does."""
    if said.maxmemory and said.policy not in (None, "noeviction") and not terms.evicting:
        return (
            f"a Redis with maxmemory-policy noeviction: this one has {said.policy} and drops acknowledged writes when "
            "memory is full; evicting=True accepts that"
        )
    if terms.durability == "memory":
        return ""
    if said.appendonly is False:
        return (
            "a Redis with appendonly yes: this one keeps nothing on disk between snapshots, and loses what it has "
            "acknowledged since the last one when it ends; durability='memory' accepts that"
        )
    if terms.durability == "always" and said.appendfsync not in (None, "always"):
        return (
            f"a Redis with appendfsync always: this one has {said.appendfsync}, and may lose the last "
            f"{'second or two' if said.appendfsync == 'everysec' else 'half minute or more'} of acknowledged writes "
            "when its machine ends; durability='disk' accepts that"
        )
    return ""


def whole_number(named: str, value: object) -> int:
    """What a loader has given, to be added to. Raises `TypeError` for what is none."""
    if value is None:
        return 0
    if type(value) is not int:
        raise TypeError(f"{named}: a {type(value).__name__} cannot be added to; load=… has to give int or None")
    return value


def pauses(named: str, terms: QueueTerms) -> Iterator[float]:
    """Pauses between attempts, until the patience of a writer has run out."""
    until = time.monotonic() + terms.full_wait
    pause = SHORTEST_WAIT
    while True:
        yield min(pause, max(0.0, until - time.monotonic()))
        if time.monotonic() >= until:
            raise QueueFull(
                f"{named}: {terms.most} writes of one partition wait for the database, and for "
                f"full_wait={terms.full_wait:g} s there was no room for another"
            )
        pause = min(LONGEST_WAIT, pause * 2)
