"""The sync that strong requests wait for: sent after they came, and shared by those who wait for the next one."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.clock import Clock
from tests.engine.by_hand import attached, ended, page
from tiercache.engine import consistency
from tiercache.engine.effects import Flow, Sync, Wait
from tiercache.engine.engine import Engine
from tiercache.errors import TierUnavailable


def asking(engine: Engine) -> Flow[bool]:
    return consistency._sync_from_now(engine, time.monotonic() + 600)


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def engine(clock: Clock) -> Engine:
    return attached(clock)


def test_who_comes_while_one_is_under_way_waits_for_the_next(engine: Engine, clock: Clock) -> None:
    first = asking(engine)
    assert isinstance(next(first), Sync)
    clock.turn(0.1)
    second, third = asking(engine), asking(engine)
    under_way, following = next(second), next(third)
    assert isinstance(under_way, Wait)
    assert isinstance(following, Wait)
    assert under_way.flight is not following.flight
    assert ended(first, page(1)) is True
    clock.turn(0.1)
    sync = second.send(None)
    assert isinstance(sync, Sync)
    assert sync.request.sent == clock()
    # That one has been sent: it may be answered before what the fourth has to know.
    fourth = asking(engine)
    waits = next(fourth)
    assert isinstance(waits, Wait)
    assert waits.flight is not following.flight
    assert ended(second, page(2)) is True
    assert following.flight.outcome is True
    assert ended(third, True) is True
    assert isinstance(fourth.send(None), Sync)
    assert ended(fourth, page(2)) is True
    assert len(engine.flights) == 0


def test_it_ends_only_when_all_pages_are_in(engine: Engine) -> None:
    flow = asking(engine)
    assert isinstance(next(flow), Sync)
    more = page(9)._replace(last=4, complete=False)
    again = flow.send(more)
    assert isinstance(again, Sync)
    assert again.request.seen == 4
    assert ended(flow, page(9)) is True


def test_a_failure_is_everybodys(engine: Engine) -> None:
    first = asking(engine)
    next(first)
    second, third = asking(engine), asking(engine)
    next(second)
    waits = next(third)
    assert isinstance(waits, Wait)
    ended(first, page(0))
    assert isinstance(second.send(None), Sync)
    with pytest.raises(StopIteration) as end:
        second.throw(TierUnavailable("gone"))
    assert end.value.value is False
    assert ended(third, waits.flight.outcome) is False
    # The time of a request tells nothing of the shared tier.
    assert not engine.failing
    assert len(engine.flights) == 0


@pytest.mark.parametrize("where", ["before", "during"])
def test_one_that_is_cut_off_leaves_the_lead_to_another(engine: Engine, where: str) -> None:
    first = asking(engine)
    next(first)
    second, third = asking(engine), asking(engine)
    next(second)
    waits = next(third)
    assert isinstance(waits, Wait)
    if where == "during":
        ended(first, page(0))
        assert isinstance(second.send(None), Sync)
    with pytest.raises(asyncio.CancelledError):
        second.throw(asyncio.CancelledError())
    if where == "before":
        assert isinstance(third.send(waits.flight.outcome), Wait)
        ended(first, page(0))
        assert isinstance(third.send(None), Sync)
    else:
        assert isinstance(third.send(waits.flight.outcome), Sync)
    assert ended(third, page(0)) is True
    assert len(engine.flights) == 0


def test_patience_ends(engine: Engine) -> None:
    first = asking(engine)
    next(first)
    late = consistency._sync_from_now(engine, time.monotonic() - 1)
    assert isinstance(next(late), Wait)
    follower = asking(engine)
    waits = next(follower)
    assert ended(late, None) is False
    assert isinstance(waits, Wait)
    assert not engine.failing
    ended(first, page(0))
    assert len(engine.flights) == 0
