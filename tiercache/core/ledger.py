"""The invalidation record of this process: the mirror of the shared ledger, and what it says about an entry.

An invalidation is a record with a number. Every stored response carries the stamp (epoch, number) at which its
fill *began*; the reader compares it with its own mirror of the ledger. Pub/sub is only the fast way to hear of a
record, a sync is the sure one, and trust runs out D seconds after the last good sync was *sent*.

An entry is dead when its epoch is not the mirror's, when one of its tags has a higher number, or when its number is
below the floor; and it is barred while a purge of this process that the shared tier has not confirmed covers it.

Readers take no lock. What kills an entry moves in one direction only, from a bar to a member's number to the floor,
and is written at its new place before it leaves the old one; a reader looks in that same direction, so that it meets
it at least once. `version` is written last and read first.

A reader that combines trust with the check reads `trusted_until` *before* `version`:
`now < ledger.trusted_until and (entry.checked == ledger.version or ledger.alive(entry))`. The other way round, a sync
that ends a long isolation between the two reads would lend its trust to an entry that it has just killed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import islice
from math import inf
from typing import NamedTuple, Protocol

LOCAL = "local"

HARD = "h:"
"""Prefix of the member that holds the last hard purge of a tag."""
BATCH = 1_000
"""Members that one number may carry."""
LOCAL_LIMIT = 200_000
"""Members kept of a history that this process numbers itself; past it the oldest go and the floor rises."""
PENDING_LIMIT = 100_000
"""Members kept of purges that await the shared tier; past it they become one purge of everything."""

_EVERYTHING = "*"
_PRUNE_MIN = 1_024


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
        """Without the kind: `t:product:7`, not `h:t:product:7`."""

    @property
    def mark(self) -> int:
        """`Ledger.mark` when the fill began in this process; -1 for what came from a shared tier."""

    @property
    def began(self) -> float:
        """When the fill began, on this process's own clock, seconds."""

    checked: int
    """The version at which it was last seen alive; -1 before."""


class _View:
    """One history as far as it is known: an epoch keeps its object, and another epoch gets another one."""

    __slots__ = ("epoch", "floor", "members", "paged", "prune_at", "seq")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.seq = 0
        """Everything that any number up to this one did is here."""
        self.paged = 0
        """What an unfinished sync has brought: the records whose *last* number is up to this one. Not yet `seq`, since
        a member of such a number that was raised again comes on a later page."""
        self.floor = 0
        self.members: dict[str, int] = {}
        self.prune_at = _PRUNE_MIN

    def merge(self, records: Iterable[tuple[str, int]], floor: int) -> bool:
        """Raise members and floor to what is given; whether anything rose."""
        changed = floor > self.floor
        if changed:
            self.floor = floor
        floor = self.floor
        members = self.members
        for member, number in records:
            # Messages overtake each other: a lower number that comes later must not undo a higher one.
            if number > floor and number > members.get(member, 0):
                members[member] = number
                changed = True
        if len(members) > self.prune_at:
            self.prune()
        return changed

    def prune(self) -> None:
        # Only after the floor is up, which kills all that these members killed. Done at doubled sizes only:
        # where every purge trims one record, a pass for each rise of the floor would cost more than the purge.
        floor = self.floor
        self.members = {member: number for member, number in self.members.items() if number > floor}
        self.prune_at = max(_PRUNE_MIN, 2 * len(self.members))


class Ledger:
    """This process's mirror of the invalidation ledger, and the purges that the shared tier has yet to confirm.

    `bound` is the staleness bound D in seconds. With `shared=False` there is no shared tier: the process numbers its
    own purges under `epoch` and trusts itself for ever. With `shared=True` it starts untrusted, under an `epoch` of
    its own, until the first sync is complete.

    Reading (`stamp`, `alive`, `isolated_ok` and the attributes) takes no lock and never waits; everything that
    writes may be called from any thread.
    """

    version: int
    """Never goes back; rises with every change that can kill an entry, and with every change of epoch."""
    trusted_until: float
    """On the clock of `SyncRequest.sent`. From then on the shared tier is not read."""
    last_good_sync: float
    """When the last fully applied sync was sent; -inf before the first."""
    mark: int
    """Rises with every bar; a fill that begins notes it."""

    def __init__(self, *, bound: float, epoch: str, shared: bool) -> None:
        self.bound = bound
        self.shared = shared
        self.version = 0
        self.trusted_until = -inf if shared else inf
        self.last_good_sync = -inf
        self.mark = 0
        self._view = _View(epoch)
        self._incoming: _View | None = None
        self._bars: dict[str, int] = {}
        self._lock = threading.Lock()

    # Reading

    def stamp(self) -> Stamp:
        """Where a fill that begins now stands. Read it before the app is called, together with `mark`."""
        view = self._view
        return Stamp(view.epoch, view.seq)

    def alive(self, entry: Stamped) -> bool:
        """Whether no purge known here covers the entry; if so, `entry.checked` is the version that said so.

        Says nothing about trust: what this process has not heard of cannot kill.
        """
        # First, so that a change made while we look leaves a version that does not match what we store.
        version = self.version
        tags = entry.tags
        # Bars before the view, members before the floor: see the direction at the top of this file.
        bars = self._bars
        if bars:
            mark = entry.mark
            if mark < bars.get(_EVERYTHING, -1):
                return False
            for tag in tags:
                if mark < bars.get(HARD + tag, -1):
                    return False
        view = self._view
        if entry.epoch != view.epoch:
            return False
        number = entry.number
        members = view.members
        for tag in tags:
            if members.get(HARD + tag, 0) > number:
                return False
        if number < view.floor:
            return False
        entry.checked = version
        return True

    def isolated_ok(self, entry: Stamped, now: float, isolated_ttl: float) -> bool:
        """Whether an entry that is alive may be served past trust: own fills only, and for `isolated_ttl` seconds
        after the last good sync or after the fill began, whichever is later.
        """
        return entry.mark >= 0 and now < max(self.last_good_sync, entry.began) + isolated_ttl

    # Following the shared tier

    def heard(self, message: Message) -> bool:
        """Apply a message as published. True: something was missed or the epoch is another; sync now."""
        with self._lock:
            return self._heard(message)

    def _heard(self, message: Message) -> bool:
        view = self._view
        if message.epoch != view.epoch:
            incoming = self._incoming
            if incoming is not None and incoming.epoch == message.epoch:
                self._apply(incoming, message)
            return True
        if message.number <= view.seq:
            return False
        seq = view.seq
        # `version` after the members: a reader that sees the new version must find what it stands for. A message that
        # comes over a gap kills at once all the same; only `seq` waits for what is missing.
        if self._apply(view, message):
            self.version += 1
        return message.prev != seq

    def _apply(self, view: _View, message: Message) -> bool:
        number = message.number
        changed = view.merge([(member, number) for member in message.members], message.floor)
        # After the members: a stamp with this number says that the fill began when they were already raised.
        if message.prev == view.seq:
            view.seq = number
        return changed

    def answered(self, message: Message) -> bool:
        """Apply the reply to this process's own purge. True: sync now.

        Counts as a message heard. A reply of another epoch than the mirror's cannot be compared with what is stored
        here, so its members are barred (and queued for a harmless repetition) until the mirror has caught up: a
        process never serves what it has purged itself.
        """
        with self._lock:
            if message.epoch != self._view.epoch:
                self._bar(message.members, message.floor >= message.number)
            return self._heard(message)

    def sync_request(self, sent: float) -> SyncRequest:
        """What to ask the shared tier for. `sent`: this process's clock before the first attempt.

        For a further page, and after a reply that was not taken, ask again with the `sent` of the first request.
        """
        with self._lock:
            # An attach that broke off half way goes on from its last page.
            view = self._incoming or self._view
            return SyncRequest(view.epoch, max(view.seq, view.paged), sent)

    def synced(self, request: SyncRequest, page: SyncPage) -> bool:
        """Apply one page. True: complete, and trust runs until `request.sent + bound`.

        False: go on with `sync_request(request.sent)`. With `page.complete` this says that the reply was not taken,
        since the epoch that was asked about is no longer current here; else there is at least one page to come.

        The first page of another epoch ends trust, and readers see that epoch only once it is complete.
        """
        with self._lock:
            view, incoming = self._view, self._incoming
            if request.epoch != view.epoch and (incoming is None or request.epoch != incoming.epoch):
                return False
            if page.epoch == view.epoch:
                if incoming is not None:
                    return False
            elif incoming is None or incoming.epoch != page.epoch:
                self.trusted_until = -inf
                incoming = self._incoming = _View(page.epoch)
            target = view if incoming is None else incoming
            if request.epoch == target.epoch and request.seen > max(target.seq, target.paged):
                return False  # it continues a copy of that history that has been given up
            changed = target.merge(page.records, page.floor)
            target.paged = max(target.paged, page.last)
            if page.complete:
                target.seq = max(target.seq, page.head)
            if page.complete and target is not view:
                self._view, self._incoming = target, None
                changed = True
            if changed:
                self.version += 1
            if not page.complete:
                return False
            self.last_good_sync = max(self.last_good_sync, request.sent)
            # Last: trust must not be seen before what it vouches for. From the sending, since a purge that the shared
            # tier took after it answered is missing here, and the answer may have been long on its way.
            self.trusted_until = max(self.trusted_until, request.sent + self.bound)
            return True

    # Purging without the shared tier

    def purge_locally(self, members: Iterable[str], everything: bool = False) -> Message:
        """Number and apply a purge where there is no shared tier; RuntimeError where there is one."""
        if self.shared:
            raise RuntimeError("the shared tier numbers the purges of this ledger")
        with self._lock:
            view = self._view
            prev, number = view.seq, view.seq + 1
            message = Message(view.epoch, number, prev, number if everything else view.floor, tuple(members))
            self._heard(message)
            if len(view.members) > LOCAL_LIMIT:
                # A tenth at once, so that the sorting is paid for rarely.
                cut = sorted(view.members.values())[len(view.members) - LOCAL_LIMIT * 9 // 10 - 1]
                view.merge((), cut)
                view.prune()
                self.version += 1
            return message

    def bar(self, members: Iterable[str], everything: bool = False) -> None:
        """Hold a purge that the shared tier has not confirmed: what carries these members is dead here, from whatever
        tier, unless its fill began in this process after this call. Queued until `confirmed`.
        """
        with self._lock:
            self._bar(members, everything)

    def _bar(self, members: Iterable[str], everything: bool) -> None:
        mark = self.mark = self.mark + 1
        if not everything:
            # In place and without removing first: a member barred before must not be free for an instant.
            self._bars.update(dict.fromkeys(members, mark))
            everything = len(self._bars) > PENDING_LIMIT
        if everything:
            self._bars = {_EVERYTHING: mark}
        self.version += 1

    def pending(self) -> tuple[Unconfirmed, ...]:
        """The purges to replay, oldest first; those of the same members merged, at most `BATCH` members each."""
        with self._lock:
            mark = self.mark
            members = iter([member for member in self._bars if member != _EVERYTHING])
            items = [Unconfirmed((), True, mark)] if _EVERYTHING in self._bars else []
        while batch := tuple(islice(members, BATCH)):
            items.append(Unconfirmed(batch, False, mark))
        return tuple(items)

    def confirmed(self, item: Unconfirmed, message: Message) -> bool:
        """Apply the reply to a replayed purge and lift its bars. True: sync now.

        Sync before the replay: a reply of another epoch than the mirror's lifts nothing, and the item stays pending.
        """
        with self._lock:
            current = message.epoch == self._view.epoch
            # Before the bars go: an entry must find one or the other.
            missed = self._heard(message)
            if current:
                bars = self._bars
                for member in (_EVERYTHING,) if item.everything else item.members:
                    # A later bar of the same member was not part of what has been replayed.
                    if bars.get(member, inf) <= item.mark:
                        del bars[member]
            return missed

    def after_fork(self) -> None:
        """Make the copy in a forked child usable: a writer of the parent may have been stopped half way."""
        self._lock = threading.Lock()
        self._incoming = None
        self.version += 1
        if self.shared:
            self.trusted_until = -inf
