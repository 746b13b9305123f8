"""Messages of ASGI as apps send them that a server would take, or refuse, if nothing stood between."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from tests.asgi_client import GUARD, TEXT, Visit, scope_for, visit
from tests.clock import Hands
from tiercache import TierCache
from tiercache.core.entries import Entry

START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": TEXT}
END: dict[str, Any] = {"type": "http.response.body", "body": b"the end"}


def cached(app: Any, **rule: Any) -> tuple[TierCache, Any]:
    cache = TierCache()
    cache.route("/p/{id}", **{"ttl": "10m", **rule})
    return cache, cache.asgi(app)


def kept(cache: TierCache) -> list[Any]:
    memory: Any = cache._engine.memory
    return [value for key in list(memory) if isinstance(value := memory.lookup(key), Entry)]


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
async def test_one_message_and_one_buffer_used_again_and_again(buffer: Any) -> None:
    """A server has sent a piece when `send` returns. Where it is sent later, it must not have changed until then."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        message: dict[str, Any] = {"type": "http.response.body", "more_body": True}
        under = bytearray(b"...")
        for piece in (b"one", b"two", b"six"):
            under[:] = piece
            message["body"] = bytes(under) if buffer is bytes else buffer(under)
            await send(message)
        message["more_body"], message["body"] = False, b""
        await send(message)

    _, wrapped = cached(app)
    for outcome in (b"tiercache; fwd=miss; stored", b"tiercache; hit; detail=l1"):
        seen = await visit(wrapped)
        assert (seen.body, seen.outcome) == (b"onetwosix", outcome)
        assert all(type(message["body"]) is bytes for message in seen.messages[1:])


@pytest.mark.parametrize(
    "messages",
    [
        [START, {**START, "headers": [(b"x-second", b"head")]}, END],
        [START, {**END, "more_body": True}, {**START, "status": 200}, END],
        [{**END, "more_body": True}, START, END],
        [END, START, END],
    ],
    ids=["two heads", "a head within the body", "a body before the head", "a whole body before the head"],
)
async def test_what_is_no_response_is_not_stored(messages: list[Any]) -> None:
    """A server refuses it; where a queue stands between, the app does not hear of that and ends in peace."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    cache, wrapped = cached(app)
    seen = await visit(wrapped)
    assert [message["type"] for message in seen.messages] == [message["type"] for message in messages]
    assert not kept(cache)
    assert cache.stats()["refused"] == {"incomplete": 1}
    assert len(cache._engine.flights) == 0


@pytest.mark.parametrize("behind", [False, True], ids=["for a client", "behind an answer"])
async def test_an_app_that_is_asked_once_more_hears_the_request_once_more(behind: bool) -> None:
    """Its 304 was about something else. Django, for one, reads the content of each request before it answers."""
    calls = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls
        calls += 1
        while (message := await receive()).get("more_body"):
            pass
        assert message["type"] == "http.request"
        if b"if-none-match" in dict(scope["headers"]):
            await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b'"another"')]})
            await send({"type": "http.response.body"})
            return
        await send({**START, "headers": [*TEXT, (b"etag", b'"%d"' % calls)]})
        await send({"type": "http.response.body", "body": b"page %d" % calls})

    cache, wrapped = cached(app, ttl="10s", stale_if_error="1h", **({"fill_timeout": "20s"} if behind else {}))
    hands = Hands(cache)
    assert (await visit(wrapped)).body == b"page 1"
    hands.turn(11)
    async with asyncio.timeout(GUARD):
        assert (await Visit(wrapped).done()).body == b"page 3"
    assert calls == 3
    assert (len(cache._engine.flights), cache._engine.limits.behind) == (0, 0)


async def test_content_that_an_app_reads_is_not_held_on_to() -> None:
    """HTTP/2 can bring content that no field has announced, and any amount of it."""

    class Piece(dict[str, Any]):
        pass

    held: list[weakref.ref[Piece]] = []

    async def receive() -> Any:
        piece = Piece(type="http.request", body=b"x" * 1_000, more_body=len(held) < 10)
        held.append(weakref.ref(piece))
        return piece

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        gc.collect()
        assert len(held) == 11
        assert not any(piece() for piece in held)
        await send(START)
        await send(END)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    cache, wrapped = cached(app)
    await wrapped(scope_for(), receive, send)
    assert sent == ["http.response.start", "http.response.body"]
    assert not kept(cache)


async def test_what_a_task_says_that_outlives_its_response_is_not_kept_for_ever() -> None:
    """A worker that the first request starts, and that runs as long as the process, has that request's context."""
    from tiercache import tag
    from tiercache.engine.fill import current_fill

    go = asyncio.Event()
    tasks: list[asyncio.Task[tuple[int, int]]] = []

    async def work() -> tuple[int, int]:
        await go.wait()
        for number in range(50):
            await things.aset(number, number)
            assert await things.aget(number) == number
            tag(f"number {number}")
        fill = current_fill()
        assert fill is not None
        return len(fill.tags), len(fill.followed)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await things.aget(7)
        tag("page")
        tasks.append(asyncio.create_task(work()))
        await send(START)
        await send(END)

    cache, wrapped = cached(app)
    things = cache.aside("things", ttl="1m")
    await things.aset(7, 7)
    await visit(wrapped)
    (entry,) = kept(cache)
    assert "t:page" in entry.tags
    assert any(name.startswith("v:") for name in entry.tags)
    go.set()
    tags, followed = await tasks[0]
    assert tags == 1
    assert followed <= 2
