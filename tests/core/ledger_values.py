"""Short forms of what the tests of the ledger feed it; the epoch is `E` where nothing else is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiercache.core.ledger import Ledger
from tiercache.core.records import Message, SyncPage


@dataclass
class Entry:
    epoch: str = "E"
    number: int = 0
    tags: Any = ("t:a",)
    mark: int = -1
    began: float = 0.0
    checked: int = -1
    outdated: Any = None

    def outdate(self, at: float, *, history_lost: bool = False) -> None:
        self.outdated = (at, history_lost)


def message(number: int, *members: str, prev: int | None = None, floor: int = 0, epoch: str = "E") -> Message:
    return Message(epoch, number, number - 1 if prev is None else prev, floor, members)


def page(
    head: int,
    *records: tuple[str, int],
    epoch: str = "E",
    floor: int = 0,
    last: int | None = None,
    complete: bool = True,
) -> SyncPage:
    return SyncPage(epoch, head, floor, 0.0, records, head if last is None else last, complete)


def attached(seq: int = 0, *, sent: float = 100.0, bound: float = 1.0) -> Ledger:
    ledger = Ledger(bound=bound, epoch="local", shared=True)
    assert ledger.synced(ledger.sync_request(sent), page(seq))
    return ledger
