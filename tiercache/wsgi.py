"""The WSGI face: a pure middleware around any WSGI application (PEP 3333).

A hit is answered from L1 by a plain call. Everything else goes through an exchange, driven in the server's own
thread; the body is handed on piece by piece, and what is left to do (the write to L2) is done in `close()`, when the
client has its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote

from tiercache.core.decisions import SAFE_METHODS, invalidates, is_unsafe
from tiercache.core.keys import Key
from tiercache.core.messages import Fields, Request
from tiercache.engine import flows
from tiercache.engine.effects import drive
from tiercache.engine.engine import Engine
from tiercache.engine.exchange import Exchange
from tiercache.engine.fill import enter, leave
from tiercache.engine.lifecycle import Lifecycle
from tiercache.engine.serving import Answer, Pairs

Environ = dict[str, Any]
Write = Callable[[bytes], object]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Headers = list[tuple[str, str]]
Line = tuple[bytes, bytes]


class StartResponse(Protocol):
    def __call__(self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /) -> Write: ...


WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]


def _environ_name(name: bytes) -> str:
    return "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


class Watched:
    """The watched fields under the names that they have in an environ."""

    __slots__ = ("by_variable", "variables")

    def __init__(self, names: frozenset[bytes]) -> None:
        # Content-Length stands in every environ, empty or not; it is looked at by itself.
        self.by_variable = {_environ_name(name): name for name in names if name != b"content-length"}
        self.variables = frozenset(self.by_variable)


class WSGIRequest(Request):
    """A view on a WSGI environ. Values are text that stands for bytes (latin-1, PEP 3333)."""

    __slots__ = ("_prefix", "environ")

    def __init__(self, environ: Environ, watched: Watched, prefix: tuple[str, str]) -> None:
        self.environ = environ
        self._prefix = prefix
        self.method = environ["REQUEST_METHOD"]
        path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        self.path = path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")
        self.bypass = self.credential = self.conditional = ""
        self.trusted = ()
        if watched.variables.isdisjoint(environ):
            self.special = (b"content-length",) if environ.get("CONTENT_LENGTH") else ()
        else:
            self.special = {watched.by_variable[name] for name in watched.variables & environ.keys()}
            if environ.get("CONTENT_LENGTH"):
                self.special.add(b"content-length")

    def full_key(self) -> Key:
        environ = self.environ
        get = environ.get
        # The target as it was sent, where the server tells (gunicorn, mod_wsgi, werkzeug): decoding a path loses what
        # was encoded in it. The query stands by itself, since a rule may ignore it.
        raw = get("RAW_URI") or get("REQUEST_URI")
        return (
            self._prefix,
            get("wsgi.url_scheme"),
            get("HTTP_HOST"),
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
            value = self.environ.get(_environ_name(name))
        return None if value is None else value.encode("latin-1", "replace")


def _status_line(status: int, reason: bytes) -> str:
    return f"{status} {reason.decode('latin-1')}"


def _status_code(line: str) -> int:
    """0 for what is no status: that is the server's to refuse."""
    code = line[:3]
    return int(code) if code.isascii() and code.isdigit() else 0


def _native(pairs: Pairs) -> Headers:
    return [(name.decode("latin-1").title(), value.decode("latin-1")) for name, value in pairs]


def _fields(headers: Headers) -> Fields:
    return tuple([(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers])


def _call(start_response: StartResponse, status: str, headers: Headers, exc_info: ExcInfo | None) -> Write:
    # Without failure with two arguments: that is all that some servers and middlewares take.
    return start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)


class WSGIMiddleware:
    """`app` with a cache in front. Made by `TierCache.wsgi`."""

    def __init__(self, app: WSGIApp, engine: Engine, lifecycle: Lifecycle) -> None:
        self.app = app
        self._engine = engine
        self._lifecycle = lifecycle
        self._watched = Watched(engine.rules.watched)
        self._prefix = engine.prefix
        self._presenter = engine.presenter
        self._match = engine.routes.match

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        engine = self._engine
        if not engine.enabled:
            return self.app(environ, start_response)
        request = WSGIRequest(environ, self._watched, self._prefix)
        if not self._match(request.path).policy.cache and request.method in SAFE_METHODS:
            engine.stats.bypassed["route"] += 1
            return self._pass_by(self._presenter.bypassing("route"), environ, start_response)
        entry = engine.hit(request)
        if entry is not None:
            if request.conditional or request.method == "HEAD":
                return self._reply(Answer(entry, "l1"), request, start_response)
            age = int(request.now - entry.born)
            wire = entry.wire
            if wire[0] != age:
                status = _status_line(entry.status, entry.response.reason)
                headers = _native(self._presenter.hit_fields(entry, age, request.now))
                wire = entry.wire = (age, (status, headers))
            status, headers = wire[1]
            engine.stats.hits_l1 += 1
            # Fresh objects for every answer: outer middleware edits them in place.
            start_response(status, headers.copy())
            return [entry.body]
        if engine.passes_by(request):
            line = self._presenter.bypassing(request.bypass)
            if request.bypass == "method" and is_unsafe(request.method):
                return self._unsafe(request, line, environ, start_response)
            return self._pass_by(line, environ, start_response)
        self._lifecycle.ensure_running()
        exchange = Exchange(engine, request)
        try:
            answer = drive(exchange.open())
        except BaseException:
            exchange.abandon()
            raise
        if answer is not None:
            return self._reply(answer, request, start_response)
        if exchange.recording:
            return _Fill(exchange, self._presenter.forwarded).run(self.app, environ, start_response)
        line = self._presenter.forwarded(exchange.forward, exchange.detail)
        return self._pass_by(line, environ, start_response)

    def _reply(self, answer: Answer, request: Request, start_response: StartResponse) -> Iterable[bytes]:
        reply = self._presenter.answer(answer, request, self._engine.clock())
        headers = _native(reply.headers)
        if reply.status == 416:
            # Strict servers expect the field on every status that may have content.
            headers.append(("Content-Type", "text/plain"))
        start_response(_status_line(reply.status, reply.reason), headers)
        return [reply.body] if reply.body else []

    # -- requests in which the store takes no part -------------------------------------------------------------------

    def _pass_by(self, line: Line | None, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if line is None:
            return self.app(environ, start_response)
        pair = ("Cache-Status", line[1].decode("ascii"))

        def start_with_line(status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
            return _call(start_response, status, [*headers, pair], exc_info)

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
            if invalidates(request.method, _status_code(status)):
                changed = flows.changed_by(self._engine, request, _fields(headers))
                drive(flows.invalidate_quietly(self._engine, changed))
            if line is not None:
                headers = [*headers, ("Cache-Status", line[1].decode("ascii"))]
            return _call(start_response, status, headers, exc_info)

        def again() -> None:
            if changed:
                drive(flows.invalidate_quietly(self._engine, changed))

        try:
            body = self.app(environ, start_after_invalidation)
        except BaseException:
            again()
            raise
        return _Whole(body, again) if isinstance(body, (list, tuple)) else _Closing(body, again)


class _Closing:
    """A body with something to do after it."""

    def __init__(self, body: Iterable[bytes], then: Callable[[], None]) -> None:
        self._body = body
        self._then = then

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._then()


class _Fill:
    """One call of the app whose response is copied on its way to the client. It is the body that the server reads."""

    def __init__(self, exchange: Exchange, forwarded: Callable[..., tuple[bytes, bytes] | None]) -> None:
        self._exchange = exchange
        self._forwarded = forwarded
        self._fill = exchange.begin()
        self._body: Iterable[bytes] = ()
        self._pieces: Iterator[bytes] = iter(())
        self._start_response: StartResponse
        self._started = False

    def run(self, app: WSGIApp, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        exchange = self._exchange
        self._start_response = start_response
        if "wsgi.input" in environ:
            environ["wsgi.input"] = _Input(environ["wsgi.input"], exchange)
        token = enter(self._fill)
        try:
            body = app(environ, self._start)
            if self._started and not exchange.recording:
                # Nothing of it is kept: the server may have the app's own object, and send a file by sendfile.
                self._end()
                return body
            if isinstance(body, (list, tuple)) and self._started:
                # The server learns the length from these, and writes a Content-Length.
                for piece in body:
                    exchange.chunk(piece)
                exchange.complete()
                return _Whole(body, self._end)
            self._body = body
            self._pieces = iter(body)
        except BaseException:
            self._end()
            raise
        finally:
            leave(token)
        return self

    def _start(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
        exchange = self._exchange
        if self._started:
            # The app takes back what it had begun, because it failed.
            exchange.refuse("incomplete")
        self._started = True
        fields = _fields(headers)
        edge = exchange.started(_status_code(status), status[4:].encode("latin-1"), fields)
        if edge is not None:
            replaced = edge.replaced - {b"age"}
            headers = [pair for pair in headers if pair[0].lower().encode("latin-1") not in replaced]
            headers += _native(edge.lines(int(exchange.age)))
        line = self._forwarded(exchange.forward, exchange.detail, stored=exchange.will_store)
        if line is not None:
            headers = [*headers, ("Cache-Status", line[1].decode("ascii"))]
        write = _call(self._start_response, status, headers, exc_info)

        def recorded_write(data: bytes) -> None:
            exchange.chunk(data)
            write(data)

        return recorded_write

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = enter(self._fill)
        try:
            piece = next(self._pieces)
        except StopIteration:
            # Before the write to L2: whoever waits for this has waited long enough.
            self._exchange.complete()
            raise
        except BaseException:
            self._exchange.abandon()
            raise
        finally:
            leave(token)
        self._exchange.chunk(piece)
        return piece

    def close(self) -> None:
        try:
            # The client has gone before the end, but others wait for what it asked for.
            while self._exchange.wanted():
                try:
                    next(self)
                except StopIteration:
                    break
        finally:
            _Closing(self._body, self._end).close()

    def _end(self) -> None:
        drive(self._exchange.close())


class _Whole(_Closing):
    """A body that is there as a whole, and has a length."""

    _body: list[bytes] | tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self._body)


class _Input:
    """The input of a request that announced no content. An app that finds some may answer by it: not stored then."""

    _READING = frozenset({"read", "readline", "readlines", "readinto", "readinto1", "read1"})

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    def _noted(self, data: Any) -> Any:
        if data:
            self._exchange.refuse("body")
        return data

    def __iter__(self) -> Iterator[bytes]:
        for line in self._stream:
            yield self._noted(line)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._stream, name)
        if name not in self._READING:
            return attribute
        return lambda *args: self._noted(attribute(*args))
