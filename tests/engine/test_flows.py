"""Calls to L2, driven by hand."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from tests.clock import Clock
from tests.engine.by_hand import attached, ended, page
from tiercache.engine import flows
from tiercache.errors import TierError, TierRejected, TierTooLarge, TierUnavailable


@pytest.mark.parametrize(
    ("error", "failed"),
    [(TierRejected("out of memory"), False), (TierTooLarge("1 MiB"), False), (TierUnavailable("cut off"), True)],
)
def test_what_l2_refuses_it_answers_all_the_same(error: TierError, failed: bool) -> None:
    """A full Redis takes no writes, and is quick to say so: there is no reason to leave its reads alone."""
    engine = attached(Clock())
    noted: list[Any] = []
    engine.breaker.note = lambda took, now, *, failed: noted.append(failed)  # type: ignore[assignment, func-returns-value]
    asking: Any = object()
    flow = flows.guarded(engine, asking)
    assert next(flow) is asking
    with pytest.raises(type(error)):
        flow.throw(error)
    assert noted == [failed]
    flow = flows.guarded(engine, asking)
    next(flow)
    assert ended(flow, b"value") == b"value"
    assert noted == [failed, False]


def test_the_trust_of_a_long_sync_runs_from_its_first_question() -> None:
    """What is purged between two pages may be missing in all of them, as far as anybody can say."""
    clock = Clock()
    engine = attached(clock)
    clock.turn(10.0)
    began = clock()
    flow = flows.sync(engine, inf)
    next(flow)
    for number in range(3):
        clock.turn(0.2)
        flow.send(page(9, (f"h:t:{number}", number + 1))._replace(last=number + 1, complete=False))
    clock.turn(0.2)
    assert ended(flow, page(9, ("h:t:last", 9))) is not None
    assert engine.ledger.trusted_until == began + engine.ledger.bound
