"""The app that real servers serve in these tests, as `asgi` and `wsgi`. Settings come from the environment."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiercache import TierCache

PIECE = bytes(1 << 20)
# A budget that no busy machine exceeds: these tests are not about deadlines.
cache = TierCache(os.environ.get("TEST_URL") or None, l2_budget="10s")
cache.route("/p/{id}", ttl="10m", tags=["p:{id}"])
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
    return Path(os.environ["TEST_VALUE"]).read_bytes()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if scope["path"] == "/p/large":
        for _ in range(200):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        body = b""
    else:
        body = await asyncio.to_thread(body_for, scope["method"], scope["path"])
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 Very Well", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"]
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
