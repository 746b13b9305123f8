"""What a 304 brings for the client alone whose request the app has confirmed a stored response for."""

from __future__ import annotations

import pytest

from tests.parity.conftest import World
from tests.parity.faces import Asked, Face, Lines, Origin, Reply

TEXT, TAG = ("Content-Type", "text/plain"), ("ETag", '"v1"')
RULE = {"ttl": "10s", "cdn_ttl": "1h", "drop_cookies": ["seen"]}


def confirmed(world: World, extra: Lines) -> Face:
    """A face whose app has a page stored that is stale, and will confirm it with these fields."""

    def answer(asked: Asked) -> Reply:
        if asked.fields.get("if-none-match") == '"v1"':
            return Reply(b"", [TAG, *extra], 304, "Not Modified")
        return Reply(b"page", [TEXT, TAG, ("X-Page", "1")])

    face, hands = world.turnable(Origin(answer), rules={"/p/{id}": RULE})
    assert face.get("/p/1").header("cdn-cache-control") == "max-age=3600"
    hands.turn(11)
    return face


@pytest.mark.parametrize("names", [["session"], ["seen"], ["session", "seen", "session"]])
def test_a_cookie_of_a_304_reaches_its_client_and_nobody_else(world: World, names: list[str]) -> None:
    cookies = [f"{name}=alice" for name in names]
    face = confirmed(world, [("Set-Cookie", cookie) for cookie in cookies])
    mine = face.get("/p/1")
    assert (mine.status, mine.body, mine.header("x-page")) == (200, b"page", "1")
    assert mine.all("set-cookie") == cookies
    # It is not for a CDN to keep.
    assert mine.all("cdn-cache-control") == []
    others = face.get("/p/1")
    assert others.hit
    assert others.all("set-cookie") == []
    assert face.origin.calls == 2


def test_the_cookie_of_a_304_reaches_a_client_that_has_the_page(world: World) -> None:
    face = confirmed(world, [("Set-Cookie", "session=alice")])
    mine = face.get("/p/1", [("If-None-Match", '"v1"')])
    assert (mine.status, mine.body, mine.all("set-cookie")) == (304, b"", ["session=alice"])


@pytest.mark.parametrize("word", ["private", "no-store", "private, max-age=60"])
def test_what_a_304_forbids_it_forbids_everybody(world: World, word: str) -> None:
    face = confirmed(world, [("Cache-Control", word), ("X-Page", "2")])
    mine = face.get("/p/1")
    assert (mine.status, mine.body, mine.header("x-page")) == (200, b"page", "2")
    assert mine.header("cache-control") == word
    assert mine.all("cdn-cache-control") == []
    assert mine.outcome == "tiercache; fwd=stale; fwd-status=304; detail=validated"
    assert not face.get("/p/1").hit
