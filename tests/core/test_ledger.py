"""The mirror of the invalidation ledger: the check, what it hears, and readers that take no lock.

What the rules add up to is in test_ledger_properties.py.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest

from tests.core.ledger_values import Entry, attached, message, page
from tiercache.core import history as history_module
from tiercache.core import ledger as ledger_module
from tiercache.core.history import History
from tiercache.core.ledger import Ledger
from tiercache.core.records import Message, Stamp


class Tags(tuple[str, ...]):
    """Tags that run `then` each time somebody has looked through them."""

    then: Callable[[], object]

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        self.then()


def tags(then: Callable[[], object], *names: str) -> Tags:
    made = Tags(names)
    made.then = then
    return made


class TestTheCheck:
    def test_a_tag_purged_after_the_fill_began_kills(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, "h:t:a"), 0.0)
        assert not ledger.alive(Entry(number=4))
        assert ledger.alive(Entry(number=5))
        assert ledger.alive(Entry(number=4, tags=("t:other",)))
        assert not ledger.alive(Entry(number=4, tags=("t:other", "t:a")))

    def test_another_epoch_is_dead_whatever_its_number(self) -> None:
        assert not attached().alive(Entry(epoch="F", number=99))

    def test_below_the_floor_is_dead_whatever_its_tags(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, floor=5), 0.0)
        assert not ledger.alive(Entry(number=4, tags=()))
        assert ledger.alive(Entry(number=5, tags=()))

    def test_alive_is_remembered_until_something_changes(self) -> None:
        ledger, entry = attached(), Entry()
        assert ledger.alive(entry)
        assert entry.checked == ledger.version
        ledger.heard(message(1, "h:t:b"), 0.0)
        assert entry.checked != ledger.version
        assert ledger.alive(entry)
        assert entry.checked == ledger.version

    def test_death_is_not_remembered(self) -> None:
        ledger, entry = attached(), Entry()
        ledger.heard(message(1, "h:t:a"), 0.0)
        assert not ledger.alive(entry)
        assert entry.checked == -1

    def test_kinds_of_members_that_the_check_does_not_know_kill_nothing_and_are_kept(self) -> None:
        ledger = attached()
        ledger.heard(message(1, "x:t:a"), 0.0)
        assert ledger.alive(Entry())
        assert ledger._view.members == {"x:t:a": 1}

    def test_the_stamp_is_the_last_number_without_a_gap_before_it(self) -> None:
        ledger = attached(4)
        assert ledger.stamp() == Stamp("E", 4)
        ledger.heard(message(5, "h:t:a"), 0.0)
        assert ledger.stamp() == Stamp("E", 5)
        ledger.heard(message(7, "h:t:a"), 0.0)
        assert ledger.stamp() == Stamp("E", 5)


class TestReadersWithoutALock:
    """What changes while a reader looks; the hooks stand for another thread that runs at just that moment."""

    def test_a_purge_during_the_look_leaves_a_version_that_no_longer_matches(self) -> None:
        ledger = attached()
        entry = Entry()
        entry.tags = tags(lambda: ledger.heard(message(1, "h:t:a"), 0.0), "t:a")
        ledger.alive(entry)
        assert entry.checked != ledger.version
        entry.tags = ("t:a",)
        assert not ledger.alive(entry)

    def test_a_confirmation_during_the_look_does_not_free_what_was_barred(self) -> None:
        ledger = attached()
        ledger.bar(["h:t:a"], False, 0.0)
        (item,) = ledger.pending()
        entry = Entry()
        entry.tags = tags(lambda: ledger.confirmed(item, message(1, "h:t:a"), 0.0), "t:a")
        assert not ledger.alive(entry)

    def test_a_member_that_gives_way_to_the_floor_during_the_look_still_kills(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(history_module, "_PRUNE_MIN", 0)
        ledger = attached()
        ledger.heard(message(1, "h:t:a"), 0.0)
        ledger._view.prune_at = 0
        entry = Entry(tags=("t:a",))

        class Members(dict[str, int]):
            def get(self, key: str, default: Any = None) -> Any:
                ledger.heard(message(2, floor=2), 0.0)
                return ledger._view.members.get(key, default)

        ledger._view.members = Members(ledger._view.members)
        assert not ledger.alive(entry)

    def test_members_and_number_are_in_place_when_the_version_rises(self) -> None:
        seen = []

        class Watched(Ledger):
            def __setattr__(self, name: str, value: Any) -> None:
                if name == "version" and value:
                    seen.append((dict(self._view.members), self._view.seq))
                super().__setattr__(name, value)

        ledger = Watched(bound=1.0, epoch="E", shared=True)
        ledger.heard(message(1, "h:t:a"), 0.0)
        assert seen == [({"h:t:a": 1}, 1)]

    def test_a_new_epoch_ends_trust_before_it_is_seen_and_is_trusted_last(self) -> None:
        writes: list[tuple[str, object]] = []

        class Watched(Ledger):
            def __setattr__(self, name: str, value: Any) -> None:
                writes.append((name, value))
                super().__setattr__(name, value)

        ledger = Watched(bound=1.0, epoch="local", shared=True)
        ledger.synced(ledger.sync_request(5.0), page(3))
        writes.clear()
        ledger.synced(ledger.sync_request(6.0), page(1, epoch="F"))
        names = [name for name, _ in writes if name in ("trusted_until", "_view", "version")]
        assert names == ["trusted_until", "_view", "version", "trusted_until"]
        assert writes[0] == ("trusted_until", -inf)

    @pytest.mark.parametrize("how", ["heard", "synced", "another epoch", "on its own"])
    def test_who_finds_its_purge_reached_is_not_served_what_it_has_purged(self, how: str, monkeypatch: Any) -> None:
        """A client with the stamp of its own purge looks before and after each single write."""
        own = Stamp("F" if how == "another epoch" else "E", 1)
        looks: list[bool] = []

        def look() -> None:
            reached = ledger.reached(own)
            looks.append(reached)
            served = entry.checked == ledger.version or ledger.alive(entry)
            assert not (reached and served)

        class WatchedHistory(History):
            __slots__ = ()

            def __setattr__(self, name: str, value: Any) -> None:
                super().__setattr__(name, value)
                if watching:
                    look()

        class Watched(Ledger):
            def __setattr__(self, name: str, value: Any) -> None:
                super().__setattr__(name, value)
                if watching:
                    look()

        watching = False
        monkeypatch.setattr(ledger_module, "History", WatchedHistory)
        ledger = Watched(bound=1.0, epoch="E", shared=how != "on its own")
        if ledger.shared:
            assert ledger.synced(ledger.sync_request(5.0), page(0))
        entry = Entry()
        assert ledger.alive(entry)
        watching = True
        if how == "heard":
            ledger.heard(message(1, "h:t:a"), 0.0)
        elif how == "on its own":
            ledger.purge_locally(["h:t:a"], False, 0.0)
        else:
            if how == "another epoch":
                assert not ledger.synced(ledger.sync_request(6.0), page(1, epoch="F", complete=False))
                ledger.heard(message(1, "h:t:a", epoch="F"), 0.0)
            assert ledger.synced(ledger.sync_request(6.0), page(1, ("h:t:a", 1), epoch=own.epoch))
        look()
        assert looks == sorted(looks)
        assert looks[-1]

    def test_threads_never_serve_what_a_finished_purge_killed(self) -> None:
        ledger, done, wrong, stop = attached(), [0], [], threading.Event()
        entries = [Entry(number=0)]

        def read() -> None:
            while not stop.is_set():
                finished, entry = done[0], entries[0]
                served = entry.checked == ledger.version or ledger.alive(entry)
                if served and entry.number < finished:
                    wrong.append((entry.number, finished))

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=read) for _ in range(2)]
        try:
            for thread in threads:
                thread.start()
            for number in range(1, 2_001):
                ledger.heard(message(number, "h:t:a") if number % 3 else message(number, floor=number), 0.0)
                done[0] = number
                entries[0] = Entry(number=ledger.stamp().number)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            sys.setswitchinterval(interval)
        assert not wrong


class TestHearing:
    def test_in_order(self) -> None:
        ledger = attached(4)
        assert ledger.heard(message(5, "h:t:a"), 0.0) is False
        assert ledger.sync_request(0.0).seen == 5

    def test_repeated_or_late_is_ignored(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, "h:t:a"), 0.0)
        version = ledger.version
        assert ledger.heard(message(5, "h:t:a"), 0.0) is False
        assert ledger.heard(message(3, "h:t:b"), 0.0) is False
        assert ledger.version == version
        assert ledger.alive(Entry(number=2, tags=("t:b",)))

    def test_over_a_gap_it_kills_at_once_and_asks_for_what_is_missing(self) -> None:
        ledger = attached(4)
        assert ledger.heard(message(7, "h:t:a", floor=2), 0.0) is True
        assert not ledger.alive(Entry(number=5))
        assert not ledger.alive(Entry(number=1, tags=()))
        assert ledger.sync_request(0.0).seen == 4

    def test_late_ones_fill_the_gap_without_undoing_what_came_first(self) -> None:
        ledger = attached(4)
        ledger.heard(message(6, "h:t:a"), 0.0)
        assert ledger.heard(message(5, "h:t:a"), 0.0) is False
        assert not ledger.alive(Entry(number=5))
        assert ledger.heard(message(6, "h:t:a"), 0.0) is False
        assert ledger.stamp().number == 6

    def test_of_another_epoch_nothing_is_applied(self) -> None:
        ledger = attached(4)
        version = ledger.version
        assert ledger.heard(message(5, "h:t:a", epoch="F", floor=9), 0.0) is True
        assert ledger.version == version
        assert ledger.alive(Entry(number=4))
        assert ledger.trusted_until == 101.0

    def test_the_floor_only_rises(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, floor=5), 0.0)
        ledger.heard(message(6, floor=0), 0.0)
        assert not ledger.alive(Entry(number=4, tags=()))

    def test_members_below_the_floor_are_dropped_in_time(self) -> None:
        ledger = attached()
        for number in range(1, 5_001):
            ledger.heard(message(number, f"h:t:{number}", floor=max(0, number - 10)), 0.0)
        assert len(ledger._view.members) < 2_000
        assert not ledger.alive(Entry(number=4_994, tags=("t:4995",)))


class TestWithoutASharedTier:
    def test_trusted_for_ever_and_numbers_its_own_history(self) -> None:
        ledger = Ledger(bound=1.0, epoch="E", shared=False)
        assert ledger.trusted_until == inf
        assert ledger.purge_locally(["h:t:a"], False, 0.0) == Message("E", 1, 0, 0, ("h:t:a",), False, (0,))
        assert not ledger.alive(Entry(number=0))
        assert ledger.stamp() == Stamp("E", 1)
        assert ledger.purge_locally([], True, 0.0) == Message("E", 2, 1, 2, ())
        assert not ledger.alive(Entry(number=1, tags=()))
        assert ledger.alive(Entry(number=2))

    def test_the_history_is_bounded_and_what_is_cut_stays_dead(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(ledger_module, "LOCAL_LIMIT", 100)
        ledger = Ledger(bound=1.0, epoch="E", shared=False)
        for number in range(1, 1_001):
            ledger.purge_locally([f"h:t:{number}"], False, 0.0)
            assert len(ledger._view.members) <= 100
            assert not ledger.alive(Entry(number=number - 1, tags=(f"t:{number}",)))
        assert not ledger.alive(Entry(number=0, tags=("t:1",)))
        assert ledger.alive(Entry(number=950, tags=("t:1",)))

    def test_a_shared_history_is_not_numbered_here(self) -> None:
        with pytest.raises(RuntimeError):
            attached().purge_locally(["h:t:a"], False, 0.0)
