"""Thousands of histories of a fleet, and no promise broken.

`TIERCACHE_SEEDS` sets how many are tried (default 2,000); `make simulate` tries more, in several processes.
"""

from __future__ import annotations

import os

import pytest

from tests.simulator.run import EVENTS, histories

SEEDS = int(os.environ.get("TIERCACHE_SEEDS", "2000"))
PARTS = 4
"""So that they run beside each other."""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories_keep_every_promise(part: int) -> None:
    seeds = range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS)
    figures, broken = histories(seeds)
    assert not broken, broken[0]
    # A simulation in which nothing happens keeps every promise.
    rare = {event: count for event, often in EVENTS.items() if (count := figures.seen[event]) < len(seeds) // often}
    assert not rare, f"too rare to show anything: {rare}"
