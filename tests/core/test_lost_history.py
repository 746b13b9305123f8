"""`keep_lost`: what was stored under a history whose end is lost, used as stale."""

from __future__ import annotations

from tests.core.ledger_values import Entry, message, page
from tiercache.core.ledger import Ledger


def attached(seq: int = 4, *, keep_lost: bool = True) -> Ledger:
    ledger = Ledger(bound=1.0, epoch="local", shared=True, keep_lost=keep_lost)
    assert ledger.synced(ledger.sync_request(100.0), page(seq))
    return ledger


def lose(ledger: Ledger, *records: tuple[str, int], epoch: str = "F", sent: float = 110.0, floor: int = 0) -> None:
    head = max([number for _, number in records], default=floor)
    assert ledger.synced(ledger.sync_request(sent), page(head, *records, epoch=epoch, floor=floor))


def test_it_is_stale_from_the_loss_on_and_of_no_use_after_its_window() -> None:
    ledger = attached()
    entry = Entry(number=4)
    assert ledger.alive(entry)
    lose(ledger)
    assert entry.checked != ledger.version
    assert ledger.alive(entry)
    assert entry.outdated == (110.0, True)
    assert entry.checked == ledger.version


def test_without_it_is_dead() -> None:
    ledger = attached(keep_lost=False)
    lose(ledger)
    assert not ledger.alive(Entry(number=4))


def test_what_is_stored_since_is_fresh() -> None:
    ledger = attached()
    lose(ledger)
    entry = Entry(epoch="F", number=0)
    assert ledger.alive(entry)
    assert entry.outdated is None


def test_hard_purges_of_before_still_kill() -> None:
    for member in ("h:t:a", "b:p:/a", "b:g:/a*"):
        ledger = attached()
        ledger.heard(message(5, member), 101.0)
        lose(ledger)
        assert not ledger.alive(Entry(number=4, tags=("t:a", "p:/a")))
        assert ledger.alive(Entry(number=5, tags=("t:a", "p:/a")))


def test_a_floor_of_before_still_kills() -> None:
    ledger = attached()
    ledger.heard(message(5, floor=5), 101.0)
    lose(ledger)
    assert not ledger.alive(Entry(number=4))
    assert ledger.alive(Entry(number=5))


def test_any_hard_record_of_the_new_history_kills_whatever_its_number() -> None:
    for member in ("h:t:a", "b:p:/a", "b:g:/a*"):
        ledger = attached()
        lose(ledger, (member, 1))
        assert not ledger.alive(Entry(number=4, tags=("t:a", "p:/a")))
        assert ledger.alive(Entry(number=4, tags=("t:b", "p:/b")))
        ledger.heard(message(2, "h:t:b", epoch="F"), 111.0)
        assert not ledger.alive(Entry(number=4, tags=("t:b", "p:/b")))


def test_a_floor_of_the_new_history_kills() -> None:
    ledger = attached()
    lose(ledger, floor=1)
    assert not ledger.alive(Entry(number=4))


def test_bars_still_kill() -> None:
    ledger = attached()
    ledger.bar(["h:t:a"], False, 101.0)
    lose(ledger)
    assert not ledger.alive(Entry(number=4))


def test_what_was_stale_before_the_loss_is_so_from_then() -> None:
    """Otherwise the loss would lengthen the time for which it may be served."""
    ledger = attached()
    ledger.heard(message(5, "s:t:a"), 101.0)
    lose(ledger)
    entry = Entry(number=4)
    assert ledger.alive(entry)
    assert entry.outdated == (101.0, True)


def test_a_second_loss_ends_the_first() -> None:
    ledger = attached()
    lose(ledger)
    lose(ledger, epoch="G", sent=120.0)
    assert not ledger.alive(Entry(number=4))
    between = Entry(epoch="F", number=0)
    assert ledger.alive(between)
    assert between.outdated == (120.0, True)


def test_a_history_that_was_never_complete_here_is_passed_over() -> None:
    ledger = attached()
    first = ledger.sync_request(110.0)
    assert not ledger.synced(first, page(9, ("h:t:x", 1), epoch="F", last=1, complete=False))
    assert ledger.synced(ledger.sync_request(110.0), page(0, epoch="G"))
    entry = Entry(number=4)
    assert ledger.alive(entry)
    assert entry.outdated == (110.0, True)


def test_until_the_new_one_is_complete_the_old_one_counts() -> None:
    ledger = attached()
    assert not ledger.synced(ledger.sync_request(110.0), page(9, epoch="F", last=1, complete=False))
    entry = Entry(number=4)
    assert ledger.alive(entry)
    assert entry.outdated is None
    assert ledger.trusted_until < 0


def test_what_was_filled_before_there_was_any_history_is_dead() -> None:
    """Nobody knows what was purged meanwhile."""
    ledger = Ledger(bound=1.0, epoch="local", shared=True, keep_lost=True)
    own = Entry(epoch="local", number=0, mark=0)
    assert ledger.alive(own)
    lose(ledger)
    assert not ledger.alive(own)


def test_histories_do_not_pile_up() -> None:
    ledger = attached()
    lose(ledger)
    lose(ledger, epoch="G", sent=120.0)
    before = ledger._view.before
    assert before is not None
    assert before.before is None
