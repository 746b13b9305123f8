"""Thousands of histories of a fleet, and no promise broken.

`TIERCACHE_SEEDS` sets how many are tried (default 3,000); `make simulate` tries more in several processes.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.simulator.run import EVENTS, histories

SEEDS = int(os.environ.get("TIERCACHE_SEEDS", "3000"))


@pytest.mark.timeout(0)
def test_random_histories_keep_every_promise() -> None:
    figures, broken = histories(range(SEEDS))
    assert not broken, broken[0]
    # A simulation in which nothing happens keeps every promise.
    rare = Counter({event: figures.seen[event] for event in EVENTS if figures.seen[event] < SEEDS / EVENTS[event]})
    assert not rare, f"too rare to show anything: {rare}"
