"""Calls apps in process as a server would: a fresh scope or environ for each request, ten header fields."""

from __future__ import annotations

import io
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple
from wsgiref.types import WSGIApplication

from benchmarks.apps import ASGIApp, Message, Scope

FIELDS: list[tuple[bytes, bytes]] = [
    (b"host", b"shop.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"referer", b"https://shop.example/catalog"),
    (b"connection", b"keep-alive"),
    (b"x-forwarded-for", b"203.0.113.7"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-site", b"same-origin"),
]
AUTHORIZATION = (b"authorization", b"Bearer 0123456789abcdef0123456789abcdef")
PROXIED = [
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"shop.example"),
    (b"cookie", b"_ga=GA1.2.1234567890.1700000000; _gid=GA1.2.987654321.1700000000"),
]
"""What a proxy and the scripts of a page add to the fields of a request; it names nobody."""


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def discard(message: Message) -> None:
    pass


def asgi_scopes(method: str = "GET", path: str = "/item", *more: tuple[bytes, bytes]) -> Callable[[], Scope]:
    """Makes the scope of one request after the other; an app may change what it is handed."""
    fields = [*FIELDS, *more]
    raw_path = path.encode()
    return lambda: {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": raw_path,
        "query_string": b"",
        "root_path": "",
        "headers": fields.copy(),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 443),
        "state": {},
    }


def asgi_call(
    app: ASGIApp, method: str = "GET", path: str = "/item", *more: tuple[bytes, bytes]
) -> Callable[[], Awaitable[None]]:
    """One request with a fresh scope, its answer thrown away."""
    scope = asgi_scopes(method, path, *more)
    return lambda: app(scope(), receive, discard)


class Answer(NamedTuple):
    """What an app sent. Names of fields are in small letters."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    @property
    def cache_status(self) -> str:
        assert self.status == 200, self
        return ", ".join(value for name, value in self.fields if name == "cache-status")


async def asgi_answer(app: ASGIApp, method: str, path: str, *more: tuple[bytes, bytes]) -> Answer:
    """What the app answers one request with."""
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    async def collecting(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, keep)

    await asgi_call(collecting, method, path, *more)()
    fields = [(name.decode().lower(), value.decode()) for name, value in sent[0]["headers"]]
    return Answer(sent[0]["status"], fields, b"".join(message.get("body", b"") for message in sent[1:]))


async def asgi_status(app: ASGIApp, method: str, path: str, *more: tuple[bytes, bytes]) -> str:
    """The `Cache-Status` that the app answers one request with; empty where it says none."""
    return (await asgi_answer(app, method, path, *more)).cache_status


def _environ(method: str, path: str, more: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "RAW_URI": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "benchmarks",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in [*FIELDS, *more]:
        environ["HTTP_" + name.decode().upper().replace("-", "_")] = value.decode()
    return environ


def _write(data: bytes) -> None:
    raise AssertionError("no app here uses write()")


def _started(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
    return _write


def wsgi_call(
    app: WSGIApplication, method: str = "GET", path: str = "/item", *more: tuple[bytes, bytes]
) -> Callable[[], None]:
    """One request, its answer read to the end and thrown away."""
    environ = _environ(method, path, more)

    def call() -> None:
        fresh = environ.copy()
        fresh["wsgi.input"] = io.BytesIO()
        answer = app(fresh, _started)
        for _ in answer:
            pass
        close = getattr(answer, "close", None)
        if close is not None:
            close()

    return call


def wsgi_answer(app: WSGIApplication, method: str, path: str, *more: tuple[bytes, bytes]) -> Answer:
    """What the app answers one request with."""
    seen: list[tuple[str, list[tuple[str, str]]]] = []
    pieces: list[bytes] = []

    def keep(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        seen.append((status, headers))
        return _write

    def collecting(environ: dict[str, Any], _: object) -> Iterable[bytes]:
        answer = app(environ, keep)
        try:
            pieces.extend(answer)
        finally:
            if (close := getattr(answer, "close", None)) is not None:
                close()
        return ()

    wsgi_call(collecting, method, path, *more)()
    status, fields = seen[-1]
    return Answer(int(status[:3]), [(name.lower(), value) for name, value in fields], b"".join(pieces))


def wsgi_status(app: WSGIApplication, method: str, path: str, *more: tuple[bytes, bytes]) -> str:
    """The `Cache-Status` that the app answers one request with; empty where it says none."""
    return wsgi_answer(app, method, path, *more).cache_status
