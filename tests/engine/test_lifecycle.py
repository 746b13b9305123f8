"""The listener and what it keeps true, on a real Redis: hearing, catching up, isolation, replay, forks."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.servers import RedisServer, free_port
from tests.test_wsgi import app_with, environ_for
from tiercache import PurgeUnconfirmed, TierCache
from tiercache.engine import lifecycle
from tiercache.errors import TierUnavailable

GUARD = 30.0
"""Seconds: never waited for in full."""


def eventually(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to that")


def listeners() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tiercache-listener"]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def make() -> Iterator[Callable[..., TierCache]]:
    made: list[TierCache] = []

    def build(url: str, **settings: object) -> TierCache:
        cache = TierCache(url, namespace="life", l2_budget="2s", l2_slow="2s", **settings)  # type: ignore[arg-type]
        cache.route("/p/{id}", ttl="10m", tags=["product:{id}"])
        cache.route("/never-alone/{id}", ttl="10m", isolated_ttl=0)
        made.append(cache)
        return cache

    yield build
    for cache in made:
        cache.close()


class Page:
    """An app behind a cache, asked in process."""

    def __init__(self, cache: TierCache) -> None:
        self.body = b"one"
        self.calls = 0
        self.app = cache.wsgi(app_with(self.make))

    def make(self) -> list[bytes]:
        self.calls += 1
        return [self.body]

    def get(self, path: str = "/p/1") -> bytes:
        body = self.app(environ_for(path), lambda *args: lambda data: None)
        try:
            return b"".join(body)
        finally:
            getattr(body, "close", lambda: None)()


def test_a_listener_runs_from_the_first_request_to_the_end(
    server: RedisServer, make: Callable[..., TierCache]
) -> None:
    before = len(listeners())
    cache = make(server.url)
    page = Page(cache)
    assert len(listeners()) == before
    page.get()
    page.get("/p/2")
    assert len(listeners()) == before + 1
    cache.close()
    cache.close()
    eventually(lambda: len(listeners()) == before)
    cache.start()
    assert len(listeners()) == before + 1


@pytest.mark.parametrize("face", ["thread", "loop"])
def test_what_the_listener_opens_while_it_is_told_to_stop_is_closed_too(
    server: RedisServer, make: Callable[..., TierCache], face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make(server.url)
    tier: Any = cache._engine.shared
    syncing, closed = threading.Event(), threading.Event()
    close = tier._wire.close

    def sync(*args: Any, **kwargs: Any) -> Any:
        syncing.set()
        assert closed.wait(GUARD)
        tier.set("a", b"b", 60_000, time.monotonic() + GUARD)
        raise TierUnavailable("and it says nothing more")

    def closing() -> None:
        close()
        closed.set()

    monkeypatch.setattr(tier, "sync", sync)
    monkeypatch.setattr(tier._wire, "close", closing)
    cache.start()
    assert syncing.wait(GUARD)
    if face == "thread":
        cache.close()
    else:
        asyncio.run(cache.aclose())
    with redis.Redis.from_url(server.url) as client:
        assert client.get("tc:life:a") == b"b"
        eventually(lambda: len(client.client_list()) == 1)


def test_without_a_shared_tier_there_is_none() -> None:
    before = len(listeners())
    cache = TierCache()
    cache.route("/p/{id}", ttl="10m")
    Page(cache).get()
    cache.start()
    assert len(listeners()) == before
    cache.close()


def test_a_purge_is_heard_by_the_other(server: RedisServer, make: Callable[..., TierCache]) -> None:
    one, other = make(server.url), make(server.url)
    first, second = Page(one), Page(other)
    assert (first.get(), second.get(), second.calls) == (b"one", b"one", 0)
    second.body = b"two"
    receipt = one.purge(tags="product:1")
    assert (receipt.shared, receipt.number) == (True, 1)
    eventually(lambda: second.get() == b"two")


def test_a_process_that_stood_still_catches_up_before_it_serves(
    server: RedisServer, make: Callable[..., TierCache]
) -> None:
    cache, other = make(server.url), make(server.url)
    page = Page(cache)
    page.get()
    # It hears nothing more, as if it had been stopped, and its trust is over when it goes on.
    cache._lifecycle.stop()
    cache._lifecycle.ensure_running = lambda: None  # type: ignore[method-assign]
    other.purge(tags="product:1")
    page.body = b"two"
    cache._engine.ledger.trusted_until = cache._engine.clock()
    assert not cache._engine.failing
    assert page.get() == b"two"
    assert cache._engine.trusted()


def test_alone_it_serves_its_own_for_a_while(server: RedisServer, make: Callable[..., TierCache]) -> None:
    cache = make(server.url, staleness_bound="300ms")
    page = Page(cache)
    page.get("/p/1")
    page.get("/never-alone/1")
    server.kill()
    eventually(lambda: cache._engine.failing and not cache._engine.trusted())
    page.body = b"two"
    assert page.get("/p/1") == b"one"
    assert page.get("/never-alone/1") == b"two"
    # The clock is turned past isolated_ttl: nothing of the time before is served any more.
    engine, turned = cache._engine, 11.0
    plain = engine.clock
    engine.clock = lambda: plain() + turned
    assert page.get("/p/1") == b"two"


def test_what_comes_from_others_is_not_served_alone(server: RedisServer, make: Callable[..., TierCache]) -> None:
    first, cache = Page(make(server.url)), make(server.url, staleness_bound="300ms")
    first.get()
    second = Page(cache)
    assert (second.get(), second.calls) == (b"one", 0)
    server.kill()
    eventually(lambda: cache._engine.failing and not cache._engine.trusted())
    second.body = b"two"
    assert second.get() == b"two"


def test_a_purge_that_is_not_confirmed_holds_here_and_is_replayed(
    server: RedisServer, make: Callable[..., TierCache]
) -> None:
    cache, other = make(server.url, purge_timeout="200ms"), make(server.url)
    here, there = Page(cache), Page(other)
    here.get()
    assert there.get() == b"one"
    server.pause()
    with pytest.raises(PurgeUnconfirmed):
        cache.purge(tags="product:1")
    here.body = there.body = b"two"
    assert here.get() == b"two"
    assert cache.stats()["purges_queued"] == 1
    server.resume()
    eventually(lambda: not cache._engine.ledger.pending())
    eventually(lambda: there.get() == b"two")


def test_what_is_queued_is_sent_when_the_cache_is_closed(server: RedisServer, make: Callable[..., TierCache]) -> None:
    """A script that purges while Redis is away for a moment takes nothing along when it ends."""
    away = make(server.url, staleness_bound="10m")
    there = Page(other := make(server.url))
    assert [there.get(), there.get()] == [b"one", b"one"]
    away.start()
    eventually(away._engine.trusted)
    server.pause()
    with pytest.raises(PurgeUnconfirmed):
        away.purge(tags="product:1")
    server.resume()
    away.close()
    assert away._engine.ledger.pending() == ()
    there.body = b"two"
    eventually(lambda: there.get() == b"two")
    assert "purges lost at the end" not in other.stats()["swallowed"]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_lost_at_the_end_is_said(
    make: Callable[..., TierCache], restarted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer() as server:
        cache = make(server.url, purge_timeout="500ms" if not restarted else "10s")
        cache.start()
        eventually(cache._engine.trusted)
        server.kill()
        with pytest.raises(PurgeUnconfirmed):
            cache.purge(tags=["product:1", "product:2"])
        if restarted:
            server.start()  # without its data: another history, in which there is nothing to purge
        with caplog.at_level(logging.WARNING, "tiercache"):
            cache.close()
    assert cache.stats()["swallowed"].get("purges lost at the end", 0) == (0 if restarted else 1)
    assert ("2 that Redis has not confirmed" in caplog.text) is not restarted


def test_a_server_without_its_data_is_another_history(server: RedisServer, make: Callable[..., TierCache]) -> None:
    cache = make(server.url)
    page = Page(cache)
    page.get()
    epoch = cache._engine.ledger.stamp().epoch
    server.kill()
    server.start()
    page.body = b"two"
    eventually(lambda: cache._engine.trusted() and cache._engine.ledger.stamp().epoch != epoch)
    assert page.get() == b"two"


def test_it_starts_alone_and_joins_when_the_server_comes(make: Callable[..., TierCache]) -> None:
    port = free_port()
    cache = make(f"redis://127.0.0.1:{port}/0")
    page = Page(cache)
    assert (page.get(), page.get(), page.calls) == (b"one", b"one", 1)
    with RedisServer(port=port) as server:
        eventually(cache._engine.trusted)
        page.get("/p/2")
        assert Page(make(server.url)).get("/p/2") == b"one"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_listens_for_itself(server: RedisServer, make: Callable[..., TierCache]) -> None:
    cache, other = make(server.url), make(server.url)
    page = Page(cache)
    page.get()
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert page.get() == b"one"
            assert cache._lifecycle.running
            os.write(told, b"ready")
            page.body = b"child"
            until = time.monotonic() + GUARD
            while page.get() == b"one" and time.monotonic() < until:
                time.sleep(0.01)
            status = 0 if page.get() != b"one" else 2
        finally:
            os._exit(status)
    assert os.read(heard, 5) == b"ready"
    os.close(heard)
    os.close(told)
    page.body = b"parent"
    other.purge(tags="product:1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    # Either made it anew first; the other may have it from Redis.
    eventually(lambda: page.get() in (b"parent", b"child"))


POOL = """
import multiprocessing, sys
from tiercache import TierCache

cache = TierCache(sys.argv[1], namespace="pool", l2_budget="10s")

def work():
    cache.purge(tags="a", settle="1h")

process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
raise SystemExit(process.exitcode)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_multiprocessing_leaves_in_good_order(server: RedisServer) -> None:
    """It ends past atexit. What it had still to do is done, and nobody waits for it."""
    assert subprocess.run([sys.executable, "-c", POOL, server.url], timeout=GUARD).returncode == 0
    with redis.Redis.from_url(server.url) as client:
        # The row of an @ is nobody's.
        assert client.hkeys("tc:{pool}:members") == [b"@"]
        (head,) = (-10 - score for name, score in client.zscan_iter("tc:{pool}:ledger") if name == b"q")
        assert head >= 2


def test_every_cache_hears_of_those_there_are_and_of_each_new_one() -> None:
    seen: list[lifecycle.Lifecycle] = []
    first = TierCache()
    with lifecycle.every_cache(seen.append):
        assert first._lifecycle in seen
        second = TierCache()
        assert seen[-1] is second._lifecycle
    third = TierCache()
    assert third._lifecycle not in seen
