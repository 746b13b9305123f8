"""Whole hits in L2 while 32 are under way, beside `GET`s of the same bytes, one at a time and as many at once.

What the reads alone may cost is measured in `reads`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from benchmarks.apps import ASGIApp, Lifespan, constant_asgi
from benchmarks.cases import MIDDLE, SMALL, Comparison, expect, named
from benchmarks.drive import asgi_call, asgi_status
from benchmarks.measure import Case, timed_together
from benchmarks.shared import HIT_L2, PATIENT, forget_l1, plain_redis, until_l2_answers, value_of_size
from tiercache import TierCache

AT_ONCE = 32
SECTION = f"ASGI hits in L2, {AT_ONCE} under way"


def hits_together(runner: asyncio.Runner, url: str, resources: ExitStack) -> Iterator[Comparison]:
    """Each of the hits is of a page of its own, so that no flight is shared."""
    plain, client, tag = plain_redis(runner, url, resources)
    for size in (SMALL, MIDDLE):
        cache = TierCache(url, namespace=f"{tag}t{size}", **PATIENT)
        cache.route("/{page}", ttl="1h")
        app = cache.asgi(constant_asgi(size))
        resources.enter_context(Lifespan(runner, app))
        paths = [f"/{number}" for number in range(AT_ONCE)]
        for path in paths:
            until_l2_answers(cache, functools.partial(_status, runner, app, path))
        hits = [asgi_call(app, "GET", path) for path in paths]
        keys = [f"{tag}:together:{number}" for number in range(AT_ONCE)]
        value = value_of_size(plain, f"{tag}t{size}", size)
        for key in keys:
            plain.set(key, value)
        gets = [functools.partial(client.get, key) for key in keys]

        def check(cache: TierCache = cache, app: ASGIApp = app, paths: Sequence[str] = paths) -> None:
            for path in paths:
                forget_l1(cache)()
                expect(path, _status(runner, app, path), HIT_L2)

        together = Case(f"hit, {named(size)}", timed_together(runner, hits, forget_l1(cache)), check)
        beside = Case(f"redis-py GET, {named(size)}, as many at once", timed_together(runner, gets, _nothing), _nothing)
        one = timed_together(runner, gets[:1], _nothing)
        alone = Case(f"redis-py GET, {named(size)}, one at a time", one, _nothing)
        yield Comparison(SECTION, together, beside, None)
        yield Comparison(SECTION, together, alone, None)


def _status(runner: asyncio.Runner, app: ASGIApp, path: str) -> str:
    return runner.run(asgi_status(app, "GET", path))


def _nothing() -> None:
    pass
