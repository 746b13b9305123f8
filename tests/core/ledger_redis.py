"""The model of the shared tier: what the Lua scripts do, in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tiercache.core.records import Message, SyncPage, SyncRequest


@dataclass(slots=True)
class Entry:
    key: str
    epoch: str
    number: int
    tags: tuple[str, ...]
    mark: int
    began: float
    truly_began: int
    checked: int = -1

    def outdate(self, at: float, *, history_lost: bool = False) -> None:
        raise AssertionError("nothing is purged softly here")

    def from_l2(self) -> Entry:
        return Entry(self.key, self.epoch, self.number, self.tags, -1, -1e12, self.truly_began)


Snapshot = tuple[dict[str, Any] | None, dict[str, Entry]]


class Redis:
    """The scripts of the ledger (guard, purge, sync) and a few values."""

    def __init__(self, names: Callable[[str], str], *, page: int, keep: int, cut_numbers: bool) -> None:
        self.names, self.page, self.keep, self.cut_numbers = names, page, keep, cut_numbers
        self.run_id = names("run")
        self.ledger: dict[str, Any] | None = None
        self.values: dict[str, Entry] = {}

    def guard(self, epoch: str, seen: int) -> dict[str, Any]:
        mine = self.ledger
        if mine is None or mine["run_id"] != self.run_id or (mine["epoch"] == epoch and seen > mine["head"]):
            mine = {"epoch": self.names("epoch"), "run_id": self.run_id, "head": 0, "floor": 0, "members": {}}
            self.ledger = mine
        return mine

    def purge(self, epoch: str, seen: int, members: Iterable[str], everything: bool) -> Message:
        mine = self.guard(epoch, seen)
        prev = mine["head"]
        number = mine["head"] = prev + 1
        known: dict[str, int] = mine["members"]
        known.update(dict.fromkeys(members, number))
        if everything:
            mine["floor"] = number
            known.clear()
        while len(known) > self.keep:
            lowest = min(known, key=lambda member: (known[member], member))
            mine["floor"] = max(mine["floor"], known.pop(lowest))
        return Message(mine["epoch"], number, prev, mine["floor"], tuple(members))

    def sync(self, request: SyncRequest) -> SyncPage:
        mine = self.guard(request.epoch, request.seen)
        seen = request.seen if request.epoch == mine["epoch"] else 0
        after = max(seen, mine["floor"])
        records = sorted(((m, n) for m, n in mine["members"].items() if n > after), key=lambda record: record[::-1])
        end = self.page
        while not self.cut_numbers and end < len(records) and records[end][1] == records[end - 1][1]:
            end += 1
        page, complete = tuple(records[:end]), end >= len(records)
        last = mine["head"] if complete else page[-1][1]
        return SyncPage(mine["epoch"], mine["head"], mine["floor"], 0.0, page, last, complete)

    def snapshot(self) -> Snapshot:
        mine = self.ledger
        return None if mine is None else {**mine, "members": dict(mine["members"])}, dict(self.values)

    def load(self, snapshot: Snapshot) -> None:
        mine, values = snapshot
        self.ledger = None if mine is None else {**mine, "members": dict(mine["members"])}
        self.values = dict(values)

    def would_be_noticed(self, snapshot: Snapshot, asked: SyncRequest) -> bool:
        """Whether this caller shows that the same history in this snapshot lacks what it has seen."""
        mine, old = self.ledger, snapshot[0]
        return (
            mine is not None
            and old is not None
            and old["run_id"] == self.run_id
            and old["epoch"] == asked.epoch == mine["epoch"]
            and old["head"] < asked.seen
        )
