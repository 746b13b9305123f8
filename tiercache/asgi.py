"""The ASGI face: a pure middleware around any ASGI 3 application.

Three ways lead through it. A hit is answered from L1 by a plain call. What the store takes no part in goes to the app
in the caller's own task, with one field added. A fill that others may be waiting for runs in a task of its own, so
that neither a client that reads slowly nor one that goes away decides when, or whether, it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from tiercache.core.decisions import SAFE_METHODS, invalidates, is_unsafe
from tiercache.core.keys import Key
from tiercache.core.messages import Request
from tiercache.engine import flows
from tiercache.engine.effects import adrive
from tiercache.engine.engine import Engine
from tiercache.engine.exchange import Exchange
from tiercache.engine.fill import enter, leave
from tiercache.engine.lifecycle import Lifecycle
from tiercache.engine.serving import Answer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Line = tuple[bytes, bytes]

_END: Message = {}
_ASIDE = frozenset({"http.response.debug", "http.response.push", "http.response.early_hint"})
"""Messages that are not part of the response itself."""
_ENDINGS = frozenset({"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"})
_PATIENCE = 0.5
"""Seconds between two looks at whether anybody still waits for a fill whose client has left."""


class ASGIRequest(Request):
    """A view on an ASGI scope."""

    __slots__ = ("_fields", "_prefix", "scope")

    def __init__(self, scope: Scope, watched: frozenset[bytes], prefix: tuple[str, str]) -> None:
        self.scope = scope
        self.method = scope["method"]
        self.path = scope["path"]
        headers = scope["headers"]
        self._prefix = prefix
        self._fields: dict[bytes, bytes] = dict(headers)
        self.bypass = self.credential = self.conditional = ""
        self.trusted = ()
        if len(self._fields) != len(headers):
            self._join(headers, watched)
        elif watched.isdisjoint(self._fields):
            self.special = ()
        else:
            self.special = watched & self._fields.keys()

    def _join(self, headers: Any, watched: frozenset[bytes]) -> None:
        joined: dict[bytes, bytes] = {}
        repeated = set()
        for name, value in headers:
            if name in joined:
                repeated.add(name)
                # RFC 9113 §8.2.3: HTTP/2 may split the Cookie field, and it is put together by a semicolon.
                joined[name] += (b"; " if name == b"cookie" else b", ") + value
            else:
                joined[name] = value
        self._fields = joined
        self.special = repeated | (watched & joined.keys())

    def full_key(self) -> Key:
        scope = self.scope
        return (
            self._prefix,
            scope.get("scheme"),
            self._fields.get(b"host"),
            scope.get("raw_path"),
            self.path,
            scope.get("root_path"),
            scope["query_string"],
        )

    def scheme(self) -> str:
        scheme: str = self.scope.get("scheme", "http")
        return scheme

    def host(self) -> bytes:
        return self._fields.get(b"host", b"")

    def target(self) -> bytes:
        raw: bytes | None = self.scope.get("raw_path")
        # Encoded once more where it has been decoded: a percent sign in it is not the start of an octet.
        return raw if raw is not None else quote(self.path, errors="surrogatepass").encode()

    def query(self) -> bytes:
        query: bytes = self.scope.get("query_string", b"")
        return query

    def has_body(self) -> bool:
        length = self._fields.get(b"content-length")
        return b"transfer-encoding" in self._fields or (length is not None and length.strip() != b"0")

    def field(self, name: bytes) -> bytes | None:
        return self._fields.get(name)


def _with_line(send: Send, line: Line | None) -> Send:
    """`send` for a response of which nothing but one more field is ours."""
    if line is None:
        return send

    # A plain function that hands on the awaitable: a coroutine of its own would cost more than all the rest here.
    def send_with_line(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), line]}
        return send(message)

    return send_with_line


class ASGIMiddleware:
    """`app` with a cache in front. Made by `TierCache.asgi`."""

    def __init__(self, app: ASGIApp, engine: Engine, lifecycle: Lifecycle) -> None:
        self.app = app
        self._engine = engine
        self._lifecycle = lifecycle
        self._watched = engine.rules.watched
        self._prefix = engine.prefix
        self._presenter = engine.presenter
        self._match = engine.routes.match
        # The event loop keeps only weak references to tasks.
        self._detached: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._lifespan(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        engine = self._engine
        if not engine.enabled:
            await self.app(scope, receive, send)
            return
        if not self._match(scope["path"]).policy.cache and scope["method"] in SAFE_METHODS:
            engine.stats.bypassed["route"] += 1
            await self.app(scope, receive, _with_line(send, self._presenter.bypassing("route")))
            return
        request = ASGIRequest(scope, self._watched, self._prefix)
        entry = engine.hit(request)
        if entry is not None:
            if request.conditional or request.method == "HEAD":
                await self._reply(Answer(entry, "l1"), request, send)
                return
            age = int(request.now - entry.born)
            wire = entry.wire
            if wire[0] != age:
                wire = entry.wire = (age, self._presenter.hit_fields(entry, age, request.now))
            engine.stats.hits_l1 += 1
            # Fresh objects for every answer: outer middleware edits them in place.
            await send({"type": "http.response.start", "status": entry.status, "headers": wire[1].copy()})
            await send({"type": "http.response.body", "body": entry.body})
            return
        if engine.passes_by(request):
            line = self._presenter.bypassing(request.bypass)
            if request.bypass == "method" and is_unsafe(request.method):
                await self._unsafe(request, line, scope, receive, send)
            else:
                await self.app(scope, receive, _with_line(send, line))
            return
        self._lifecycle.ensure_running()
        exchange = Exchange(engine, request)
        try:
            answer = await adrive(exchange.open())
        except BaseException:
            exchange.abandon()
            raise
        if answer is not None:
            await self._reply(answer, request, send)
        elif not exchange.recording:
            line = self._presenter.forwarded(exchange.forward, exchange.detail)
            await self.app(scope, receive, _with_line(send, line))
        elif exchange.flight is None:
            await self._fill(exchange, scope, receive, send)
        else:
            await self._lead(exchange, scope, receive, send)

    async def _reply(self, answer: Answer, request: Request, send: Send) -> None:
        reply = self._presenter.answer(answer, request, self._engine.clock())
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})

    # -- requests in which the store takes no part -------------------------------------------------------------------

    async def _unsafe(self, request: Request, line: Line | None, scope: Scope, receive: Receive, send: Send) -> None:
        """RFC 9111 §4.4. The invalidation precedes the response, so that whoever has read the response sees its effect.

        It is repeated when the app has returned: some apps commit only then, and a fill in between has read old data.
        """
        self._lifecycle.ensure_running()
        changed: list[str] = []

        async def send_after_invalidation(message: Message) -> None:
            nonlocal changed
            if message["type"] == "http.response.start":
                raw = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
                if invalidates(request.method, message["status"]):
                    fields = tuple([(name.lower(), value) for name, value in raw])
                    changed = flows.changed_by(self._engine, request, fields)
                    await adrive(flows.invalidate_quietly(self._engine, changed))
                message = {**message, "headers": raw if line is None else [*raw, line]}
            await send(message)

        try:
            await self.app(scope, receive, send_after_invalidation)
        finally:
            if changed:
                await adrive(flows.invalidate_quietly(self._engine, changed))

    # -- fills -------------------------------------------------------------------------------------------------------

    async def _fill(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app and keep a copy of what it answers. Used as it is where nobody else waits for the outcome."""
        fill = exchange.begin()

        async def recorded_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request" and message.get("body"):
                # An app that reads content may answer by it, and the key does not hold it.
                exchange.refuse("body")
            return message

        async def recorded_send(message: Message) -> None:
            kind = message["type"]
            if kind == "http.response.start":
                message = self._started(exchange, message)
            elif kind == "http.response.body":
                exchange.chunk(message.get("body", b""))
                if not message.get("more_body", False):
                    exchange.complete()
            elif kind not in _ASIDE:
                # A file by path, trailers: part of the response that does not pass through here.
                exchange.refuse("extension")
            await send(message)

        token = enter(fill)
        try:
            await self.app(scope, recorded_receive, recorded_send)
        finally:
            leave(token)
            exchange.abandon()
            await adrive(exchange.close())

    def _started(self, exchange: Exchange, message: Message) -> Message:
        raw = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        if message.get("trailers"):
            exchange.refuse("extension")
        fields = tuple([(name.lower(), value) for name, value in raw])
        edge = exchange.started(message["status"], b"", fields)
        line = self._presenter.forwarded(exchange.forward, exchange.detail, stored=exchange.will_store)
        return {**message, "headers": self._presenter.outgoing(raw, edge, exchange.age, line)}

    async def _lead(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """A fill that others may wait for, in its own task; this one hands on to the client what the app sends."""
        client = _Client(exchange, receive)
        task = asyncio.get_running_loop().create_task(self._fill_for(client, exchange, scope))
        try:
            while True:
                message = await client.next()
                if message is _END:
                    break
                await send(message)
            # Not awaited itself: a cancellation of this task must not reach into that one.
            await asyncio.wait([task])
            task.result()
        except BaseException:
            client.left()
            if task.done():
                pass
            elif exchange.wanted():
                self._detached.add(task)
                task.add_done_callback(self._detached_done)
            else:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            raise

    async def _fill_for(self, client: _Client, exchange: Exchange, scope: Scope) -> None:
        try:
            await self._fill(exchange, scope, client.receive, client.send)
        finally:
            client.end()

    def _detached_done(self, task: asyncio.Task[None]) -> None:
        self._detached.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._engine.complaints.swallow("fill without its client", f"{type(error).__name__}: {error}")

    # -- start and stop ----------------------------------------------------------------------------------------------

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def starting_receive() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._lifecycle.ensure_running()
            return message

        async def stopping_send(message: Message) -> None:
            if message["type"] in _ENDINGS:
                await self._lifecycle.astop()
            await send(message)

        await self.app(scope, starting_receive, stopping_send)


class _Client:
    """The client of a fill that runs in another task: a queue that holds no more than what may be stored anyway."""

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self._exchange = exchange
        self._receive = receive
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held = 0
        self._gone = False

    async def next(self) -> Message:
        """What to send next; `_END` when the app is done."""
        message = await self._queue.get()
        self._held -= len(message.get("body", b""))
        if self._held <= self._exchange.limit:
            self._room.set()
        return message

    async def send(self, message: Message) -> None:
        """For the app. Waits only when the client lags behind by more than a stored body may have."""
        if self._gone:
            return
        self._held += len(message.get("body", b""))
        self._queue.put_nowait(message)
        if self._held > self._exchange.limit:
            self._room.clear()
            await self._room.wait()

    async def receive(self) -> Message:
        """For the app. That the client has left is kept from it while others wait for what it is making."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            while self._exchange.wanted() and not self._ending.done():
                await asyncio.wait([self._ending], timeout=_PATIENCE)
        return message

    def left(self) -> None:
        """The client is gone; what the app still sends is for the store alone."""
        self._gone = True
        self._room.set()

    def end(self) -> None:
        if not self._ending.done():
            self._ending.set_result(None)
        self._queue.put_nowait(_END)
