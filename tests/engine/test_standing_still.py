"""A process that is stopped in the middle of a sync must catch up before it serves, and not think itself alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clock import Clock
from tests.engine.passage import cache_with, far
from tests.servers import RedisServer
from tiercache import TierCache
from tiercache.engine import flows
from tiercache.engine.effects import drive
from tiercache.errors import TierUnavailable


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def cache(server: RedisServer) -> Iterator[TierCache]:
    cache = cache_with(server.url)
    cache._engine.ledger.bound = 1.0
    assert drive(flows.sync(cache._engine, far())) is not None
    yield cache
    cache.close()


def failed_sync(cache: TierCache, seconds: float) -> None:
    """A sync that fails so many seconds after it was sent."""
    clock = cache._engine.clock = Clock(cache._engine.clock())
    flow = flows.sync(cache._engine, far())
    next(flow)
    clock.turn(seconds)
    with pytest.raises(StopIteration):
        flow.throw(TierUnavailable("no answer in time"))


def test_a_failure_in_time_is_one_of_the_shared_tier(cache: TierCache) -> None:
    failed_sync(cache, 0.5)
    assert cache._engine.failing
    assert not cache._engine.must_catch_up()


def test_one_that_comes_long_after_its_time_is_one_of_the_process(cache: TierCache) -> None:
    failed_sync(cache, 60.0)
    assert not cache._engine.failing
    assert cache._engine.must_catch_up(), "its trust is over"
    assert drive(flows.sync(cache._engine, far())) is not None
    assert not cache._engine.must_catch_up()
    # And again, each time that it stands still.
    failed_sync(cache, 60.0)
    assert not cache._engine.failing


def test_two_in_a_row_are_not(cache: TierCache) -> None:
    failed_sync(cache, 60.0)
    failed_sync(cache, 60.0)
    assert cache._engine.failing
    assert drive(flows.sync(cache._engine, far())) is not None
    assert not cache._engine.failing


def test_one_that_has_never_heard_of_it_has_nothing_to_catch_up_with(server: RedisServer) -> None:
    cache = cache_with(server.url)
    failed_sync(cache, 600.0)
    assert cache._engine.failing
    cache.close()
