"""Hits in L2, beside one `GET` of the same bytes through the same client library."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from typing import Any, NamedTuple
from wsgiref.types import WSGIApplication

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from benchmarks.apps import ASGIApp, Lifespan, Message, Receive, Scope, Send, constant_asgi, constant_wsgi
from benchmarks.cases import MIDDLE, SMALL, Comparison, expect, named
from benchmarks.drive import asgi_call, asgi_status, wsgi_call, wsgi_status
from benchmarks.measure import Case, timed_singly, timed_singly_async
from tests.servers import RedisServer
from tiercache import TierCache

HIT_L2 = "detail=l2"
PATIENT: Any = {"l2_budget": "10s", "l2_slow": "10s"}
"""A machine that stands still for a moment must not make a cache give up on Redis: a hit is what is measured."""
ONE_TRIP, TWO_TRIPS = Fraction(14, 10), Fraction(28, 10)
ATTACH_TIMEOUT = 10.0
"""Seconds in which a cache has to come to trust its Redis."""


@contextmanager
def redis_url() -> Iterator[str]:
    """The Redis named by REDIS_URL, or one of our own for the time of the run."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    with RedisServer() as server:
        yield server.url


def forget_l1(cache: TierCache) -> Callable[[], object]:
    """Empties L1 as if the process had just started; L2 and what is known of the ledger stay."""
    return cache._engine.memory.clear


def by_path(apps: dict[str, ASGIApp]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[scope.get("path", "/200")](scope, receive, send)

    return app


def wsgi_by_path(apps: dict[str, WSGIApplication]) -> WSGIApplication:
    return lambda environ, start_response: apps[environ["PATH_INFO"]](environ, start_response)


PATHS = {f"/{SMALL}": SMALL, f"/{MIDDLE}": MIDDLE, "/vary": SMALL}
"""The pages and their sizes; `/vary` has a `Vary` field."""


class Pages:
    """A cache in front of the pages."""

    def __init__(self, url: str, namespace: str) -> None:
        self.cache = TierCache(url, namespace=namespace, **PATIENT)
        self.cache.route("/{page}", ttl="1h")

    def asgi(self) -> ASGIApp:
        vary = (b"vary", b"Accept-Encoding")
        apps = {path: constant_asgi(size, *[vary] * (path == "/vary")) for path, size in PATHS.items()}
        return self.cache.asgi(by_path(apps))

    def wsgi(self) -> WSGIApplication:
        return self.cache.wsgi(wsgi_by_path({path: constant_wsgi(size) for path, size in PATHS.items()}))


def until_l2_answers(cache: TierCache, status: Callable[[], str]) -> None:
    """A cache starts on L1 and joins its Redis in the background; wait for that, and for the page to be in L2."""
    deadline = time.monotonic() + ATTACH_TIMEOUT
    said = ""
    while time.monotonic() < deadline:
        forget_l1(cache)()
        said = status()
        if HIT_L2 in said:
            return
        time.sleep(0.02)
    raise RuntimeError(f"L2 did not answer within {ATTACH_TIMEOUT:g} s; Cache-Status is {said!r}")


def value_of_size(client: Any, namespace: str, size: int) -> bytes:
    """The smallest value in the namespace that holds a body of `size` bytes: what a hit of this size fetches."""
    values: list[bytes] = [
        client.get(key)
        for key in client.scan_iter(match=f"*{namespace}*", count=1000)
        if client.type(key) == b"string"
    ]
    return min((value for value in values if len(value) >= size), key=len)


class Plain(NamedTuple):
    """redis-py by itself, without retries and timeouts, as in the tier: its `GET` is as cheap as it can be."""

    client: Any
    async_client: Any
    tag: str
    """In the names of all keys of the run, which are removed after it."""


def plain_redis(runner: asyncio.Runner, url: str, resources: ExitStack) -> Plain:
    client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=None)
    resources.callback(client.close)
    async_client = redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 0), socket_timeout=None)
    resources.callback(lambda: runner.run(async_client.aclose()))
    tag = f"bench{os.getpid()}"
    resources.callback(lambda: _remove(client, tag))
    return Plain(client, async_client, tag)


def l2_hits(runner: asyncio.Runner, url: str, resources: ExitStack) -> Iterator[Comparison]:
    plain, plain_async, tag = plain_redis(runner, url, resources)
    pages = Pages(url, f"{tag}a")
    app = pages.asgi()
    resources.enter_context(Lifespan(runner, app))
    for path, size in PATHS.items():
        until_l2_answers(pages.cache, lambda path=path: runner.run(asgi_status(app, "GET", path)))  # type: ignore[misc]
        key = f"{tag}:get:{path}"
        plain.set(key, value_of_size(plain, f"{tag}a", size))
        base = _get_async(runner, plain_async, key, size)
        name = f"hit, {named(size)}" + (", Vary, cold process" if path == "/vary" else "")
        yield Comparison(
            "ASGI hit in L2",
            _asgi_case(name, runner, app, path, pages.cache),
            base,
            TWO_TRIPS if path == "/vary" else ONE_TRIP,
        )

    pages = Pages(url, f"{tag}w")
    resources.callback(pages.cache.close)
    sync_app = pages.wsgi()
    for path in (f"/{SMALL}", f"/{MIDDLE}"):
        size = PATHS[path]
        until_l2_answers(pages.cache, lambda path=path: wsgi_status(sync_app, "GET", path))  # type: ignore[misc]
        key = f"{tag}:get:{path}"
        yield Comparison(
            "WSGI hit in L2",
            _wsgi_case(f"hit, {named(size)}", sync_app, path, pages.cache),
            _get(plain, key, size),
            ONE_TRIP,
        )


def _asgi_case(name: str, runner: asyncio.Runner, app: ASGIApp, path: str, cache: TierCache) -> Case:
    forget = forget_l1(cache)

    def check() -> None:
        forget()
        expect(name, runner.run(asgi_status(app, "GET", path)), HIT_L2)

    return Case(name, timed_singly_async(runner, asgi_call(app, "GET", path), forget), check)


def _wsgi_case(name: str, app: WSGIApplication, path: str, cache: TierCache) -> Case:
    forget = forget_l1(cache)

    def check() -> None:
        forget()
        expect(name, wsgi_status(app, "GET", path), HIT_L2)

    return Case(name, timed_singly(wsgi_call(app, "GET", path), forget), check)


def _get_async(runner: asyncio.Runner, client: Any, key: str, size: int) -> Case:
    async def get() -> Message:
        return await client.get(key)  # type: ignore[no-any-return]

    def check() -> None:
        assert len(runner.run(client.get(key))) >= size

    return Case(f"redis-py asyncio GET, {named(size)}", timed_singly_async(runner, get, _nothing), check)


def _get(client: Any, key: str, size: int) -> Case:
    def check() -> None:
        assert len(client.get(key)) >= size

    return Case(f"redis-py GET, {named(size)}", timed_singly(lambda: client.get(key), _nothing), check)


def _nothing() -> None:
    pass


def _remove(client: Any, tag: str) -> None:
    for key in client.scan_iter(match=f"*{tag}*", count=1000):
        client.delete(key)
