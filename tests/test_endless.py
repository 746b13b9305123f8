"""Responses without an end, such as streams of events, where nobody is left to read them."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.asgi_client import GUARD, Visit, followers_of, until
from tests.parity.waiting import eventually
from tiercache import TierCache

EVENTS = [(b"content-type", b"text/event-stream")]
PIECE = b"data: tick\n\n"


class Endless:
    """An ASGI app that sends events until it is told that nobody is there, and does not ask."""

    def __init__(self, headers: Any) -> None:
        self.headers = headers
        self.live = self.calls = 0
        self.head = asyncio.Event()
        self.head.set()
        self.failure: BaseException | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.live += 1
        self.calls += 1
        try:
            await self.head.wait()
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            while True:
                await asyncio.sleep(0)
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self.live -= 1


def environ() -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/p/1", "QUERY_STRING": "", "HTTP_HOST": "shop",
        "SERVER_NAME": "shop", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    }  # fmt: skip


def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
    return lambda data: None


@pytest.fixture
def cache() -> TierCache:
    return TierCache(max_body=1_000, lease_wait="30s")


@pytest.mark.parametrize("headers", [EVENTS, []], ids=["events", "longer than may be stored"])
async def test_a_stream_behind_a_client_that_waits_only_so_long_ends(cache: TierCache, headers: Any) -> None:
    """What the app is asked behind a request is for the store; the client of a stream has a call of its own."""
    cache.route("/p/{id}", ttl="10m", fill_timeout="20s")
    app = Endless(headers)
    client = Visit(cache.asgi(app))
    await client.has(3)
    await until(lambda: app.live == 1)
    assert isinstance(app.failure, OSError)
    assert cache._engine.limits.behind == 0
    await client.cancelled()
    assert app.live == 0
    assert cache.stats()["swallowed"] == {}


async def test_a_stream_whose_client_left_while_others_waited_for_its_head_ends(cache: TierCache) -> None:
    cache.route("/p/{id}", ttl="10m")
    app = Endless(EVENTS)
    app.head.clear()
    wrapped = cache.asgi(app)
    leader = Visit(wrapped)
    await until(lambda: app.live == 1)
    follower = Visit(wrapped)
    await until(lambda: followers_of(cache) == 1)
    await leader.cancelled()
    assert app.live == 1
    app.head.set()
    await follower.has(3)
    await until(lambda: app.live == 1)
    assert (app.calls, cache._engine.limits.behind) == (2, 0)
    await follower.cancelled()
    assert app.live == 0


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
def test_a_stream_behind_a_wsgi_client_that_waits_only_so_long_ends(cache: TierCache, kind: str) -> None:
    cache.route("/p/{id}", ttl="10m", fill_timeout="20s")
    live: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", kind)])
        return events()

    def events() -> Iterator[bytes]:
        live.append(threading.get_ident())
        try:
            while True:
                yield PIECE
        finally:
            live.remove(threading.get_ident())

    body = cache.wsgi(app)(environ(), start_response)
    pieces = iter(body)
    assert next(pieces) == PIECE
    eventually(lambda: cache._engine.limits.behind == 0)
    assert live == [threading.get_ident()]
    body.close()  # type: ignore[attr-defined]
    assert live == []


def test_an_answer_of_known_length_is_read_to_its_end_behind_its_client(cache: TierCache) -> None:
    """It is whole with its last piece, and what the app does after that is done there too."""
    cache.route("/p/{id}", ttl="10m", fill_timeout="20s")
    done = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
        return pieces()

    def pieces() -> Iterator[bytes]:
        yield b"page"
        done.set()

    assert b"".join(cache.wsgi(app)(environ(), start_response)) == b"page"
    assert done.wait(GUARD)
