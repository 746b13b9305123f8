"""The apps that are measured, bare and under a framework: each does as little as it can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

import flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

PRODUCT = {"id": 1, "name": "A lamp", "price": 4900}


def constant_asgi(size: int, *fields: tuple[bytes, bytes]) -> ASGIApp:
    """An app that sends the same body of `size` bytes whatever is asked."""
    body = b"x" * size
    length = str(size).encode()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", length), *fields]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


def constant_wsgi(size: int, *fields: tuple[str, str]) -> WSGIApplication:
    """An app that returns the same body of `size` bytes whatever is asked."""
    body = b"x" * size
    length = str(size)

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", length), *fields])
        return [body]

    return app


def starlette_app() -> Starlette:
    """One route that returns a small JSON response."""

    async def product(request: Request) -> JSONResponse:
        return JSONResponse(PRODUCT)

    return Starlette(routes=[Route("/item", product, methods=["GET", "POST"])])


def flask_app() -> flask.Flask:
    """The cheapest route that Flask has: it returns a constant string."""
    app = flask.Flask("benchmarks")

    @app.route("/item", methods=["GET", "POST"])
    def product() -> str:
        return "ok"

    return app


class Lifespan:
    """Starts and stops an ASGI app as a server would, on the loop of `runner`."""

    def __init__(self, runner: asyncio.Runner, app: ASGIApp) -> None:
        self._runner = runner
        self._app = app

    def __enter__(self) -> None:
        self._runner.run(self._start())

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stop())

    async def _start(self) -> None:
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.ensure_future(self._app(scope, self._events.get, self._answers.put))
        await self._exchange("lifespan.startup")

    async def _stop(self) -> None:
        if not self._task.done():
            await self._exchange("lifespan.shutdown")
            await self._task

    async def _exchange(self, event: str) -> None:
        await self._events.put({"type": event})
        answer = asyncio.ensure_future(self._answers.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            if self._task.done() and self._task.exception() is not None and event == "lifespan.startup":
                return  # an app that does not know lifespans says so by an exception
        if not answer.done() or answer.result()["type"] != f"{event}.complete":
            raise RuntimeError(f"the app did not complete {event}: {answer}")
