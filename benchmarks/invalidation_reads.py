"""What a hit in L1 pays for the purges of other things: the next hit of each entry looks at them once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from benchmarks.apps import constant_asgi
from benchmarks.cases import HIT, SMALL, Comparison, cached, expect
from benchmarks.drive import asgi_call, asgi_status
from benchmarks.measure import Case, timed_singly_async
from tiercache import TierCache

SECTION = "L1 hit after a purge of something else, beside one after nothing changed"
GRID: tuple[tuple[int, int, int], ...] = (
    (1, 0, 0),
    (5, 0, 0),
    (20, 0, 0),
    (1, 10, 0),
    (1, 1_000, 0),
    (1, 0, 10),
    (1, 0, 1_000),
    (20, 1_000, 1_000),
)
"""Tags of the entry, bans of other paths by their beginning, bans of other paths by a glob."""
UNCHANGED = Fraction(11, 10)


def rechecks(runner: asyncio.Runner) -> Iterator[Comparison]:
    bare = _case(runner, "nothing changed", lambda cache: None)
    # A purge leaves the processor's caches as it may; here another cache is purged, which changes nothing for this one.
    other = cached(ttl="1h")
    base = _case(runner, "nothing changed, another cache purged", lambda _: purge_other(other))
    yield Comparison(SECTION, bare, base, UNCHANGED)
    for tags, prefixes, globs in GRID:
        name = _named(tags, prefixes, globs)
        yield Comparison(SECTION, _case(runner, name, purge_other, tags, prefixes, globs), base, None)
    # Older bans are told from the numbers alone.
    filled_since = _case(runner, _named(1, 1_000, 1_000) + ", filled since", purge_other, 1, 1_000, 1_000, since=True)
    yield Comparison(SECTION, filled_since, base, None)


def purge_other(cache: TierCache) -> object:
    """A purge that changes the ledger and nothing in the store."""
    # Below `purge`, which does not run on an event loop.
    return cache._engine.ledger.purge_locally(("h:t:other",), False, 0.0)


def _named(tags: int, prefixes: int, globs: int) -> str:
    bans = [f"{count:,} {kind}" for count, kind in ((prefixes, "prefix bans"), (globs, "globs")) if count]
    return ", ".join([f"{tags} tag{'s' * (tags > 1)}", *bans])


def _case(
    runner: asyncio.Runner,
    name: str,
    before: Callable[[TierCache], object],
    tags: int = 1,
    prefixes: int = 0,
    globs: int = 0,
    *,
    since: bool = False,
) -> Case:
    cache = cached(ttl="1h", tags=[f"product:{number}" for number in range(tags)])
    app: Any = cache.asgi(constant_asgi(SMALL))
    path = "/item"
    if not since:
        runner.run(asgi_status(app, "GET", path))
    # Of paths like those of a shop, in a few lengths.
    if prefixes:
        cache.purge(prefix=[f"/products/{number}/" for number in range(prefixes)])
    if globs:
        cache.purge(glob=[f"/products/{number}/*/reviews" for number in range(globs)])
    runner.run(asgi_status(app, "GET", path))

    def check() -> None:
        before(cache)
        expect(name, runner.run(asgi_status(app, "GET", path)), HIT)

    return Case(name, timed_singly_async(runner, asgi_call(app, "GET", path), lambda: before(cache)), check)
