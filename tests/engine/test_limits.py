"""Permissions that are counted: each is given once, and comes back."""

from __future__ import annotations

import asyncio
import threading

from tiercache import TierCache
from tiercache.core.routes import Route
from tiercache.engine.limits import MAX_REFRESHES, Limits

FAR = 30.0


def route(template: str = "/p", **settings: object) -> Route:
    return TierCache().route(template, ttl="1m", **settings)  # type: ignore[arg-type]


def test_a_rule_without_a_limit_has_none() -> None:
    limits, free = Limits(), route()
    assert all(limits.may_fill(free) for _ in range(1_000))
    limits.filled(free)
    assert not limits._filling


def test_each_rule_has_its_own_places() -> None:
    limits, two, one = Limits(), route("/two", max_fills=2), route("/one", max_fills=1)
    assert [limits.may_fill(two) for _ in range(3)] == [True, True, False]
    assert limits.may_fill(one)
    limits.filled(two)
    assert [limits.may_fill(two) for _ in range(2)] == [True, False]


def test_a_refusal_takes_no_place() -> None:
    limits, one = Limits(), route(max_fills=1)
    limits.may_fill(one)
    for _ in range(5):
        assert not limits.may_fill(one)
    limits.filled(one)
    assert limits.may_fill(one)


def test_refreshes_have_places_too() -> None:
    limits = Limits()
    assert [limits.may_refresh() for _ in range(MAX_REFRESHES + 2)] == [True] * MAX_REFRESHES + [False] * 2
    limits.refreshed()
    assert [limits.may_refresh() for _ in range(2)] == [True, False]


def test_no_more_than_the_limit_at_once_among_threads() -> None:
    limits, three = Limits(), route(max_fills=3)
    most, lock, ready = [0, 0], threading.Lock(), threading.Barrier(8)

    def work() -> None:
        ready.wait(FAR)
        for _ in range(200):
            if limits.may_fill(three):
                with lock:
                    most[0] += 1
                    most[1] = max(most)
                with lock:
                    most[0] -= 1
                limits.filled(three)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[1] <= 3
    assert [limits.may_fill(three) for _ in range(4)] == [True, True, True, False]


def test_who_stops_waits_for_the_last_fill_behind() -> None:
    limits = Limits()
    assert limits.drained(0)
    limits.begins_behind()
    limits.begins_behind()
    assert not limits.drained(0)
    done = threading.Event()
    waiter = threading.Thread(target=lambda: limits.drained(FAR) and done.set())
    waiter.start()
    limits.ends_behind()
    assert not limits.drained(0)
    assert not done.is_set()
    limits.ends_behind()
    assert done.wait(FAR)
    waiter.join()


def test_tasks_of_a_loop_that_has_stopped_are_not_waited_for() -> None:
    limits = Limits()
    loop = asyncio.new_event_loop()
    limits.begins_behind(loop)
    # Were it waited for, this would hang.
    assert limits.drained(FAR)
    limits.begins_behind()
    assert not limits.drained(0)
    limits.ends_behind()

    async def running() -> None:
        assert not limits.drained(0)
        limits.ends_behind(loop)
        assert limits.drained(0)

    loop.run_until_complete(running())
    loop.close()
    assert limits.behind == 0
