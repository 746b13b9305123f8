"""Following the shared tier: pages, epochs, trust, isolation, and a fork."""

from __future__ import annotations

from math import inf

from tests.core.ledger_values import Entry, attached, message, page
from tiercache.core.ledger import Ledger
from tiercache.core.records import Stamp, SyncRequest


class TestSync:
    def test_a_shared_ledger_starts_without_trust(self) -> None:
        ledger = Ledger(bound=1.0, epoch="local", shared=True)
        assert ledger.trusted_until == -inf
        assert ledger.last_good_sync == -inf
        assert ledger.stamp() == Stamp("local", 0)
        assert ledger.sync_request(7.0) == SyncRequest("local", 0, 7.0)

    def test_trust_runs_from_the_sending(self) -> None:
        ledger = attached(sent=100.0, bound=2.5)
        assert ledger.trusted_until == 102.5
        assert ledger.last_good_sync == 100.0

    def test_an_older_request_answered_late_takes_no_trust_away(self) -> None:
        ledger = attached(sent=100.0)
        early, late = ledger.sync_request(100.3), ledger.sync_request(100.6)
        assert ledger.synced(late, page(0))
        assert ledger.synced(early, page(0))
        assert ledger.trusted_until == 101.6
        assert ledger.last_good_sync == 100.6

    def test_nothing_new_renews_trust_and_nothing_else(self) -> None:
        ledger, entry = attached(3), Entry(number=3)
        assert ledger.alive(entry)
        assert ledger.synced(ledger.sync_request(101.0), page(3))
        assert entry.checked == ledger.version
        assert ledger.trusted_until == 102.0

    def test_pages_keep_the_first_sending_and_trust_waits_for_the_last(self) -> None:
        ledger = attached(1, sent=100.0)
        request = ledger.sync_request(200.0)
        assert ledger.synced(request, page(9, ("h:t:a", 3), last=3, complete=False)) is False
        assert ledger.trusted_until == 101.0
        assert not ledger.alive(Entry(number=1))
        request = ledger.sync_request(request.sent)
        assert request == SyncRequest("E", 3, 200.0, 1)
        assert ledger.synced(request, page(9, ("h:t:b", 9)))
        assert ledger.trusted_until == 201.0
        assert not ledger.alive(Entry(number=8, tags=("t:b",)))
        assert ledger.stamp().number == 9

    def test_an_unfinished_sync_does_not_make_a_message_late(self) -> None:
        """Number 2 raised `a` again, so the page that ends with 1 does not have it, and the next one will."""
        ledger = attached(0)
        ledger.synced(ledger.sync_request(100.0), page(2, ("h:t:b", 1), last=1, complete=False))
        assert ledger.heard(message(1, "h:t:a", "h:t:b"), 0.0) is False
        assert not ledger.alive(Entry(number=0))

    def test_messages_heard_meanwhile_are_not_undone(self) -> None:
        ledger = attached(4)
        request = ledger.sync_request(101.0)
        ledger.heard(message(5, "h:t:a"), 0.0)
        ledger.heard(message(6, "h:t:a"), 0.0)
        assert ledger.synced(request, page(5, ("h:t:a", 5)))
        assert not ledger.alive(Entry(number=5))
        assert ledger.stamp().number == 6

    def test_a_new_epoch_is_seen_whole(self) -> None:
        ledger, old = attached(4, sent=100.0), Entry(number=4, tags=())
        version = ledger.version
        request = ledger.sync_request(100.5)
        assert ledger.synced(request, page(9, ("h:t:a", 3), epoch="F", last=3, complete=False)) is False
        assert ledger.trusted_until == -inf
        assert ledger.stamp() == Stamp("E", 4)
        assert ledger.alive(old)
        assert not ledger.alive(Entry(epoch="F", number=9))
        request = ledger.sync_request(request.sent)
        assert request == SyncRequest("F", 3, 100.5)
        assert ledger.synced(request, page(9, ("h:t:b", 9), epoch="F"))
        assert ledger.trusted_until == 101.5
        assert ledger.stamp() == Stamp("F", 9)
        assert ledger.version > version
        assert not ledger.alive(old)
        assert not ledger.alive(Entry(epoch="F", number=2))
        assert not ledger.alive(Entry(epoch="F", number=8, tags=("t:b",)))
        assert ledger.alive(Entry(epoch="F", number=3))

    def test_messages_of_an_epoch_on_its_way_are_kept(self) -> None:
        ledger = attached(4)
        request = ledger.sync_request(101.0)
        ledger.synced(request, page(9, ("h:t:a", 3), epoch="F", last=3, complete=False))
        assert ledger.heard(message(10, "h:t:a", epoch="F"), 0.0) is True
        assert ledger.synced(ledger.sync_request(101.0), page(9, epoch="F"))
        assert not ledger.alive(Entry(epoch="F", number=9))

    def test_a_reply_to_a_request_under_an_epoch_given_up_is_not_taken(self) -> None:
        ledger = Ledger(bound=1.0, epoch="local", shared=True)
        late = ledger.sync_request(50.0)
        assert ledger.synced(ledger.sync_request(100.0), page(2, epoch="E"))
        version = ledger.version
        assert ledger.synced(late, page(1, ("h:t:a", 1), epoch="D")) is False
        assert ledger.stamp() == Stamp("E", 2)
        assert ledger.version == version
        assert ledger.trusted_until == 101.0

    def test_a_history_that_another_has_followed_gets_no_more_trust(self) -> None:
        ledger = attached(4, sent=100.0)
        late = ledger.sync_request(100.5)
        ledger.synced(ledger.sync_request(100.6), page(9, epoch="F", last=1, complete=False))
        assert ledger.synced(late, page(4)) is False
        assert ledger.trusted_until == -inf

    def test_a_page_is_not_taken_where_the_pages_before_it_are_gone(self) -> None:
        ledger = attached(4)
        first = ledger.sync_request(100.0)
        ledger.synced(first, page(9, ("h:t:a", 3), epoch="F", last=3, complete=False))
        follow_up = ledger.sync_request(100.0)
        ledger.synced(first, page(0, epoch="G", last=0, complete=False))
        ledger.synced(first, page(9, ("h:t:z", 1), epoch="F", last=1, complete=False))
        assert ledger.synced(follow_up, page(9, ("h:t:b", 9), epoch="F")) is False
        assert ledger.sync_request(100.0) == SyncRequest("F", 1, 100.0)
        assert ledger.trusted_until == -inf

    def test_the_version_never_goes_back(self) -> None:
        ledger, versions = attached(4), []
        for step in (
            lambda: ledger.heard(message(5, "h:t:a"), 0.0),
            lambda: ledger.bar(["h:t:b"], False, 0.0),
            lambda: ledger.synced(ledger.sync_request(1.0), page(1, epoch="F")),
            lambda: ledger.heard(message(2, "h:t:a", epoch="F"), 0.0),
            lambda: ledger.synced(ledger.sync_request(1.0), page(3, ("h:t:c", 3), epoch="F")),
            ledger.after_fork,
        ):
            versions.append(ledger.version)
            step()
            assert ledger.version > versions[-1]


class TestIsolation:
    def test_own_fills_until_the_ttl_after_the_last_sync_or_the_fill_whichever_is_later(self) -> None:
        ledger = attached(sent=100.0)
        assert ledger.isolated_ok(Entry(mark=0, began=90.0), 109.9, 10.0)
        assert not ledger.isolated_ok(Entry(mark=0, began=90.0), 110.0, 10.0)
        assert ledger.isolated_ok(Entry(mark=0, began=105.0), 114.9, 10.0)
        assert not ledger.isolated_ok(Entry(mark=0, began=105.0), 115.0, 10.0)

    def test_never_what_came_from_a_shared_tier(self) -> None:
        assert not attached().isolated_ok(Entry(mark=-1, began=100.0), 100.0, 10.0)

    def test_a_ttl_of_zero_forbids_it(self) -> None:
        assert not attached(sent=100.0).isolated_ok(Entry(mark=0, began=100.0), 100.0, 0.0)

    def test_before_any_sync_the_fill_counts(self) -> None:
        ledger = Ledger(bound=1.0, epoch="local", shared=True)
        assert ledger.isolated_ok(Entry(mark=0, began=5.0), 14.0, 10.0)


def test_a_forked_child_can_write_and_looks_again() -> None:
    ledger, entry = attached(4), Entry(number=4)
    ledger.alive(entry)
    ledger.bar(["h:t:b"], False, 0.0)
    ledger._lock.acquire()
    ledger.after_fork()
    assert ledger.trusted_until == -inf
    assert entry.checked != ledger.version
    assert ledger.heard(message(5, "h:t:a"), 0.0) is False
    assert ledger.pending()


def test_a_forked_child_without_a_shared_tier_keeps_its_trust() -> None:
    ledger = Ledger(bound=1.0, epoch="E", shared=False)
    ledger.after_fork()
    assert ledger.trusted_until == inf
