"""What it costs to keep invalidation: of hits, purges, syncs, memory, attaching and delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks import measure
from benchmarks.figures import Figure
from benchmarks.invalidation_costs import caps, memory, syncs, trips
from benchmarks.invalidation_fleet import attach, delivery, floods
from benchmarks.invalidation_reads import rechecks
from tests.servers import RedisServer


class Amounts(NamedTuple):
    """How much of everything."""

    rounds: int = 25
    batch_ms: float = 2.0
    syncs: int = 300
    tags: int = 100_000
    """Whose memory is taken."""
    ledger: int = 200_000
    """Tags of a full ledger."""
    processes: int = 4
    purges: int = 500
    """Whose delivery is timed."""
    single: int = 20_000
    large: int = 200
    """Messages of the two floods."""


FEW = Amounts(rounds=1, batch_ms=0.01, syncs=3, tags=2_000, ledger=4_000, processes=2, purges=5, single=200, large=3)
"""To see that it runs."""


def figures(amounts: Amounts) -> Iterator[Figure]:
    """Everything, on a server of its own: commands are counted, so nobody else may send any."""
    yield from _reads(amounts)
    with RedisServer() as server:
        yield from trips(server.url)
        yield from syncs(server.url, amounts.syncs)
        yield from memory(server.url, amounts.tags)
        yield from caps(server.url, amounts.ledger)
    with RedisServer() as server:
        yield from attach(server.url, amounts.ledger)
        yield from floods(server.url, amounts.single, amounts.large)
    with RedisServer() as server:
        yield from delivery(server.url, amounts.processes, amounts.purges)


def _reads(amounts: Amounts) -> Iterator[Figure]:
    with asyncio.Runner() as runner:
        found = list(rechecks(runner))
        cases = list({id(case): case for one in found for case in (one.case, one.base)}.values())
        measure.run(cases, rounds=amounts.rounds, batch_ms=amounts.batch_ms)
    for one in found:
        yield Figure(
            one.section,
            one.case.name,
            measure.ratio(one.case, one.base),
            "times",
            f"{one.base.median:.1f} µs",
            None if one.target is None else float(one.target),
        )
