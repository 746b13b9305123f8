"""The app under test, as `asgi` and `wsgi`: it answers with the version that its origin has of a key.

`POST /purge` is a view, so that its client is given the mark of a session. What is under `/admin/` lies outside of the
cache: purging, and what a process knows of itself.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.faults import plants
from tests.faults.terms import BOUND, KEYS, ROUTES, make_body, terms_of
from tiercache import TierCache
from tiercache.engine.purging import PurgeReceipt
from tiercache.errors import PurgeUnconfirmed

if os.environ.get("TIERCACHE_PLANT"):
    plants.PLANTS[os.environ["TIERCACHE_PLANT"]]()

cache = TierCache(
    os.environ["CHAOS_URL"],
    namespace="chaos",
    staleness_bound=BOUND,
    purge_timeout="1s",
    session_secret="of no worth to anybody",
)
for name, terms in ROUTES.items():
    tags = ["kept"] if terms.kept else [f"{name}:{{id}}", "id:{id}", name]
    cache.route(f"/{name}/{{id}}", tags=tags, **terms.settings)

_slots = {key: 8 * i for i, key in enumerate(KEYS)}
with Path(os.environ["CHAOS_ORIGIN"]).open("rb") as file:
    _origin = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class View:
    """One call of the app."""

    def __init__(self, key: str, language: str | None, seen: str | None) -> None:
        began = time.monotonic()
        terms = terms_of(key)
        self.pause = 0.0
        if terms.slow and random.random() < 0.3:
            self.pause = random.choice((0.02, 0.3, 1.6)) * random.random()
        version: int = struct.unpack_from("<q", _origin, _slots[key])[0]
        self.status = 200
        self.fields = [("content-type", "text/plain"), ("x-began", f"{began:.9f}"), ("x-version", str(version))]
        spoken = language or "-" if terms.varies else "-"
        if terms.varies:
            self.fields.append(("vary", "x-language"))
        self.body = make_body(key, spoken, version, began)
        if terms.validates:
            self.fields.append(("etag", f'"{version}"'))
            if seen == f'"{version}"':
                self.status, self.body = 304, b""
        if self.status == 200:
            self.fields.append(("content-length", str(len(self.body))))


def wanted(query: str) -> dict[str, Any]:
    """The arguments of a purge. So many tags that they fill more than one number are made here: URLs are short."""
    arguments: dict[str, Any] = json.loads(unquote(query))
    arguments["tags"] = arguments.get("tags", []) + [f"none:{i}" for i in range(arguments.pop("others", 0))]
    return arguments


def state() -> dict[str, Any]:
    # A process listens from its first request on, and this may be the first.
    cache.start()
    engine = cache._engine
    ledger = engine.ledger
    # The clock last: trust that is over by then is not claimed.
    trusted_until, stamp = ledger.trusted_until, ledger.stamp()
    return {
        "pid": os.getpid(),
        "epoch": stamp.epoch,
        "number": stamp.number,
        "failing": engine.failing,
        "trusted": engine.clock() < trusted_until,
        "queued": sum(len(item.members) or 1 for item in ledger.pending()),
        "swallowed": cache.stats().get("swallowed", {}),
    }


def outcome(receipt: PurgeReceipt | None) -> bytes:
    at = None if receipt is None else [receipt.epoch, receipt.number]
    return json.dumps({"pid": os.getpid(), "at": at}).encode()


def purge(query: str) -> bytes:
    try:
        return outcome(cache.purge(**wanted(query)))
    except PurgeUnconfirmed:
        return outcome(None)


async def apurge(query: str) -> bytes:
    try:
        return outcome(await cache.apurge(**wanted(query)))
    except PurgeUnconfirmed:
        return outcome(None)


async def respond(send: Any, status: int, fields: Iterable[tuple[str, str]], body: bytes) -> None:
    headers = [(name.encode(), value.encode()) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/purge":
        body = await apurge(scope["query_string"].decode())
        await respond(send, 200, [("content-length", str(len(body)))], body)
        return
    fields = dict(scope["headers"])
    language = fields.get(b"x-language", b"").decode()
    view = View(scope["path"], language, fields.get(b"if-none-match", b"").decode())
    if view.pause:
        await asyncio.sleep(view.pause)
    await respond(send, view.status, view.fields, view.body)


def _wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/purge":
        body = purge(environ["QUERY_STRING"])
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    view = View(environ["PATH_INFO"], environ.get("HTTP_X_LANGUAGE"), environ.get("HTTP_IF_NONE_MATCH"))
    if view.pause:
        time.sleep(view.pause)
    start_response("200 OK" if view.status == 200 else "304 Not Modified", view.fields)
    return [view.body]


_cached_asgi, _cached_wsgi = cache.asgi(_app), cache.wsgi(_wsgi_app)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    async def signed_send(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"].append((b"x-worker", b"%d" % os.getpid()))
        await send(message)

    if scope["path"] == "/admin/purge":
        body = await apurge(scope["query_string"].decode())
    elif scope["path"] == "/admin/state":
        body = json.dumps(state()).encode()
    else:
        await _cached_asgi(scope, receive, signed_send)
        return
    await respond(signed_send, 200, [("content-length", str(len(body)))], body)


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    def signed_start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *exc_info)

    if environ["PATH_INFO"] == "/admin/purge":
        body = purge(environ["QUERY_STRING"])
    elif environ["PATH_INFO"] == "/admin/state":
        body = json.dumps(state()).encode()
    else:
        return _cached_wsgi(environ, signed_start)
    signed_start("200 OK", [("Content-Length", str(len(body)))])
    return [body]
