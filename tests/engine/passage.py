"""One request's passage through the engine without a face: each half by itself, as the tests want it."""

from __future__ import annotations

import time
from typing import Any

from tests.asgi_client import scope_for
from tests.core.asked import lines_of
from tiercache import TierCache
from tiercache.asgi import ASGIRequest
from tiercache.core.entries import Entry
from tiercache.engine.effects import drive
from tiercache.engine.exchange import Exchange
from tiercache.engine.opening import open_exchange
from tiercache.engine.serving import Answer

FAR = 30.0
"""Seconds: a guard, never waited for."""


def far() -> float:
    return time.monotonic() + FAR


def cache_with(url: str | None = None, template: str = "/p/{id}", **settings: Any) -> TierCache:
    """A cache with one rule, with a lifetime of ten minutes where nothing else is said."""
    own = {name: settings.pop(name) for name in ("namespace", "app", "max_variants", "lease_wait") if name in settings}
    patient = {"l2_budget": "20s", "l2_slow": "20s", "staleness_bound": "600s"}
    cache = TierCache(url, **{"namespace": "passage", **patient, **own})  # type: ignore[arg-type]
    cache.route(template, **{"ttl": "10m", **settings})
    return cache


def ask(cache: TierCache, path: str = "/p/1", *headers: str, method: str = "GET", query: bytes = b"") -> ASGIRequest:
    """A request that has been looked up in L1: `hit` has set its key and bypass."""
    engine = cache._engine
    scope = scope_for(path, method, lines_of(*headers), query_string=query)
    request = ASGIRequest(scope, engine.routes.match(path), engine.rules.watched, engine.prefix)
    engine.hit(request)
    return request


def hit(cache: TierCache, path: str = "/p/1", *headers: str, **more: Any) -> Entry | None:
    request = ask(cache, path, *headers, **more)
    return cache._engine.hit(request)


def opened(cache: TierCache, request: ASGIRequest) -> tuple[Exchange, Answer | None]:
    exchange = Exchange(cache._engine, request)
    return exchange, drive(open_exchange(exchange))


def answer(exchange: Exchange, *lines: str, body: bytes = b"hello", status: int = 200) -> None:
    """The app answers: from `begin` to the end of the body."""
    exchange.begin()
    exchange.started(status, b"", lines_of(*lines))
    exchange.chunk(body)
    exchange.complete()


def filled(
    cache: TierCache, path: str = "/p/1", *headers: str, lines: tuple[str, ...] = (), body: bytes = b"hello"
) -> Exchange:
    """A request that the app answers, stored in every tier."""
    exchange, found = opened(cache, ask(cache, path, *headers))
    assert found is None
    answer(exchange, *lines, body=body)
    drive(exchange.close())
    return exchange
