"""The ASGI face: a pure middleware around any ASGI 3 application.

Three ways lead through it. A hit is answered from L1 by a plain call. What the store takes no part in goes to the app
in the caller's own task, with one field added. A fill that others may be waiting for runs in a task of its own, so
that neither a client that reads slowly nor one that goes away decides when, or whether, it ends.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from urllib.parse import quote, unquote

from tiercache.asgi_fills import ASGIApp, ASGIFills, Message, Receive, Scope, Send, send_reply
from tiercache.core.credentials import IDENTITY
from tiercache.core.decisions import SAFE_METHODS, invalidates, is_unsafe
from tiercache.core.entries import Entry
from tiercache.core.keys import Key
from tiercache.core.messages import Request
from tiercache.core.routes import Route
from tiercache.core.validation import redacted, takes
from tiercache.engine import flows, session
from tiercache.engine.effects import adrive
from tiercache.engine.engine import Engine
from tiercache.engine.exchange import Exchange
from tiercache.engine.fill import not_filling
from tiercache.engine.lifecycle import Lifecycle
from tiercache.engine.opening import open_exchange
from tiercache.engine.serving import Answer
from tiercache.errors import ConfigError

Line = tuple[bytes, bytes]

_ENDINGS = frozenset({"lifespan.startup.failed", "lifespan.shutdown.complete", "lifespan.shutdown.failed"})


def full_path(scope: Scope) -> str:
    """The path that clients see, mount point included.

    ASGI's `path` begins with its `root_path`, as uvicorn and Starlette's `Mount` have it. Servers told of a prefix that
    a proxy has cut off (hypercorn, daphne, granian) and FastAPI's own `root_path` leave it out.
    """
    path: str = scope["path"]
    root: str = (scope.get("root_path") or "").rstrip("/")
    return path if path.startswith(root) and path[len(root) :][:1] in ("", "/") else root + path


class ASGIRequest(Request):
    """A view on an ASGI scope."""

    __slots__ = ("_fields", "_given", "_prefix", "scope")

    def __init__(
        self, scope: Scope, route: Route, watched: frozenset[bytes], prefix: tuple[str, str], path: str | None = None
    ) -> None:
        self.scope = scope
        self.route = route
        self.method = scope["method"]
        # Kept: some apps write another path into the scope on their way (Litestar).
        self._given = scope["path"]
        self.path = full_path(scope) if path is None else path
        headers = scope["headers"]
        self._prefix = prefix
        self._fields: dict[bytes, bytes] = dict(headers)
        self.bypass = self.credential = self.conditional = ""
        self.directives = None
        self.current = self.early = self.isolated = False
        self.trusted = ()
        if len(self._fields) != len(headers):
            self._join(headers, watched)
        elif watched.isdisjoint(self._fields):
            self.special = ()
        else:
            self.special = watched.intersection(self._fields)
        if "user" in scope or "tls" in (scope.get("extensions") or ()):
            self._identify(scope)

    def _join(self, headers: Any, watched: frozenset[bytes]) -> None:
        lines: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            lines.setdefault(name, []).append(value)
        # RFC 9113 §8.2.3: HTTP/2 may split the Cookie field, and it is put together by a semicolon.
        self._fields = {n: (b"; " if n == b"cookie" else b", ").join(values) for n, values in lines.items()}
        self.special = {n for n, values in lines.items() if len(values) > 1} | watched.intersection(lines)

    def _identify(self, scope: Scope) -> None:
        """Outer middleware has told who asks, or the client's certificate has."""
        user = scope.get("user")
        tls = (scope.get("extensions") or {}).get("tls") or {}
        if tls.get("client_cert_name") or tls.get("client_cert_chain") or getattr(user, "is_authenticated", user):
            self.special = {*self.special, IDENTITY}

    def full_key(self) -> Key:
        scope = self.scope
        return (
            self._prefix,
            scope.get("scheme"),
            # Without a Host field the app names itself by the address that it was reached at.
            self._fields.get(b"host") or (self._fields.get(b"host"), str(scope.get("server"))),
            scope.get("raw_path"),
            # As the app is given it: it can tell apart what clients see as one path.
            self._given,
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
        if raw is None:
            return quote(self.path, errors="surrogatepass").encode()
        if self._given == self.path or unquote(raw.decode("latin-1")) != self._given:
            # Where the mount point was cut off on the way, and not by a proxy, it still stands here.
            return raw
        return quote(self.path.removesuffix(self._given), errors="surrogatepass").encode() + raw

    def query(self) -> bytes:
        query: bytes = self.scope.get("query_string", b"")
        return query

    def has_body(self) -> bool:
        length = self._fields.get(b"content-length")
        return b"transfer-encoding" in self._fields or (length is not None and length.strip() != b"0")

    def field(self, name: bytes) -> bytes | None:
        return self._fields.get(name)

    def values(self, names: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
        get = self._fields.get
        # Of most rules one field counts: a list for it would cost as much as all the rest.
        return (get(names[0]),) if len(names) == 1 else tuple([get(name) for name in names])

    def mistakable(self) -> frozenset[bytes]:
        # Servers give names in lower case; what stands around us may not.
        pairs = [(name, name.lower().replace(b"_", b"-")) for name in self._fields]
        return frozenset([meant for name, meant in pairs if meant != name])


def _with_line(send: Send, line: Line | None) -> Send:
    """`send` for a response of which nothing but one more field is ours."""
    if line is None:
        return send

    # A plain function that hands on the awaitable: a coroutine of its own would cost more than all the rest here.
    def send_with_line(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            # A copy: some apps send one message object again and again.
            message = {**message, "headers": [*message.get("headers", ()), line]}
        return send(message)

    return send_with_line


class ASGIMiddleware:
    """`app` with a cache in front. Made by `TierCache.asgi`."""

    def __init__(self, app: ASGIApp, engine: Engine, lifecycle: Lifecycle) -> None:
        if not callable(app):
            raise ConfigError("asgi", redacted(app), "an ASGI application, which is callable")
        if not takes(app, 3) and takes(app, 2):
            raise ConfigError("asgi", redacted(app), "an ASGI application; this one is WSGI: cache.wsgi(app)")
        self.app = app
        self._engine = engine
        if isinstance(app, ASGIMiddleware) and app._engine is engine:
            raise ConfigError("asgi", redacted(app), "an application that this cache has not been put around yet")
        self._lifecycle = lifecycle
        self._watched = engine.rules.watched
        self._prefix = engine.prefix
        self._presenter = engine.presenter
        self._match = engine.routes.match
        self._bypassed = engine.stats.bypassed
        self._uncached = engine.presenter.bypassing("route")
        self._fills = ASGIFills(app, engine)
        self._state: dict[str, Any] | None = None
        """What the app's lifespan left for its requests, where the server supports that."""

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
        path = full_path(scope) if scope.get("root_path") else scope["path"]
        route = self._match(path)
        # Before anything is made of the request: what is never cached is to pay next to nothing.
        if not (engine.sessions or route.policy.cache) and scope["method"] in SAFE_METHODS:
            self._bypassed["route"] += 1
            await self.app(scope, receive, send if self._uncached is None else _with_line(send, self._uncached))
            return
        request = ASGIRequest(scope, route, self._watched, self._prefix, path)
        entry = engine.hit(request)
        if entry is not None:
            if request.conditional or request.isolated or request.method == "HEAD":
                await self._reply(Answer(entry, "isolated" if request.isolated else "l1"), request, send)
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
        if engine.sessions:
            send = self._telling(request, send)
        if engine.passes_by(request):
            not_filling()
            line = self._presenter.bypassing(request.bypass)
            if request.bypass == "method" and is_unsafe(request.method):
                await self._unsafe(request, line, scope, receive, send)
            else:
                await self.app(scope, receive, _with_line(send, line))
            return
        self._lifecycle.ensure_running()
        self._fills.sweep()
        exchange = Exchange(engine, request)
        exchange.ask_behind = lambda other: self._fills.ask_behind(other, scope)
        try:
            answer = await adrive(open_exchange(exchange))
        except BaseException:
            exchange.abandon()
            raise
        if answer is not None:
            try:
                await self._reply(answer, request, send)
            finally:
                # Whatever becomes of this client: others wait for what its request has set going.
                if exchange.refresh:
                    self._fills.refresh(exchange, scope, self._state)
        elif exchange.failure:
            await send_reply(self._presenter.failed(exchange.failure), send)
            await adrive(exchange.close())
        elif not exchange.observing:
            not_filling()
            line = self._presenter.forwarded(exchange.forward, exchange.detail)
            await self.app(scope, receive, _with_line(send, line))
        elif exchange.flight is None:
            await self._fills.fill(exchange, scope, receive, send)
        else:
            await self._fills.lead(exchange, scope, receive, send)

    def _reply(self, answer: Answer[Entry], request: Request, send: Send) -> Awaitable[None]:
        return send_reply(self._presenter.answer(answer, request, self._engine.clock()), send)

    def _telling(self, request: Request, send: Send) -> Send:
        """`send` for a response that tells the client of the purges that its request has caused."""
        engine = self._engine
        purges = session.watch()

        async def send_telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                marks = session.lines(engine, purges, secure=request.scheme() == "https")
                if marks:
                    headers = session.told(list(message.get("headers", ())), marks, request.method)
                    message = {**message, "headers": headers}
            await send(message)

        return send_telling

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

    # -- start and stop ----------------------------------------------------------------------------------------------

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._state = scope.get("state")

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
