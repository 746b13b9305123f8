"""The barrier behind a purge: stay until every process of the fleet has applied it, or trusts nothing any more."""

from __future__ import annotations

import time
from typing import NamedTuple

from tiercache.core.records import Message, Row, SyncPage
from tiercache.engine import flows
from tiercache.engine.effects import Flow, Pause
from tiercache.engine.engine import Engine

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.05
"""Seconds between two looks at who has told: processes that hear of the purge tell at once."""
LAST_LOOK = 0.05
"""Seconds that the last look may take, past the bound if need be: cut off any sooner, it would count as a failure of
the shared tier where that is merely some way off."""


class Fleet(NamedTuple):
    """Who has told that it applies a purge, and who was there lately and has not."""

    acknowledged: tuple[str, ...]
    isolated: tuple[str, ...]


def wait_for_fleet(engine: Engine, message: Message) -> Flow[Fleet]:
    """Returns when every process that trusts what it knows has applied `message`, and otherwise after the staleness
    bound, when none trusts any more what it knew before.

    Each sync leaves a row that says how far its sender had come. A process without a row has not synced since the
    rows were begun, so they speak for all once they are older than the bound; until then nobody's silence counts.
    """
    ledger = engine.ledger
    bound, pause = ledger.bound, FIRST_PAUSE
    began = engine.clock()
    fleet = Fleet((), ())
    while True:
        left = began + bound - engine.clock()
        page = yield from flows.sync(engine, time.monotonic() + max(left, LAST_LOOK), fleet=True)
        if page is not None and page.rows is not None:
            bound = max(bound, *[row.bound for row in page.rows]) if page.rows else bound
            mine = engine.process_id
            lost_counts = not ledger.keep_lost
            heard = {
                row.process_id
                for row in page.rows
                if row.process_id == mine or _reached(row, message, page, lost_counts=lost_counts)
            }
            silent = [row for row in page.rows if row.process_id not in heard]
            fleet = Fleet(tuple(sorted(heard)), tuple(sorted(row.process_id for row in silent)))
            trusting = any(page.time < row.time + row.bound for row in silent)
            if not trusting and page.time - page.since >= bound:
                return fleet
        left = began + bound - engine.clock()
        if left <= 0:
            return fleet
        yield Pause(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE)


def _reached(row: Row, message: Message, page: SyncPage, *, lost_counts: bool) -> bool:
    if row.epoch != page.epoch:
        return False
    if page.epoch != message.epoch:
        # In a history begun after the purge whatever is older is dead anyway, unless it may still be used as stale.
        return lost_counts
    return row.number >= message.number
