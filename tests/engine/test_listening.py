"""The life of a listener, effect by effect."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.clock import Clock
from tests.engine.by_hand import attached, engine_with, page
from tiercache.core.records import Message
from tiercache.engine.effects import Hear, Invalidate, Listen, Rest, Sync
from tiercache.engine.listening import LONGEST_PAUSE, listening
from tiercache.errors import TierRejected, TierUnavailable


class Bus:
    closed = 0

    def close(self) -> None:
        self.closed += 1


class Listener:
    def __init__(self, engine: Any = None) -> None:
        self.clock = Clock(100.0)
        self.engine = engine or engine_with(self.clock)
        self.engine.clock = self.clock
        self.stopping = threading.Event()
        self.flow = listening(self.engine, self.stopping)
        self.bus = Bus()
        self.effect: Any = next(self.flow)

    def give(self, answer: Any) -> Any:
        self.effect = self.flow.send(answer)
        return self.effect

    def fail(self, error: Exception) -> Any:
        self.effect = self.flow.throw(error)
        return self.effect

    def hearing(self) -> None:
        """On the bus, and synced."""
        assert isinstance(self.effect, Listen)
        assert isinstance(self.give(self.bus), Sync)
        assert isinstance(self.give(page(0)), Hear)


def message(number: int, *members: str, prev: int | None = None, ack: bool = False) -> Message:
    return Message("E", number, number - 1 if prev is None else prev, 0, members, ack)


def test_it_subscribes_before_it_syncs() -> None:
    listener = Listener()
    listener.hearing()
    assert listener.engine.trusted()


def test_what_follows_is_applied_and_a_gap_is_synced_at_once() -> None:
    listener = Listener()
    listener.hearing()
    assert isinstance(listener.give(message(1, "h:t:a")), Hear)
    assert listener.engine.ledger.stamp().number == 1
    assert isinstance(listener.give(message(3, "h:t:a")), Sync)
    assert listener.effect.request.seen == 1
    assert isinstance(listener.give(page(3, ("h:t:a", 3))), Hear)


def test_who_waits_is_told_at_once() -> None:
    listener = Listener()
    listener.hearing()
    assert isinstance(listener.give(message(1, "h:t:a", ack=True)), Sync)
    assert listener.effect.request.applied == 1


def test_it_syncs_every_third_of_the_bound_whether_it_hears_or_not() -> None:
    listener = Listener()
    listener.hearing()
    assert 0 < listener.effect.timeout <= 1 / 3
    listener.clock.turn(listener.effect.timeout)
    assert isinstance(listener.give(None), Sync)
    assert isinstance(listener.give(page(0)), Hear)
    listener.clock.turn(listener.effect.timeout)
    assert isinstance(listener.give(message(1, "h:t:a")), Sync)


def test_a_sync_that_fails_is_tried_again_in_its_turn() -> None:
    listener = Listener()
    listener.hearing()
    listener.clock.turn(1.0)
    listener.give(None)
    assert isinstance(listener.fail(TierUnavailable("gone")), Hear)
    assert listener.engine.failing
    assert 0 < listener.effect.timeout <= 1 / 3


@pytest.mark.parametrize("error", [TierUnavailable("cut off"), TierRejected("nonsense"), ValueError("anything")])
def test_a_bus_that_breaks_is_closed_and_made_anew(error: Exception) -> None:
    listener = Listener()
    listener.hearing()
    effect = listener.fail(error)
    if isinstance(effect, Sync):
        effect = listener.give(page(0))
    assert isinstance(effect, Rest)
    assert listener.bus.closed == 1
    assert isinstance(listener.give(None), Listen)


def test_while_the_server_is_away_it_rests_longer_and_longer() -> None:
    listener = Listener()
    rests = []
    for _ in range(8):
        assert isinstance(listener.effect, Listen)
        assert isinstance(listener.fail(TierUnavailable("gone")), Sync)
        assert isinstance(listener.fail(TierUnavailable("gone")), Rest)
        rests.append(listener.effect.seconds)
        listener.give(None)
    assert rests[0] <= 0.05
    assert max(rests) <= min(LONGEST_PAUSE, 1 / 3)
    assert rests[-1] > rests[0]


def test_what_is_not_confirmed_is_replayed_after_a_good_sync_only() -> None:
    listener = Listener(attached(Clock(99.0)))
    listener.engine.ledger.bar(["h:t:a"], False, 99.5)
    listener.give(listener.bus)
    assert isinstance(listener.fail(TierUnavailable("gone")), Hear)
    listener.clock.turn(1.0)
    assert isinstance(listener.give(None), Sync)
    replay = listener.give(page(4))
    assert isinstance(replay, Invalidate)
    assert replay.members == ("h:t:a",)
    assert isinstance(listener.give([message(5, "h:t:a")]), Hear)
    assert not listener.engine.ledger.pending()


def test_a_reply_to_a_replay_that_tells_of_more_is_followed_by_a_sync() -> None:
    listener = Listener(attached(Clock(99.0)))
    listener.engine.ledger.bar(["h:t:a"], False, 99.5)
    listener.give(listener.bus)
    assert isinstance(listener.give(page(0)), Invalidate)
    assert isinstance(listener.give([message(5, "h:t:a")]), Sync)


def test_where_there_is_no_bus_it_replays_all_the_same() -> None:
    """A user of Redis who may not subscribe: syncs alone keep the bound."""
    listener = Listener(attached(Clock(99.0)))
    listener.engine.ledger.bar(["h:t:a"], False, 99.5)
    assert isinstance(listener.fail(TierRejected("NOPERM")), Sync)
    assert isinstance(listener.give(page(0)), Invalidate)
    assert isinstance(listener.give([message(1, "h:t:a")]), Rest)
    assert not listener.engine.ledger.pending()
    assert listener.engine.trusted()


def test_it_ends_when_it_is_told_to() -> None:
    listener = Listener()
    listener.hearing()
    listener.stopping.set()
    with pytest.raises(StopIteration):
        listener.fail(TierUnavailable("the subscription is closed"))
    assert listener.bus.closed == 1
