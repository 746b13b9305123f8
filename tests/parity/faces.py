"""One app described once, reached through WSGI and through ASGI by one driver.

The WSGI side runs with `wsgiref.validate` inside and outside of the cache, the ASGI side checks the order of
messages, so that every scenario also tests both protocols.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

from tiercache import TierCache

GUARD = 20.0
"""Seconds after which a test that hangs gives up; nothing is measured by it."""
HOST = "shop.example"
Lines = Sequence[tuple[str, str]]
Piece = bytes | threading.Event | BaseException
"""Of a body: bytes; an event to wait for before going on; or a failure."""


@dataclass
class Asked:
    """A request as the app sees it, whichever face it came through."""

    method: str
    path: str
    query: str
    fields: dict[str, str]


@dataclass
class Reply:
    """What the app answers."""

    body: bytes | Sequence[Piece] = b"hello"
    headers: Lines = (("Content-Type", "text/plain"),)
    status: int = 200
    reason: str = "OK"
    before: threading.Event | None = None
    """To wait for before the head."""
    failure: Exception | None = None
    """Raised in place of the head."""


class Origin:
    """The app. It counts its calls and answers what `answer` says, by default a body that names the call."""

    def __init__(self, answer: Callable[[Asked], Reply] | Reply | None = None) -> None:
        self.asked: list[Asked] = []
        self.answer = answer
        self.called = threading.Semaphore(0)
        """Released with each call."""
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        return len(self.asked)

    def wait_for_call(self) -> None:
        assert self.called.acquire(timeout=GUARD), "the app was not called"

    def _reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            number = len(self.asked)
        self.called.release()
        if self.answer is None:
            return Reply(b"answer %d" % number)
        return self.answer if isinstance(self.answer, Reply) else self.answer(asked)

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        fields: dict[str, str] = {}
        for name, value in scope["headers"]:
            text = name.decode().lower()
            fields[text] = fields[text] + "," + value.decode("latin-1") if text in fields else value.decode("latin-1")
        reply = self._reply(Asked(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), fields))
        await _until(reply.before)
        if reply.failure is not None:
            raise reply.failure
        head = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": head})
        empty = scope["method"] == "HEAD" or reply.status in (204, 304)
        for piece in [] if empty else [reply.body] if isinstance(reply.body, bytes) else reply.body:
            if isinstance(piece, BaseException):
                raise piece
            if isinstance(piece, bytes):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            else:
                await _until(piece)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        fields = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        path = (environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]).encode("latin-1").decode("utf-8", "replace")
        reply = self._reply(Asked(environ["REQUEST_METHOD"], path, environ["QUERY_STRING"], fields))
        if reply.before is not None:
            assert reply.before.wait(GUARD)
        if reply.failure is not None:
            raise reply.failure
        start_response(f"{reply.status} {reply.reason}", list(reply.headers))
        if environ["REQUEST_METHOD"] == "HEAD" or reply.status in (204, 304):
            return []
        if isinstance(reply.body, bytes):
            return [reply.body]
        return self._pieces(reply.body)

    @staticmethod
    def _pieces(body: Sequence[Piece]) -> Iterator[bytes]:
        for piece in body:
            if isinstance(piece, BaseException):
                raise piece
            if isinstance(piece, bytes):
                yield piece
            else:
                assert piece.wait(GUARD)


async def _until(event: threading.Event | None) -> None:
    if event is None:
        return
    async with asyncio.timeout(GUARD):
        while not event.is_set():
            await asyncio.sleep(0.001)


@dataclass
class Response:
    """What the client has got."""

    status: int = 0
    reason: str | None = None
    """None where the face has none (ASGI)."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Lower-case names, in order."""
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        found = self.all(name)
        assert len(found) <= 1, f"{name} came {len(found)} times: {found}"
        return found[0] if found else None

    @property
    def outcome(self) -> str:
        """The word of `Cache-Status` about this cache, without `ttl`."""
        parts = (self.all("cache-status") or [""])[-1].split("; ")
        return "; ".join(part for part in parts if not part.startswith("ttl="))

    @property
    def hit(self) -> bool:
        return self.outcome.startswith("tiercache; hit")


class Call:
    """A request under way."""

    def __init__(self) -> None:
        self.response = Response()
        self.begun = threading.Event()
        """The head has come."""
        self.chunk = threading.Semaphore(0)
        """Released with each piece of the body that is not empty."""
        self.gate: threading.Event | None = None
        """Where set: the client takes no piece before this event."""
        self.future: Future[None] = Future()

    def result(self) -> Response:
        self.future.result(GUARD)
        return self.response

    def wait_for_chunk(self) -> None:
        assert self.chunk.acquire(timeout=GUARD), "no piece of the body came"

    def took(self, piece: bytes) -> None:
        self.response.body += piece
        if piece:
            self.chunk.release()


@dataclass
class Target:
    """A request before it is put into the terms of a face."""

    url: str
    headers: Lines
    method: str
    scheme: str
    host: str | None
    mount: str
    content: bytes


class Face:
    """A cache around an app, as clients see it."""

    kind = ""

    def __init__(self, cache: TierCache, origin: Origin) -> None:
        self.cache = cache
        self.origin = origin

    def begin(
        self,
        url: str,
        headers: Lines = (),
        method: str = "GET",
        *,
        scheme: str = "http",
        host: str | None = HOST,
        mount: str = "",
        content: bytes = b"",
        gate: threading.Event | None = None,
    ) -> Call:
        """Send a request; `url` is the encoded target, mount point included, and `mount` where the app is mounted."""
        call = Call()
        call.gate = gate
        self._begin(call, Target(url, headers, method, scheme, host, mount, content))
        return call

    def get(self, url: str, headers: Lines = (), method: str = "GET", **options: Any) -> Response:
        return self.begin(url, headers, method, **options).result()

    def _begin(self, call: Call, target: Target) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class WSGIFace(Face):
    kind = "wsgi"

    def __init__(self, cache: TierCache, origin: Origin) -> None:
        super().__init__(cache, origin)
        self.app = validator(cache.wsgi(validator(origin.wsgi)))
        self._pool = ThreadPoolExecutor(256)

    def _begin(self, call: Call, target: Target) -> None:
        call.future = self._pool.submit(self._run, call, target)

    def _run(self, call: Call, target: Target) -> None:
        raw, _, query = target.url.partition("?")
        path = unquote_to_bytes(raw).decode("latin-1")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": target.method,
            "SCRIPT_NAME": target.mount,
            "PATH_INFO": path.removeprefix(target.mount),
            "QUERY_STRING": query,
            "RAW_URI": target.url,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": target.scheme,
            "wsgi.input": io.BytesIO(target.content),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        if target.content:
            environ["CONTENT_LENGTH"] = str(len(target.content))
        if target.host is not None:
            environ["HTTP_HOST"] = target.host
        for name, value in target.headers:
            variable = "HTTP_" + name.upper().replace("-", "_")
            joiner = "; " if variable == "HTTP_COOKIE" else ","
            environ[variable] = environ[variable] + joiner + value if variable in environ else value

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
            call.response.status, call.response.reason = int(status[:3]), status[4:]
            call.response.headers = [(name.lower(), value) for name, value in headers]
            call.begun.set()
            return call.took

        body = self.app(environ, start_response)
        try:
            for piece in body:
                if call.gate is not None:
                    assert call.gate.wait(GUARD)
                call.took(piece)
        finally:
            body.close()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._pool.shutdown()
        self.cache.close()


class ASGIFace(Face):
    kind = "asgi"

    def __init__(self, cache: TierCache, origin: Origin) -> None:
        super().__init__(cache, origin)
        self.app = cache.asgi(origin.asgi)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(GUARD)

    def _begin(self, call: Call, target: Target) -> None:
        call.future = asyncio.run_coroutine_threadsafe(self._run(call, target), self.loop)

    async def _run(self, call: Call, target: Target) -> None:
        raw, _, query = target.url.partition("?")
        headers = [] if target.host is None else [(b"host", target.host.encode())]
        headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in target.headers]
        if target.content:
            headers.append((b"content-length", b"%d" % len(target.content)))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": target.method,
            "scheme": target.scheme,
            "path": unquote_to_bytes(raw).decode("utf-8", "surrogateescape"),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": target.mount,
            "headers": headers,
        }
        requests = [{"type": "http.request", "body": target.content, "more_body": False}]
        ended = False

        async def receive() -> Any:
            if requests:
                return requests.pop()
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                assert not call.begun.is_set(), "a second head"
                call.response.status = message["status"]
                call.response.headers = [
                    (name.decode().lower(), value.decode("latin-1")) for name, value in message["headers"]
                ]
                call.begun.set()
                return
            assert message["type"] == "http.response.body"
            assert call.begun.is_set()
            assert not ended, "a piece after the end"
            if message.get("body"):
                await _until(call.gate)
            ended = not message.get("more_body", False)
            call.took(message.get("body", b""))

        await self.app(scope, receive, send)
        assert ended, "the response has no end"

    async def _refreshes(self) -> None:
        """A refresh may have been seen in L1 while its write to L2 is still under way."""
        tasks = [task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "ASGIFills._refresh"]  # type: ignore[union-attr]
        if tasks:
            await asyncio.wait(tasks, timeout=GUARD)

    def close(self) -> None:
        self.run(self._refreshes())
        self.run(self.cache.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(GUARD)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.cache.close()


FACES: dict[str, type[Face]] = {"asgi": ASGIFace, "wsgi": WSGIFace}
