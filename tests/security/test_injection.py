"""Header injection at store and at replay, and forged lines of a log.

RFC 9110 §5.5, RFC 9112 §11.1, CWE-113, CWE-117.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.asgi_client import scope_for
from tests.parity.conftest import World
from tests.parity.faces import Asked, Origin, Reply
from tiercache import ConfigError, TierCache

BAD = [
    (b"x-a", b"1\r\nSet-Cookie: session=evil"), (b"x-a", b"1\nx: y"), (b"x-a", b"1\r"), (b"x-a", b"a\0b"),
    (b"x-a", b"\x01"), (b"x-a", b"\x7f"), (b"x-a\r\nx-b", b"1"), (b"x a", b"1"), (b"x:a", b"1"), (b"", b"1"),
    (b"x-\xff", b"1"), (b"etag", b'"a"\r\n'), (b"location", b"/\r\n\r\n<html>"), (b"cache-control", b"max-age=9\n"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
async def test_cwe_113_a_field_that_splits_a_response_is_not_stored(kind: str, bad: tuple[bytes, bytes]) -> None:
    """The server refuses to send it, once; stored, it would be refused for everybody."""
    cache = TierCache()
    cache.route("/p/{id}", ttl="10m")
    statuses = []
    if kind == "asgi":

        async def app(scope: Any, receive: Any, send: Any) -> None:
            head = [(b"content-type", b"text/plain"), bad]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b"x"})

        async def keep(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(dict(message["headers"])[b"cache-status"].decode())

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        for _ in range(2):
            await cache.asgi(app)(scope_for(), receive, keep)
    else:

        def wsgi(environ: Any, start_response: Any) -> Any:
            lines = [("Content-Type", "text/plain"), (bad[0].decode("latin-1"), bad[1].decode("latin-1"))]
            start_response("200 OK", lines)
            return [b"x"]

        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/p/1", "HTTP_HOST": "h", "wsgi.url_scheme": "http"}
        for _ in range(2):
            list(cache.wsgi(wsgi)(dict(environ), lambda s, h, e=None: statuses.append(dict(h)["Cache-Status"])))
    assert statuses == ["tiercache; fwd=miss; detail=malformed"] * 2
    cache.close()


def test_rfc9110_5_5_spaces_around_a_value_are_not_stored(world: World) -> None:
    """Strict servers refuse them too."""
    face = world.face(Origin(Reply(headers=[("Content-Type", "text/plain"), ("X-Echo", " a ")])))
    face.get("/p/1")
    assert face.get("/p/1").hit
    assert face.get("/p/1").header("x-echo") == "a"


@pytest.mark.parametrize("url", ["/p/%0d%0aSet-Cookie:%20a=b", "/p/%00", "/p/%22;%20hit", "/p/a%0Ab"])
def test_nothing_of_a_request_gets_into_cache_status(world: World, url: str) -> None:
    face = world.face(Origin())
    lines = [("X-Forwarded-Host", "evil; hit")]
    for headers in ((), lines, [("Range", "x; hit")]):
        for response in (face.get(url, headers), face.get(url, headers)):
            (status,) = response.all("cache-status")
            assert status.startswith("tiercache; ")
            assert "evil" not in status
            assert "Cookie" not in status


def test_cwe_117_exceptions_do_not_forge_lines_of_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The message of an app's exception often repeats what a client sent."""
    state = {"failing": False}

    def answer(asked: Asked) -> Reply:
        if state["failing"]:
            raise ValueError("bad name: x\n2026-01-01 ERROR root: all is lost\x1b[31m" + "y" * 5_000)
        return Reply(b"page")

    face, hands = world.turnable(Origin(answer), rules={"/p/{id}": {"ttl": "10s", "stale_if_error": "1h"}})
    face.get("/p/1")
    hands.turn(11)
    state["failing"] = True
    with caplog.at_level(logging.DEBUG, "tiercache"):
        assert face.get("/p/1").body == b"page"
    (record,) = caplog.records
    text = record.getMessage()
    assert "ValueError: bad name" in text
    assert text.isprintable()
    assert len(text) < 2_500


@pytest.mark.parametrize("url", ["http://[", "http://h/\ud800", "ftp://h/", "http://", "a", "http:///x"])
def test_a_url_of_a_user_that_is_none_is_refused_by_name(url: str) -> None:
    cache = TierCache()
    with pytest.raises(ConfigError, match="purge: urls"):
        cache.purge(urls=url)
    cache.close()
