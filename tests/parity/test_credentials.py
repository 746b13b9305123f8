"""Who asks: requests with credentials neither read nor fill the store unless the app or the rule says otherwise."""

from __future__ import annotations

import threading

import pytest

from tests.parity.conftest import Pair, World
from tests.parity.faces import Asked, Origin, Reply

TEXT = ("Content-Type", "text/plain")
CREDENTIALS = [
    (("Authorization", "Basic abc"), "authorization"),
    (("Cookie", "session=1"), "cookie"),
    (("Cookie", "_ga=1; session=2"), "cookie"),
    (("Cookie", "nameless"), "cookie"),
    (("X-Api-Key", "k"), "credential"),
    (("X-Forwarded-User", "eve"), "credential"),
    (("Cf-Access-Jwt-Assertion", "j"), "credential"),
    (("Proxy-Authorization", "Basic x"), "credential"),
]


def personal(asked: Asked) -> Reply:
    """An answer that depends on who asks, from an app that forgot to say so."""
    who = asked.fields.get("authorization") or asked.fields.get("cookie") or asked.fields.get("x-api-key")
    return Reply(f"for {who}".encode())


@pytest.mark.parametrize(("line", "reason"), CREDENTIALS)
def test_a_credential_is_neither_answered_from_the_store_nor_stored(
    pair: Pair, line: tuple[str, str], reason: str
) -> None:
    fill, read = pair(Origin())
    bypass = f"tiercache; fwd=bypass; detail={reason}"
    assert fill.get("/p/1", [line]).outcome == bypass
    assert read.get("/p/1").outcome == "tiercache; fwd=miss; stored"
    assert fill.get("/p/1").hit
    for face in (fill, read):
        assert face.get("/p/1", [line]).outcome == bypass
        assert face.get("/p/1", [line]).outcome == bypass
        assert face.get("/p/1", [line], "HEAD").outcome == bypass
    assert fill.cache.stats()["bypassed"][reason] >= 2


def test_one_users_page_never_reaches_another(pair: Pair) -> None:
    fill, read = pair(Origin(personal))
    for who in ("session=alice", "session=bob", "session=alice"):
        for face in (fill, read):
            assert face.get("/p/1", [("Cookie", who)]).body == f"for {who}".encode()
    assert read.get("/p/1").body == b"for None"


@pytest.mark.parametrize("word", ["public", "s-maxage=60", "must-revalidate, max-age=60"])
@pytest.mark.parametrize("line", [("Authorization", "Basic abc"), ("Cookie", "session=1"), ("X-Api-Key", "k")])
def test_the_app_may_mark_a_response_for_sharing(pair: Pair, word: str, line: tuple[str, str]) -> None:
    fill, read = pair(Origin(Reply(headers=[TEXT, ("Cache-Control", word)])))
    assert fill.get("/p/1", [line]).outcome == "tiercache; fwd=miss; stored"
    assert read.get("/p/1", [line]).hit
    assert read.get("/p/1").hit
    assert fill.origin.calls == 1


def test_what_was_stored_without_that_word_is_not_for_credentials(pair: Pair) -> None:
    fill, read = pair(Origin(Reply(headers=[TEXT, ("Cache-Control", "max-age=60")])))
    assert fill.get("/p/1").outcome.endswith("; stored")
    assert not read.get("/p/1", [("Cookie", "session=1")]).hit
    assert read.get("/p/1").hit


@pytest.mark.parametrize(
    "cookies", ["_ga=GA1.2.3", "_ga_ABC=1; _gid=2; OptanonConsent=x", "_ga=1; ; _fbp=2;", "own_tracker=1", "own_x=1"]
)
def test_cookies_that_are_no_credentials(pair: Pair, cookies: str) -> None:
    fill, read = pair(Origin(), ignore_cookies=["own_tracker", "own_*"])
    assert fill.get("/p/1", [("Cookie", cookies)]).outcome == "tiercache; fwd=miss; stored"
    assert read.get("/p/1").hit
    assert read.get("/p/1", [("Cookie", cookies)]).hit


def test_a_rule_may_ignore_cookies_but_not_other_credentials(pair: Pair) -> None:
    fill, read = pair(Origin(), rules={"/p/{id}": {"ttl": "10m", "cookies": "ignore"}})
    assert fill.get("/p/1", [("Cookie", "session=1")]).outcome == "tiercache; fwd=miss; stored"
    assert read.get("/p/1", [("Cookie", "session=2")]).hit
    line = ("Authorization", "Basic abc")
    assert read.get("/p/1", [line]).outcome == "tiercache; fwd=bypass; detail=authorization"


def test_cookies_in_the_key(pair: Pair) -> None:
    origin = Origin(lambda asked: Reply(asked.fields.get("cookie", "none").encode()))
    fill, read = pair(origin, rules={"/p/{id}": {"ttl": "10m", "cookies": ["currency"]}})
    for cookie, body in (("currency=eur", b"currency=eur"), ("currency=usd", b"currency=usd")):
        assert fill.get("/p/1", [("Cookie", cookie)]).body == body
        assert read.get("/p/1", [("Cookie", cookie)]).hit
        assert read.get("/p/1", [("Cookie", cookie)]).body == body
        # An analytics cookie beside it changes nothing, a session does.
        assert read.get("/p/1", [("Cookie", f"_ga=7; {cookie}")]).hit
        assert not read.get("/p/1", [("Cookie", f"{cookie}; session=1")]).hit
    assert read.get("/p/1").body == b"none"
    # A cookie sent twice: frameworks differ in which one they take.
    assert not read.get("/p/1", [("Cookie", "currency=eur; currency=usd")]).hit


def test_a_credential_field_in_the_key(pair: Pair) -> None:
    origin = Origin(personal)
    fill, read = pair(origin, rules={"/p/{id}": {"ttl": "10m", "headers": ["X-Api-Key"]}})
    for key in ("a", "b"):
        assert fill.get("/p/1", [("X-Api-Key", key)]).outcome == "tiercache; fwd=miss; stored"
        response = read.get("/p/1", [("X-Api-Key", key)])
        assert response.hit
        assert response.body == f"for {key}".encode()


def test_further_credential_fields(pair: Pair) -> None:
    fill, read = pair(Origin(), credential_headers=["X-Tenant"])
    fill.get("/p/1")
    assert read.get("/p/1", [("X-Tenant", "7")]).outcome == "tiercache; fwd=bypass; detail=credential"
    assert read.get("/p/1").hit


def test_credentials_are_not_collapsed(world: World) -> None:
    """Nobody waits for somebody else's page."""
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(asked.fields["cookie"].encode(), before=gate))
    face = world.face(origin, lease_wait="30s")
    calls = [face.begin("/p/1", [("Cookie", f"session={number}")]) for number in range(3)]
    for _ in range(3):
        origin.wait_for_call()
    gate.set()
    assert [call.result().body for call in calls] == [b"session=0", b"session=1", b"session=2"]


FORWARDING = [
    ("X-Forwarded-Host", "evil.example"),
    ("X-Host", "evil.example"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "8080"),
    ("X-Forwarded-Prefix", "/evil"),
    ("Forwarded", "for=1.2.3.4;host=evil.example"),
    ("Forwarded", "for=1.2.3.4, for=2;proto=https"),
    ("X-Original-URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
    ("X-HTTP-Method-Override", "DELETE"),
]


@pytest.mark.parametrize("line", FORWARDING)
def test_forwarding_fields_that_disagree_bypass(pair: Pair, line: tuple[str, str]) -> None:
    fill, read = pair(Origin(lambda asked: Reply(line[1].encode() if line[0].lower() in asked.fields else b"clean")))
    assert fill.get("/p/1", [line]).outcome == "tiercache; fwd=bypass; detail=forwarded"
    assert read.get("/p/1").body == b"clean"
    assert fill.get("/p/1").body == b"clean"
    assert read.get("/p/1", [line]).outcome == "tiercache; fwd=bypass; detail=forwarded"


@pytest.mark.parametrize(
    "line",
    [
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Host", "shop.example"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Port", "80"),
        ("Forwarded", "for=1.2.3.4;host=shop.example;proto=http"),
        ("X-Original-URL", "/p/1"),
        ("X-HTTP-Method-Override", "GET"),
    ],
)
def test_forwarding_fields_that_agree_do_no_harm(pair: Pair, line: tuple[str, str]) -> None:
    fill, read = pair(Origin())
    assert fill.get("/p/1", [line]).outcome == "tiercache; fwd=miss; stored"
    assert read.get("/p/1").hit
    assert read.get("/p/1", [line]).hit


def test_a_trusted_forwarding_field_is_part_of_the_key(pair: Pair) -> None:
    origin = Origin(lambda asked: Reply(asked.fields.get("x-forwarded-host", "none").encode()))
    fill, read = pair(origin, trust_forwarded=["X-Forwarded-Host"])
    for host in ("a.example", "b.example"):
        assert fill.get("/p/1", [("X-Forwarded-Host", host)]).outcome == "tiercache; fwd=miss; stored"
        response = read.get("/p/1", [("X-Forwarded-Host", host)])
        assert response.hit
        assert response.body == host.encode()
    assert read.get("/p/1").body == b"none"
    assert read.get("/p/1", [("X-Forwarded-Proto", "https")]).outcome == "tiercache; fwd=bypass; detail=forwarded"


@pytest.mark.parametrize("purged", ["https://shop.example/p/1", "http://inside/p/1"])
def test_a_url_is_purged_as_a_trusted_proxy_shows_it(world: World, purged: str) -> None:
    face = world.face(Origin(), trust_forwarded=["X-Forwarded-Proto", "X-Forwarded-Host"])
    lines = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "shop.example")]
    face.get("/p/1", lines, host="inside")
    face.cache.purge(urls="https://other.example/p/1")
    assert face.get("/p/1", lines, host="inside").hit
    face.cache.purge(urls=purged)
    assert not face.get("/p/1", lines, host="inside").hit
