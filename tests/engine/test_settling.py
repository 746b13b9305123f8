from __future__ import annotations

import threading

import pytest

from tiercache.engine.settling import Settling

GUARD = 20.0
"""Seconds: never waited for in full."""
NEVER = 3_600.0


def test_a_job_runs_by_itself() -> None:
    settling, done = Settling(), threading.Event()
    settling.later(0.0, done.set)
    assert done.wait(GUARD)


def test_a_sooner_one_overtakes() -> None:
    settling, done = Settling(), threading.Event()
    late: list[str] = []
    settling.later(NEVER, lambda: late.append("late"))
    settling.later(0.0, done.set)
    assert done.wait(GUARD)
    assert not late
    settling.finish(20)
    assert late == ["late"]


def test_finish_runs_the_rest_at_once_in_order_and_only_once() -> None:
    settling = Settling()
    ran: list[int] = []
    for seconds in (3, 1, 2):
        settling.later(NEVER + seconds, lambda number=seconds: ran.append(number))  # type: ignore[misc]
    settling.finish(20)
    settling.finish(20)
    assert ran == [1, 2, 3]


def test_after_finish_it_can_go_on() -> None:
    settling, done = Settling(), threading.Event()
    settling.later(NEVER, lambda: None)
    settling.finish(20)
    settling.later(0.0, done.set)
    assert done.wait(GUARD)


def test_finish_waits_for_the_job_that_runs() -> None:
    """The connections that it needs are closed next."""
    settling = Settling()
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        assert may_end.wait(GUARD)
        ended.set()

    settling.later(0.0, job)
    assert begun.wait(GUARD)
    seen: list[bool] = []
    finishing = threading.Thread(target=lambda: (settling.finish(20), seen.append(ended.is_set())))
    finishing.start()
    finishing.join(0.05)
    may_end.set()
    finishing.join(GUARD)
    assert seen == [True]


def test_where_no_thread_starts_the_job_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    settling = Settling()
    ran: list[str] = []

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError):
            settling.later(0.0, lambda: ran.append("kept"))
    settling.finish(20)
    assert ran == ["kept"]


def test_what_there_is_no_time_for_is_counted() -> None:
    settling, ran = Settling(), []
    for number in range(3):
        settling.later(1_000, lambda number=number: ran.append(number))
    assert settling.pending
    assert settling.finish(0) == 3
    assert not ran
    assert not settling.pending
