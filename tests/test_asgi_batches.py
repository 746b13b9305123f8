"""Requests whose reads of L2 share a batch: no one's luck is another's, and the circuit breaker is not fooled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.asgi_client import Visit
from tests.servers import Proxy, RedisServer
from tests.tiers.redis_help import Held
from tiercache import TierCache

PATHS = [f"/p/{i}" for i in range(32)]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    server.expect("FLUSHALL")
    with Proxy(server.port) as proxy:
        yield proxy


class Shop:
    """Pages that are in L2, and a process that has none of them in L1."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.calls = 0
        # Nothing but what a test does ends a read, and no answer is slow.
        self.cache = TierCache(url, namespace="shop", **{"l2_budget": "20s", "l2_slow": "20s", **settings})
        self.cache.route("/p/{id}", ttl="1h")
        self.face = self.cache.asgi(self._app)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": scope["path"].encode() * 1_000})

    def visits(self, paths: list[str] = PATHS) -> list[Visit]:
        return [Visit(self.face, path) for path in paths]

    async def fill(self) -> None:
        self.cache.start()
        await self.until(self.cache._engine.trusted)
        assert said(await answered(self.visits())) == {"miss": 32}
        await self.until(lambda: self.cache._engine.limits.behind == 0)
        self.cache._engine.memory.clear()
        assert said(await answered(self.visits())) == {"l2": 32}
        self.cache._engine.memory.clear()
        self.calls = 0

    @staticmethod
    async def until(question: Any) -> None:
        end = time.monotonic() + 20
        while not question():
            assert time.monotonic() < end
            await asyncio.sleep(0.005)


async def answered(visits: list[Visit]) -> list[Visit]:
    await asyncio.gather(*(visit.task for visit in visits))
    return visits


def said(visits: list[Visit]) -> dict[str, int]:
    """How many answers came from where; each is the right one."""
    counts: dict[str, int] = {}
    for visit in visits:
        start, *parts = visit.messages
        assert start["status"] == 200
        body = b"".join(part["body"] for part in parts)
        assert body == body[: len(body) // 1_000] * 1_000
        status = dict(start["headers"])[b"cache-status"].decode()
        where = "l2" if "detail=l2" in status else "l1" if "detail=l1" in status else "miss"
        counts[where] = counts.get(where, 0) + 1
    return counts


async def test_a_connection_that_is_cut_fails_its_batch_and_no_request(proxy: Proxy) -> None:
    shop = Shop(proxy.url)
    await shop.fill()
    engine = shop.cache._engine
    left = 60_000

    def some(data: bytes) -> bytes | None:
        """A third of the answer, in whatever pieces it comes; all that is short is of the listener's syncs."""
        nonlocal left
        if len(data) <= 1_000:
            return data
        part, left = data[:left], max(0, left - len(data))
        return part or None

    proxy.on_reply = some
    counts = said(await answered(shop.visits()))
    assert counts["l2"] > 0
    assert counts["miss"] > 0
    assert sum(counts.values()) == 32
    assert shop.cache.stats()["swallowed"]["L2 read"] == counts["miss"] == shop.calls
    # Many reads have failed, and one connection has: syncs go well, so L2 is not left alone.
    assert not engine.breaker.open
    proxy.on_reply = lambda data: data
    engine.memory.clear()
    assert said(await answered(shop.visits())) == {"l2": 32}
    await shop.cache.aclose()


async def test_a_client_that_goes_away_takes_nobody_along(proxy: Proxy) -> None:
    shop = Shop(proxy.url)
    await shop.fill()
    held = Held()
    proxy.on_reply = lambda data: held(data) if len(data) > 1_000 else data
    visits = shop.visits()
    await asyncio.to_thread(held.arrived.wait, 20)
    for visit in visits[1:20:3]:
        visit.task.cancel()
    held.release.set()
    await asyncio.wait([visit.task for visit in visits])
    rest = [visit for visit in visits if not visit.task.cancelled()]
    assert len(rest) >= 25
    assert said(rest) == {"l2": len(rest)}
    assert shop.calls == 0
    await shop.cache.aclose()


async def test_a_batch_that_is_too_late_for_all(proxy: Proxy) -> None:
    shop = Shop(proxy.url, l2_budget="500ms")
    await shop.fill()
    held = Held()
    proxy.on_reply = lambda data: held(data) if len(data) > 1_000 else data
    assert said(await answered(shop.visits())) == {"miss": 32}
    assert shop.cache.stats()["swallowed"]["L2 read"] == 32
    held.release.set()
    await shop.cache.aclose()
