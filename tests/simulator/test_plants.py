"""Each planted bug is noticed: a check that finds nothing has to be able to find something.

Here each search looks where its bug shows; `make simulate ARGS=--plants` lets all of them look everywhere.
"""

from __future__ import annotations

import pytest

from tests.simulator.plants import PLANTS, SLOW, seeds_until_caught

WITHIN = 1_500
"""Histories; most are noticed within the first twenty."""


LONG = {
    "trust runs from the receipt",
    "what others filled is served in isolation",
    "an isolated entry is judged from the end of its fill",
}
"""Noticed only after hundreds of histories."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.soak if name in LONG else ()) for name in PLANTS if name not in SLOW],
)
def test_a_planted_bug_is_noticed(name: str) -> None:
    assert seeds_until_caught(name, WITHIN, focused=True), f"{WITHIN} histories, and nobody noticed: {name}"
