"""The model of Redis: what the Lua scripts of the ledger do, values with a time to live, and snapshots.

`test_model_against_redis.py` holds it against real servers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tiercache.core.records import BATCH, Message, Row, Stamp, SyncPage, SyncRequest, bucket_of_key, is_of_key, last_of

ROW_KEPT = 600.0
"""Seconds that the row of a process which no longer syncs is kept."""


class _Ledger:
    """The sorted set."""

    __slots__ = ("epoch", "every", "floor", "head", "members", "owner")

    def __init__(self, epoch: str, owner: str) -> None:
        self.epoch = epoch
        self.owner = owner
        self.head = 0
        self.floor = 0
        self.members: dict[str, int] = {}
        self.every: dict[str, int] = {}
        """The same if nothing were ever folded."""

    def copy(self) -> _Ledger:
        other = _Ledger(self.epoch, self.owner)
        other.head, other.floor = self.head, self.floor
        other.members, other.every = dict(self.members), dict(self.every)
        return other


class _Rows:
    """The hash of the processes: when it was begun for which epoch, and one row for each."""

    __slots__ = ("epoch", "rows", "since")

    def __init__(self, epoch: str, since: float) -> None:
        self.epoch = epoch
        self.since = since
        self.rows: dict[str, Row] = {}

    def copy(self) -> _Rows:
        other = _Rows(self.epoch, self.since)
        other.rows = dict(self.rows)
        return other


class Snapshot(NamedTuple):
    ledger: _Ledger | None
    rows: _Rows | None
    values: dict[str, tuple[bytes, float]]


class ModelRedis:
    """One server. `now` is its Unix time; `names(kind)` makes names for epochs that nothing else has.

    The switches take a rule out: the simulator has to notice.
    """

    keeps_epoch = False
    """A ledger that is not there is begun anew under the name of the one before."""
    compares_run_id = True
    compares_number = True
    cuts_numbers = False
    """A page may end inside a number."""
    forgets_keys = False
    """What is folded leaves nothing behind."""
    hides_folded = False
    """Who purges a key that was folded is told that nobody has before."""
    merges_kinds = False
    """A soft purge of a tag takes the place of the hard one."""

    def __init__(
        self,
        now: Callable[[], float],
        names: Callable[[str], str],
        *,
        limit: int,
        keys: int,
        page: int,
        batch: int = BATCH,
    ) -> None:
        self.now = now
        self.names = names
        self.limit = limit
        self.keys = keys
        self.page = page
        self.batch = batch
        self.run_id = names("run")
        self.ledger: _Ledger | None = None
        self.rows: _Rows | None = None
        self.values: dict[str, tuple[bytes, float]] = {}
        self.publish: Callable[[Message], None] = lambda message: None
        self.begun = 0
        self.trimmed = 0
        self.folded = 0
        self._last_epoch = ""

    # The scripts

    def _guard(self, epoch: str, number: int) -> _Ledger:
        mine = self.ledger
        if (
            mine is None
            or (self.compares_run_id and mine.owner != self.run_id)
            or (self.compares_number and mine.epoch == epoch and number > mine.head)
        ):
            self.begun += 1
            name = self._last_epoch if self.keeps_epoch and self._last_epoch else self.names("epoch")
            mine = self.ledger = _Ledger(name, self.run_id)
        self._last_epoch = mine.epoch
        return mine

    def purge(
        self, members: Sequence[str], everything: bool, seen: Stamp | None, *, ack: bool = False
    ) -> list[Message]:
        stamp = seen or Stamp("", 0)
        chunks = [members[i : i + self.batch] for i in range(0, len(members), self.batch)]
        messages: list[Message] = []
        for position, chunk in enumerate([()] if everything else chunks, 1):
            last = everything or position == len(chunks)
            message = self._purge(tuple(chunk), everything, stamp, ack and last)
            messages.append(message)
            stamp = Stamp(message.epoch, message.number)
        return messages

    def _purge(self, members: tuple[str, ...], everything: bool, seen: Stamp, ack: bool) -> Message:
        mine = self._guard(seen.epoch, seen.number)
        prev = mine.head
        number = mine.head = prev + 1
        known = mine.members
        previous = tuple([known.get(one, 0) if self.hides_folded else last_of(known, one) for one in members])
        if everything:
            members, previous = (), ()
            mine.floor = number
            known.clear()
            mine.every.clear()
        else:
            if self.merges_kinds:
                for member in members:
                    known.pop({"h:": "s:", "s:": "h:"}.get(member[:2], "") + member[2:], None)
            known.update(dict.fromkeys(members, number))
            mine.every.update(dict.fromkeys(members, number))
            keys = sorted([(at, member.encode()) for member, at in known.items() if is_of_key(member)])
            for at, key in keys[: max(0, len(keys) - self.keys)]:
                self.folded += 1
                bucket = bucket_of_key(key.decode()[2:])
                del known[key.decode()]
                if not self.forgets_keys:
                    known[bucket] = max(at, known.get(bucket, 0))
            others = sorted([at for member, at in known.items() if not is_of_key(member)])
            excess = len(others) - self.limit
            if excess > 0:
                self.trimmed += 1
                mine.floor = others[excess - 1]
                mine.members = {member: at for member, at in known.items() if at > mine.floor}
        message = Message(mine.epoch, number, prev, mine.floor, members, ack)
        self.publish(message)
        return message._replace(previous=previous)

    def sync(self, request: SyncRequest, process_id: str, bound: float, *, fleet: bool = False) -> SyncPage:
        """Writes the row before it reads, and begins the table anew where it is of another epoch."""
        mine = self._guard(request.epoch, request.seen)
        now = self.now()
        rows = self.rows
        if rows is None:
            rows = self.rows = _Rows(mine.epoch, now)
        elif rows.epoch != mine.epoch:
            rows.epoch, rows.since = mine.epoch, now
        fresh = process_id not in rows.rows
        rows.rows[process_id] = Row(process_id, now, request.epoch or "-", request.applied, bound)
        if fresh:
            rows.rows = {name: row for name, row in rows.rows.items() if row.time >= int(now) - ROW_KEPT}
        start = mine.floor
        if request.epoch == mine.epoch and request.seen > start:
            start = request.seen
        new = sorted([(number, member) for member, number in mine.members.items() if number > start])
        tags, as_far = self._page_of([pair for pair in new if not is_of_key(pair[1])], mine.head)
        keys, no_further = self._page_of([pair for pair in new if is_of_key(pair[1])], mine.head)
        last = min(as_far, no_further)
        complete = last >= mine.head and not (self.cuts_numbers and len(new) > len(tags) + len(keys))
        records = tuple([(member, number) for number, member in [*tags, *keys] if number <= last])
        told = tuple(rows.rows.values()) if fleet else None
        return SyncPage(mine.epoch, mine.head, mine.floor, now, records, last, complete, told, rows.since)

    def _page_of(self, found: list[tuple[int, str]], head: int) -> tuple[list[tuple[int, str]], int]:
        """The first of these, and the number up to which they are all there."""
        if len(found) <= self.page:
            return found, head
        cut = found[self.page][0]
        if self.cuts_numbers:
            return found[: self.page], found[self.page - 1][0]
        if found[0][0] == cut:
            return [pair for pair in found if pair[0] == cut], cut
        return found[: self.page], cut - 1

    def leave(self, process_id: str) -> None:
        if self.rows is not None:
            self.rows.rows.pop(process_id, None)

    # Values

    def get(self, name: str) -> bytes | None:
        found = self.values.get(name)
        return None if found is None or found[1] <= self.now() else found[0]

    def set(self, name: str, value: bytes, ttl_ms: int) -> None:
        self.values[name] = (value, self.now() + max(1, ttl_ms) / 1000)

    # What befalls a server

    def snapshot(self) -> Snapshot:
        ledger, rows = self.ledger, self.rows
        return Snapshot(ledger and ledger.copy(), rows and rows.copy(), dict(self.values))

    def load(self, snapshot: Snapshot) -> None:
        ledger, rows = snapshot.ledger, snapshot.rows
        self.ledger, self.rows, self.values = ledger and ledger.copy(), rows and rows.copy(), dict(snapshot.values)

    def restart(self, snapshot: Snapshot) -> None:
        """Another server process, with what was on disk, or with what a replica had."""
        self.load(snapshot)
        self.run_id = self.names("run")

    def flush(self) -> None:
        self.ledger, self.rows, self.values = None, None, {}

    def would_be_noticed(self, snapshot: Snapshot, seen: Stamp) -> bool:
        """Whether this caller shows that the same history in this snapshot lacks what it has seen."""
        mine, old = self.ledger, snapshot.ledger
        return (
            mine is not None
            and old is not None
            and old.owner == self.run_id
            and old.epoch == seen.epoch == mine.epoch
            and old.head < seen.number
        )
