"""Purges that the shared tier has not confirmed, and the replies to one's own."""

from __future__ import annotations

from typing import Any

from tests.core.ledger_values import Entry, attached, message, page
from tiercache.core import ledger as ledger_module
from tiercache.core.records import BATCH, Unconfirmed


class TestTheReplyToOnesOwnPurge:
    def test_counts_as_heard(self) -> None:
        ledger = attached(4)
        assert ledger.answered(message(5, "h:t:a"), 0.0) is False
        assert not ledger.alive(Entry(number=4))
        assert ledger.heard(message(5, "h:t:a"), 0.0) is False
        assert not ledger.pending()

    def test_of_another_epoch_it_is_held_until_the_mirror_has_caught_up(self) -> None:
        ledger = attached(4)
        assert ledger.answered(message(1, "h:t:a", epoch="F"), 0.0) is True
        assert not ledger.alive(Entry(number=4, mark=0))
        (item,) = ledger.pending()
        assert item.members == ("h:t:a",)
        assert ledger.synced(ledger.sync_request(101.0), page(1, ("h:t:a", 1), epoch="F"))
        assert ledger.confirmed(item, message(2, "h:t:a", epoch="F"), 0.0) is False
        assert not ledger.pending()
        assert ledger.alive(Entry(epoch="F", number=2))

    def test_of_another_epoch_everything_is_held_too(self) -> None:
        ledger = attached(4)
        ledger.answered(message(1, epoch="F", floor=1), 0.0)
        assert not ledger.alive(Entry(number=4, mark=0, tags=()))


class TestBars:
    def test_bar_everything_older_from_whatever_tier_but_not_later_own_fills(self) -> None:
        ledger = attached(4)
        own = Entry(number=4, mark=ledger.mark)
        assert ledger.alive(own)
        ledger.bar(["h:t:a"], False, 0.0)
        assert own.checked != ledger.version
        assert not ledger.alive(own)
        assert not ledger.alive(Entry(number=99, mark=-1))
        assert ledger.alive(Entry(number=4, mark=ledger.mark))
        assert ledger.alive(Entry(number=4, mark=-1, tags=("t:b",)))

    def test_of_everything(self) -> None:
        ledger = attached(4)
        ledger.bar([], True, 0.0)
        assert not ledger.alive(Entry(number=4, mark=0, tags=()))
        assert ledger.alive(Entry(number=4, mark=ledger.mark, tags=()))
        assert ledger.pending() == (Unconfirmed((), True, 1),)

    def test_survive_a_change_of_epoch(self) -> None:
        ledger = attached(4)
        ledger.bar(["h:t:a"], False, 0.0)
        ledger.synced(ledger.sync_request(101.0), page(0, epoch="F"))
        assert not ledger.alive(Entry(epoch="F", number=0, mark=-1))

    def test_the_queue_merges_and_keeps_order(self) -> None:
        ledger = attached()
        ledger.bar(["h:t:a", "h:t:b"], False, 0.0)
        ledger.bar(["h:t:c"], False, 0.0)
        ledger.bar(["h:t:a"], False, 0.0)
        assert ledger.pending() == (Unconfirmed(("h:t:a", "h:t:b", "h:t:c"), False, 3),)

    def test_a_purge_of_everything_swallows_those_before_it(self) -> None:
        ledger = attached()
        ledger.bar(["h:t:a"], False, 0.0)
        ledger.bar([], True, 0.0)
        ledger.bar(["h:t:b"], False, 0.0)
        assert ledger.pending() == (Unconfirmed((), True, 3), Unconfirmed(("h:t:b",), False, 3))

    def test_the_queue_comes_in_batches(self) -> None:
        ledger = attached()
        members = [f"h:t:{i}" for i in range(BATCH * 2 + 1)]
        ledger.bar(members, False, 0.0)
        items = ledger.pending()
        assert [len(item.members) for item in items] == [BATCH, BATCH, 1]
        assert [member for item in items for member in item.members] == members

    def test_the_queue_is_bounded(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(ledger_module, "PENDING_LIMIT", 10)
        ledger = attached()
        for i in range(10):
            ledger.bar([f"h:t:{i}"], False, 0.0)
        assert ledger.alive(Entry(tags=("t:x",)))
        ledger.bar(["h:t:10"], False, 0.0)
        assert ledger.pending() == (Unconfirmed((), True, 11),)
        assert not ledger.alive(Entry(tags=("t:x",)))

    def test_keys_become_their_buckets_before_all_becomes_one(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(ledger_module, "PENDING_LIMIT", 10)
        ledger = attached()
        ledger.bar(["h:t:a"], False, 0.0)
        for i in range(10):
            ledger.bar([f"h:v:s:{i:032x}"], False, 0.0)
        (item,) = ledger.pending()
        assert item == Unconfirmed(("h:t:a", "h:w:s:000"), False, 11)
        assert not ledger.alive(Entry(tags=(f"v:s:{3:032x}", "v:s"), mark=10))
        assert ledger.alive(Entry(tags=(f"v:s:{3:032x}", "v:s"), mark=11))
        assert ledger.alive(Entry(tags=("v:s:1" + "0" * 31, "v:s")))
        assert ledger.alive(Entry(tags=("v:other", "t:b")))
        ledger.confirmed(item, message(1, *item.members), 0.0)
        assert ledger.pending() == ()
        assert not ledger.alive(Entry(tags=(f"v:s:{3:032x}", "v:s"), number=0, mark=10))

    def test_a_confirmation_lifts_them_and_kills_what_began_before_it(self) -> None:
        ledger = attached(4)
        ledger.bar(["h:t:a"], False, 0.0)
        (item,) = ledger.pending()
        assert ledger.confirmed(item, message(5, "h:t:a"), 0.0) is False
        assert ledger.pending() == ()
        assert not ledger.alive(Entry(number=4, mark=-1))
        assert ledger.alive(Entry(number=5, mark=-1))

    def test_a_confirmation_over_a_gap_lifts_them_too(self) -> None:
        ledger = attached(4)
        ledger.bar(["h:t:a"], False, 0.0)
        (item,) = ledger.pending()
        assert ledger.confirmed(item, message(9, "h:t:a"), 0.0) is True
        assert ledger.pending() == ()
        assert not ledger.alive(Entry(number=8, mark=-1))

    def test_of_everything_are_lifted(self) -> None:
        ledger = attached(4)
        ledger.bar([], True, 0.0)
        (item,) = ledger.pending()
        ledger.confirmed(item, message(5, floor=5), 0.0)
        assert ledger.pending() == ()
        assert not ledger.alive(Entry(number=4, mark=-1, tags=()))
        assert ledger.alive(Entry(number=5, mark=-1, tags=()))

    def test_what_was_barred_again_meanwhile_stays(self) -> None:
        ledger = attached(4)
        ledger.bar(["h:t:a", "h:t:b"], False, 0.0)
        (item,) = ledger.pending()
        ledger.bar(["h:t:a"], False, 0.0)
        ledger.confirmed(item, message(5, "h:t:a", "h:t:b"), 0.0)
        assert ledger.pending() == (Unconfirmed(("h:t:a",), False, 2),)
        assert not ledger.alive(Entry(number=5, mark=-1))

    def test_a_reply_of_another_epoch_lifts_nothing(self) -> None:
        ledger = attached(4)
        ledger.bar(["h:t:a"], False, 0.0)
        (item,) = ledger.pending()
        assert ledger.confirmed(item, message(1, "h:t:a", epoch="F"), 0.0) is True
        assert ledger.pending() == (item,)
        assert not ledger.alive(Entry(number=4, mark=-1))
