"""When L2 is left alone and when it is tried again: by times that are handed in."""

from __future__ import annotations

import threading

import pytest

from tiercache.engine.breaker import CALLS, LEAST, TRY_EVERY, WELL, Breaker

SLOW = 0.015


def probe(breaker: Breaker, now: float, *, failed: bool = True, took: float = 0.0) -> bool:
    breaker.probing(now)
    return breaker.probed(took, now, failed=failed)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(SLOW)
    for _ in range(LEAST):
        probe(breaker, now)
    assert breaker.open
    return breaker


def test_calls_of_requests_alone_never_open_it() -> None:
    """A process that is itself too busy sees every answer late, and must not send the crowd to the database."""
    breaker = Breaker(SLOW)
    for number in range(10 * CALLS):
        assert not breaker.note(1.0, number, failed=number % 2 == 0)
    assert not breaker.open
    assert breaker.allows(0.0)


def test_probes_alone_open_it() -> None:
    breaker = Breaker(SLOW)
    assert [probe(breaker, 0.0) for _ in range(LEAST)] == [False] * (LEAST - 1) + [True]
    assert breaker.open


def test_a_slow_probe_is_a_failed_one_and_one_in_time_is_not() -> None:
    breaker = Breaker(SLOW)
    for _ in range(LEAST):
        probe(breaker, 0.0, failed=False, took=SLOW)
    assert breaker.open
    breaker = Breaker(SLOW)
    for _ in range(10 * LEAST):
        assert not probe(breaker, 0.0, failed=False, took=SLOW - 0.001)
    assert not breaker.open


def test_calls_count_once_a_probe_agrees() -> None:
    breaker = Breaker(SLOW)
    probe(breaker, 0.0)
    changes = [breaker.note(0.0, 0.0, failed=True) for _ in range(LEAST - 1)]
    assert changes == [False] * (LEAST - 2) + [True]
    assert breaker.open


def test_calls_count_while_a_probe_is_overdue() -> None:
    breaker = Breaker(SLOW)
    breaker.probing(0.0)
    for _ in range(LEAST):
        assert not breaker.note(0.0, SLOW / 2, failed=True)
    assert [breaker.note(0.0, SLOW, failed=True) for _ in range(LEAST)] == [False] * (LEAST - 1) + [True]


def test_a_probe_that_went_well_speaks_for_the_tier_against_all_calls_before() -> None:
    breaker = Breaker(SLOW)
    probe(breaker, 0.0)
    breaker.note(0.0, 0.0, failed=True)
    probe(breaker, 0.0, failed=False)
    probe(breaker, 0.0)
    assert not breaker.note(0.0, 0.0, failed=True)
    assert not breaker.open


def test_good_calls_keep_it_closed_while_they_are_the_most() -> None:
    breaker = Breaker(SLOW)
    probe(breaker, 0.0)
    for _ in range(10):
        for _ in range(3):
            assert not breaker.note(0.0, 0.0, failed=False)
        assert not breaker.note(0.0, 0.0, failed=True)
    assert not breaker.open


def test_only_the_last_calls_count() -> None:
    breaker = Breaker(SLOW)
    probe(breaker, 0.0)
    for _ in range(10 * CALLS):
        breaker.note(0.0, 0.0, failed=False)
    changes = [breaker.note(0.0, 0.0, failed=True) for _ in range(CALLS // 2)]
    assert changes == [False] * (CALLS // 2 - 1) + [True]


def test_open_one_call_now_and_then_finds_out() -> None:
    breaker = opened(now=100.0)
    assert not breaker.allows(100.0)
    assert not breaker.allows(100.0 + TRY_EVERY - 0.01)
    assert [breaker.allows(100.0 + TRY_EVERY) for _ in range(5)] == [True, False, False, False, False]
    assert not breaker.note(SLOW, 100.0 + TRY_EVERY, failed=False)
    assert not breaker.allows(100.0 + TRY_EVERY)
    assert breaker.allows(100.0 + 2 * TRY_EVERY)


def test_many_at_once_get_one_try() -> None:
    breaker = opened()
    ready, allowed = threading.Barrier(8), []

    def ask() -> None:
        ready.wait(20)
        allowed.append(breaker.allows(TRY_EVERY))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(allowed) == [False] * 7 + [True]


@pytest.mark.parametrize("by_probes", [True, False])
def test_it_closes_after_good_answers_in_a_row(by_probes: bool) -> None:
    breaker = opened()

    def well(*, failed: bool = False) -> bool:
        return probe(breaker, 1.0, failed=failed) if by_probes else breaker.note(0.0, 1.0, failed=failed)

    assert [well() for _ in range(WELL - 1)] == [False] * (WELL - 1)
    assert not well(failed=True)
    assert [well() for _ in range(WELL)] == [False] * (WELL - 1) + [True]
    assert not breaker.open
    assert all(breaker.allows(1.0) for _ in range(5))


def test_closed_again_it_judges_anew() -> None:
    breaker = opened()
    for _ in range(WELL):
        probe(breaker, 1.0, failed=False)
    assert not any(probe(breaker, 2.0) for _ in range(LEAST - 1))
    assert probe(breaker, 2.0)


def test_a_fork_finds_its_lock_free_and_no_probe_under_way() -> None:
    breaker = Breaker(SLOW)
    breaker.probing(0.0)
    breaker._lock.acquire()
    breaker.after_fork()
    for _ in range(LEAST):
        assert not breaker.note(0.0, 100.0, failed=True)
    assert not breaker.open
