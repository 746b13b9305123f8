"""An engine with a shared tier that nobody ever asks: flows are driven by hand, and the test plays the world."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from tests.clock import Clock
from tiercache import TierCache
from tiercache.core.records import Row, SyncPage
from tiercache.engine.engine import Engine

R = TypeVar("R")
ME = "me"


def engine_with(clock: Clock, **settings: Any) -> Engine:
    engine = TierCache("redis://192.0.2.1:6379/0", staleness_bound="1s", **settings)._engine
    engine.clock = clock
    engine.process_id = ME
    return engine


def page(
    head: int = 0, *records: tuple[str, int], epoch: str = "E", rows: Any = None, time: float = 0.0, since: float = 0.0
) -> SyncPage:
    return SyncPage(epoch, head, 0, time, records, head, True, rows, since)


def row(process_id: str, number: int, *, time: float = 0.0, epoch: str = "E", bound: float = 1.0) -> Row:
    return Row(process_id, time, epoch, number, bound)


def attached(clock: Clock, seq: int = 0, **settings: Any) -> Engine:
    engine = engine_with(clock, **settings)
    assert engine.ledger.synced(engine.ledger.sync_request(clock()), page(seq))
    return engine


def ended(flow: Generator[Any, Any, R], answer: Any) -> R:
    """Give a flow the answer that ends it."""
    try:
        effect = flow.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result
    raise AssertionError(f"it goes on with {type(effect).__name__}")
