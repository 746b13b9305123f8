"""What processes and the shared ledger tell each other about invalidations: plain values.

A *member* is what the ledger keeps a number for: `h:<tag>` the last hard purge of a tag, `s:<tag>` the last soft one
(two members, since a soft purge must not cover a hard one), `b:p:<prefix>` and `b:g:<glob>` a ban of paths.

A store of data has one for each key that is written, `h:v:<store>:<digest>`, and there may be any number of keys. So
the oldest of them may be *folded*: the number goes to `h:w:<store>:<bucket>`, if that has a lower one, and the member
of the key is forgotten. A reader looks for both. Keys that share one of the 4,096 buckets of a store share its number,
which can kill too much of that bucket, and never too little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import inf
from typing import NamedTuple, Protocol

HARD = "h:"
"""Prefix of the member that holds the last hard purge of a tag."""
SOFT = "s:"
"""Prefix of the member that holds the last soft purge of a tag."""
SOFT_EVERYTHING = "s:*"
"""The soft purge of everything. No tag is called `*`: a tag begins with its kind, as in `t:product:7`."""
BAN = "b:"
"""Prefix of the members that ban paths: `b:p:` by their beginning, `b:g:` by a glob."""
BATCH = 1_000
"""Members that one number may carry."""
BUCKETS = 1 << 18
"""Members for the paths that unsafe requests have changed, all of them taken together."""
TAGS_KEPT = 200_000 + BUCKETS
"""Members that are kept beside those of keys; past it the oldest go and the floor rises. Buckets leave room for others,
however many of them are in use."""
KEYS_KEPT = 100_000
"""Members of keys that are kept; past it the oldest are folded."""
OF_DATA = "v:"
"""How the tag of a key begins, and that of a store."""
_OF_KEY = re.compile(r"h:v:.+:[0-9a-f]{32}", re.DOTALL)


def is_of_key(member: str) -> bool:
    """Whether it is that of a key of data, which may be folded."""
    return member.startswith("h:v:") and _OF_KEY.fullmatch(member) is not None


def bucket_of_key(tag: str) -> str:
    """The member into which that of a key is folded, by the tag of the key. Of the tag of a store it makes none."""
    return "h:w:" + tag[2:-29]


def last_of(members: Mapping[str, int], member: str) -> int:
    """The last number of a member. One of a key that is not there may have been folded: then it is that of its bucket,
    or below."""
    number = members.get(member)
    if number is None:
        number = members.get(bucket_of_key(member[2:]), 0) if is_of_key(member) else 0
    return number


def folded(members: Mapping[str, int], most: int) -> dict[str, int]:
    """These members with their numbers, and where more than `most` of them are of keys, the oldest of those folded: a
    tenth more than need be, so that it is paid for rarely."""
    kept = dict(members)
    of_keys = sorted([(number, member) for member, number in members.items() if is_of_key(member)])
    if len(of_keys) > most:
        for number, member in of_keys[: len(of_keys) - most * 9 // 10]:
            del kept[member]
            bucket = bucket_of_key(member[2:])
            kept[bucket] = max(number, kept.get(bucket, 0))
    return kept


def is_text(value: str) -> bool:
    """Whether it can be written to the ledger: lone surrogates, which stand for bytes that are no UTF-8, cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    ack: bool = False
    """Somebody waits for the fleet: sync at once, so that the shared tier knows that this process has heard."""
    previous: tuple[int, ...] = ()
    """In the answer to the one who asked, the number of each member before; 0 if it had none above the floor."""


class Wake(NamedTuple):
    """Word of a fill that others wait for, as published when its lease is given back."""

    name: str
    """Under which its outcome lies in L2."""
    made: bool
    """False: there is nothing for them, and each calls the app."""


class Row(NamedTuple):
    """What a process has let the shared tier know of itself with its last sync."""

    process_id: str
    time: float
    """Unix time of the shared tier at that sync, seconds."""
    epoch: str
    number: int
    """All up to this one had been applied when the sync was sent."""
    bound: float
    """Its staleness bound, seconds: past `time + bound` it no longer trusts what it knew then."""


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
    rows: tuple[Row, ...] | None = None
    """The processes of the fleet, where they were asked for."""
    since: float = inf
    """Unix time from which on the rows are complete: they were begun anew then, in this epoch."""


class SyncRequest(NamedTuple):
    """What a sync tells the shared tier, and when it was sent."""

    epoch: str
    seen: int
    """What has been paged up to here need not be sent again."""
    sent: float
    """On this process's own clock, before the first attempt: trust runs from here."""
    applied: int = 0
    """All up to this number is in force for the readers of this process: what others may count on."""


class Unconfirmed(NamedTuple):
    """One purge to replay once the shared tier answers; several earlier ones may be merged into it."""

    members: tuple[str, ...]
    everything: bool
    mark: int
    """Bars set up to this mark are covered by it."""


class Stamped(Protocol):
    """What the ledger asks of an entry."""

    @property
    def epoch(self) -> str: ...

    @property
    def number(self) -> int: ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Without the prefix of the member: `t:product:7`, not `h:t:product:7`. The one with `p:` names the path."""

    @property
    def mark(self) -> int:
        """`Ledger.mark` when the fill began in this process; -1 for what came from a shared tier."""

    @property
    def began(self) -> float:
        """When the fill began, on this process's own clock, seconds."""

    checked: int
    """The version at which it was last seen alive; -1 before."""

    def outdate(self, at: float, *, history_lost: bool = False) -> None:
        """Count as stale from `at` on (this process's clock). With `history_lost`, be of no use at all once it may no
        longer be served while it is revalidated."""
