"""The faces of a cache that explains every request (`debug=True`): what the others do, with a trace around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tiercache.asgi import ASGIMiddleware
from tiercache.asgi_fills import Message, Receive, Scope, Send
from tiercache.engine.explaining import Explanation
from tiercache.wsgi import WSGIMiddleware, path_of
from tiercache.wsgi_fills import Environ, ExcInfo, Headers, StartResponse, Whole, Write, call, close, status_code


class ExplainedASGI(ASGIMiddleware):
    """An ASGI application with the cache in front, and a block in the log for each request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        explanation = Explanation(self._engine, scope["method"], scope["path"])

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                explanation.head = (message["status"], message.get("headers", ()))
            await send(message)

        try:
            with explanation.current():
                await super().__call__(scope, receive, watched)
        finally:
            explanation.write()


class ExplainedWSGI(WSGIMiddleware):
    """A WSGI application with the cache in front, and a block in the log for each request."""

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        explanation = Explanation(self._engine, environ["REQUEST_METHOD"], path_of(environ))

        def watched(status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
            explanation.head = (status_code(status), headers)
            return call(start_response, status, headers, exc_info)

        try:
            with explanation.current():
                body = super().__call__(environ, watched)
        except BaseException:
            explanation.write()
            raise
        files = environ.get("wsgi.file_wrapper")
        if isinstance(files, type) and isinstance(body, files):
            # The app's own file, of which no copy is kept: the server knows it by its class, and sends it by sendfile.
            explanation.write()
            return body
        # The response is through when the server closes it.
        return _Sized(body, explanation) if isinstance(body, (list, tuple, Whole)) else _Body(body, explanation)


class _Body:
    """A body whose pieces are made, and whose end comes, while its request is the one that is explained."""

    def __init__(self, body: Iterable[bytes], explanation: Explanation) -> None:
        self._body: Any = body
        self._explanation = explanation
        self._pieces: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._explanation.current():
            if self._pieces is None:
                self._pieces = iter(self._body)
            return next(self._pieces)

    def close(self) -> None:
        try:
            with self._explanation.current():
                close(self._body)
        finally:
            self._explanation.write()


class _Sized(_Body):
    """The same for one that is there as a whole: the server takes its length from it."""

    def __len__(self) -> int:
        return len(self._body)
