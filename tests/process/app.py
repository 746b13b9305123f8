"""The app that real servers serve in these tests, as `asgi` and `wsgi`. Settings come from the environment."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiercache import TierCache

PIECE = bytes(1 << 20)
# A budget that no busy machine exceeds: these tests are not about deadlines.
cache = TierCache(
    os.environ.get("TEST_URL") or None,
    l2_budget="10s",
    l2_slow="10s",
    drain_timeout=os.environ.get("TEST_DRAIN", "20s"),
)
cache.route("/p/{id}", ttl="10m", tags=["p:{id}"])
cache.route("/slow/{id}", ttl="10m", coalesce="fleet")
cache.route("/behind/{id}", ttl="10m", coalesce="fleet", fill_timeout="1ms")
cache.route("/stale/{id}", ttl="10m", coalesce="fleet", stale_while_revalidate="1h", tags=["stale"])
HELD = ("/slow/", "/behind/", "/stale/")
"""Pages that are not done as long as there is a file that says so."""
stop, astop = cache._lifecycle.stop, cache._lifecycle.astop


def told_stop() -> None:
    said("stopping")
    stop()


async def told_astop() -> None:
    said("stopping")
    await astop()


def said(word: str) -> None:
    Path(os.environ["TEST_VALUE"]).with_name(word).touch()


cache._lifecycle.stop, cache._lifecycle.astop = told_stop, told_astop  # type: ignore[method-assign]
if os.environ.get("TEST_START_EARLY"):
    # Before the server forks, as an app may do that is loaded once.
    cache.start()
    cache.purge(tags="warm-up")


def state() -> bytes:
    """What the tests want to know of this process."""
    names = [thread.name for thread in threading.enumerate()]
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return json.dumps(
        {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "listeners": names.count("tiercache-listener"),
            "failing": cache._engine.failing,
            "process_id": cache._engine.process_id,
            "peak_kib": int(peak.split()[1]),
            "stats": cache.stats(),
        }
    ).encode()


def body_for(method: str, path: str) -> bytes:
    if path.startswith("/purge/"):
        cache.purge(tags=path.removeprefix("/purge/"))
        return b"purged"
    if path == "/state":
        return state()
    if path.startswith(HELD):
        return b"%b by %d" % (path.encode(), os.getpid())
    return Path(os.environ["TEST_VALUE"]).read_bytes()


def held(path: str) -> bool:
    name = "hold-client" if path.startswith("/slow/") else "hold"
    return path.startswith(HELD) and Path(os.environ["TEST_VALUE"]).with_name(name).exists()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while held(scope["path"]):
        await asyncio.sleep(0.005)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if scope["path"] == "/p/large":
        for _ in range(200):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        body = b""
    else:
        body = await asyncio.to_thread(body_for, scope["method"], scope["path"])
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    while held(path):
        time.sleep(0.005)
    start_response("200 Very Well", [("Content-Type", "text/plain")])
    if path == "/p/large":
        return (PIECE for _ in range(200))
    return [body_for(environ["REQUEST_METHOD"], path)]


_cached_asgi, _cached_wsgi = cache.asgi(_app), cache.wsgi(_wsgi_app)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Says, outside of the cache, which worker has answered."""

    async def signed_send(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append((b"x-worker", b"%d" % os.getpid()))
        await send(message)

    await _cached_asgi(scope, receive, signed_send)


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    def signed_start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *exc_info)

    return _cached_wsgi(environ, signed_start)
