"""All curves, and how far each of them goes."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.growth import entries
from benchmarks.growth.curves import Curve
from benchmarks.growth.others import by_own_tags, by_purged_tags, by_rules

ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
PURGED = (0, 1_000, 10_000, 50_000, 200_000)
RULES = (10, 30, 100, 300, 1_000)
TAGS = (1, 3, 10, 30, 100)
_QUICK = 2
"""So many of the points, to see that it runs."""


def every(quick: bool, *, rounds: int, batch_ms: float) -> Iterator[Curve]:
    points = _QUICK if quick else None
    yield by_rules(RULES[:points], rounds, batch_ms)
    yield from by_own_tags(TAGS[:points], rounds, batch_ms)
    yield by_purged_tags(PURGED[:points], rounds, batch_ms)
    yield from entries.curves(ENTRIES[:1] if quick else ENTRIES, rounds, batch_ms)
