"""Soft purges and bans in the mirror: how they meet hard ones, bars and isolation."""

from __future__ import annotations

import pytest

from tests.core.ledger_values import Entry, attached, message, page
from tiercache.core import bans as bans_module
from tiercache.core.ledger import Ledger
from tiercache.core.records import SOFT_EVERYTHING, Message

PATH = ("t:a", "p:/a/b")


class TestSoftPurges:
    @pytest.mark.parametrize("member", ["s:t:a", SOFT_EVERYTHING])
    def test_make_stale_from_when_they_were_heard(self, member: str) -> None:
        ledger = attached(4)
        ledger.heard(message(5, member), 100.5)
        old, new = Entry(number=4), Entry(number=5)
        assert ledger.alive(old)
        assert ledger.alive(new)
        assert (old.outdated, new.outdated) == ((100.5, False), None)

    def test_are_looked_at_again_when_they_come(self) -> None:
        ledger = attached(4)
        entry = Entry(number=4)
        assert ledger.alive(entry)
        assert entry.checked == ledger.version
        ledger.heard(message(5, "s:t:a"), 100.5)
        assert entry.checked != ledger.version

    def test_of_another_tag_mean_nothing(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, "s:t:b"), 100.5)
        entry = Entry(number=4)
        assert ledger.alive(entry)
        assert entry.outdated is None

    @pytest.mark.parametrize("order", [("h:t:a", "s:t:a"), ("s:t:a", "h:t:a")])
    def test_neither_covers_a_hard_one_nor_is_spared_by_it(self, order: tuple[str, str]) -> None:
        ledger = attached(4)
        for number, member in enumerate(order, 5):
            ledger.heard(message(number, member), 100.0 + number)
        assert not ledger.alive(Entry(number=4))
        between = Entry(number=5)
        assert ledger.alive(between) is (order[1] == "s:t:a")
        assert between.outdated == ((106.0, False) if order[1] == "s:t:a" else None)

    def test_a_hard_one_of_everything_kills_what_was_stale(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, "s:t:a"), 100.5)
        ledger.heard(message(6, floor=6), 100.6)
        assert not ledger.alive(Entry(number=4))
        assert not ledger.alive(Entry(number=5))

    def test_a_soft_one_of_everything_kills_nothing_and_leaves_the_floor(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, SOFT_EVERYTHING), 100.5)
        entry = Entry(number=0, tags=())
        assert ledger.alive(entry)
        assert entry.outdated == (100.5, False)

    def test_a_sync_brings_them_with_the_time_it_was_sent(self) -> None:
        ledger = attached(4)
        assert ledger.synced(ledger.sync_request(103.0), page(5, ("s:t:a", 5)))
        entry = Entry(number=4)
        assert ledger.alive(entry)
        assert entry.outdated == (103.0, False)

    def test_one_that_comes_over_a_gap_counts_at_once(self) -> None:
        ledger = attached(4)
        assert ledger.heard(message(7, "s:t:a"), 100.5)
        entry = Entry(number=4)
        assert ledger.alive(entry)
        assert entry.outdated == (100.5, False)

    def test_without_a_shared_tier(self) -> None:
        ledger = Ledger(bound=1.0, epoch="E", shared=False)
        receipt = ledger.purge_locally(["s:t:a"], False, 50.0)
        assert (receipt.number, receipt.previous) == (1, (0,))
        assert ledger.purge_locally(["s:t:a", "h:t:b"], False, 60.0).previous == (1, 0)
        entry = Entry(number=0)
        assert ledger.alive(entry)
        assert entry.outdated == (60.0, False)


class TestBans:
    @pytest.mark.parametrize("member", ["b:p:/a", "b:g:/a/*"])
    def test_kill_what_is_older_under_the_path(self, member: str) -> None:
        ledger = attached(4)
        ledger.heard(message(5, member), 100.5)
        assert not ledger.alive(Entry(number=4, tags=PATH))
        assert ledger.alive(Entry(number=5, tags=PATH))
        assert ledger.alive(Entry(number=4, tags=("t:a", "p:/b")))

    def test_a_soft_purge_does_not_spare_from_one(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, "b:p:/a"), 100.5)
        ledger.heard(message(6, "s:t:a"), 100.6)
        assert not ledger.alive(Entry(number=4, tags=PATH))

    def test_of_the_history_before_mean_nothing(self) -> None:
        ledger = attached(4)
        ledger.heard(message(5, "b:p:/a"), 100.5)
        ledger.synced(ledger.sync_request(101.0), page(0, epoch="F"))
        assert ledger.alive(Entry(epoch="F", tags=PATH))


class TestBars:
    @pytest.mark.parametrize("member", ["s:t:a", SOFT_EVERYTHING])
    def test_a_soft_one_makes_stale_whatever_began_before_it(self, member: str) -> None:
        ledger = attached(4)
        own, others = Entry(number=4, mark=ledger.mark), Entry(number=99)
        ledger.bar([member], False, 100.5)
        later = Entry(number=4, mark=ledger.mark)
        assert all(ledger.alive(entry) for entry in (own, others, later))
        assert (own.outdated, others.outdated, later.outdated) == ((100.5, False), (100.5, False), None)
        (item,) = ledger.pending()
        assert (item.members, item.everything) == ((member,), False)

    def test_a_soft_one_does_not_cover_a_hard_one_in_either_order(self) -> None:
        for order in (["h:t:a", "s:t:a"], ["s:t:a", "h:t:a"]):
            ledger = attached(4)
            for member in order:
                ledger.bar([member], False, 100.5)
            assert not ledger.alive(Entry(number=99))

    @pytest.mark.parametrize("member", ["b:p:/a", "b:g:/a/*"])
    def test_a_ban(self, member: str) -> None:
        ledger = attached(4)
        own = Entry(number=4, mark=ledger.mark, tags=PATH)
        ledger.bar([member], False, 100.5)
        assert not ledger.alive(own)
        assert not ledger.alive(Entry(number=99, tags=PATH))
        assert ledger.alive(Entry(number=99, tags=("t:a", "p:/b")))
        assert ledger.alive(Entry(number=4, mark=ledger.mark, tags=PATH))

    @pytest.mark.parametrize("member", ["s:t:a", "b:p:/a", "b:g:/a/*"])
    def test_is_lifted_when_it_is_confirmed(self, member: str) -> None:
        """Both with others still waiting and as the last."""
        for others in (["h:t:z", "s:t:z", "b:p:/z"], []):
            ledger = attached(4)
            ledger.bar([member], False, 100.5)
            (item,) = ledger.pending()
            ledger.bar(others, False, 100.6)
            assert not ledger.confirmed(item, message(5, member), 100.7)
            old, new = Entry(number=4, tags=PATH), Entry(number=5, tags=PATH)
            dead = member.startswith("b:")
            assert ledger.alive(old) is not dead
            assert dead or old.outdated == (100.7, False)
            assert ledger.alive(new)
            assert new.outdated is None
            assert [item.members for item in ledger.pending()] == ([tuple(others)] if others else [])

    def test_a_later_one_of_the_same_name_stays(self) -> None:
        ledger = attached(4)
        ledger.bar(["b:p:/a", "s:t:a"], False, 100.5)
        (item,) = ledger.pending()
        ledger.bar(["b:p:/a", "s:t:a"], False, 100.6)
        ledger.confirmed(item, message(5, "b:p:/a", "s:t:a"), 100.7)
        assert not ledger.alive(Entry(number=5, tags=PATH))
        soft = Entry(number=5)
        assert ledger.alive(soft)
        assert soft.outdated == (100.6, False)

    def test_a_prefix_that_is_confirmed_leaves_a_glob_that_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Too many globs: the first is held as a prefix, the very one that is barred, and confirmed, by itself."""
        monkeypatch.setattr(bans_module, "GLOBS", 1)
        ledger = attached(4)
        ledger.bar(["b:p:/a/"], False, 100.5)
        (item,) = ledger.pending()
        ledger.bar(["b:g:/a/*"], False, 100.6)
        ledger.bar(["b:g:/z/*"], False, 100.6)
        ledger.confirmed(item, message(5, "b:p:/a/"), 100.7)
        assert not ledger.alive(Entry(number=5, tags=PATH))
        (item,) = ledger.pending()
        ledger.confirmed(item, message(6, "b:g:/a/*", "b:g:/z/*"), 100.8)
        assert not ledger.pending()
        assert not ledger.alive(Entry(number=5, tags=PATH))
        assert ledger.alive(Entry(number=6, tags=PATH))

    def test_everything_soft_and_hard(self) -> None:
        ledger = attached(4)
        ledger.bar([SOFT_EVERYTHING], False, 100.5)
        ledger.bar([], True, 100.6)
        assert not ledger.alive(Entry(number=99, tags=()))
        (item,) = ledger.pending()
        assert item.everything
        ledger.confirmed(item, message(5, floor=5), 100.7)
        assert not ledger.pending()
        assert not ledger.alive(Entry(number=4, tags=()))
        fresh = Entry(number=5, tags=())
        assert ledger.alive(fresh)
        assert fresh.outdated is None

    def test_the_reply_of_another_epoch_bars_as_it_was_meant(self) -> None:
        ledger = attached(4)
        reply = Message("F", 1, 0, 0, ("s:t:a", "b:p:/x"))
        assert ledger.answered(reply, 100.5)
        soft = Entry(number=4, mark=0)
        assert ledger.alive(soft)
        assert soft.outdated == (100.5, False)
        assert not ledger.alive(Entry(number=4, mark=0, tags=("p:/x/y",)))


class TestTrust:
    def test_alone_a_soft_purge_counts_like_any(self) -> None:
        ledger = attached(4)
        own = Entry(number=4, mark=ledger.mark, began=100.0)
        ledger.bar(["s:t:a"], False, 101.5)
        assert ledger.isolated_ok(own, 105.0, 10.0)
        assert ledger.alive(own)
        assert own.outdated == (101.5, False)

    def test_a_sync_under_way_does_not_bring_back_what_was_given_up(self) -> None:
        """The row that it has left may be gone, and with it the reason for anybody to wait for this process."""
        ledger = attached(4, sent=100.0)
        under_way = ledger.sync_request(100.2)
        ledger.distrust(100.3)
        assert ledger.trusted_until < 100.3
        assert ledger.synced(under_way, page(5, ("h:t:a", 5)))
        assert ledger.trusted_until < 100.3
        assert not ledger.alive(Entry(number=4))
        assert ledger.synced(ledger.sync_request(100.4), page(5))
        assert ledger.trusted_until == 101.4

    def test_alone_for_ever_there_is_nothing_to_give_up(self) -> None:
        ledger = Ledger(bound=1.0, epoch="E", shared=False)
        ledger.distrust(1.0)
        assert ledger.trusted_until > 1e9
