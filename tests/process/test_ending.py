"""Processes that are told to stop, reload, stand still or fork while fills are under way."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests.process.servers import ALONE, GUARD, AppServer, eventually
from tests.servers import RedisServer
from tests.test_wsgi import app_with, environ_for
from tiercache import TierCache

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sends signals")
FROM_L2 = "tiercache; hit; detail=l2"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Site:
    """Servers of one app, whose slow pages are done when there is no file `hold`, or for one whose client waits,
    `hold-client`."""

    def __init__(self, directory: Path, server: RedisServer) -> None:
        assert server.ask("FLUSHALL") == "+OK"
        self.directory, self.server = directory, server
        self.hold, self.hold_client = directory / "hold", directory / "hold-client"
        self.stopping = directory / "stopping"
        self.servers: list[AppServer] = []
        self.pool = ThreadPoolExecutor(8)

    def serve(self, kind: str, **environ: str) -> AppServer:
        app = AppServer(kind, self.directory, self.server.url, **environ)
        self.servers.append(app)
        return app

    def members(self) -> int:
        with redis.Redis.from_url(self.server.url) as client:
            # The row of an @ is nobody's.
            return len({*client.hkeys("tc:{default}:members")} - {b"@"})  # type: ignore[arg-type]

    def leases(self) -> int:
        with redis.Redis.from_url(self.server.url) as client:
            return sum(key.endswith(b":lease") for key in client.keys("tc:*"))

    def close(self) -> None:
        self.hold.unlink(missing_ok=True)
        self.hold_client.unlink(missing_ok=True)
        for app in self.servers:
            app.close()
        self.pool.shutdown()


@pytest.fixture
def site(tmp_path: Path, redis_server: RedisServer) -> Iterator[Site]:
    site = Site(tmp_path, redis_server)
    yield site
    site.close()


def pids(body: bytes) -> int:
    return int(body.split()[-1])


@pytest.mark.parametrize("kind", ALONE)
def test_told_to_stop_it_ends_what_is_under_way(kind: str, site: Site) -> None:
    app = site.serve(kind)
    worker = pids(app.get("/stale/1").body)
    with_cache = TierCache(site.server.url, l2_budget="10s")
    with_cache.purge(tags="stale", soft=True)
    site.hold.touch()
    site.hold_client.touch()
    # A refresh behind a stale answer, a fill whose client has got 504, and one whose client waits.
    eventually(lambda: bool(app.get("/stale/1").body) and site.leases() >= 1, "a refresh has begun")
    assert app.get("/behind/1").outcome == "tiercache; detail=timeout"
    waiting = site.pool.submit(app.get, "/slow/1")
    eventually(lambda: site.leases() == 3, "three fills hold their leases")
    assert site.members() >= 1
    with_cache.close()
    app.process.send_signal(signal.SIGTERM)
    # It is told while all three are under way.
    eventually(lambda: told(app), "it has heard it")
    assert app.process.poll() is None
    site.hold_client.unlink()
    assert waiting.result(GUARD).body == b"/slow/1 by %d" % worker
    # No client is left, and it would end now but for what goes on behind.
    eventually(site.stopping.exists, "it is about to end")
    for _ in range(50):
        assert app.process.poll() is None
        assert site.members() == 1
        time.sleep(0.005)
    site.hold.unlink()
    assert app.process.wait(GUARD) in (0, -signal.SIGTERM)
    assert (site.members(), site.leases()) == (0, 0)
    site.hold.touch()
    site.hold_client.touch()
    other = site.serve(kind)
    for path in ("/slow/1", "/behind/1", "/stale/1"):
        got = other.get(path)
        assert (got.body, got.outcome) == (b"%b by %d" % (path.encode(), worker), FROM_L2)
    assert "Traceback" not in app.log()


def told(app: AppServer) -> bool:
    if "gunicorn" in app.kind:
        return "Handling signal: term" in app.log()
    try:
        app.get("/state")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("kind", ALONE)
def test_but_waits_no_longer_than_drain_timeout(kind: str, site: Site) -> None:
    app = site.serve(kind, TEST_DRAIN="50ms")
    site.hold.touch()
    assert app.get("/behind/1").outcome == "tiercache; detail=timeout"
    app.process.send_signal(signal.SIGTERM)
    # The page is never done.
    assert app.process.wait(GUARD) in (0, -signal.SIGTERM)
    assert site.members() == 0


def test_a_reload_loses_nothing(site: Site) -> None:
    app = site.serve("gunicorn-gthread-alone")
    old = app.get("/state").worker
    site.hold.touch()
    assert app.get("/behind/1").outcome == "tiercache; detail=timeout"
    app.process.send_signal(signal.SIGHUP)
    eventually(lambda: app.get("/state").worker != old, "a new worker answers")
    site.hold.unlink()
    eventually(lambda: app.get("/behind/1").outcome.startswith("tiercache; hit"), "what the old one made is found")
    assert pids(app.get("/behind/1").body) == old
    eventually(lambda: site.members() == 1 and site.leases() == 0, "the old one has left")


@pytest.mark.parametrize("kind", ["uvicorn-alone", "gunicorn-gthread-alone"])
def test_a_process_that_stood_still_syncs_before_it_serves(kind: str, site: Site) -> None:
    app = site.serve(kind)
    cache = TierCache(site.server.url, l2_budget="10s")
    number = rounds = 0
    while number < 3:
        rounds += 1
        assert rounds < 10
        worker = app.get("/p/1").worker
        eventually(lambda: app.get("/p/1").outcome == "tiercache; hit; detail=l1", "it is in L1")
        os.kill(worker, signal.SIGSTOP)
        try:
            app.value.write_bytes(b"new %d" % rounds)
            # Until each process has applied it, or trusts nothing any more.
            cache.purge(tags="p:1", wait=True)
        finally:
            os.kill(worker, signal.SIGCONT)
        got = app.get("/p/1")
        if "isolated" in got.outcome:
            # On a machine as busy as that a sync had failed before.
            continue
        number += 1
        assert got.body == b"new %d" % rounds, got
    cache.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("coalesce", ["process", "fleet"])
def test_a_fork_in_the_middle_of_a_fill_waits_for_nobody_who_is_not_there(
    redis_server: RedisServer, coalesce: str
) -> None:
    assert redis_server.ask("FLUSHALL") == "+OK"
    cache = TierCache(redis_server.url, l2_budget="10s", lease_wait="30s", staleness_bound="30s")
    cache.route("/p/{id}", ttl="10m", coalesce=coalesce, max_fills=1)  # type: ignore[arg-type]
    gate, called = threading.Event(), threading.Event()
    parent = os.getpid()

    def make() -> list[bytes]:
        called.set()
        if os.getpid() == parent:
            assert gate.wait(GUARD)
        return [b"%d" % os.getpid()]

    app = cache.wsgi(app_with(make))

    def get(path: str) -> bytes:
        body = app(environ_for(path), lambda *args: lambda data: None)
        try:
            return b"".join(body)
        finally:
            getattr(body, "close", lambda: None)()

    thread = threading.Thread(target=get, args=("/p/1",))
    thread.start()
    assert called.wait(GUARD)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            engine = cache._engine
            clean = (len(engine.flights), engine.leases, +engine.limits._filling) == (0, {}, {})
            # With one lease for the fleet it is the parent's to give back: another page then.
            path = "/p/1" if coalesce == "process" else "/p/2"
            status = 0 if clean and get(path) == b"%d" % os.getpid() else 2
        finally:
            os._exit(status)
    until = time.monotonic() + GUARD
    ended = (0, 0)
    while ended[0] == 0 and time.monotonic() < until:
        ended = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    gate.set()
    thread.join(GUARD)
    cache.close()
    assert ended[0] == child
    assert os.waitstatus_to_exitcode(ended[1]) == 0


