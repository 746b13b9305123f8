"""Hundreds of histories of a fleet, and no promise broken. `make simulate` tries many more, and CI 4,000 of them."""

from __future__ import annotations

import pytest

from tests.simulator.run import histories, too_rare

SEEDS = 800
PARTS = 4
"""So that they run beside each other."""


@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories_keep_every_promise(part: int) -> None:
    seeds = range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS)
    figures, broken = histories(seeds)
    assert not broken, broken[0]
    assert not too_rare(figures), "too rare to show anything"
