"""The barrier, page by page: whose silence counts, and for how long."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.clock import Clock
from tests.engine.by_hand import ME, attached, page, row
from tiercache.core.records import Message
from tiercache.engine.barrier import LONGEST_PAUSE, Fleet, wait_for_fleet
from tiercache.engine.effects import Pause, Sync
from tiercache.errors import TierUnavailable

PURGE = Message("E", 5, 4, 0, ("h:t:a",))


class Barrier:
    """One barrier under way; the clocks of this process and of the shared tier show the same."""

    def __init__(self) -> None:
        self.clock = Clock(100.0)
        self.engine = attached(self.clock, 5)
        self.flow = wait_for_fleet(self.engine, PURGE)
        self.effect: Any = next(self.flow)

    def rows(self, *rows: Any, since: float = 0.0, epoch: str = "E", head: int = 5) -> Any:
        """The answer to its question; the fleet if that ends it, else the effect it goes on with."""
        assert isinstance(self.effect, Sync)
        assert self.effect.fleet
        shown = page(head, rows=(row(ME, 5, time=self.clock()), *rows), time=self.clock(), since=since, epoch=epoch)
        return self.go_on(shown)

    def go_on(self, answer: Any) -> Any:
        try:
            self.effect = self.flow.send(answer)
        except StopIteration as end:
            return end.value
        return self.effect

    def pause(self) -> None:
        assert isinstance(self.effect, Pause)
        self.clock.turn(self.effect.seconds)
        self.go_on(None)


def test_all_have_applied_it() -> None:
    fleet = Barrier().rows(row("a", 5, time=99.9), row("b", 7, time=99.9))
    assert fleet == Fleet(("a", "b", ME), ())


def test_one_that_has_not_told_yet_is_waited_for() -> None:
    barrier = Barrier()
    assert isinstance(barrier.rows(row("a", 4, time=99.9)), Pause)
    barrier.pause()
    assert barrier.rows(row("a", 5, time=100.0)) == Fleet(("a", ME), ())


def test_one_whose_trust_is_over_is_named_and_not_waited_for() -> None:
    assert Barrier().rows(row("a", 5, time=99.9), row("b", 4, time=99.0)) == Fleet(("a", ME), ("b",))


def test_one_that_trusts_for_longer_than_we_do_is_waited_for_as_long() -> None:
    barrier = Barrier()
    while barrier.clock() < 103.9:
        assert isinstance(barrier.rows(row("b", 4, time=99.0, bound=5.0)), Pause)
        barrier.pause()
    barrier.clock.now = 104.1
    assert barrier.rows(row("b", 4, time=99.0, bound=5.0)) == Fleet((ME,), ("b",))


def test_rows_of_another_epoch_tell_nothing() -> None:
    barrier = Barrier()
    assert isinstance(barrier.rows(row("a", 9, time=99.9, epoch="D")), Pause)
    assert isinstance(barrier.effect, Pause)


def test_rows_that_have_just_been_begun_are_not_all() -> None:
    """They were evicted or deleted: somebody who trusts may have none yet."""
    barrier = Barrier()
    while barrier.clock() < 100.6:
        assert isinstance(barrier.rows(since=99.7), Pause)
        barrier.pause()
    barrier.clock.now = 100.75
    assert barrier.rows(since=99.7) == Fleet((ME,), ())


def test_in_a_history_begun_after_the_purge_its_number_says_nothing() -> None:
    """A replica has taken over: whoever has gone over to the new epoch has left behind what the purge covers. Its rows
    are not all before the bound has passed."""
    barrier = Barrier()
    assert isinstance(barrier.rows(row("a", 0, epoch="F", time=99.9), epoch="F", head=0, since=100.0), Pause)
    barrier.clock.turn(0.9)
    barrier.go_on(None)
    old = row("b", 5, epoch="E", time=99.5)
    assert isinstance(barrier.rows(row("a", 0, epoch="F", time=100.8), old, epoch="F", head=0, since=100.0), Pause)
    barrier.clock.now = 101.1
    barrier.go_on(None)
    assert barrier.rows(row("a", 0, epoch="F", time=100.8), old, epoch="F", head=0, since=100.0) == Fleet(
        ("a", ME), ("b",)
    )


def test_without_an_answer_it_ends_with_the_bound_and_knows_nothing() -> None:
    barrier = Barrier()
    ended = None
    while ended is None:
        assert isinstance(barrier.effect, Sync)
        try:
            barrier.effect = barrier.flow.throw(TierUnavailable("gone"))
        except StopIteration as end:
            ended = end.value
        else:
            assert isinstance(barrier.effect, Pause)
            assert 0 < barrier.effect.seconds <= LONGEST_PAUSE
            barrier.pause()
    assert ended == Fleet((), ())
    assert 101.0 <= barrier.clock() < 101.1


@pytest.mark.parametrize("at", [100.0, 100.999, 101.5])
def test_a_look_is_given_time_for_an_answer(at: float) -> None:
    """Cut off sooner, the last one would count as a failure of the shared tier, and hold up strong requests."""
    barrier = Barrier()
    barrier.rows(row("a", 4, time=100.0))
    barrier.clock.now = at
    before = time.monotonic()
    effect = barrier.go_on(None)
    assert isinstance(effect, Sync)
    assert effect.deadline >= before + 0.05
