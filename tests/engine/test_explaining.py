"""`debug=True`: one block for each request, that says what was decided and why, and shows no secret."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper

import pytest

from tests.parity.conftest import World
from tests.parity.faces import FACES, Asked, Face, Origin, Reply
from tests.parity.waiting import eventually
from tests.servers import RedisServer
from tiercache import TierCache
from tiercache.asgi import ASGIMiddleware
from tiercache.core.decisions import REASONS
from tiercache.core.sections import SECTIONS
from tiercache.engine import tracing
from tiercache.engine.engine import Engine
from tiercache.explained import ExplainedASGI, ExplainedWSGI
from tiercache.wsgi import WSGIMiddleware

SECRET = "s3cr3t-Zq81"
RULES: dict[str, dict[str, Any]] = {
    "/p/{id}": {"ttl": "10m", "tags": ["p:{id}"], "cdn_ttl": "1d"},
    "/off": {"cache": False},
    "/private": {"ttl": "1m"},
    "/mine": {"ttl": "1m", "headers": ["authorization", "x-tz"], "cookies": ["theme"], "query": ["page", "token"]},
    "/stale": {"ttl": "10s", "stale_while_revalidate": "1m", "stale_if_error": "1h"},
}


@pytest.fixture(params=sorted(FACES))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    yield world
    world.close()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def answer(asked: Asked) -> Reply:
    headers = [("Content-Type", "text/plain")]
    if asked.path == "/private":
        headers.append(("Cache-Control", "private"))
    if asked.path == "/vary":
        headers += [("Cache-Control", "max-age=60"), ("Vary", "Accept-Language")]
    return Reply(b"hello", headers=headers)


def block(face: Face, caplog: pytest.LogCaptureFixture, url: str, headers: Any = (), method: str = "GET") -> str:
    """The one block of one request."""
    caplog.clear()
    face.get(url, headers, method)
    (record,) = [record for record in caplog.records if record.name == "tiercache.debug"]
    assert record.levelno == logging.DEBUG
    return record.getMessage()


def labelled(text: str, label: str) -> list[str]:
    """The lines of a label, with those that go on under it."""
    lines, mine = [], False
    for line in text.splitlines()[1:]:
        if line[2:11].strip():
            mine = line[2:11].strip() == label
        if mine:
            lines.append(line[12:])
    return lines


def test_a_miss_says_what_was_asked_what_was_stored_and_what_leaves(
    world: World, caplog: pytest.LogCaptureFixture, redis_server: RedisServer
) -> None:
    face = world.face(Origin(answer), redis_server.url, RULES, namespace=f"miss-{world.kind}", debug=True)
    text = block(face, caplog, "/p/1?page=2")
    assert re.match(r"GET /p/1: 200, [\d.]+ m?s\n", text)
    assert labelled(text, "rule") == ["/p/{id}", "ttl 10m (code)", "cdn_ttl 1d (code)", "tags p:{id} (code)"]
    assert labelled(text, "key") == ["http://shop.example/p/1", "query page=2"]
    assert labelled(text, "L1")[0].startswith("nothing under this key (")
    l2 = labelled(text, "L2")
    assert l2[0].startswith("read: nothing (")
    assert re.match(r"write of \d+ bytes: done \(", l2[1])
    assert labelled(text, "app")[0].startswith("called at ")
    assert labelled(text, "app")[1].endswith(": 200")
    assert labelled(text, "stored") == ["in L1 and L2 for 10m (the rule); tags: p:1"]
    assert labelled(text, "answer") == ["from the app", "cache-status: tiercache; fwd=miss; stored"]
    assert labelled(text, "browser")[0].startswith("cache-control: max-age=0, must-revalidate")
    assert labelled(text, "CDN") == ["cdn-cache-control: max-age=86400"]
    other = world.face(Origin(answer), redis_server.url, RULES, namespace=f"miss-{world.kind}", debug=True)
    text = block(other, caplog, "/p/1?page=2")
    assert re.search(r"read: \d+ bytes", text)
    assert labelled(text, "answer")[0].startswith("from L2, fresh for another ")
    assert labelled(text, "app") == []


def test_a_hit_says_how_long_it_is_fresh(world: World, caplog: pytest.LogCaptureFixture) -> None:
    face, hands = world.turnable(Origin(answer), rules=RULES, debug=True)
    text = block(face, caplog, "/p/1")
    assert "not asked: there is none (no url)" in labelled(text, "L2")
    hands.turn(30)
    text = block(face, caplog, "/p/1")
    assert labelled(text, "L1")[0].startswith("fresh (")
    assert labelled(text, "answer")[0].startswith("from L1, fresh for another 570s (RFC 9111 §4.2)")
    assert labelled(text, "app") == labelled(text, "stored") == labelled(text, "L2") == []
    etag = face.get("/p/1").header("etag") or ""
    assert "; as 304 made here (RFC 9111 §4.3.2)" in block(face, caplog, "/p/1", [("If-None-Match", etag)])
    assert "; a part of it (RFC 9110 §14)" in block(face, caplog, "/p/1", [("Range", "bytes=0-1")])


def test_why_l1_does_not_answer(world: World, caplog: pytest.LogCaptureFixture) -> None:
    face, hands = world.turnable(Origin(answer), rules=RULES, debug=True)
    face.get("/p/1")
    face.cache._engine.ledger.purge_locally(["h:t:p:1"], False, face.cache._engine.clock())
    assert labelled(block(face, caplog, "/p/1"), "L1")[0].startswith("purged since, or of another history")
    hands.turn(605)
    assert labelled(block(face, caplog, "/p/1"), "L1")[0].startswith("expired 5 s ago")
    face.get("/vary", [("Accept-Language", "de")])
    text = block(face, caplog, "/vary", [("Accept-Language", "en")])
    assert labelled(text, "L1")[0].startswith("other variants of this URL, not this one")
    assert labelled(text, "key")[2] == "variant accept-language: en"
    assert "the app's own word, RFC 9111 §4.2.1" in labelled(text, "stored")[0]


@pytest.mark.parametrize(
    ("url", "headers", "method", "label", "says"),
    [
        ("/off", [], "GET", "answer", "the rule of the route says cache=False (route)"),
        ("/p/1", [], "POST", "answer", "the method is neither GET nor HEAD (method; RFC 9111 §4)"),
        ("/p/1", [("Cookie", "sid=1")], "GET", "stored", "(cookie; RFC 9111 §3.5, extended to cookies)"),
        ("/p/1", [("Authorization", "x")], "GET", "answer", "carries Authorization (authorization; RFC 9111 §3.5)"),
        ("/p/1", [("X-Forwarded-Host", "evil")], "GET", "answer", "(forwarded)"),
        ("/p/1", [("Range", "bytes=0-1")], "GET", "answer", "(range; RFC 9110 §14.2)"),
        ("/private", [], "GET", "stored", "not: the response says private (private; RFC 9111 §5.2.2.7)"),
        ("/nowhere", [], "GET", "stored", "(no-lifetime; RFC 9111 §3, §4.2.1)"),
    ],
)
def test_why_it_is_not_answered_or_not_stored(
    world: World, caplog: pytest.LogCaptureFixture, url: str, headers: Any, method: str, label: str, says: str
) -> None:
    face = world.face(Origin(answer), rules=RULES, debug=True)
    assert any(says in line for line in labelled(block(face, caplog, url, headers, method), label))


def test_every_reason_has_its_section_or_is_a_rule_of_our_own() -> None:
    assert set(SECTIONS) == set(REASONS)
    assert [one for one in SECTIONS.values() if one and not one.startswith("RFC ")] == []


def test_a_stale_answer_and_the_refresh_behind_it_have_a_block_each(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    face, hands = world.turnable(Origin(answer), rules=RULES, debug=True)
    face.get("/stale")
    hands.turn(15)
    caplog.clear()
    face.get("/stale")
    eventually(lambda: sum(record.name == "tiercache.debug" for record in caplog.records) == 2)
    texts = [record.getMessage() for record in caplog.records]
    stale = next(text for text in texts if text.startswith("GET /stale: 200"))
    refresh = next(text for text in texts if text.startswith("behind an answer, GET /stale: no response"))
    assert labelled(stale, "L1")[0].startswith("expired 5 s ago")
    assert labelled(stale, "answer")[0].startswith("from L1, stale for 5s (RFC 9111 §4.2.4, RFC 5861)")
    assert "stale for 1m more while it is revalidated, RFC 5861 §3" in labelled(refresh, "stored")[0]
    assert labelled(refresh, "answer") == ["none: this was done for the store"]


def test_no_block_shows_a_secret(world: World, caplog: pytest.LogCaptureFixture, redis_server: RedisServer) -> None:
    def repeating(asked: Asked) -> Reply:
        return Reply(
            b"hello",
            headers=[
                ("Content-Type", "text/plain"),
                *([("Set-Cookie", f"sid={SECRET}"), ("ETag", f'"{SECRET}-and-more"')] if asked.path == "/p/1" else []),
            ],
        )

    settings: dict[str, Any] = {"debug": True, "namespace": f"secret-{world.kind}"}
    # An address with a password that the server does not ask for is refused, which is an error with a URL in it.
    url = redis_server.url.replace("redis://", f"redis://me:{SECRET}-and-more@")
    for face in (
        world.face(Origin(repeating), None, RULES, session_secret=f"{SECRET}-and-more", **settings),
        world.face(Origin(repeating), url, RULES, **settings),
    ):
        credentials = [
            ("Cookie", f"theme={SECRET}; session={SECRET}"),
            ("Authorization", f"Bearer {SECRET}"),
            ("X-Api-Key", SECRET),
        ]
        texts = [
            block(face, caplog, f"/p/1?token={SECRET}&password={SECRET}&api_key={SECRET}", credentials),
            block(face, caplog, f"/mine?page=1&token={SECRET}", [*credentials[:2], ("X-TZ", f"Bearer {SECRET}")]),
            block(face, caplog, f"/mine?page=1&token={SECRET}", [("Cookie", f"theme={SECRET}"), *credentials[1:2]]),
            block(face, caplog, "/nowhere", credentials),
            block(face, caplog, "/p/1", credentials, "POST"),
        ]
        assert [text for text in texts if SECRET in text] == []
        mine = labelled(texts[2], "key")
        assert re.fullmatch(r"query page=1&token=~[0-9a-f]{6} \(what counts: page, token\)", mine[1])
        assert re.fullmatch(r"headers authorization: ~[0-9a-f]{6}, x-tz: absent", mine[2])
        # The same value has the same digits, so that two requests can be compared.
        assert mine[3] == labelled(texts[1], "key")[3]


def test_a_client_cannot_forge_lines(world: World, caplog: pytest.LogCaptureFixture) -> None:
    face = world.face(Origin(answer), rules=RULES, debug=True)
    text = block(face, caplog, "/p/%0A  answer    from L1%1B[31m?a=%0Ab")
    assert labelled(text, "answer") == ["from the app", "cache-status: tiercache; fwd=miss; stored"]
    assert all(line.isprintable() for line in text.splitlines())


def test_a_decorator_and_the_view_s_own_word_are_told(caplog: pytest.LogCaptureFixture) -> None:
    import tiercache

    caplog.set_level(logging.DEBUG, "tiercache")
    world = World("wsgi")
    face = world.face(Origin(), rules={}, debug=True)

    @face.cache.cached(ttl="5m", tags=["all"])
    def view() -> Any:
        tiercache.ttl("7s")
        return Reply(b"x")

    face.origin.answer = lambda asked: view()
    text = block(face, caplog, "/any")
    assert labelled(text, "rule") == [
        "none matches: the app's own headers decide",
        "ttl 5m (decorator)",
        "tags all (decorator)",
    ]
    assert labelled(text, "stored") == ["in L1 for 7s (the view's ttl()); tags: all"]
    world.close()


def test_an_error_in_the_explanation_is_kept_from_the_request(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("tiercache.engine.explaining.block", fails)
    face = world.face(Origin(answer), rules=RULES, debug=True)
    assert face.get("/p/1").body == b"hello"
    assert face.get("/p/1").hit
    assert face.cache.stats()["swallowed"] == {"request not explained": 2}


def test_an_app_that_raises_is_explained_and_its_error_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    face = world.face(Origin(Reply(failure=ZeroDivisionError("no"))), rules=RULES, debug=True)
    caplog.clear()
    with pytest.raises(ZeroDivisionError):
        face.get("/p/1")
    (text,) = [record.getMessage() for record in caplog.records if record.name == "tiercache.debug"]
    assert text.startswith("GET /p/1: no response, ")
    assert labelled(text, "answer") == ["none: the app raised, or the client left"]
    assert tracing.current.get() is None


def test_a_file_goes_out_by_the_server_s_own_means(caplog: pytest.LogCaptureFixture) -> None:
    cache = TierCache(debug=True)
    wrapper = FileWrapper(io.BytesIO(b"file"))

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Cache-Control", "no-store")])
        return wrapper

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/f", "SERVER_NAME": "h", "SERVER_PORT": "80"}
    assert cache.wsgi(app)({**environ, "wsgi.file_wrapper": FileWrapper}, lambda *args: None) is wrapper
    (text,) = [record.getMessage() for record in caplog.records if record.name == "tiercache.debug"]
    assert text.startswith("GET /f: 200, ")


def test_a_cache_that_is_not_asked_has_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIERCACHE_DEBUG", raising=False)
    cache = TierCache()
    assert type(cache._engine) is Engine
    assert type(cache.asgi(lambda *args: None)) is ASGIMiddleware  # type: ignore[arg-type]
    assert type(cache.wsgi(lambda *args: [])) is WSGIMiddleware
    monkeypatch.setenv("TIERCACHE_DEBUG", "1")
    cache = TierCache()
    assert type(cache.asgi(lambda *args: None)) is ExplainedASGI  # type: ignore[arg-type]
    assert type(cache.wsgi(lambda *args: [])) is ExplainedWSGI


def test_blocks_are_seen_without_any_configuration_of_logging_and_with_one() -> None:
    code = (
        "import sys, logging\n"
        "from tiercache import TierCache\n"
        "cache = TierCache()\n"
        "cache.route('/p', ttl=60)\n"
        "app = cache.wsgi(lambda environ, start_response: start_response('200 OK', []) and None or [b'x'])\n"
        "environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/p', 'SERVER_NAME': 'h', 'SERVER_PORT': '80'}\n"
        "def ask():\n"
        "    body = app(dict(environ), lambda status, headers, exc_info=None: None)\n"
        "    list(body)\n"
        "    body.close()\n"
        "ask()\n"
        "logging.basicConfig(level=logging.WARNING, stream=sys.stdout)\n"
        "ask()\n"
        "logging.getLogger('tiercache.debug').setLevel(logging.WARNING)\n"
        "ask()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"TIERCACHE_DEBUG": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stderr.startswith("GET /p: 200, ")
    assert done.stderr.count("GET /p: 200, ") == 1
    assert done.stdout.startswith("DEBUG:tiercache.debug:GET /p: 200, ")
    assert done.stdout.count("GET /p: 200, ") == 1
