"""Fills on the ASGI side: the app is called, and what it answers is copied on its way to the client.

A fill that others may be waiting for runs in a task of its own, so that neither a client that reads slowly nor one
that goes away decides when, or whether, it ends. A refresh behind a stale answer has no client at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Context
from typing import Any

from tiercache.engine.effects import adrive
from tiercache.engine.engine import Engine
from tiercache.engine.exchange import CONDITIONS, Exchange
from tiercache.engine.explaining import behind
from tiercache.engine.fill import enter, leave
from tiercache.engine.serving import Reply

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_END: Message = {}
_ASIDE = frozenset({"http.response.debug", "http.response.push", "http.response.early_hint"})
"""Messages that are not part of the response itself."""
_PATIENCE = 0.5
"""Seconds between two looks at whether anybody still waits for a fill whose client has left."""
_REFRESHED = (
    "type",
    "asgi",
    "http_version",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "server",
    # Where a framework stands around us: what it asks its own scope for, on the way to the view and in it.
    "app",
    "app_root_path",
    "path_params",
    "router",
    "starlette.exception_handlers",
    "litestar_app",
    "path_template",
    "route_handler",
)
"""What a refresh takes over from the scope of the request that caused it: nothing that says who asked."""


def _gone() -> OSError:
    """What an app hears when it goes on sending to nobody, as ASGI has it: a stream of events has no end."""
    return ConnectionError("the client has left")


async def send_reply(reply: Reply, send: Send) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})


class ASGIFills:
    """The fills of one app."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app = app
        self._engine = engine
        self._presenter = engine.presenter
        # The event loop keeps only weak references to tasks.
        self._detached: dict[asyncio.Task[None], tuple[Exchange, Callable[[], None]]] = {}
        self._loops: set[asyncio.AbstractEventLoop] = set()

    async def fill(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app and keep a copy of what it answers. Used as it is where nobody else waits for the outcome."""
        heard: list[Message] = []
        try:
            await self._call(exchange, scope, receive, send, heard)
            if exchange.again:
                await self._call(exchange, scope, receive, send, heard)
        finally:
            exchange.abandon()
            await adrive(exchange.close())

    async def _call(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send, heard: list[Message]
    ) -> None:
        """Call the app; what it has `heard` of the request, it hears first when it is called again."""
        again = heard.copy()
        fill = exchange.begin()
        conditions = exchange.conditions()
        if conditions is not None:
            kept = [pair for pair in scope["headers"] if pair[0] not in CONDITIONS]
            scope = {**scope, "headers": [*kept, *conditions]}
        started = dropping = ended = False

        async def recorded_receive() -> Message:
            if again:
                return again.pop(0)
            message = await receive()
            if message["type"] == "http.request":
                if message.get("body"):
                    # An app that reads content may answer by it, and the key does not hold it.
                    exchange.refuse("body")
                if exchange.recording:
                    heard.append(message)
            return message

        async def recorded_send(message: Message) -> None:
            nonlocal started, dropping, ended
            kind = message["type"]
            if dropping:
                return
            if started == (kind == "http.response.start") and kind not in _ASIDE:
                # A second head, or a body before the first: a server refuses that, if it has the app's own messages.
                exchange.refuse("incomplete")
            if kind == "http.response.start":
                message = self._started(exchange, message)
                if exchange.lease is not None:
                    await adrive(exchange.let_go())
                dropping = exchange.again or exchange.substitute is not None
                started = not exchange.again
                if exchange.substitute is not None:
                    answer = self._presenter.answer(exchange.substitute, exchange.request, self._engine.clock())
                    await send_reply(answer, send)
                    await self._share(exchange)
                if dropping:
                    return
            elif kind == "http.response.body":
                exchange.chunk(message.get("body", b""))
                ended = not message.get("more_body", False)
                if ended:
                    exchange.complete()
            elif kind not in _ASIDE:
                # A file by path, trailers: part of the response that does not pass through here.
                exchange.refuse("extension")
            await send(message)
            if ended:
                await self._share(exchange)

        token = enter(fill)
        try:
            await self.app(scope, recorded_receive, recorded_send)
        except Exception as error:
            stale = None if started else exchange.failed(error)
            if stale is None:
                if not dropping:
                    raise
                self._engine.complaints.swallow("app failed behind its answer", f"{type(error).__name__}: {error}")
            else:
                await send_reply(self._presenter.answer(stale, exchange.request, self._engine.clock()), send)
        finally:
            leave(token)

    @staticmethod
    async def _share(exchange: Exchange) -> None:
        """Others in the fleet wait for what has come of it, and not for what the app does behind its response."""
        if exchange.share is not None or exchange.lease is not None:
            await adrive(exchange.close())

    def _started(self, exchange: Exchange, message: Message) -> Message:
        raw = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        if message.get("trailers"):
            exchange.refuse("extension")
        fields = tuple([(name.lower(), value) for name, value in raw])
        edge = exchange.started(message["status"], b"", fields)
        line = self._presenter.forwarded(exchange.forward, exchange.detail, stored=exchange.will_store)
        return {**message, "headers": self._presenter.outgoing(raw, edge, exchange.age, line)}

    async def lead(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """A fill that others may wait for, in its own task; this one hands on to the client what the app sends."""
        client = _Client(exchange, receive)
        task = client.task = asyncio.get_running_loop().create_task(self._fill_for(client, exchange, scope))
        try:
            while (message := await client.next()) is not _END:
                await send(message)
            # That was its last word, so that it is done. Never awaited: a cancellation of this task must not reach it.
            task.result()
        except BaseException:
            client.left()
            if not task.done() and (exchange.wanted() or exchange.share is not None):
                # Others wait for it, or it is whole and on its way to L2.
                self._detach(task, exchange)
                raise
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            # A task that is cancelled before its first step has not even reached its `finally`.
            exchange.forsake()
            raise

    async def _fill_for(self, client: _Client, exchange: Exchange, scope: Scope) -> None:
        try:
            await self.fill(exchange, scope, client.receive, client.send)
        finally:
            client.end()

    def refresh(self, exchange: Exchange, scope: Scope, state: dict[str, Any] | None) -> None:
        """Fill behind a stale answer, by a request of the cache's own. `state` is what the app's lifespan left."""
        own = {name: scope[name] for name in _REFRESHED if name in scope}
        own |= {"method": "GET", "headers": list(exchange.scrubbed or ()), "extensions": {}}
        if state is not None or "state" in scope:
            # What others have noted there is of the client.
            own["state"] = dict(state or ())
        # A context of its own: what outer middleware noted of the client in context variables is not for this request.
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._fill_alone(exchange, own), context=Context())
        self._detach(task, exchange, self._engine.limits.refreshed)

    def ask_behind(self, exchange: Exchange, scope: Scope) -> None:
        """Fill behind a request whose client may not wait for it to the end, on that request as it came."""
        self._detach(asyncio.get_running_loop().create_task(self._fill_alone(exchange, dict(scope))), exchange)

    async def _fill_alone(self, exchange: Exchange, scope: Scope) -> None:
        asked = left = False
        over = asyncio.Event()
        exchange.when_over = over.set

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            # This client leaves when the answer is through, or is of no use to it.
            await over.wait()
            return {"type": "http.disconnect"}

        async def discard(message: Message) -> None:
            nonlocal left
            if exchange.dropped and message.get("more_body", False):
                left = True
                raise _gone()

        with behind(exchange):
            try:
                await self.fill(exchange, scope, receive, discard)
            except Exception:
                if not left:
                    raise

    def _detach(
        self, task: asyncio.Task[None], exchange: Exchange, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._detached[task] = (exchange, ended)
        self._loops.add(task.get_loop())
        self._engine.limits.begins_behind(task.get_loop())
        task.add_done_callback(self._detached_done)

    def _over(self, task: asyncio.Task[None]) -> None:
        """Not in the task itself: one that is cancelled before its first step, as when a loop ends, never runs."""
        exchange, ended = self._detached.pop(task, (None, None))
        if exchange is not None and ended is not None:
            exchange.forsake()
            ended()
            self._engine.limits.ends_behind(task.get_loop())

    def sweep(self) -> None:
        """Let go of what was under way in event loops that have been closed: it will never end."""
        for loop in [loop for loop in tuple(self._loops) if loop.is_closed()]:
            self._loops.discard(loop)
            for task in [task for task in tuple(self._detached) if task.get_loop() is loop]:
                self._over(task)

    def _detached_done(self, task: asyncio.Task[None]) -> None:
        self._over(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._engine.complaints.swallow("fill without its client", f"{type(error).__name__}: {error}")


class _Client:
    """The client of a fill that runs in another task: it holds no more than what may be stored anyway."""

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self._exchange = exchange
        self._receive = receive
        self._messages: deque[Message] = deque()
        self._news: asyncio.Future[None] | None = None
        """The client waits for the next message."""
        self._room: asyncio.Event | None = None
        """The app waits for the client."""
        self._held = 0
        self._gone = False
        self.task: asyncio.Task[None]
        """In which the fill runs."""

    async def next(self) -> Message:
        """What to send next; `_END` when the app is done."""
        if not self._messages:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        message = self._messages.popleft()
        self._held -= len(message.get("body", b""))
        if self._room is not None and self._held <= self._exchange.limit:
            self._room.set()
        return message

    async def send(self, message: Message) -> None:
        """For the app. Waits only when the client lags behind by more than a stored body may have."""
        if self._gone:
            if self._exchange.dropped and not self._exchange.wanted() and message.get("more_body", False):
                raise _gone()
            return
        # A copy: some apps use one message, or one buffer, again and again, and this one is sent later.
        message = {**message}
        body = message.get("body", b"")
        if body.__class__ is not bytes:
            message["body"] = body = bytes(body)
        self._held += len(body)
        self._put(message)
        if self._held > self._exchange.limit:
            self._room = self._room or asyncio.Event()
            self._room.clear()
            await self._room.wait()

    async def receive(self) -> Message:
        """For the app. That the client has left is kept from it while others wait for what it is making."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            while self._exchange.wanted() and not self.task.done():
                await asyncio.wait([self.task], timeout=_PATIENCE)
        return message

    def left(self) -> None:
        """The client is gone; what the app still sends is for the store alone."""
        self._gone = True
        if self._room is not None:
            self._room.set()

    def end(self) -> None:
        """The fill has nothing left to do, not even to wait."""
        self._put(_END)

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
