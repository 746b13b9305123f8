"""What is measured in process, beside what, and how much it may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from wsgiref.types import WSGIApplication

from benchmarks.apps import ASGIApp, constant_asgi, constant_wsgi, flask_app, starlette_app
from benchmarks.drive import (
    AUTHORIZATION,
    PROXIED,
    asgi_call,
    asgi_scopes,
    asgi_status,
    discard,
    receive,
    wsgi_call,
    wsgi_status,
)
from benchmarks.measure import Case, timed, timed_async, timed_prepared
from tiercache import TierCache

SMALL, MIDDLE, LARGE = 200, 10_000, 200_000
ABSENT = ""
HIT = "tiercache; hit"
BYPASS = "tiercache; fwd="
MAX_EXTRA = Fraction(11, 10)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of the table: `case` may take at most `target` times as long as `base`; None: for information."""

    section: str
    case: Case
    base: Case
    target: Fraction | None


def named(size: int) -> str:
    return f"{size // 1000} kB" if size >= 1000 else f"{size} B"


def expect(name: str, status: str, says: str) -> None:
    """`Cache-Status` has to say that a case is what it claims to be; ABSENT: there is no cache in it."""
    if says == ABSENT and status:
        raise AssertionError(f"{name}: Cache-Status is {status!r}, and there should be none")
    if says not in status:
        raise AssertionError(f"{name}: Cache-Status is {status!r}, and should contain {says!r}")


class Maker:
    """Makes cases of one request; all asynchronous ones run on one event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner

    def asgi(self, name: str, app: ASGIApp, says: str, *more: tuple[bytes, bytes], method: str = "GET") -> Case:
        call = asgi_call(app, method, "/item", *more)

        def check() -> None:
            expect(name, self.runner.run(asgi_status(app, method, "/item", *more)), says)

        self.runner.run(_once(call))  # fills, where there is something to fill
        return Case(name, timed_async(self.runner, call), check)

    def asgi_alone(self, name: str, app: ASGIApp, says: str) -> Case:
        """As `asgi`, with the scopes made before the clock starts."""
        case = self.asgi(name, app, says)
        case.batch = timed_prepared(self.runner, asgi_scopes(), lambda scope: app(scope, receive, discard))
        return case

    def wsgi(self, name: str, app: WSGIApplication, says: str, *more: tuple[bytes, bytes], method: str = "GET") -> Case:
        call = wsgi_call(app, method, "/item", *more)

        def check() -> None:
            expect(name, wsgi_status(app, method, "/item", *more), says)

        call()
        return Case(name, timed(call), check)


async def _once(call: Callable[[], Awaitable[None]]) -> None:
    await call()


def cached(**rule: Any) -> TierCache:
    """A cache of L1 alone with one rule."""
    cache = TierCache(namespace="bench")
    cache.route("/item", **rule)
    return cache


def asked_much() -> TierCache:
    """A cache of L1 alone whose last rule, behind others, asks of a hit all that a rule can."""
    cache = TierCache(namespace="bench")
    cache.route("/", ttl="10m")
    cache.route("/account/{rest:path}", cache=False)
    cache.route("/{section}/{id:int}", ttl="5m")
    stale: Any = {"stale_while_revalidate": "1m", "stale_if_error": "1h", "early_refresh": 0.9}
    keyed: Any = {"query": ["page"], "headers": ["accept-language"]}
    edge: Any = {"browser_ttl": "30s", "cdn_ttl": "1d"}
    cache.route("/{section}", ttl="1h", tags=["section:{section}", "catalog"], **stale, **keyed, **edge)
    return cache


def asgi_hits(make: Maker) -> Iterator[Comparison]:
    section = "ASGI hit in L1"
    framework = make.asgi("Starlette route, small JSON", starlette_app(), ABSENT)
    hits = {
        size: make.asgi(f"hit, {named(size)}", cached(ttl="1h").asgi(constant_asgi(size)), HIT)
        for size in (SMALL, MIDDLE, LARGE)
    }
    bare = {size: make.asgi(f"bare constant app, {named(size)}", constant_asgi(size), ABSENT) for size in hits}
    for size, hit in hits.items():
        yield Comparison(section, hit, bare[size], Fraction(5))
    for hit in hits.values():
        yield Comparison(section, hit, framework, Fraction(1, 3))
    yield Comparison(section, hits[LARGE], hits[SMALL], Fraction(13, 10))
    varying = constant_asgi(SMALL, (b"vary", b"Accept-Encoding"))
    varied = make.asgi("hit, 200 B, Vary", cached(ttl="1h").asgi(varying), HIT)
    yield Comparison(section, varied, hits[SMALL], Fraction(13, 10))
    yield Comparison(section, varied, bare[SMALL], None)
    full = make.asgi("hit, 200 B, everything on", asked_much().asgi(constant_asgi(SMALL)), HIT)
    yield Comparison(section, full, bare[SMALL], Fraction(5))
    proxied = make.asgi("hit, 200 B, by a proxy, cookies", cached(ttl="1h").asgi(constant_asgi(SMALL)), HIT, *PROXIED)
    yield Comparison(section, proxied, hits[SMALL], None)
    # The server pays for the scope, in every row above as much beside a hit as beside the bare app. Without it:
    yield Comparison(
        section,
        make.asgi_alone("hit, 200 B, scope not counted", cached(ttl="1h").asgi(constant_asgi(SMALL)), HIT),
        make.asgi_alone("bare constant app, likewise", constant_asgi(SMALL), ABSENT),
        None,
    )


def wsgi_hits(make: Maker) -> Iterator[Comparison]:
    section = "WSGI hit in L1"
    framework = make.wsgi("Flask route, constant string", flask_app(), ABSENT)
    bare = make.wsgi("bare constant app, 200 B", constant_wsgi(SMALL), ABSENT)
    for size in (SMALL, MIDDLE, LARGE):
        hit = make.wsgi(f"hit, {named(size)}", cached(ttl="1h").wsgi(constant_wsgi(size)), HIT)
        yield Comparison(section, hit, framework, Fraction(1, 20))
        if size == SMALL:
            yield Comparison(section, hit, bare, None)


def uncached(make: Maker) -> Iterator[Comparison]:
    """What requests pay that the cache has nothing to do with: three reasons, on the cheapest route there is."""
    # The limit is for a route that is not cached. The other two are requests to one that is: who asks has to be looked
    # at, and a POST invalidates.
    ways: list[tuple[str, dict[str, Any], tuple[tuple[bytes, bytes], ...], str, Fraction | None]] = [
        ("cache=False", {"cache": False}, (), "GET", MAX_EXTRA),
        ("Authorization", {"ttl": "1h"}, (AUTHORIZATION,), "GET", None),
        ("POST", {"ttl": "1h"}, ((b"content-length", b"0"),), "POST", None),
    ]
    for way, rule, more, method, most in ways:
        bare = make.asgi(f"Starlette alone, {way}", starlette_app(), ABSENT, *more, method=method)
        behind = cached(**rule).asgi(starlette_app())
        case = make.asgi(f"Starlette behind the cache, {way}", behind, BYPASS, *more, method=method)
        yield Comparison("Not cached", case, bare, most)
    for way, rule, more, method, most in ways:
        alone = make.wsgi(f"Flask alone, {way}", flask_app(), ABSENT, *more, method=method)
        inner = cached(**rule).wsgi(flask_app())
        case = make.wsgi(f"Flask behind the cache, {way}", inner, BYPASS, *more, method=method)
        yield Comparison("Not cached", case, alone, most)
