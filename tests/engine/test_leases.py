"""Leases, driven by hand on a real Redis: who gets one, who is woken, and that none is held longer than its fill."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import redis

from tests.engine.passage import answer, ask, cache_with, far, filled, opened
from tests.servers import RedisServer
from tiercache import TierCache
from tiercache.core.entries import Entry
from tiercache.engine import flows, leases
from tiercache.engine.effects import Acquire, Fetch, Release, Wait, drive
from tiercache.engine.flights import LATE, RELEASED, RETRY
from tiercache.engine.leases import Lease
from tiercache.errors import TierRejected, TierUnavailable


@pytest.fixture(scope="module")
def one_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def make(one_server: RedisServer) -> Iterator[Callable[..., TierCache]]:
    assert one_server.ask("FLUSHALL") == "+OK"
    caches: list[TierCache] = []

    def build(**settings: Any) -> TierCache:
        cache = cache_with(one_server.url, **{"coalesce": "fleet", "lease_wait": "30s", **settings})
        # By hand, so that nothing happens but what the test does.
        assert drive(flows.sync(cache._engine, far())) is not None
        caches.append(cache)
        return cache

    yield build
    for cache in caches:
        cache.close()


@pytest.fixture
def client(one_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(one_server.url) as connection:
        yield connection


def held(client: redis.Redis) -> list[bytes]:
    return [client.get(key) for key in client.keys("tc:*") if key.endswith(b":lease")]  # type: ignore[misc]


def take(cache: TierCache, patience: float | None = None) -> Generator[Any, Any, Any]:
    return leases.take(cache._engine, ask(cache), far() if patience is None else patience)


def until(flow: Generator[Any, Any, Any], kind: type, effect: Any = None) -> Any:
    """Drive a flow up to its next effect of a kind; `effect` is the last one, not yet run."""
    effect = next(flow) if effect is None else flow.send(effect.run())
    while not isinstance(effect, kind):
        effect = flow.send(effect.run())
    return effect


def ends(flow: Generator[Any, Any, Any], outcome: Any) -> Any:
    """Send `outcome` in and drive to the end; what the flow returns."""
    try:
        effect = flow.send(outcome)
        while True:
            effect = flow.send(effect.run())
    except StopIteration as stop:
        return stop.value


def test_the_first_gets_it_and_renews_it(make: Callable[..., TierCache], client: redis.Redis) -> None:
    cache = make()
    lease = drive(take(cache))
    assert isinstance(lease, Lease)
    assert held(client) == [lease.token.encode()]
    assert cache._engine.leases == {lease.name: lease.token}
    (key,) = (key for key in client.keys("tc:*") if key.endswith(b":lease"))
    client.pexpire(key, 60)
    drive(leases.renew(cache._engine))
    assert client.pttl(key) > 60
    drive(leases.release(cache._engine, lease, made=False))
    assert held(client) == []
    assert cache._engine.leases == {}


def test_who_waits_is_registered_before_it_asks(make: Callable[..., TierCache]) -> None:
    """Word that comes between the two must find somebody."""
    cache = make()
    flow = take(cache)
    assert isinstance(next(flow), Acquire)
    assert len(cache._engine.wakes._by_name) == 1
    flow.close()
    assert cache._engine.wakes._by_name == {}


def test_the_word_that_it_is_made_brings_it(make: Callable[..., TierCache]) -> None:
    one, other = make(), make()
    exchange, found = opened(one, ask(one))
    assert (found, exchange.lease is not None) == (None, True)
    waiting = take(other)
    until(waiting, Wait)
    answer(exchange)
    drive(exchange.close())
    (flight,) = other._engine.wakes._by_name.values()
    other._engine.wakes.wake(str(flight.key), RETRY)
    entry = ends(waiting, flight.outcome)
    assert isinstance(entry, Entry)
    assert entry.body == b"hello"
    assert (one._engine.leases, other._engine.leases, other._engine.wakes._by_name) == ({}, {}, {})


def test_the_word_that_there_is_nothing_wakes_all_of_them(make: Callable[..., TierCache]) -> None:
    one, others = make(), [make() for _ in range(3)]
    exchange, _ = opened(one, ask(one))
    flows_ = [take(other) for other in others for _ in range(2)]
    for flow in flows_:
        until(flow, Wait)
    exchange.begin()
    exchange.started(200, b"", ((b"cache-control", b"private"),))
    drive(exchange.let_go())
    assert one._engine.leases == {}
    for other in others:
        for name in list(other._engine.wakes._by_name):
            other._engine.wakes.wake(str(name), RELEASED)
    assert [ends(flow, RELEASED) for flow in flows_] == [None] * 6
    assert not any(other._engine.leases or other._engine.wakes._by_name for other in others)


def test_who_hears_nothing_looks_again(make: Callable[..., TierCache]) -> None:
    one, other = make(), make()
    exchange, _ = opened(one, ask(one))
    waiting = take(other)
    wait = until(waiting, Wait)
    assert wait.deadline - time.monotonic() <= leases.LOOK_AGAIN
    # Nothing yet: it asks for the lease once more, and waits once more.
    look = waiting.send(LATE)
    assert isinstance(look, Fetch)
    until(waiting, Wait, look)
    answer(exchange)
    drive(exchange.close())
    assert isinstance(ends(waiting, LATE), Entry)


def test_the_lease_of_one_that_died_is_taken_over(make: Callable[..., TierCache], client: redis.Redis) -> None:
    one, other = make(), make()
    assert isinstance(drive(take(one)), Lease)
    waiting = take(other)
    until(waiting, Wait)
    (key,) = (key for key in client.keys("tc:*") if key.endswith(b":lease"))
    client.pexpire(key, 1)
    while client.exists(key):
        pass
    lease = ends(waiting, LATE)
    assert isinstance(lease, Lease)
    # What the dead one would still do, were it only slow, leaves the new one alone.
    drive(leases.renew(one._engine))
    for name, token in list(one._engine.leases.items()):
        drive(leases.release(one._engine, Lease(name, token), made=True))
    assert held(client) == [lease.token.encode()]


def test_nobody_waits_past_his_patience(make: Callable[..., TierCache]) -> None:
    one, other = make(), make()
    assert isinstance(drive(take(one)), Lease)
    assert drive(take(other, time.monotonic())) is None
    assert other._engine.wakes._by_name == {}


def test_who_gets_it_after_all_was_made_gives_it_back(make: Callable[..., TierCache], client: redis.Redis) -> None:
    """Its last holder may have been done between the look into L2 and the lease."""
    one, other = make(), make()
    filled(one)
    entry = drive(take(other))
    assert isinstance(entry, Entry)
    assert (held(client), other._engine.leases) == ([], {})


@pytest.mark.parametrize("error", [TierUnavailable("away"), TierRejected("full"), OSError("what")])
def test_where_redis_cannot_say_the_app_is_called(make: Callable[..., TierCache], error: Exception) -> None:
    cache = make()
    for flow in (take(cache), leases.seize(cache._engine, ask(cache))):
        assert isinstance(next(flow), Acquire)
        with pytest.raises(StopIteration) as stop:
            flow.throw(error)
        assert stop.value.value in (None, leases.UNKNOWN)
    assert cache._engine.leases == {}
    assert cache.stats()["swallowed"] == {"lease": 2}


def test_a_refresh_takes_it_or_leaves_it(make: Callable[..., TierCache]) -> None:
    one, other = make(), make()
    got = drive(leases.seize(one._engine, ask(one)))
    assert isinstance(got, Lease)
    assert drive(leases.seize(other._engine, ask(other))) == leases.TAKEN
    assert other._engine.leases == {}


def test_a_release_that_fails_is_not_renewed(make: Callable[..., TierCache]) -> None:
    cache = make()
    lease = drive(take(cache))
    assert isinstance(lease, Lease)
    flow = leases.release(cache._engine, lease, made=True)
    assert isinstance(next(flow), Release)
    with pytest.raises(StopIteration):
        flow.throw(TierUnavailable("away"))
    assert cache._engine.leases == {}


class Cancelled(BaseException):
    pass


@pytest.mark.parametrize("kind", [Acquire, Fetch, Wait])
def test_a_client_that_goes_while_it_waits_holds_nothing(make: Callable[..., TierCache], kind: type) -> None:
    one, other = make(), make()
    if kind is Wait:
        assert isinstance(drive(take(one)), Lease)
    flow = take(other)
    until(flow, kind)
    with pytest.raises(Cancelled):
        flow.throw(Cancelled())
    assert (other._engine.leases, other._engine.wakes._by_name) == ({}, {})


def test_one_cut_short_while_it_writes_to_l2_holds_nothing(make: Callable[..., TierCache]) -> None:
    cache = make()
    exchange, _ = opened(cache, ask(cache))
    answer(exchange)
    flow = exchange.close()
    next(flow)
    with pytest.raises(Cancelled):
        flow.throw(Cancelled())
    assert cache._engine.leases == {}
    assert exchange.share is None


def test_without_the_right_or_the_tier_there_is_none(make: Callable[..., TierCache]) -> None:
    cache, alone = make(coalesce="process"), cache_with(coalesce="fleet")
    assert not leases.shared_fill(cache._engine, ask(cache))
    assert not leases.shared_fill(alone._engine, ask(alone))
    cache = make()
    assert leases.shared_fill(cache._engine, ask(cache))
    cache._engine.ledger.distrust(cache._engine.clock())
    assert not leases.shared_fill(cache._engine, ask(cache))
