"""An engine that begins anew knows nothing of what was, and those who hold it need not be told."""

from __future__ import annotations

from typing import Any

from tests.asgi_client import TEXT, visit
from tests.clock import Clock
from tiercache import TierCache
from tiercache.tiers.memory import MemoryTier


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(TEXT)})
    await send({"type": "http.response.body", "body": b"page"})


async def said(front: Any) -> str:
    done = await visit(front)
    return dict(done.messages[0]["headers"])[b"cache-status"].decode()


async def test_nothing_is_left_and_the_new_clock_counts() -> None:
    cache = TierCache()
    cache.route("/p/{id}", ttl="1m")
    front = cache.asgi(app)
    engine = cache._engine
    await said(front)
    assert "hit" in await said(front)
    clock = Clock()
    engine.begin(engine.settings, MemoryTier(1 << 20, timer=clock), None, clock=clock, wall=engine.wall)
    assert cache.stats()["hits_l1"] == cache.stats()["stored"] == 0
    assert await said(front) == "tiercache; fwd=miss; stored"
    assert cache.stats()["stored"] == 1
    clock.turn(59)
    assert await said(front) == "tiercache; hit; ttl=1; detail=l1"
    clock.turn(2)
    assert "fwd=" in await said(front)


async def test_what_was_stored_before_is_dead_even_in_the_same_memory() -> None:
    cache = TierCache()
    cache.route("/p/{id}", ttl="1m")
    front = cache.asgi(app)
    engine = cache._engine
    await said(front)
    engine.begin(engine.settings, engine.memory, None, clock=engine.clock, wall=engine.wall)
    assert "fwd=miss" in await said(front)


def test_a_watcher_is_told_of_each_purge() -> None:
    cache = TierCache()
    told: list[Any] = []
    cache._engine.purge_watcher = lambda members, everything: told.append((tuple(members), everything))
    cache.purge(tags=["a"])
    cache.purge(everything=True)
    assert told == [(("h:t:a",), False), ((), True)]
