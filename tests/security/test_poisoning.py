"""Web cache poisoning: what one client sends must not be what others get.

Named after James Kettle, "Practical Web Cache Poisoning" (2018) and "Web Cache Entanglement" (2020), and after the
sections and CVEs that describe the same.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.asgi_client import scope_for
from tests.parity.conftest import Pair, World
from tests.parity.faces import HOST, Asked, Origin, Reply
from tiercache import TierCache
from tiercache.asgi import ASGIRequest
from tiercache.core.admission import FORWARDING
from tiercache.core.routes import RouteTable
from tiercache.wsgi import Watched, WSGIRequest

ROUTE = RouteTable().unmatched
TEXT = ("Content-Type", "text/plain")
STORED = "tiercache; fwd=miss; stored"
EVIL = {
    "x-forwarded-port": "1337",
    "forwarded": "for=1;host=evil.example",
    "x-http-method-override": "DELETE",
    "x-http-method": "HEAD",
    "x-method-override": "POST",
    "x-forwarded-proto": "gopher",
}


def obeys(field: str) -> Origin:
    """An app that answers by a field which is not in the key."""
    return Origin(lambda asked: Reply(asked.fields.get(field, "clean").encode()))


@pytest.mark.parametrize("field", sorted(name.decode() for name in FORWARDING))
def test_kettle_2018_unkeyed_forwarding_header(pair: Pair, field: str) -> None:
    fill, read = pair(obeys(field))
    line = (field, EVIL.get(field, "evil.example"))
    assert fill.get("/p/1", [line]).outcome == "tiercache; fwd=bypass; detail=forwarded"
    assert read.get("/p/1").body == b"clean"
    assert fill.get("/p/1", [line]).body != b"clean"
    assert read.get("/p/1").body == b"clean"


@pytest.mark.parametrize(
    "line",
    [
        # Equal to a reader of the RFCs, and not to every framework: one takes HTTPS for plain http and redirects.
        ("X-Forwarded-Proto", "HTTP"),
        ("X-Forwarded-Proto", "http,http"),
        ("X-Forwarded-Proto", '"http"'),
        ("X-Forwarded-Host", HOST.upper()),
        ("X-Forwarded-Host", f'"{HOST}"'),
        ("X-Forwarded-Host", f"{HOST},{HOST}"),
        ("X-Forwarded-Host", f"{HOST}:80"),
        ("X-Forwarded-Host", ""),
        ("X-Forwarded-Port", "080"),
        ("X-Forwarded-Ssl", "1"),
        ("X-Forwarded-Ssl", "yes"),
        ("X-HTTP-Method-Override", "get"),
        ("X-HTTP-Method-Override", " GET "),
        ("Forwarded", f'host="{HOST}'),
        ("Forwarded", f"proto=HTTP;host={HOST}"),
        ("Forwarded", f'for="a;b";host="{HOST}", host=evil'),
    ],
)
def test_kettle_2018_forwarding_header_spelt_otherwise(world: World, line: tuple[str, str]) -> None:
    face = world.face(obeys(line[0].lower()))
    assert not face.get("/p/1", [line]).outcome.endswith("stored")
    assert face.get("/p/1").body == b"clean"


def test_kettle_2018_two_lines_of_a_forwarding_header(world: World) -> None:
    face = world.face(obeys("x-forwarded-host"))
    for lines in ([HOST, "evil.example"], ["evil.example", HOST], [HOST, HOST]):
        face.get("/p/1", [("X-Forwarded-Host", value) for value in lines])
    assert face.get("/p/1").outcome == STORED
    assert face.get("/p/1").body == b"clean"


@pytest.mark.parametrize("trusted", ["X-Forwarded-Host", "X-Forwarded-Prefix", "X-HTTP-Method-Override"])
def test_kettle_2018_trusted_forwarding_header_is_in_the_key(pair: Pair, trusted: str) -> None:
    fill, read = pair(obeys(trusted.lower()), trust_forwarded=[trusted])
    for value in ("a.example", "b.example"):
        assert fill.get("/p/1", [(trusted, value)]).outcome == STORED
    for value in ("a.example", "b.example"):
        response = read.get("/p/1", [(trusted, value)])
        assert response.hit
        assert response.body == value.encode()
    assert read.get("/p/1").body == b"clean"


def test_cve_2018_14773_x_original_url_of_an_encoded_path(world: World) -> None:
    """The decoded path of `/p/a%3Fb` reads like the URL `/p/a?b`, which is another page."""
    face = world.face(obeys("x-original-url"))
    for url, value in (("/p/a%3Fb", "/p/a?b"), ("/p/%E4%B8%80", "/p/?"), ("/p/1", "/p/1?x=1"), ("/p/1", "/P/1")):
        assert face.get(url, [("X-Original-URL", value)]).outcome.endswith("detail=forwarded")
        assert face.get(url).body == b"clean"


@pytest.mark.parametrize(
    ("disguise", "field"),
    [
        ("x_forwarded_host", "x-forwarded-host"),
        ("x_api_key", "x-api-key"),
        ("X-Forwarded-Host", "x-forwarded-host"),
        ("accept_language", "accept-language"),
        ("x_country", "x-country"),
        ("x_original-url", "x-original-url"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
async def test_cve_2015_0219_underscores_and_hyphens(disguise: str, field: str, beside: bool) -> None:
    """On ASGI the two are two fields, and one variable for an app behind a gateway to WSGI, or in older Django."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        variables = {name.decode().upper().replace("-", "_"): value for name, value in scope["headers"]}
        body = variables.get(field.upper().replace("-", "_"), b"clean")
        head = [(b"content-type", b"text/plain"), (b"vary", b"accept-language")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    cache = TierCache()
    cache.route("/p/{id}", ttl="10m", headers=["X-Country"])
    wrapped = cache.asgi(app)

    async def get(*lines: tuple[bytes, bytes]) -> Any:
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        await wrapped(scope_for(headers=lines), receive, send)
        return messages

    plain = [(b"x-country", b"de")] if beside and field == "x-country" else []
    evil = await get(*plain, (disguise.encode(), b"evil"))
    assert evil[1]["body"] == b"evil"
    assert b"stored" not in dict(evil[0]["headers"])[b"cache-status"]
    assert (await get(*plain))[1]["body"] != b"evil"
    cache.close()


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE", "PATCH"])
def test_nguyen_2019_hmo_http_method_override(pair: Pair, name: str, method: str) -> None:
    """From "Your Cache Has Fallen": an empty or an error page made by an overridden method, for everybody."""

    def override(asked: Asked) -> Reply:
        return Reply(b"" if name.lower() in asked.fields else b"page")

    fill, read = pair(Origin(override))
    assert fill.get("/p/1", [(name, method)]).body == b""
    assert read.get("/p/1").body == b"page"
    read.get("/p/1", [(name, method)])
    assert fill.get("/p/1").body == b"page"


def test_head_with_an_override_does_not_fill(pair: Pair) -> None:
    fill, read = pair(Origin())
    fill.get("/p/1", [("X-HTTP-Method-Override", "GET")], "HEAD")
    fill.get("/p/1", method="HEAD")
    assert read.get("/p/1").outcome == STORED


@pytest.mark.parametrize(
    "line",
    [("Content-Length", "3"), ("Content-Length", "00"), ("Content-Length", "+1"), ("Transfer-Encoding", "chunked")],
)
def test_kettle_2020_fat_get_that_announces_its_content(line: tuple[str, str]) -> None:
    """RFC 9110 §9.3.1: content in a GET has no meaning, and yet some apps answer by it."""
    for kind in ("asgi", "wsgi"):
        world = World(kind)
        face = world.face(Origin())
        if kind == "wsgi" and line[0] == "Content-Length":
            face.get("/p/1", content=b"x=1")
        else:
            face.get("/p/1", [line])
        assert face.get("/p/1").outcome == STORED
        world.close()


def test_kettle_2020_fat_get_with_content(pair: Pair) -> None:
    fill, read = pair(Origin())
    assert fill.get("/p/1", content=b"x=evil").outcome == "tiercache; fwd=bypass; detail=body"
    assert read.get("/p/1").outcome == STORED
    assert read.get("/p/1", content=b"x=evil").outcome == "tiercache; fwd=bypass; detail=body"


CLOAKS = [
    "id=1&utm_content=x;callback=evil",
    "id=1;callback=evil",
    "id=1&utm_content=x%3Bcallback=evil&callback=evil",
    "id=1&%63allback=evil",
    "id=1&c%61llback=evil",
    "id=1&callback=good&callback=evil",
    "callback=evil&id=1",
    "id=1&callback=evil&utm=1",
    "id=1&call%62ack=evil",
]


def test_kettle_2020_parameter_cloaking(pair: Pair) -> None:
    """Whatever a parser may take for `callback` counts; an app that splits at `;` and one that does not."""
    origin = Origin(lambda asked: Reply(asked.query.encode()))
    rules = {"/js": {"ttl": "10m", "query": ["id", "callback"]}}
    fill, read = pair(origin, rules=rules)
    for query in CLOAKS:
        fill.get(f"/js?{query}")
    for honest in ("id=1", "id=1&callback=good", "id=1&utm_content=x"):
        assert b"evil" not in read.get(f"/js?{honest}").body


def test_kettle_2020_parameters_outside_of_the_key_do_not_count(pair: Pair) -> None:
    fill, read = pair(Origin(), rules={"/js": {"ttl": "10m", "query": ["id"]}})
    fill.get("/js?id=1&utm_content=x")
    assert read.get("/js?id=1&utm_content=y").hit
    assert not read.get("/js?id=2").hit
    assert not read.get("/js?id=1&id=2").hit


@pytest.mark.parametrize(
    "host", ["evil.example", HOST.upper(), f"{HOST}:80", f"{HOST}:8080", f"{HOST}.", f"{HOST},evil", f"user@{HOST}", ""]
)
def test_rfc9110_7_2_host_is_in_the_key_as_it_came(pair: Pair, host: str) -> None:
    origin = Origin(lambda asked: Reply(b"http://%b/" % asked.fields.get("host", "").encode()))
    fill, read = pair(origin)
    fill.get("/p/1", host=host)
    assert read.get("/p/1").body == b"http://%b/" % HOST.encode()
    fill.get("/p/1", host=host)
    assert read.get("/p/1").body == b"http://%b/" % HOST.encode()


def test_rfc9112_3_2_two_host_fields_bypass() -> None:
    """On WSGI the server has refused them already, or joined them to a host that nobody else has."""
    world = World("asgi")
    face = world.face(Origin())
    for hosts in ([HOST, "evil.example"], ["evil.example", HOST], [HOST, HOST]):
        response = face.get("/p/1", [("host", host) for host in hosts], host=None)
        assert response.outcome == "tiercache; fwd=bypass; detail=host"
    assert face.get("/p/1").outcome == STORED
    world.close()


def test_rfc9112_3_3_no_host_is_the_address_that_was_reached() -> None:
    """One process may listen at a public and at an internal address."""
    cache = TierCache()
    keys = []
    rules = cache._engine.rules
    watched = Watched(rules.watched)
    for port in (80, 8443):
        for missing in (None, ""):
            headers = [] if missing is None else [(b"host", b"")]
            scope = {**scope_for("/p"), "headers": headers, "server": ["10.0.0.1", port]}
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/p", "SERVER_NAME": "10.0.0.1", "SERVER_PORT": str(port)}
            if missing is not None:
                environ["HTTP_HOST"] = missing
            keys += [ASGIRequest(scope, ROUTE, rules.watched, ("", "")).full_key()]
            keys += [WSGIRequest(environ, "/p", ROUTE, watched, ("", "")).full_key()]
    assert len(set(keys)) == len(keys) == 8


@pytest.mark.parametrize("target", ["http://evil.example/p/1", "//evil.example/p/1", f"http://{HOST}/p/1"])
@pytest.mark.parametrize("variable", ["RAW_URI", "REQUEST_URI"])
def test_rfc9112_3_2_2_absolute_form_is_not_the_page(target: str, variable: str) -> None:
    """An app, or a layer within, may take the host from the target in place of `Host`. WSGI servers leave the path
    alone in `PATH_INFO`, some ASGI servers hand on the whole as the path."""
    rules = TierCache()._engine.rules
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/p/1", "HTTP_HOST": HOST}
    watched = Watched(rules.watched)
    keys = set()
    for uri in (target, "/p/1"):
        keys.add(WSGIRequest({**environ, variable: uri}, "/p/1", ROUTE, watched, ("", "")).full_key())
        for scope in (scope_for(uri), {**scope_for("/p/1"), "raw_path": uri.encode()}):
            keys.add(ASGIRequest(scope, ROUTE, rules.watched, ("", "")).full_key())
    assert len(keys) == 5


@pytest.mark.parametrize("field", ["Cache-Control", "Pragma"])
@pytest.mark.parametrize("value", ["no-cache", "no-store", "max-age=0", "only-if-cached"])
def test_rfc9111_5_2_1_clients_do_not_steer_the_cache(pair: Pair, field: str, value: str) -> None:
    fill, read = pair(Origin())
    assert fill.get("/p/1", [(field, value)]).outcome == STORED
    assert read.get("/p/1", [(field, value)]).hit
    assert fill.origin.calls == 1


def test_davison_2019_hop_by_hop_abuse(pair: Pair) -> None:
    """`Connection: X-Forwarded-Proto` has a proxy in front drop what it had set: the app sees plain http, which is
    another key, and the redirect that it answers with stays there."""

    def redirecting(asked: Asked) -> Reply:
        secure = asked.fields.get("x-forwarded-proto") == "https"
        return Reply(b"page") if secure else Reply(b"", [TEXT, ("Location", "https://x/")], 301, "Moved Permanently")

    fill, read = pair(Origin(redirecting), trust_forwarded=["X-Forwarded-Proto"])
    assert fill.get("/p/1").status == 301
    assert read.get("/p/1", [("X-Forwarded-Proto", "https")]).body == b"page"


@pytest.mark.parametrize("first", [None, "https://evil.example", "https://a.example"])
def test_fetch_an_answer_to_one_origin_is_not_for_another_one(pair: Pair, first: str | None) -> None:
    """Whoever comes first, and although the app says no `Vary`: what follows is in tests/parity/test_origins.py."""
    allowed = ("https://a.example", "https://b.example")

    def answer(asked: Asked) -> Reply:
        origin = asked.fields.get("origin")
        said = [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true")]
        return Reply(headers=[TEXT, *said] if origin in allowed else [TEXT])  # type: ignore[list-item]

    fill, read = pair(Origin(answer))
    fill.get("/p/1", [] if first is None else [("Origin", first)])
    for origin in ("https://b.example", "https://evil.example", "null", "https://a.example"):
        told = read.get("/p/1", [("Origin", origin)]).header("access-control-allow-origin")
        assert told == (origin if origin in allowed else None)
