"""Stale answers where the faces themselves could go wrong: clients that leave, apps that fail or speak twice."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.asgi_client import GUARD, scope_for
from tests.clock import Hands
from tests.parity.conftest import World
from tests.parity.faces import Asked, Origin, Reply
from tests.test_wsgi import Body, body_of, environ_for, serve
from tiercache import TierCache

RULES: Any = {"/p/{id}": {"ttl": "10s", "stale_while_revalidate": "1h", "stale_if_error": "1h"}}
TEXT = [("Content-Type", "text/plain")]


def stale_cache() -> tuple[TierCache, Hands]:
    cache = TierCache(lease_wait="30s")
    cache.route("/p/{id}", **RULES["/p/{id}"])
    cache.route("/e/{id}", ttl="10s", stale_if_error="1h")
    return cache, Hands(cache)


def eventually(condition: Any) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError("it never came to that")


def test_a_stale_answer_is_refreshed_behind(world: World) -> None:
    face, hands = world.turnable(Origin(), rules=RULES)
    face.get("/p/1")
    hands.turn(11)
    assert face.get("/p/1").body == b"answer 1"
    eventually(lambda: face.get("/p/1").body == b"answer 2")
    assert face.origin.calls == 2
    assert len(face.cache._engine.flights) == 0


async def test_a_client_that_leaves_with_a_stale_answer_does_not_take_the_refresh_along() -> None:
    cache, hands = stale_cache()
    origin = Origin()
    app = cache.asgi(origin.asgi)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    async def broken_send(message: Any) -> None:
        raise OSError("the client is gone")

    await app(scope_for(), receive, send)
    hands.turn(11)
    with pytest.raises(OSError, match="gone"):
        await app(scope_for(), receive, broken_send)
    for task in list(app._fills._detached):
        await task
    assert origin.calls == 2
    assert len(cache._engine.flights) == 0


def test_the_same_where_the_server_refuses_the_head() -> None:
    cache, hands = stale_cache()
    origin = Origin()
    app = cache.wsgi(origin.wsgi)
    serve(app)
    hands.turn(11)

    def broken_start(*args: Any) -> Any:
        raise OSError("the client is gone")

    with pytest.raises(OSError, match="gone"):
        app(environ_for(), broken_start)
    eventually(lambda: origin.calls == 2 and len(cache._engine.flights) == 0)


def test_a_late_iterable_that_fails_is_closed_once() -> None:
    """With a stale answer in place of the failure, and without."""
    for stored in (False, True):
        cache, hands = stale_cache()
        bodies: list[Body] = []

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            if not bodies and stored:  # noqa: B023
                bodies.append(Body([b"fine"]))  # noqa: B023
                start_response("200 OK", TEXT)
            else:
                bodies.append(Body([], OSError("before the head")))  # noqa: B023
            return bodies[-1]  # noqa: B023

        wrapped = cache.wsgi(app)
        if stored:
            serve(wrapped, "/e/1")
            hands.turn(11)
            assert body_of(serve(wrapped, "/e/1")) == b"fine"
        else:
            assert b"500 Failed" in serve(wrapped, "/e/1")
        assert [body.closed for body in bodies] == [1] * len(bodies)
        assert len(cache._engine.flights) == 0


def test_an_app_that_fails_twice_over_behind_a_stale_answer() -> None:
    cache, hands = stale_cache()
    calls = 0

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            start_response("200 OK", TEXT)
            return [b"fine"]
        start_response("503 Busy", TEXT)
        try:
            raise ValueError("and then")
        except ValueError:
            start_response("500 Broken", TEXT, sys.exc_info())
        return [b"sorry"]

    wrapped = cache.wsgi(app)
    serve(wrapped, "/e/1")
    hands.turn(11)
    sent = serve(wrapped, "/e/1")
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body_of(sent) == b"fine"


@pytest.mark.parametrize("lists", [True, False])
def test_a_304_about_something_else_leaves_no_trace(lists: bool) -> None:
    cache, hands = stale_cache()
    asked: list[str | None] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        asked.append(environ.get("HTTP_IF_NONE_MATCH"))
        if len(asked) == 2:
            start_response("304 Not Modified", [("ETag", '"other"')])
            return [b"junk"] if lists else junk()
        start_response("200 OK", [*TEXT, ("ETag", f'"v{len(asked)}"')])
        return [b"body %d" % len(asked)]

    def junk() -> Iterator[bytes]:
        yield b"junk"

    def late(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        yield from app(environ, start_response)

    wrapped = cache.wsgi(app if lists else late)
    serve(wrapped, "/e/1")
    hands.turn(11)
    assert body_of(serve(wrapped, "/e/1")) == b"body 3"
    assert asked == [None, '"v1"', None]


def test_an_error_page_does_not_follow_the_stale_body(world: World) -> None:
    replies = iter([Reply(b"fine"), Reply([b"error ", b"page"], status=500)])
    face, hands = world.turnable(
        Origin(lambda asked: next(replies)), rules={"/p/{id}": RULES["/p/{id}"] | {"stale_while_revalidate": 0}}
    )
    face.get("/p/1")
    hands.turn(11)
    response = face.get("/p/1")
    assert (response.status, response.body) == (200, b"fine")


def test_what_a_refresh_gets_for_a_field_that_it_did_not_send_is_not_given_to_one_who_does(world: World) -> None:
    """The app has begun to vary by a field of clients, which a request of the cache's own does not carry."""

    def answer(asked: Asked) -> Reply:
        colour = asked.fields.get("x-colour", "none")
        varies = [("Vary", "X-Colour")] if origin.calls > 1 else []
        return Reply(colour.encode(), (*TEXT, *varies))

    origin = Origin(answer)
    face, hands = world.turnable(origin, rules=RULES)
    red, green = [("X-Colour", "red")], [("X-Colour", "green")]
    assert face.get("/p/1", red).body == b"red"
    hands.turn(11)
    assert face.get("/p/1", green).body == b"red"
    eventually(lambda: face.cache.stats()["refused"].get("vary") == 1)
    assert "x-colour" not in origin.asked[1].fields
    hands.turn(3_600)
    assert [face.get("/p/1", who).body for who in (green, red, green)] == [b"green", b"red", b"green"]
