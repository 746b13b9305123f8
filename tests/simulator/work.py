"""What one process of `make simulate` does: by itself, so that each start method finds it."""

from __future__ import annotations

import time

from tests.simulator.plants import seeds_until_caught
from tests.simulator.run import Figures, histories

CHUNK = 250
MOST = 20_000


def chunk(first: int, *, end: int, processes: int | None) -> tuple[Figures, list[str]]:
    return histories(range(first, min(first + CHUNK, end)), processes=processes)


def one_plant(name: str) -> tuple[str, tuple[int, str] | None, float]:
    """Its name, what `seeds_until_caught` says, and the seconds of CPU that this took."""
    began = time.process_time()
    return name, seeds_until_caught(name, MOST, focused=False), time.process_time() - began
