from __future__ import annotations

import logging
import threading

import pytest

from tests.clock import Clock
from tiercache.engine.events import COMPLAINT_INTERVAL, LONGEST_PROBLEM, Complaints, Stats


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def complaints(stats: Stats, clock: Clock, caplog: pytest.LogCaptureFixture) -> Complaints:
    caplog.set_level(logging.INFO, "tiercache")
    return Complaints(stats, clock)


def written(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "tiercache.l2"]


def test_a_snapshot_is_plain_and_stands_still(stats: Stats) -> None:
    stats.hits_l1 += 2
    stats.bypassed["cookie"] += 1
    snapshot = stats.snapshot()
    stats.hits_l1 += 1
    stats.bypassed["cookie"] += 1
    assert (snapshot["hits_l1"], snapshot["bypassed"]) == (2, {"cookie": 1})
    assert type(snapshot["bypassed"]) is dict
    assert set(snapshot) == {
        "hits_l1", "hits_l2", "collapsed", "misses", "stored", "not_modified", "stale", "purges", "purges_queued",
        "bypassed", "refused", "swallowed", "data",
    }  # fmt: skip


def test_it_is_counted_each_time_and_written_once_a_minute(
    complaints: Complaints, stats: Stats, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        complaints.swallow("L2 read", "gone")
    clock.turn(COMPLAINT_INTERVAL - 0.1)
    complaints.swallow("L2 read", "gone")
    assert stats.swallowed == {"L2 read": 6}
    assert [level for level, _ in written(caplog)] == [logging.WARNING]
    assert written(caplog)[0][1].startswith("L2 read: gone (")
    clock.turn(0.1)
    complaints.swallow("L2 read", "still gone")
    assert len(written(caplog)) == 2
    assert written(caplog)[1][1] == "L2 read: still gone (5 more since the last line)"
    complaints.swallow("L2 read", "and again")
    complaints.settle("L2 read", "it answers again")
    assert written(caplog)[2:] == [(logging.INFO, "L2 read: it answers again (1 more since the last line)")]


def test_each_kind_has_a_minute_of_its_own(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.swallow("L2 read", "a")
    complaints.swallow("L2 write", "b")
    assert len(written(caplog)) == 2


def test_its_end_is_told_once_and_the_next_one_at_once(
    complaints: Complaints, caplog: pytest.LogCaptureFixture
) -> None:
    complaints.settle("L2 read", "it answers again")
    assert written(caplog) == []
    complaints.swallow("L2 read", "gone")
    complaints.settle("L2 read", "it answers again")
    complaints.settle("L2 read", "it answers again")
    complaints.swallow("L2 read", "gone again")
    assert [line.partition(" (")[0] for _, line in written(caplog)] == [
        "L2 read: gone",
        "L2 read: it answers again",
        "L2 read: gone again",
    ]
    assert [level for level, _ in written(caplog)] == [logging.WARNING, logging.INFO, logging.WARNING]


@pytest.mark.parametrize("problem", ["a\nWARNING: forged", "a\rb", "a\x1b[2Kb", "a\u2028b", "caf\u00e9\n", "\udc80"])
def test_a_problem_is_one_line_whatever_it_repeats(
    complaints: Complaints, caplog: pytest.LogCaptureFixture, problem: str
) -> None:
    complaints.swallow("L2 read", ValueError(problem))
    line = written(caplog)[0][1]
    assert line.isprintable()
    assert line.encode("utf-8")
    assert line.startswith("L2 read: ")


def test_a_long_problem_is_cut(complaints: Complaints, caplog: pytest.LogCaptureFixture) -> None:
    complaints.swallow("L2 read", "x" * 100_000)
    assert written(caplog)[0][1].count("x") == LONGEST_PROBLEM


def test_many_threads_count_each_and_write_one(
    complaints: Complaints, stats: Stats, caplog: pytest.LogCaptureFixture
) -> None:
    begin = threading.Barrier(8)

    def complain() -> None:
        begin.wait(30)
        for _ in range(200):
            complaints.swallow("L2 read", "gone")

    threads = [threading.Thread(target=complain) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert stats.swallowed["L2 read"] == 1_600
    assert len(written(caplog)) == 1


def test_a_fork_while_another_thread_complained_holds_nobody_up(complaints: Complaints, stats: Stats) -> None:
    complaints._lock.acquire()
    complaints.after_fork()
    done = threading.Thread(target=complaints.swallow, args=("L2 read", "gone"), daemon=True)
    done.start()
    done.join(30)
    assert stats.swallowed["L2 read"] == 1


def test_counts_begin_anew_where_others_hold_on_to_them() -> None:
    stats = Stats()
    store, bypassed = stats.of_store("things"), stats.bypassed
    zero = stats.snapshot()
    store.hits_l1 += 2
    store.refused["value"] += 1
    bypassed["cookie"] += 1
    stats.hits_l1 += 3
    assert stats.snapshot() != zero
    stats.reset()
    assert stats.snapshot() == zero
    store.hits_l1 += 1
    bypassed["cookie"] += 1
    assert stats.of_store("things") is store
    assert (stats.snapshot()["data"]["things"]["hits_l1"], stats.snapshot()["bypassed"]) == (1, {"cookie": 1})
