from __future__ import annotations

from math import exp
from typing import Any

import pytest

from tiercache.core.edge_headers import Edge
from tiercache.core.entries import Entry, Variants
from tiercache.core.ledger import Ledger
from tiercache.core.messages import StoredResponse

EDGE = Edge((), None, None, None, frozenset())


def entry(*, offset: float = 1_000_000.0, early: float | str | None = None, **more: Any) -> Entry:
    stored: dict[str, Any] = {
        "key": b"k", "epoch": "E", "number": 3, "tags": ("t:a",), "status": 200, "reason": b"OK", "fields": (),
        "created": 1_000_100.0, "fresh_until": 1_000_160.0, "keep_until": 1_000_400.0, "cost": 0.5,
    }  # fmt: skip
    response = StoredResponse(**(stored | more))
    return Entry(response, EDGE, offset=offset, isolated_ttl=10.0, mark=7, began=99.5, early=early)


def test_times_are_turned_to_the_clock_of_the_process() -> None:
    made = entry(stale_while_revalidate=30.0, stale_if_error=240.0)
    assert (made.born, made.fresh_until, made.keep_until) == (100.0, 160.0, 400.0)
    assert (made.refresh_until, made.error_until) == (190.0, 400.0)
    assert entry().refresh_until == entry().error_until == 160.0


def test_it_holds_what_a_hit_looks_at() -> None:
    made = entry(public=True, body=b"hello", status=203)
    assert (made.status, made.body, made.public, made.edge) == (203, b"hello", True, EDGE)
    assert (made.mark, made.began, made.isolated_ttl) == (7, 99.5, 10.0)
    assert made.wire == (-1, None)


def test_it_is_what_the_ledger_asks_for() -> None:
    ledger = Ledger(bound=1.0, epoch="E", shared=False)
    made = entry()
    assert made.checked != ledger.version
    assert ledger.alive(made)
    assert made.checked == ledger.version
    for _ in range(4):
        ledger.purge_locally(["h:t:a"], False, 0.0)
    assert not ledger.alive(made)


def test_a_marker_begins_without_variants() -> None:
    one, other = Variants((b"accept",), shared=True, size=5), Variants((), shared=False)
    assert (one.names, one.shared, one.size, one.kept, one.full) == ((b"accept",), True, 5, {}, False)
    assert one.kept is not other.kept


def test_what_is_outdated_or_spent_ends_then_and_never_later() -> None:
    stored = entry(stale_while_revalidate=30.0, stale_if_error=60.0).response
    assert stored.stale_from(1_000_120.0).fresh_until == 1_000_120.0
    assert stored.stale_from(1_000_999.0).fresh_until == stored.fresh_until
    spent = stored.spent(1_000_150.0)
    assert (spent.fresh_until, spent.keep_until) == (stored.created, 1_000_150.0)
    assert (spent.stale_while_revalidate, spent.stale_if_error, spent.may_stale) == (0.0, 0.0, False)


def test_without_a_word_about_it_nothing_is_refreshed_before_its_end() -> None:
    assert entry().soon == entry().fresh_until == 160.0


def test_a_fraction_counts_from_the_birth() -> None:
    made = entry(early=0.75)
    assert made.soon == 145.0
    assert made.early_due(145.0, 0.5)
    assert made.early_due(145.0, 0.999_999)


def test_a_dear_response_is_looked_at_sooner_and_its_cost_decides() -> None:
    cheap, dear = entry(early="probabilistic", cost=0.01), entry(early="probabilistic", cost=2.0)
    assert 100.0 < dear.soon < cheap.soon < cheap.fresh_until
    # XFetch with beta 1: due once now - cost * ln(chance) has reached the end.
    chance = exp(-5.0)
    assert dear.early_due(150.0, chance - 0.000_1)
    assert not dear.early_due(150.0, chance + 0.000_1)
    assert not cheap.early_due(150.0, chance)
    assert cheap.early_due(159.96, chance)


def test_before_soon_a_chance_in_a_million_would_be_needed() -> None:
    made = entry(early="probabilistic", cost=2.0)
    assert not made.early_due(made.soon - 0.001, 1e-6)
    assert made.early_due(made.soon + 0.4, 1e-6)


def test_no_chance_at_all_is_the_least_of_all_chances() -> None:
    made = entry(early="probabilistic", cost=1.0)
    assert made.early_due(159.0, 0.0)
    assert not made.early_due(100.0, 0.0)


def test_what_cost_nothing_is_due_only_at_its_end() -> None:
    made = entry(early="probabilistic", cost=0.0)
    assert made.soon == made.fresh_until


@pytest.mark.parametrize("early", [None, 0.5, 0.999, "probabilistic"])
@pytest.mark.parametrize("history_lost", [False, True])
@pytest.mark.parametrize("at", [90.0, 130.0, 145.0, 160.0, 170.0])
def test_outdating_keeps_the_moments_in_order(early: float | str | None, history_lost: bool, at: float) -> None:
    made = entry(early=early, stale_while_revalidate=30.0, stale_if_error=60.0)
    before = (made.soon, made.fresh_until, made.refresh_until, made.error_until, made.keep_until)
    made.outdate(at, history_lost=history_lost)
    after = (made.soon, made.fresh_until, made.refresh_until, made.error_until, made.keep_until)
    assert all(new <= old for new, old in zip(after, before, strict=True))
    assert made.fresh_until == min(at, 160.0)
    assert made.soon <= made.fresh_until <= made.refresh_until <= made.keep_until
    assert made.fresh_until <= made.error_until
    # Twice, or later, it moves nothing.
    made.outdate(at + 1.0, history_lost=history_lost)
    assert after == (made.soon, made.fresh_until, made.refresh_until, made.error_until, made.keep_until)
