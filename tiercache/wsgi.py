"""The WSGI face: a pure middleware around any WSGI application (PEP 3333).

A hit is answered from L1 by a plain call. Everything else goes through an exchange, driven in the server's own
thread; the body is handed on piece by piece, and what is left to do (the write to L2) is done in `close()`, when the
client has its answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from tiercache.core.credentials import IDENTITY
from tiercache.core.decisions import SAFE_METHODS, invalidates, is_unsafe
from tiercache.core.entries import Entry
from tiercache.core.keys import Key
from tiercache.core.messages import Request
from tiercache.core.routes import Route
from tiercache.core.validation import redacted, takes
from tiercache.engine import flows, session
from tiercache.engine.effects import drive
from tiercache.engine.engine import Engine
from tiercache.engine.exchange import Exchange
from tiercache.engine.fill import not_filling
from tiercache.engine.lifecycle import Lifecycle
from tiercache.engine.opening import open_exchange
from tiercache.engine.serving import Answer
from tiercache.errors import ConfigError
from tiercache.wsgi_fills import (
    Closing,
    Environ,
    ExcInfo,
    Fill,
    Headers,
    StartResponse,
    Whole,
    Write,
    WSGIApp,
    ask_behind,
    call,
    environ_name,
    fields_of,
    native,
    refresh,
    send_reply,
    status_code,
    status_line,
)

Line = tuple[bytes, bytes]

IDENTITIES = ("REMOTE_USER", "SSL_CLIENT_CERT", "SSL_CLIENT_S_DN", "HTTPS_DN")
"""Variables by which a server, or what stands around us, names the user."""


class Watched:
    """The watched fields under the names that they have in an environ."""

    __slots__ = ("by_variable", "variables")

    def __init__(self, names: frozenset[bytes]) -> None:
        # Content-Length stands in every environ, empty or not; it is looked at by itself.
        self.by_variable = {environ_name(name): name for name in names if name != b"content-length"}
        self.by_variable |= dict.fromkeys(IDENTITIES, IDENTITY)
        self.variables = frozenset(self.by_variable)


def path_of(environ: Environ) -> str:
    """The path that the app sees, mount point included."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")


class WSGIRequest(Request):
    """A view on a WSGI environ. Values are text that stands for bytes (latin-1, PEP 3333)."""

    __slots__ = ("_prefix", "environ")

    def __init__(
        self, environ: Environ, path: str, route: Route, watched: Watched, prefix: tuple[str, str]
    ) -> None:
        self.environ = environ
        self.path = path
        self.route = route
        self._prefix = prefix
        self.method = environ["REQUEST_METHOD"]
        self.bypass = self.credential = self.conditional = ""
        self.directives = None
        self.current = self.early = self.isolated = False
        self.trusted = ()
        if watched.variables.isdisjoint(environ):
            self.special = (b"content-length",) if environ.get("CONTENT_LENGTH") else ()
        else:
            self.special = {watched.by_variable[name] for name in watched.variables.intersection(environ)}
            if environ.get("CONTENT_LENGTH"):
                self.special.add(b"content-length")
            if IDENTITY in self.special and not any(environ.get(name) for name in IDENTITIES):
                self.special.remove(IDENTITY)

    def full_key(self) -> Key:
        environ = self.environ
        get = environ.get
        # The target as it was sent, where the server tells (gunicorn, mod_wsgi, werkzeug): decoding a path loses what
        # was encoded in it. The query stands by itself, since a rule may ignore it.
        raw = get("RAW_URI") or get("REQUEST_URI")
        return (
            self._prefix,
            get("wsgi.url_scheme"),
            # Without a Host field the app names itself by the address that it was reached at.
            get("HTTP_HOST") or (get("HTTP_HOST"), get("SERVER_NAME"), get("SERVER_PORT")),
            raw.partition("?")[0] if raw else None,
            get("SCRIPT_NAME"),
            get("PATH_INFO"),
            get("QUERY_STRING"),
        )

    def scheme(self) -> str:
        scheme: str = self.environ.get("wsgi.url_scheme", "http")
        return scheme

    def host(self) -> bytes:
        environ = self.environ
        host: str = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
        return host.encode("latin-1", "replace")

    def target(self) -> bytes:
        path: str = self.environ.get("SCRIPT_NAME", "") + self.environ.get("PATH_INFO", "")
        # The server has decoded it; encoded once more, a percent sign in it is not taken for the start of an octet.
        return quote(path, encoding="latin-1", errors="replace").encode()

    def query(self) -> bytes:
        query: str = self.environ.get("QUERY_STRING", "")
        return query.encode("latin-1", "replace")

    def has_body(self) -> bool:
        environ = self.environ
        return environ.get("CONTENT_LENGTH", "").strip() not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ

    def field(self, name: bytes) -> bytes | None:
        if name == b"content-length" or name == b"content-type":
            value = self.environ.get(name.decode().upper().replace("-", "_")) or None
        else:
            value = self.environ.get(environ_name(name))
        return None if value is None else value.encode("latin-1", "replace")


class WSGIMiddleware:
    """`app` with a cache in front. Made by `TierCache.wsgi`."""

    def __init__(self, app: WSGIApp, engine: Engine, lifecycle: Lifecycle) -> None:
        if not callable(app):
            raise ConfigError("wsgi", redacted(app), "a WSGI application, which is callable")
        if not takes(app, 2) and takes(app, 3):
            raise ConfigError("wsgi", redacted(app), "a WSGI application; this one is ASGI: cache.asgi(app)")
        self.app = app
        self._engine = engine
        if isinstance(app, WSGIMiddleware) and app._engine is engine:
            raise ConfigError("wsgi", redacted(app), "an application that this cache has not been put around yet")
        self._lifecycle = lifecycle
        self._watched = Watched(engine.rules.watched)
        self._prefix = engine.prefix
        self._presenter = engine.presenter
        self._match = engine.routes.match

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        engine = self._engine
        if not engine.enabled:
            return self.app(environ, start_response)
        path = path_of(environ)
        route = self._match(path)
        # Before anything is made of the request: what is never cached is to pay next to nothing.
        if not (engine.sessions or route.policy.cache) and environ["REQUEST_METHOD"] in SAFE_METHODS:
            engine.stats.bypassed["route"] += 1
            return self._pass_by(self._presenter.bypassing("route"), environ, start_response)
        request = WSGIRequest(environ, path, route, self._watched, self._prefix)
        entry = engine.hit(request)
        if entry is not None:
            if request.conditional or request.isolated or request.method == "HEAD":
                return self._reply(Answer(entry, "isolated" if request.isolated else "l1"), request, start_response)
            age = int(request.now - entry.born)
            wire = entry.wire
            if wire[0] != age:
                status = status_line(entry.status, entry.response.reason)
                headers = native(self._presenter.hit_fields(entry, age, request.now))
                wire = entry.wire = (age, (status, headers))
            status, headers = wire[1]
            engine.stats.hits_l1 += 1
            # Fresh objects for every answer: outer middleware edits them in place.
            start_response(status, headers.copy())
            return [entry.body]
        if engine.sessions:
            start_response = self._telling(request, start_response)
        if engine.passes_by(request):
            not_filling()
            line = self._presenter.bypassing(request.bypass)
            if request.bypass == "method" and is_unsafe(request.method):
                return self._unsafe(request, line, environ, start_response)
            return self._pass_by(line, environ, start_response)
        self._lifecycle.ensure_running()
        exchange = Exchange(engine, request)
        exchange.ask_behind = lambda other: ask_behind(other, self.app, environ)
        try:
            answer = drive(open_exchange(exchange))
        except BaseException:
            exchange.abandon()
            raise
        if answer is not None:
            try:
                return self._reply(answer, request, start_response)
            finally:
                # Whatever becomes of this client: others wait for what its request has set going.
                if exchange.refresh:
                    refresh(exchange, self.app, environ)
        if exchange.failure:
            drive(exchange.close())
            return send_reply(self._presenter.failed(exchange.failure), start_response)
        if exchange.observing:
            return Fill(exchange, self.app).run(environ, start_response)
        not_filling()
        line = self._presenter.forwarded(exchange.forward, exchange.detail)
        return self._pass_by(line, environ, start_response)

    def _reply(self, answer: Answer[Entry], request: Request, start_response: StartResponse) -> Iterable[bytes]:
        return send_reply(self._presenter.answer(answer, request, self._engine.clock()), start_response)

    def _telling(self, request: Request, start_response: StartResponse) -> StartResponse:
        """`start_response` for a response that tells the client of the purges that its request has caused."""
        engine = self._engine
        purges = session.watch()

        def start_telling(status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
            marks = session.lines(engine, purges, secure=request.scheme() == "https")
            if marks:
                raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
                headers = native(session.told(raw, marks, request.method))
            return call(start_response, status, headers, exc_info)

        return start_telling

    # -- requests in which the store takes no part -------------------------------------------------------------------

    def _pass_by(self, line: Line | None, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if line is None:
            return self.app(environ, start_response)
        pair = ("Cache-Status", line[1].decode("ascii"))

        def start_with_line(status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
            return call(start_response, status, [*headers, pair], exc_info)

        return self.app(environ, start_with_line)

    def _unsafe(
        self, request: Request, line: Line | None, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """RFC 9111 §4.4. The invalidation precedes the response, so that whoever has read the response sees its effect.

        It is repeated when the response is through: some apps commit only then, and a fill in between has read old
        data.
        """
        changed: list[str] = []
        self._lifecycle.ensure_running()

        def start_after_invalidation(status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
            nonlocal changed
            if invalidates(request.method, status_code(status)):
                changed = flows.changed_by(self._engine, request, fields_of(headers))
                drive(flows.invalidate_quietly(self._engine, changed))
            if line is not None:
                headers = [*headers, ("Cache-Status", line[1].decode("ascii"))]
            return call(start_response, status, headers, exc_info)

        def again() -> None:
            if changed:
                drive(flows.invalidate_quietly(self._engine, changed))

        try:
            body = self.app(environ, start_after_invalidation)
        except BaseException:
            again()
            raise
        return Whole(body, again) if isinstance(body, (list, tuple)) else Closing(body, again)
