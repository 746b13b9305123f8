"""Hits and memory by the number of entries in L1. A process of its own, since it is weighed: `... --child` prints JSON.

Every entry is made by a request through the whole cache, as in service; its page has 200 B and one tag. The caches of
all sizes stand beside each other, so that their hits are measured in the same rounds.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import random
import subprocess
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import cast

from benchmarks import measure
from benchmarks.apps import ASGIApp, Scope, constant_asgi
from benchmarks.cases import HIT, SMALL, expect
from benchmarks.drive import asgi_call, asgi_scopes, asgi_status, discard, receive
from benchmarks.footprint import resident
from benchmarks.growth.curves import Curve, of_cases
from benchmarks.measure import Case, timed_prepared
from tiercache import TierCache
from tiercache.tiers.memory import MemoryTier

PATIENCE = 1200.0
"""Seconds: a guard, never waited for."""
_ROOM = "64GiB"


def curves(sizes: Sequence[int], rounds: int, batch_ms: float) -> list[Curve]:
    """Measured by a process of its own."""
    asked = json.dumps({"sizes": list(sizes), "rounds": rounds, "batch_ms": batch_ms})
    command = [sys.executable, "-m", "benchmarks.growth.entries", asked]
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE).stdout
    return [Curve(**one) for one in json.loads(said)]


def measured(sizes: Sequence[int], rounds: int, batch_ms: float) -> list[Curve]:
    """The same in this process."""
    hot, random_ones, accounted, seen = [], [], [], []
    with asyncio.Runner() as runner:
        for size in sizes:
            before = resident()
            cache, app = _filled(runner, size)
            accounted.append(cast("MemoryTier", cache._engine.memory).currsize / size)
            seen.append((resident() - before) / size)
            hot.append(_case(runner, app, 1, "hot"))
            random_ones.append(_case(runner, app, size, "random"))
        measure.run([*hot, *random_ones], rounds=rounds, batch_ms=batch_ms)
    hits = {"the same entry again and again": hot, "entries at random": random_ones}
    memory = {"as L1 accounts for it": accounted, "as the system sees it": seen}
    return [
        of_cases("A hit, by entries in L1", "entries", sizes, hits),
        Curve("Memory of an entry of 200 B, by entries in L1", "entries", "bytes", sizes, memory),
    ]


def _filled(runner: asyncio.Runner, size: int) -> tuple[TierCache, ASGIApp]:
    cache = TierCache(namespace=f"entries-{size}", l1_size=_ROOM)
    cache.route("/p/{id}", ttl="1d", tags=["p:{id}"])
    app = cache.asgi(constant_asgi(SMALL))

    async def fill() -> None:
        for number in range(size):
            await asgi_call(app, "GET", f"/p/{number}")()

    runner.run(fill())
    # What was filled is never garbage, and need not be walked through again and again while the next one is.
    gc.collect()
    gc.freeze()
    held = len(cast("MemoryTier", cache._engine.memory))
    if held != size:
        raise RuntimeError(f"L1 holds {held} entries of {size}")
    return cache, app


def _case(runner: asyncio.Runner, app: ASGIApp, size: int, name: str) -> Case:
    chance = random.Random(size)
    scopes = asgi_scopes("GET", "/p/0")

    def one() -> Scope:
        scope = scopes()
        path = f"/p/{chance.randrange(size)}"
        scope["path"], scope["raw_path"] = path, path.encode()
        return scope

    def check() -> None:
        expect(name, runner.run(asgi_status(app, "GET", f"/p/{chance.randrange(size)}")), HIT)

    call = functools.partial(_ask, app)
    return Case(name, timed_prepared(runner, one, call), check)


def _ask(app: ASGIApp, scope: Scope) -> Awaitable[None]:
    return app(scope, receive, discard)


if __name__ == "__main__":
    print(json.dumps([curve.to_json() for curve in measured(**json.loads(sys.argv[1]))]))
