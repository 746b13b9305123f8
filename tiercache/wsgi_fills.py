"""Fills on the WSGI side: the app is called, and what it answers is copied on its way to the client."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Protocol

from tiercache.core.messages import Fields
from tiercache.engine.effects import drive
from tiercache.engine.exchange import CONDITIONS, Exchange
from tiercache.engine.explaining import behind
from tiercache.engine.fill import enter, leave
from tiercache.engine.serving import Pairs, Reply

Environ = dict[str, Any]
Write = Callable[[bytes], object]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Headers = list[tuple[str, str]]


class StartResponse(Protocol):
    def __call__(self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /) -> Write: ...


WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_REFRESHED = (
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "RAW_URI",
    "REQUEST_URI",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "wsgi.version",
    "wsgi.url_scheme",
    "wsgi.multithread",
    "wsgi.multiprocess",
    "wsgi.run_once",
)
"""What a refresh takes over from the environ of the request that caused it: nothing that says who asked."""


def environ_name(name: bytes) -> str:
    """The variable of an environ that holds a request field."""
    return "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


def status_line(status: int, reason: bytes) -> str:
    return f"{status} {reason.decode('latin-1')}"


def status_code(line: str) -> int:
    """0 for what is no status: that is the server's to refuse."""
    code = line[:3]
    return int(code) if code.isascii() and code.isdigit() else 0


def native(pairs: Pairs) -> Headers:
    return [(name.decode("latin-1").title(), value.decode("latin-1")) for name, value in pairs]


def fields_of(headers: Headers) -> Fields:
    return tuple([(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers])


def call(start_response: StartResponse, status: str, headers: Headers, exc_info: ExcInfo | None) -> Write:
    # Without failure with two arguments: that is all that some servers and middlewares take.
    return start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)


def send_reply(reply: Reply, start_response: StartResponse) -> list[bytes]:
    """Send a whole response."""
    start_response(status_line(reply.status, reply.reason), native(reply.headers))
    return [reply.body] if reply.body else []


def close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


class Closing:
    """A body with something to do after it."""

    def __init__(self, body: Iterable[bytes], then: Callable[[], None]) -> None:
        self._body = body
        self._then = then

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        try:
            close(self._body)
        finally:
            self._then()


class Fill:
    """The calls of the app for one request, and the body that the server reads."""

    def __init__(self, exchange: Exchange, app: WSGIApp) -> None:
        self._exchange = exchange
        self._app = app
        self._presenter = exchange.engine.presenter
        self._fill: Any = None
        self._body: Iterable[bytes] = ()
        self._pieces: Iterator[bytes] = iter(())
        self._first: list[bytes] = []
        self._start_response: StartResponse
        self._started = False

    def run(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Call the app; what the server is to send."""
        exchange = self._exchange
        self._start_response = start_response
        if "wsgi.input" in environ:
            environ["wsgi.input"] = _Input(environ["wsgi.input"], exchange)
        try:
            self._call(environ)
            if exchange.again:
                self._drop()
                self._first = []
                self._call(environ)
            return self._answer()
        except BaseException as error:
            # Before anything is closed: closing it releases the flight, which is to end with the stale answer.
            stale = exchange.failed(error) if isinstance(error, Exception) and not self._started else None
            # The server has not been given the body, and so cannot close it.
            Closing(self._body, self._end).close()
            if stale is None:
                raise
            return send_reply(self._presenter.answer(stale, exchange.request, exchange.engine.clock()), start_response)

    def _answer(self) -> Iterable[bytes]:
        exchange, body = self._exchange, self._body
        if exchange.substitute is not None:
            self._drop()
            return Whole(self._first, self._end)
        if self._started and not exchange.recording:
            # Nothing of it is kept: the server may have the app's own object, and send a file by sendfile.
            self._end()
            return self if self._first else body
        if isinstance(body, (list, tuple)) and self._started:
            # The server learns the length from these, and writes a Content-Length.
            for piece in body:
                exchange.chunk(piece)
            exchange.complete()
            return Whole(body, self._end)
        if exchange.recording and not self._first and exchange.announced:
            # Before the server asks: one that only looks at the head (a test client) would else leave the fill under
            # way for as long as it keeps the response. No byte leaves before this one anyway.
            self._first += self._pull()
            if exchange.has_all():
                # Not even the app's own end is missing, and what it does before that must hold nobody up.
                exchange.complete()
        return self

    def _pull(self) -> list[bytes]:
        """The next piece, recorded; none at the end, when the response is complete."""
        token = enter(self._fill)
        try:
            piece = next(self._pieces)
        except StopIteration:
            # Before the write to L2: whoever waits for this has waited long enough.
            self._exchange.complete()
            return []
        except BaseException:
            self._exchange.abandon()
            raise
        finally:
            leave(token)
        self._exchange.chunk(piece)
        return [piece]

    def _call(self, environ: Environ) -> None:
        exchange = self._exchange
        self._fill = exchange.begin()
        conditions = exchange.conditions()
        if conditions is not None:
            # A copy: what stands around us may look at the client's own conditions when it has our answer.
            environ = {name: value for name, value in environ.items() if name not in _CONDITIONS}
            environ |= {environ_name(name): value.decode("latin-1") for name, value in conditions}
        token = enter(self._fill)
        try:
            self._body = self._app(environ, self._start)
            if isinstance(self._body, (list, tuple)):
                return
            self._pieces = iter(self._body)
            # An app that is a generator says what it answers with its first piece.
            while not self._started and not exchange.again:
                self._first.append(next(self._pieces))
            if exchange.substitute is None:
                for piece in self._first:
                    exchange.chunk(piece)
        except StopIteration:
            pass
        finally:
            leave(token)

    def _drop(self) -> None:
        """The rest of what the app says is of no interest."""
        body, self._body, self._pieces = self._body, (), iter(())
        close(body)

    def _start(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
        exchange = self._exchange
        if self._started:
            if exchange.substitute is not None:
                return _nowhere
            # The app takes back what it had begun, because it failed.
            exchange.refuse("incomplete")
        fields = fields_of(headers)
        edge = exchange.started(status_code(status), status[4:].encode("latin-1"), fields)
        if exchange.lease is not None:
            drive(exchange.let_go())
        if exchange.again:
            return _nowhere
        self._started = True
        if exchange.substitute is not None:
            answer = self._presenter.answer(exchange.substitute, exchange.request, exchange.engine.clock())
            self._first = send_reply(answer, self._start_response)
            return _nowhere
        if edge is not None:
            replaced = edge.replaced - {b"age"}
            headers = [pair for pair in headers if pair[0].lower().encode("latin-1") not in replaced]
            headers += native(edge.lines(int(exchange.age)))
        line = self._presenter.forwarded(exchange.forward, exchange.detail, stored=exchange.will_store)
        if line is not None:
            headers = [*headers, ("Cache-Status", line[1].decode("ascii"))]
        write = call(self._start_response, status, headers, exc_info)

        def recorded_write(data: bytes) -> None:
            exchange.chunk(data)
            write(data)

        return recorded_write

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        pieces = [self._first.pop(0)] if self._first else self._pull()
        if not pieces:
            raise StopIteration
        return pieces[0]

    def close(self) -> None:
        """The server is done. If the client has gone before the end, others may still wait for what it asked for."""
        try:
            while self._exchange.wanted():
                try:
                    next(self)
                except StopIteration:
                    break
        finally:
            try:
                close(self._body)
            finally:
                self._end()

    def _end(self) -> None:
        drive(self._exchange.close())


def _nowhere(data: bytes) -> None:
    """The `write` of a response that is not sent."""


_CONDITIONS = frozenset(environ_name(name) for name in CONDITIONS)


def refresh(exchange: Exchange, app: WSGIApp, environ: Environ) -> None:
    """Fill behind a stale answer, by a request of the cache's own, in a thread of its own."""
    engine = exchange.engine
    own = {name: environ[name] for name in _REFRESHED if name in environ}
    own |= {"REQUEST_METHOD": "GET", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}
    own |= {environ_name(name): value.decode("latin-1") for name, value in exchange.scrubbed or ()}
    # In a context of its own: threads may inherit the one that they were started in.
    _start(exchange, app, own, Context(), engine.limits.refreshed)


def ask_behind(exchange: Exchange, app: WSGIApp, environ: Environ) -> None:
    """Fill behind a request whose client may not wait for it to the end, on that request as it came."""
    own = {**environ, "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}
    _start(exchange, app, own, copy_context(), lambda: None)


def _start(
    exchange: Exchange, app: WSGIApp, environ: Environ, context: Context, ended: Callable[[], object]
) -> None:
    args = (_fill_alone, exchange, app, environ, ended)
    exchange.engine.limits.begins_behind()
    try:
        threading.Thread(target=context.run, args=args, name="tiercache-refresh", daemon=True).start()
    except RuntimeError as error:  # no room for another, or the interpreter is ending
        drive(exchange.close())
        ended()
        exchange.engine.limits.ends_behind()
        exchange.engine.complaints.swallow("fill without its client", f"it could not start: {error}")


def _fill_alone(exchange: Exchange, app: WSGIApp, environ: Environ, ended: Callable[[], object]) -> None:
    engine = exchange.engine
    try:
        with behind(exchange):
            body = Fill(exchange, app).run(environ, lambda status, headers, exc_info=None: _nowhere)
            try:
                for _ in body:
                    if exchange.dropped:
                        # As if its client had left: a stream of events has no end.
                        break
            finally:
                close(body)
    except Exception as error:
        engine.complaints.swallow("fill without its client", f"{type(error).__name__}: {error}")
    finally:
        exchange.abandon()
        ended()
        engine.limits.ends_behind()


class Whole(Closing):
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
        return lambda *args, **options: self._noted(attribute(*args, **options))
