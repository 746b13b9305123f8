"""Sessions of users in one process: how much of them is kept. What they promise is tried in
`tests/integrations/test_sessions.py`."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from typing import Any

import pytest

from tests.clock import Clock
from tiercache.core.user_sessions import Lifetime, SessionChanges, StoredSession
from tiercache.engine.effects import drive
from tiercache.errors import TierTooLarge
from tiercache.tiers.memory_sessions import MemorySessions

LIFETIME = Lifetime(60.0, 600.0)


def begun(store: MemorySessions, name: str, data: bytes = b"1", lifetime: Lifetime = LIFETIME) -> bool:
    return drive(store.begin(name, SessionChanges({"cart": data}, (), ("user:1",)), "t", lifetime, 0.0))


def kept(store: MemorySessions, name: str) -> StoredSession | None:
    return drive(store.load(name, LIFETIME, 0.0))


def test_the_bytes_of_all_are_bounded_and_the_one_used_longest_ago_goes() -> None:
    one = StoredSession({"cart": bytes(10_000)}, "t", ("user:1",)).size
    store = MemorySessions(most=3 * one)
    for name in "abc":
        assert begun(store, name, bytes(10_000))
    assert kept(store, "a") is not None
    assert begun(store, "d", bytes(10_000))
    assert [name for name in "abcd" if kept(store, name)] == ["a", "c", "d"]
    # One that grows counts as it is.
    assert drive(store.save("a", SessionChanges({"more": bytes(8_000)}, (), ()), "u", LIFETIME, 0.0))
    assert sum(found.size for name in "abcd" if (found := kept(store, name))) <= 3 * one


def test_a_session_that_is_too_large_is_refused_and_what_there_was_stays() -> None:
    store = MemorySessions(most=20_000)
    assert begun(store, "a", bytes(10_000))
    with pytest.raises(TierTooLarge, match="20000"):
        drive(store.save("a", SessionChanges({"more": bytes(15_000)}, (), ()), "u", LIFETIME, 0.0))
    with pytest.raises(TierTooLarge):
        begun(store, "b", bytes(30_000))
    found = kept(store, "a")
    assert found is not None
    assert list(found.fields) == ["cart"]
    assert kept(store, "b") is None


def test_what_it_counts_is_about_what_it_takes() -> None:
    store = MemorySessions()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(2_000):
            begun(store, f"session number {number}", b"%d" % number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    counted = StoredSession({"cart": b"1000"}, "t", ("user:1",)).size
    assert 0.6 * counted < (after - before) / 2_000 < 1.2 * counted


def test_it_ends_by_the_clock_that_it_is_given() -> None:
    clock = Clock()
    store = MemorySessions(timer=clock)
    begun(store, "a")
    begun(store, "young", lifetime=Lifetime(60.0, 90.0))
    clock.turn(59.0)
    assert kept(store, "a") is not None
    assert drive(store.load("young", Lifetime(60.0, 90.0), 0.0)) is not None
    clock.turn(32.0)
    assert drive(store.load("young", Lifetime(60.0, 90.0), 0.0)) is None
    assert kept(store, "a") is not None
    clock.turn(61.0)
    assert kept(store, "a") is None


@pytest.mark.parametrize("idle", range(1, 12))
def test_none_ends_while_it_is_looked_at(idle: int) -> None:
    """By a clock that goes on with each look at it."""
    store = MemorySessions(timer=itertools.count().__next__)
    lifetime = Lifetime(float(idle), 600.0)
    for name in "abc":
        begun(store, name, lifetime=lifetime)
    kept(store, "a")
    drive(store.save("b", SessionChanges({"more": b"2"}, (), ()), "u", lifetime, 0.0))
    assert 0 <= drive(store.revoke("user:1", 0.0)) <= 3
    assert drive(store.revoke("user:1", 0.0)) == 0


def test_the_child_of_a_fork_waits_for_no_thread_of_its_parent() -> None:
    store = MemorySessions()
    begun(store, "a")
    store.reset_after_fork()
    assert kept(store, "a") is not None
    begin, end = threading.Event(), threading.Event()

    def holding(lock: Any) -> None:
        with lock:
            begin.set()
            end.wait(20)

    thread = threading.Thread(target=holding, args=(store._lock,))
    thread.start()
    begin.wait(20)
    store.reset_after_fork()
    # What the other thread was changing may be half done.
    assert kept(store, "a") is None
    assert begun(store, "a")
    end.set()
    thread.join()
