"""Can one user ever see another's answer? Each way by which that could be, and that it is closed.

RFC 9111 §3.5 (and what it leaves open: cookies and the fields of gateways), §4.1, §4.3.4, §7.3; RFC 5861.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any
from wsgiref.validate import validator

import pytest

from tests.parity.conftest import Pair, World
from tests.parity.faces import GUARD, Asked, Face, Origin, Reply
from tiercache.core.credentials import CREDENTIAL_HEADERS

TEXT = ("Content-Type", "text/plain")
STORED = "tiercache; fwd=miss; stored"


def eventually(condition: Any) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize("field", CREDENTIAL_HEADERS)
def test_rfc9111_3_5_every_kind_of_credential(world: World, field: str) -> None:
    face = world.face(Origin(lambda asked: Reply(asked.fields.get(field.replace("_", "-"), "nobody").encode())))
    for who in ("alice", "bob"):
        assert "stored" not in face.get("/p/1", [(field, who)]).outcome
    assert face.get("/p/1").outcome == STORED
    assert not face.get("/p/1", [(field, "alice")]).hit
    assert face.get("/p/1").body != b"alice"


COOKIES = [
    "session=alice", " session=alice", "session =alice", "session= alice", "session=alice;", ";session=alice",
    "_ga=1;session=alice", "_ga=1; ;session=alice", "_ga=1 session=alice", "_ga=1\tsession=alice",
    "_ga=1,session=alice", "_ga=1, session=alice", "_ga session=alice", "_ga_X session=alice", '_ga="1;session=alice"',
    "session", "=alice", "_GA=alice", "$Version=1; session=alice", "a=1", "__Host-session=alice", "session=",
    "_ga=1; _gid=2; s=alice", "\tsession=alice", "_gaX=alice", "_ga[]=alice",
]  # fmt: skip


@pytest.mark.parametrize("cookie", COOKIES)
def test_rfc6265_cookies_in_odd_spellings(world: World, cookie: str) -> None:
    """Some parsers end a cookie at a space or a comma: what they find there may be a session."""
    face = world.face(Origin(lambda asked: Reply(asked.fields.get("cookie", "nobody").encode())))
    assert "stored" not in face.get("/p/1", [("Cookie", cookie)]).outcome
    assert face.get("/p/1").body == b"nobody"
    assert not face.get("/p/1", [("Cookie", cookie)]).hit


def test_rfc9113_8_2_3_a_cookie_field_in_several_lines(world: World) -> None:
    face = world.face(Origin())
    lines = [("Cookie", "_ga=1"), ("Cookie", "session=alice"), ("Cookie", "_gid=2")]
    assert "stored" not in face.get("/p/1", lines).outcome


@pytest.mark.parametrize("name", ["REMOTE_USER", "SSL_CLIENT_S_DN", "SSL_CLIENT_CERT", "HTTPS_DN"])
def test_a_user_whom_the_wsgi_server_names(name: str) -> None:
    world = World("wsgi")
    face = world.face(Origin())
    cache = face.cache

    def ask(**variables: str) -> str:
        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/p/1", "QUERY_STRING": "", "HTTP_HOST": "h",
            "wsgi.url_scheme": "http", **variables,
        }  # fmt: skip
        seen: list[Any] = []
        app = cache.wsgi(lambda environ, start: (start("200 OK", [("Content-Type", "text/plain")]), [b"x"])[1])
        list(app(environ, lambda status, headers, exc_info=None: seen.extend(headers)))
        return str(dict(seen)["Cache-Status"])

    assert "bypass; detail=credential" in ask(**{name: "alice"})
    assert "stored" in ask(**{name: ""})
    assert "hit" not in ask(**{name: "alice"})
    world.close()


@pytest.mark.parametrize(
    "extra",
    [
        {"user": "alice"},
        {"user": type("User", (), {"is_authenticated": True})()},
        {"extensions": {"tls": {"client_cert_name": "CN=alice"}}},
        {"extensions": {"tls": {"client_cert_chain": ["-----BEGIN"]}}},
    ],
)
async def test_a_user_whom_the_asgi_server_or_an_outer_layer_names(extra: dict[str, Any]) -> None:
    from tests.asgi_client import scope_for
    from tiercache import TierCache

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"x"})

    cache = TierCache()
    cache.route("/p/{id}", ttl="10m")
    wrapped = cache.asgi(app)

    async def ask(**more: Any) -> bytes:
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        await wrapped(scope_for(**more), receive, send)
        return bytes(dict(messages[0]["headers"])[b"cache-status"])

    assert b"bypass; detail=credential" in await ask(**extra)
    anonymous = {"user": type("User", (), {"is_authenticated": False})(), "extensions": {"tls": {}}}
    assert b"stored" in await ask(**anonymous)
    assert b"hit" not in await ask(**extra)
    cache.close()


# -- Set-Cookie ----------


@pytest.mark.parametrize(
    "lines",
    [
        [("Set-Cookie", "session=alice")],
        [("set-cookie", "session=alice; Path=/")],
        [("Set-Cookie2", "session=alice")],
        [("Set-Cookie", "theme=dark"), ("Set-Cookie", "session=alice")],
        [("Set-Cookie", "themes=dark")],
        [("Set-Cookie", "Theme=dark")],
        [("Set-Cookie", "=theme")],
    ],
)
@pytest.mark.parametrize("word", ["public, s-maxage=600", "max-age=600"])
def test_rfc9111_7_3_set_cookie_of_an_inner_layer(pair: Pair, lines: Any, word: str) -> None:
    fill, read = pair(
        Origin(Reply(headers=[TEXT, ("Cache-Control", word), *lines])),
        rules={"/p/{id}": {"ttl": "10m", "drop_cookies": ["theme"]}},
    )
    assert fill.get("/p/1").outcome == "tiercache; fwd=miss; detail=set-cookie"
    assert not read.get("/p/1").hit


def test_rfc9111_7_3_a_dropped_cookie_reaches_its_own_user_only(pair: Pair) -> None:
    fill, read = pair(
        Origin(Reply(headers=[TEXT, ("Set-Cookie", "seen=1")])),
        rules={"/p/{id}": {"ttl": "10m", "drop_cookies": ["seen"], "cdn_ttl": "1h", "browser_ttl": "1h"}},
    )
    first = fill.get("/p/1")
    assert first.header("set-cookie") == "seen=1"
    # Nor does L0 hear that this one may be shared.
    assert first.header("cdn-cache-control") is None
    assert read.get("/p/1").hit
    assert read.get("/p/1").header("set-cookie") is None


def test_set_cookie_of_an_outer_layer_is_not_in_the_store(pair: Pair) -> None:
    fill, read = pair(Origin())
    for face, who in ((fill, "alice"), (read, "bob"), (read, "carol")):
        edited = _outer(face, lambda headers, who=who: headers.append(("Set-Cookie", who)))
        assert [value for name, value in edited.headers if name == "set-cookie"] == [who]
    assert read.get("/p/1").header("set-cookie") is None


def test_an_outer_layer_that_edits_a_hit_edits_its_own_copy(pair: Pair) -> None:
    fill, read = pair(Origin())
    fill.get("/p/1")
    read.get("/p/1")
    plain = read.get("/p/1").headers
    for edit in (
        lambda headers: headers.pop(),
        lambda headers: headers.reverse(),
        lambda headers: headers.append(("X-User", "alice")),
    ):
        _outer(read, edit)
        assert read.get("/p/1").headers == plain


def _outer(face: Face, edit: Any) -> Any:
    """A request through a layer around the cache that changes the headers of the answer in place."""
    inner = face.app  # type: ignore[attr-defined]
    if face.kind == "wsgi":

        def around(environ: Any, start_response: Any) -> Any:
            def start(status: str, headers: Any, exc_info: Any = None) -> Any:
                # A list, as PEP 3333 asks for, and one that nobody else holds.
                edit(headers)
                return start_response(status, headers)

            return inner(environ, start)
    else:

        async def around(scope: Any, receive: Any, send: Any) -> None:  # type: ignore[misc]
            async def changed(message: Any) -> None:
                if message["type"] == "http.response.start":
                    texts = [(name.decode(), value.decode()) for name, value in message["headers"]]
                    edit(texts)
                    message["headers"][:] = [(name.lower().encode(), value.encode()) for name, value in texts]
                await send(message)

            await inner(scope, receive, changed)

    face.app = around  # type: ignore[attr-defined]
    try:
        return face.get("/p/1")
    finally:
        face.app = inner  # type: ignore[attr-defined]


# -- Flights ----------


@pytest.mark.parametrize(
    "headers",
    [
        [("Cache-Control", "private")],
        [("Cache-Control", "no-store")],
        [("Set-Cookie", "session=alice")],
        [("Vary", "*")],
        [("Vary", "X-Who")],
    ],
)
def test_followers_of_a_flight_that_must_not_share_its_answer(world: World, headers: Any) -> None:
    gate = threading.Event()

    def answer(asked: Asked) -> Reply:
        return Reply(asked.fields.get("x-who", "?").encode(), [TEXT, *headers], before=gate)

    face = world.face(Origin(answer), lease_wait="30s")
    calls = {who: face.begin("/p/1", [("X-Who", who)]) for who in ("alice", "bob", "carol")}
    face.origin.wait_for_call()
    eventually(lambda: sum(f.followers for f in face.cache._engine.flights._by_key.values()) == 2)
    gate.set()
    for who, call in calls.items():
        response = call.result()
        assert response.body == who.encode()
        assert "collapsed" not in response.outcome


def test_a_user_with_a_credential_neither_leads_nor_follows(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(asked.fields.get("cookie", "nobody").encode(), before=gate))
    face = world.face(origin, lease_wait="30s")
    calls = [face.begin("/p/1")]
    origin.wait_for_call()
    calls += [face.begin("/p/1", [("Cookie", f"session={who}")]) for who in ("alice", "bob")]
    for _ in range(2):
        origin.wait_for_call()
    gate.set()
    assert [call.result().body for call in calls] == [b"nobody", b"session=alice", b"session=bob"]


def test_a_follower_does_not_get_what_was_purged_meanwhile(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"old" if len(origin.asked) == 1 else b"new", before=gate))
    face = world.face(origin, lease_wait="30s")
    leader = face.begin("/p/1")
    origin.wait_for_call()
    follower = face.begin("/p/1")
    eventually(lambda: any(f.followers for f in face.cache._engine.flights._by_key.values()))
    face.cache.purge(tags="p:1") if face.kind == "wsgi" else face.run(face.cache.apurge(tags="p:1"))  # type: ignore[attr-defined]
    gate.set()
    assert leader.result().body == b"old"
    assert follower.result().body == b"new"
    assert face.get("/p/1").body == b"new"


# -- Sharing that the app allows ----------


@pytest.mark.parametrize(
    "word", ["s-maxage=0", "must-revalidate", "max-age=0, must-revalidate", "no-cache, s-maxage=60"]
)
@pytest.mark.parametrize("validator", [("ETag", '"v1"'), ("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")])
def test_rfc9111_3_5_an_answer_to_be_validated_is_not_shared_by_that(pair: Pair, word: str, validator: Any) -> None:
    """An app with one ETag for every user's page answers 304 to Bob, and that must not bring him Alice's page."""

    def answer(asked: Asked) -> Reply:
        if "if-none-match" in asked.fields or "if-modified-since" in asked.fields:
            return Reply(b"", [validator], 304, "Not Modified")
        return Reply(asked.fields.get("cookie", "nobody").encode(), [TEXT, ("Cache-Control", word), validator])

    fill, read = pair(Origin(answer))
    for who in ("alice", "bob"):
        for face in (fill, read):
            assert face.get("/p/1", [("Cookie", f"session={who}")]).body == f"session={who}".encode()
    assert b"session" not in read.get("/p/1").body


def test_rfc9111_4_3_4_a_users_304_does_not_freshen_what_others_get(world: World) -> None:
    def answer(asked: Asked) -> Reply:
        if "if-none-match" in asked.fields:
            return Reply(b"", [("ETag", '"v1"'), ("X-Who", asked.fields.get("cookie", "?"))], 304, "Not Modified")
        return Reply(b"anonymous", [TEXT, ("ETag", '"v1"')])

    face, hands = world.turnable(Origin(answer), rules={"/p/{id}": {"ttl": "10s", "stale_if_error": "1h"}})
    assert face.get("/p/1").outcome == STORED
    hands.turn(11)
    mine = face.get("/p/1", [("Cookie", "session=alice"), ("If-None-Match", '"v1"')])
    assert mine.status == 304
    anonymous = face.get("/p/1")
    assert anonymous.header("x-who") != "session=alice"
    assert "session=alice" not in str(face.get("/p/1").headers)


def test_rfc9111_4_3_4_a_304_with_set_cookie_or_private(world: World) -> None:
    extra: list[tuple[str, str]] = [("Set-Cookie", "session=alice")]

    def answer(asked: Asked) -> Reply:
        if "if-none-match" in asked.fields:
            return Reply(b"", [("ETag", '"v1"'), *extra], 304, "Not Modified")
        return Reply(b"page", [TEXT, ("ETag", '"v1"')])

    face, hands = world.turnable(Origin(answer), rules={"/p/{id}": {"ttl": "10s"}})
    face.get("/p/1")
    hands.turn(11)
    face.get("/p/1")
    assert all(name != "set-cookie" for name, _ in face.get("/p/1").headers)
    extra[:] = [("Cache-Control", "private")]
    hands.turn(11)
    face.get("/p/1")
    assert not face.get("/p/1").hit


@pytest.mark.parametrize("status", [500, 503])
def test_rfc5861_4_stale_if_error_never_crosses_users(world: World, status: int) -> None:
    failing = threading.Event()

    def answer(asked: Asked) -> Reply:
        if failing.is_set():
            return Reply(b"sorry " + asked.fields.get("cookie", "?").encode(), [TEXT], status, "Oops")
        return Reply(asked.fields.get("cookie", "nobody").encode())

    face, hands = world.turnable(Origin(answer), rules={"/p/{id}": {"ttl": "10s", "stale_if_error": "1h"}})
    face.get("/p/1")
    face.get("/p/1", [("Cookie", "session=alice")])
    hands.turn(11)
    failing.set()
    assert face.get("/p/1", [("Cookie", "session=bob")]).body == b"sorry session=bob"
    assert face.get("/p/1").body == b"nobody"


def test_vary_cookie_on_a_public_page_keeps_users_apart(pair: Pair) -> None:
    headers = [TEXT, ("Cache-Control", "public, max-age=600"), ("Vary", "Cookie")]
    fill, read = pair(Origin(lambda asked: Reply(asked.fields.get("cookie", "nobody").encode(), headers)))
    for who in ("alice", "bob"):
        fill.get("/p/1", [("Cookie", f"session={who}")])
    for who in ("alice", "bob"):
        response = read.get("/p/1", [("Cookie", f"session={who}")])
        assert response.hit
        assert response.body == f"session={who}".encode()
    assert read.get("/p/1").body == b"nobody"


@pytest.mark.parametrize("policy", [{"headers": ["X-Api-Key"]}, {"cookies": ["session"]}])
def test_l0_is_not_told_to_share_what_a_credential_in_the_key_chose(pair: Pair, policy: Any) -> None:
    """CDNs know nothing of our keys, and many ignore `Vary`."""
    # `cdn_ttl` beside `cookies=[...]` is refused when the app starts.
    rules = {
        "/p/{id}": {"ttl": "10m", "browser_ttl": "1m", **policy, **({"cdn_ttl": "1h"} if "headers" in policy else {})}
    }
    fill, read = pair(Origin(), rules=rules)
    line = ("X-Api-Key", "alice") if "headers" in policy else ("Cookie", "session=alice")
    for face in (fill, read, read):
        response = face.get("/p/1", [line])
        assert response.header("cdn-cache-control") is None
        assert "private" in (response.header("cache-control") or "")
    assert read.get("/p/1", [line]).hit


# -- Refreshes ----------

_client: ContextVar[str] = ContextVar("client", default="nobody")
PERSONAL = [
    ("Authorization", "Bearer alice"), ("Cookie", "_ga=alice"), ("X-Api-Key", "alice"), ("If-None-Match", '"alice"'),
    ("Range", "bytes=0-1"), ("User-Agent", "alice"), ("Referer", "https://alice/"), ("X-Forwarded-For", "1.2.3.4"),
]  # fmt: skip


@pytest.mark.parametrize("line", [line for line in PERSONAL if line[0] not in ("Authorization", "X-Api-Key", "Range")])
def test_rfc5861_3_a_refresh_carries_nothing_of_the_client(world: World, line: tuple[str, str]) -> None:
    face, hands = world.turnable(Origin(), rules={"/p/{id}": {"ttl": "10s", "stale_while_revalidate": "1h"}})
    face.get("/p/1")
    face.origin.wait_for_call()
    hands.turn(11)
    assert face.get("/p/1", [line]).status in (200, 304)
    face.origin.wait_for_call()
    asked = face.origin.asked[-1]
    assert set(asked.fields) == {"host"}
    eventually(lambda: face.get("/p/1").body == b"answer 2")


def test_rfc5861_3_a_refresh_runs_outside_of_the_clients_context(world: World) -> None:
    """What an outer layer noted in context variables, in the scope or in the environ is the client's alone."""
    seen: list[Any] = []
    origin = Origin(lambda asked: (seen.append(_client.get()), Reply(b"answer %d" % len(seen)))[1])
    face, hands = world.turnable(origin, rules={"/p/{id}": {"ttl": "10s", "stale_while_revalidate": "1h"}})
    inner: Any = face.app  # type: ignore[attr-defined]
    scopes: list[Any] = []
    if face.kind == "wsgi":

        def named(environ: Any, start_response: Any) -> Any:
            _client.set("alice")
            environ["REMOTE_ADDR"] = environ["x.user"] = "alice"
            return inner(environ, start_response)

        wsgi = origin.wsgi

        def spying_wsgi(environ: Any, start_response: Any) -> Any:
            scopes.append(environ)
            return wsgi(environ, start_response)

        inner = validator(face.cache.wsgi(spying_wsgi))
    else:

        async def named(scope: Any, receive: Any, send: Any) -> None:  # type: ignore[misc]
            _client.set("alice")
            scope.update(session={"user": "alice"}, state={"user": "alice"}, client=("1.2.3.4", 5), auth="alice")
            await inner(scope, receive, send)

        plain = origin.asgi

        async def spying(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await plain(scope, receive, send)

        origin.asgi = spying  # type: ignore[method-assign]
        inner = face.cache.asgi(origin.asgi)
    face.app = named  # type: ignore[attr-defined]
    face.get("/p/1")
    hands.turn(11)
    face.get("/p/1")
    eventually(lambda: len(seen) == 2)
    assert seen == ["alice", "nobody"]
    assert "alice" in str(scopes[0])
    assert "alice" not in str(scopes[1])


def test_a_refresh_that_a_client_asked_for_has_the_fields_of_the_key(world: World) -> None:
    """`max-stale` is another way to a stale answer, and its refresh is scrubbed no less, and no more."""
    rules = {
        "/p/{id}": {"ttl": "10s", "stale_while_revalidate": "1h", "client_directives": True, "headers": ["X-Country"]}
    }
    origin = Origin(lambda asked: Reply(f"{asked.fields.get('host')} {asked.fields.get('x-country')}".encode()))
    face, hands = world.turnable(origin, rules=rules)
    line = ("X-Country", "de")
    first = face.get("/p/1", [line]).body
    face.origin.wait_for_call()
    hands.turn(11)
    face.get("/p/1", [line, ("Cache-Control", "max-stale=60"), ("User-Agent", "x")])
    face.origin.wait_for_call()
    assert set(face.origin.asked[-1].fields) == {"host", "x-country"}
    eventually(lambda: "ttl=" in str(face.get("/p/1", [line]).headers) and face.get("/p/1", [line]).hit)
    assert face.get("/p/1", [line]).body == first


def test_a_refresh_that_varies_by_what_it_did_not_send_is_not_stored(world: World) -> None:
    origin = Origin(
        lambda asked: Reply(
            asked.fields.get("accept-language", "none").encode(),
            [TEXT, ("Vary", "Accept-Language")] if len(origin.asked) > 1 else [TEXT],
        )
    )
    face, hands = world.turnable(origin, rules={"/p/{id}": {"ttl": "10s", "stale_while_revalidate": "1h"}})
    line = ("Accept-Language", "de")
    face.get("/p/1", [line])
    hands.turn(11)
    face.get("/p/1", [line])
    eventually(lambda: face.cache.stats()["refused"].get("vary"))
    eventually(lambda: not face.cache._engine.limits.refreshing)
    assert face.cache.stats()["stored"] == 1


def test_a_credential_that_chose_the_variant_is_not_lent_to_a_refresh(world: World) -> None:
    headers = [TEXT, ("Cache-Control", "public, max-age=10, stale-while-revalidate=600"), ("Vary", "Cookie")]
    face, hands = world.turnable(Origin(lambda asked: Reply(asked.fields.get("cookie", "?").encode(), headers)))
    line = ("Cookie", "_ga=alice")
    face.get("/p/1", [line])
    hands.turn(11)
    face.get("/p/1", [line])
    assert face.cache._engine.limits.refreshing == 0
    assert all(asked.fields.get("cookie") == "_ga=alice" for asked in face.origin.asked)
