"""The invalidation record of this process: the mirror of the shared ledger, and what it says about an entry.

An invalidation is a record with a number. Every stored response carries the stamp (epoch, number) at which its
fill *began*; the reader compares it with its own mirror of the ledger. Pub/sub is only the fast way to hear of a
record, a sync is the sure one, and trust runs out D seconds after the last good sync was *sent*.

An entry is dead when its epoch is not the mirror's, when one of its tags has a higher number, when a ban of its path
has one, or when its number is below the floor; and it is barred while a purge of this process that the shared tier
has not confirmed covers it. A soft purge makes it stale instead.

Readers take no lock. What kills an entry moves in one direction only, from a bar to a member's number to the floor,
and is written at its new place before it leaves the old one; a reader looks in that same direction, so that it meets
it at least once. `version` is written after all that and read first: a check that noted it has seen what it stands for.

What `reached` says is written after `version`, and read before it. Whoever finds a number reached and then an entry
whose check is of the current version has an entry that was looked at when that number's members were raised. The other
way round, a client could find its own purge reached and be served what it has just purged, by a check of before.

A reader that combines trust with the check reads `trusted_until` *before* `version`:
`now < ledger.trusted_until and (entry.checked == ledger.version or ledger.alive(entry))`. The other way round, a sync
that ends a long isolation between the two reads would lend its trust to an entry that it has just killed.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from itertools import islice
from math import inf

from tiercache.core.bans import Bans
from tiercache.core.history import History
from tiercache.core.records import (
    BAN,
    BATCH,
    HARD,
    KEYS_KEPT,
    OF_DATA,
    SOFT,
    SOFT_EVERYTHING,
    TAGS_KEPT,
    Message,
    Stamp,
    Stamped,
    SyncPage,
    SyncRequest,
    Unconfirmed,
    bucket_of_key,
    folded,
    last_of,
)

LOCAL_LIMIT = TAGS_KEPT + KEYS_KEPT
"""Members kept of a history that this process numbers itself; past it the oldest go and the floor rises."""
PENDING_LIMIT = 100_000
"""Members kept of purges that await the shared tier; past it keys become their buckets, and if that does not do, all of
them one purge of everything."""

_EVERYTHING = "*"


class Ledger:
    """This process's mirror of the invalidation ledger, and the purges that the shared tier has yet to confirm.

    `bound` is the staleness bound D in seconds. With `shared=False` there is no shared tier: the process numbers its
    own purges under `epoch` and trusts itself for ever. With `shared=True` it starts untrusted, under an `epoch` of
    its own, until the first sync is complete. With `keep_lost=True` the entries of a history whose end was lost may
    still be used, as stale, while they are revalidated; without, they are dead.

    Reading (`stamp`, `alive`, `isolated_ok` and the attributes) takes no lock and never waits; everything that
    writes may be called from any thread. `now` is a moment of this process's own clock, in seconds.
    """

    version: int
    """Never goes back; rises with every change that can kill an entry, and with every change of epoch."""
    trusted_until: float
    """On the clock of `SyncRequest.sent`. From then on the shared tier is not read."""
    last_good_sync: float
    """When the last fully applied sync was sent; -inf before the first."""
    mark: int
    """Rises with every bar; a fill that begins notes it."""

    def __init__(self, *, bound: float, epoch: str, shared: bool, keep_lost: bool = False) -> None:
        self.bound = bound
        self.shared = shared
        self.keep_lost = keep_lost
        self.namespace: Hashable = id(self)
        """Ledgers that mirror the same history have the same; set by whoever knows of more than one."""
        self.version = 0
        self.trusted_until = -inf if shared else inf
        self.last_good_sync = -inf
        self.mark = 0
        self._view = History(epoch)
        self._incoming: History | None = None
        self._bars: dict[str, int] = {}
        self._bans = Bans()
        """The bans among the bars, by mark."""
        self._barred_at: dict[str, float] = {}
        """When the soft purges among the bars were asked for."""
        self._reached = self.stamp()
        """What is known here without a gap, once `version` says so as well."""
        self._distrusted = -inf
        """No sync that was sent until then gives trust."""
        # Reentrant: a collection that happens to run meanwhile may end a purge that was left under way: a bar.
        self._lock = threading.RLock()

    # Reading

    def stamp(self) -> Stamp:
        """Where a fill that begins now stands. Read it before the app is called, together with `mark`."""
        view = self._view
        return Stamp(view.epoch, view.seq)

    def alive(self, entry: Stamped) -> bool:
        """Whether no hard purge known here covers the entry; if so, `entry.checked` is the version that said so.

        What a soft purge covers is outdated first. Says nothing about trust: what this process has not heard of
        cannot kill.
        """
        # First, so that a change made while we look leaves a version that does not match what we store.
        version = self.version
        # Bars before the view, members before the floor: see the direction at the top of this file.
        if self._bars and self._barred(entry):
            return False
        view = self._view
        tags, number = entry.tags, entry.number
        if entry.epoch != view.epoch:
            if not self._alive_before(entry, view):
                return False
        else:
            if view.kills(tags, number):
                return False
            since = view.outdates(tags, number)
            if since is not None:
                entry.outdate(since)
        entry.checked = version
        return True

    def _barred(self, entry: Stamped) -> bool:
        bars, mark = self._bars, entry.mark
        if mark < bars.get(_EVERYTHING, -1):
            return True
        for tag in entry.tags:
            if mark < bars.get(HARD + tag, -1):
                return True
            if tag[:2] == OF_DATA and mark < bars.get(bucket_of_key(tag), -1):
                return True
            if tag[:2] == "p:" and mark < self._bans.last(tag[2:], mark):
                return True
        if self._barred_at:
            for member in (SOFT_EVERYTHING, *[SOFT + tag for tag in entry.tags]):
                if mark < bars.get(member, -1):
                    entry.outdate(self._barred_at.get(member, 0.0))
        return False

    def _alive_before(self, entry: Stamped, view: History) -> bool:
        """Whether an entry of the history that was lost may be used as stale: no record of either is against it."""
        before = view.before
        if before is None or entry.epoch != before.epoch:
            return False
        # Of the new history any record counts: the fill began before it.
        if before.kills(entry.tags, entry.number) or view.kills(entry.tags, 0):
            return False
        since = before.outdates(entry.tags, entry.number)
        entry.outdate(view.lost_at if since is None else min(since, view.lost_at), history_lost=True)
        return True

    def isolated_ok(self, entry: Stamped, now: float, isolated_ttl: float) -> bool:
        """Whether an entry that is alive may be served past trust: own fills only, and for `isolated_ttl` seconds
        after the last good sync or after the fill began, whichever is later.
        """
        return entry.mark >= 0 and now < max(self.last_good_sync, entry.began) + isolated_ttl

    def reached(self, stamp: Stamp) -> bool:
        """Whether all that this stamp stands for is known here. Read it before `version`."""
        reached = self._reached
        return stamp.epoch == reached.epoch and stamp.number <= reached.number

    def overtaken(self, tags: Iterable[str], since: int, but: Iterable[str] = ()) -> bool:
        """Whether a purge of one of these tags, hard or soft, has come after this number; `but` those members."""
        return self._view.overtaken(tags, since, frozenset(but))

    # Following the shared tier

    def heard(self, message: Message, now: float) -> bool:
        """Apply a message as published. True: something was missed, the epoch is another, or somebody waits to know
        that it was heard; sync now."""
        with self._lock:
            return self._heard(message, now) or message.ack

    def _heard(self, message: Message, now: float) -> bool:
        view = self._view
        if message.epoch != view.epoch:
            incoming = self._incoming
            if incoming is not None and incoming.epoch == message.epoch:
                self._apply(incoming, message, now)
            return True
        if message.number <= view.seq:
            return False
        seq = view.seq
        # `version` after the members: a reader that sees the new version must find what it stands for. A message that
        # comes over a gap kills at once all the same; only `seq` waits for what is missing.
        if self._apply(view, message, now):
            self.version += 1
        self._reached = self.stamp()
        return message.prev != seq

    def _apply(self, view: History, message: Message, now: float) -> bool:
        number = message.number
        changed = view.merge([(member, number) for member in message.members], message.floor, now)
        # After the members: a stamp with this number says that the fill began when they were already raised.
        if message.prev == view.seq:
            view.seq = number
        return changed

    def answered(self, message: Message, now: float) -> bool:
        """Apply the reply to this process's own purge. True: sync now.

        Counts as a message heard. A reply of another epoch than the mirror's cannot be compared with what is stored
        here, so its members are barred (and queued for a harmless repetition) until the mirror has caught up: a
        process never serves what it has purged itself.
        """
        with self._lock:
            if message.epoch != self._view.epoch:
                self._bar(message.members, message.floor >= message.number, now)
            return self._heard(message, now)

    def sync_request(self, sent: float) -> SyncRequest:
        """What to ask the shared tier for. `sent`: this process's clock before the first attempt.

        For a further page, and after a reply that was not taken, ask again with the `sent` of the first request.
        """
        with self._lock:
            # An attach that broke off half way goes on from its last page.
            view = self._incoming or self._view
            applied = view.seq if self._incoming is None else 0
            return SyncRequest(view.epoch, max(view.seq, view.paged), sent, applied)

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
                incoming = self._incoming = History(page.epoch)
            target = view if incoming is None else incoming
            if request.epoch == target.epoch and request.seen > max(target.seq, target.paged):
                return False  # it continues a copy of that history that has been given up
            changed = target.merge(page.records, page.floor, request.sent)
            target.paged = max(target.paged, page.last)
            if page.complete:
                target.seq = max(target.seq, page.head)
            if page.complete and target is not view:
                self._succeed(target, request.sent)
                changed = True
            if changed:
                self.version += 1
            if not page.complete:
                return False
            self._reached = self.stamp()
            self.last_good_sync = max(self.last_good_sync, request.sent)
            # Last: trust must not be seen before what it vouches for. From the sending, since a purge that the shared
            # tier took after it answered is missing here, and the answer may have been long on its way.
            if request.sent > self._distrusted:
                self.trusted_until = max(self.trusted_until, request.sent + self.bound)
            return True

    def _succeed(self, history: History, now: float) -> None:
        """Go over to a history that is complete here."""
        before = self._view
        before.before = None
        if self.keep_lost and self.last_good_sync > -inf:
            history.before, history.lost_at = before, now
        self._view, self._incoming = history, None

    def distrust(self, now: float) -> None:
        """End trust: this process no longer listens. A sync that is under way does not bring it back."""
        if self.shared:
            with self._lock:
                self._distrusted, self.trusted_until = now, -inf

    # Purging without the shared tier

    def purge_locally(self, members: Iterable[str], everything: bool, now: float) -> Message:
        """Number and apply a purge where there is no shared tier; RuntimeError where there is one."""
        if self.shared:
            raise RuntimeError("the shared tier numbers the purges of this ledger")
        with self._lock:
            view = self._view
            named = tuple(members)
            previous = tuple([last_of(view.members, member) for member in named])
            while True:
                prev, number = view.seq, view.seq + 1
                floor = number if everything else view.floor
                message = Message(view.epoch, number, prev, floor, named, False, previous)
                # Another one with this number, by a collection that has run meanwhile, would have this one ignored.
                if view.seq == prev:
                    break
            self._heard(message, now)
            if len(view.members) > LOCAL_LIMIT:
                view.prune()
                self.version += 1
            if len(view.members) > LOCAL_LIMIT:
                # A tenth at once, so that the sorting is paid for rarely.
                cut = sorted(view.members.values())[len(view.members) - LOCAL_LIMIT * 9 // 10 - 1]
                view.merge((), cut, now)
                view.prune()
                self.version += 1
            return message

    def bar(self, members: Iterable[str], everything: bool, now: float) -> None:
        """Hold a purge that the shared tier has not confirmed: what carries these members is dead here (stale, for
        the soft ones), from whatever tier, unless its fill began in this process after this call. Queued until
        `confirmed`.
        """
        named = tuple(members)
        with self._lock:
            self._bar(named, everything, now)

    def _bar(self, members: Iterable[str], everything: bool, now: float) -> None:
        mark = self.mark = self.mark + 1
        if not everything:
            for member in members:
                if member[:2] == SOFT:
                    self._barred_at[member] = now
                elif member[:2] == BAN:
                    self._bans.add(member[2:], mark)
                # In place and without removing first: a member barred before must not be free for an instant.
                self._bars[member] = mark
            while len(self._bars) > PENDING_LIMIT:
                stands, bars = self.mark, folded(self._bars.copy(), 0)
                # In place of the old ones, with all that they barred. A collection may have barred more meanwhile.
                if self.mark == stands:
                    self._bars = bars
                    break
            everything = len(self._bars) > PENDING_LIMIT
        if everything:
            self._bars = {_EVERYTHING: mark}
        self.version += 1

    def pending(self) -> tuple[Unconfirmed, ...]:
        """The purges to replay, oldest first; those of the same members merged, at most `BATCH` members each."""
        with self._lock:
            mark = self.mark
            bars = self._bars.copy()
        members = iter([member for member in bars if member != _EVERYTHING])
        items = [Unconfirmed((), True, mark)] if _EVERYTHING in bars else []
        while batch := tuple(islice(members, BATCH)):
            items.append(Unconfirmed(batch, False, mark))
        return tuple(items)

    def confirmed(self, item: Unconfirmed, message: Message, now: float) -> bool:
        """Apply the reply to a replayed purge and lift its bars. True: sync now.

        Sync before the replay: a reply of another epoch than the mirror's lifts nothing, and the item stays pending.
        """
        with self._lock:
            current = message.epoch == self._view.epoch
            # Before the bars go: an entry must find one or the other.
            missed = self._heard(message, now)
            if current:
                for member in (_EVERYTHING,) if item.everything else item.members:
                    # A later bar of the same member was not part of what has been replayed.
                    if self._bars.get(member, inf) <= item.mark:
                        self._lift(member)
            return missed

    def _lift(self, member: str) -> None:
        del self._bars[member]
        if not self._bars:
            self._bans, self._barred_at = Bans(), {}
        elif member[:2] == BAN:
            self._bans.discard(member[2:])
        else:
            self._barred_at.pop(member, None)

    def after_fork(self) -> None:
        """Make the copy in a forked child usable: a writer of the parent may have been stopped half way."""
        self._lock = threading.RLock()
        self._incoming = None
        self.version += 1
        if self.shared:
            self.trusted_until = -inf
