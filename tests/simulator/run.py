"""Many histories in a row, and what happened in them."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.simulator.plan import shape_of, simulate
from tests.simulator.shrink import explain
from tests.simulator.world import Violation

EVENTS = {
    **dict.fromkeys(("served l1", "served l2", "served followed", "fills", "purges", "soft purges"), 1),
    **dict.fromkeys(("writes", "written through", "written past others", "values from l1", "values from l2"), 5),
    **dict.fromkeys(("interrupted", "barriers", "session purges", "kept", "dead", "served isolated"), 1),
    **dict.fromkeys(("unconfirmed", "replayed", "served outdated", "not modified", "app failed"), 5),
    **dict.fromkeys(("message lost", "message repeated", "isolated named", "settled"), 5),
    **dict.fromkeys(("paused", "crashed", "forked", "cut off", "one way", "slow", "deaf", "subscriber killed"), 20),
    **dict.fromkeys(("redis stopped", "restarted", "failed over", "flushed", "full", "cancelled"), 20),
    **dict.fromkeys(("ledger evicted", "members evicted", "values evicted", "rolled back"), 100),
    "refresh behind": 2,
    "served error": 400,
}
"""What has to happen at least once in so many histories on average."""
FAULTS = (
    *("paused", "crashed", "forked", "cut off", "one way", "slow", "deaf", "subscriber killed", "redis stopped"),
    *("restarted", "failed over", "flushed", "full", "ledger evicted", "members evicted", "values evicted"),
    *("rolled back", "message lost", "message repeated", "app failed"),
)


@dataclass
class Figures:
    seeds: int = 0
    steps: int = 0
    worst: float = 0.0
    """Longest staleness that a process with trust has served, in seconds."""
    seen: Counter[str] = field(default_factory=Counter)

    def add(self, other: Figures) -> None:
        self.seeds += other.seeds
        self.steps += other.steps
        self.worst = max(self.worst, other.worst)
        self.seen += other.seen

    def line(self) -> str:
        seen = self.seen
        faults = sum(seen[fault] for fault in FAULTS)
        purges = seen["purges"] + seen["soft purges"] + seen["unconfirmed"] + seen["cancelled"]
        return (
            f"{self.seeds:,} histories, {self.steps:,} steps, {seen['reads']:,} answers from the store, "
            f"{seen['fills']:,} calls of the app, {purges:,} purges, {faults:,} faults; "
            f"worst staleness with trust {self.worst:.3f} s of 1 s"
        )


def too_rare(figures: Figures) -> dict[str, int]:
    """What happened too rarely to show anything, and how often: a simulation in which nothing happens keeps every
    promise."""
    return {event: count for event, often in EVENTS.items() if (count := figures.seen[event]) < figures.seeds // often}


def histories(seeds: Iterable[int], *, processes: int | None = None, **switches: Any) -> tuple[Figures, list[str]]:
    """The figures, and an explanation of each history that breaks a promise (of the first few)."""
    figures = Figures()
    broken: list[str] = []
    collecting = gc.isenabled()
    # Each history leaves a web of references behind; to look for it all the time would take a third of the time.
    gc.disable()
    try:
        for count, seed in enumerate(seeds, 1):
            shape = shape_of(seed, processes)
            try:
                fleet = simulate(seed, shape=shape, **switches)
            except Violation as error:
                fleet = error.fleet  # type: ignore[attr-defined]
                broken.append(f"seed {seed}: {error}" if len(broken) > 2 else explain(seed, shape=shape, **switches))
            figures.seeds += 1
            figures.steps += fleet.world.steps
            figures.worst = max(figures.worst, fleet.oracle.worst)
            figures.seen += fleet.world.seen
            if count % 100 == 0:
                gc.collect()
    finally:
        if collecting:
            gc.enable()
    return figures, broken
