"""Web cache deception: a personal page under a URL that looks cacheable.

After Omer Gil, "Web Cache Deception Attack" (2017), Mirheidari et al., "Cached and Confused" (2020), and Martin
Doyhenard, "Gotta cache 'em all" (2024): delimiters, encodings and dot segments that the cache and the app read
differently. Here they share one reading, since the key is what the app gets; and a credential is never forgotten.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.conftest import Pair, World
from tests.parity.faces import Asked, Origin, Reply

TEXT = ("Content-Type", "text/plain")
SUFFIXES = [
    "/style.css", ";style.css", "%3Bstyle.css", "%2Fstyle.css", "%00style.css", "%0Astyle.css", "%23style.css",
    "%3Fstyle.css", "%09.js", ".css", "/..%2fstatic/x.css", "%2f%2e%2e%2fstatic/x.css", "/%2e%2e/static/x.css",
    "//static/x.css", "!x.png", "$x.png", "~x.ico", "%5cx.css", "%5c..%5cstatic", "%25%30%30.css", "%c0%afx.css",
    "%252fx.css", "/static/../../account/me", "?x.css", "?/static/x.css", "/robots.txt", "/favicon.ico",
]  # fmt: skip
WHO = [("Cookie", "session=alice"), ("Authorization", "Bearer alice"), ("X-Forwarded-User", "alice")]
RULES = {
    "/static/{rest:path}": {"ttl": "1d"},
    "/account/{rest:path}": {"cache": False},
    "/{rest:path}": {"ttl": "10m"},
}


def personal(asked: Asked) -> Reply:
    """An app that forgets to say `private`, and ignores what follows the name of the page."""
    who = [asked.fields.get(name, "") for name in ("cookie", "authorization", "x-forwarded-user")]
    return Reply("".join(who).encode() or b"please log in")


def test_gil_2017_static_looking_suffixes(pair: Pair) -> None:
    fill, read = pair(Origin(personal), rules=RULES)
    for url in [page + suffix for page in ("/me", "/account/me", "/static/../me") for suffix in SUFFIXES]:
        for line in WHO:
            victim = fill.get(url, [line])
            assert victim.body == line[1].encode()
            assert "stored" not in victim.outcome
            assert not victim.hit
        attacker = read.get(url)
        assert attacker.body == b"please log in"


def test_gil_2017_with_explicit_lifetimes_from_a_careless_layer(pair: Pair) -> None:
    """A layer that adds `max-age` to whatever ends in .css has not said that users may share it (RFC 9111 §3.5)."""

    def careless(asked: Asked) -> Reply:
        reply = personal(asked)
        return Reply(reply.body, [TEXT, ("Cache-Control", "max-age=600")])

    fill, read = pair(Origin(careless), rules={})
    for line in WHO:
        assert "stored" not in fill.get("/me/x.css", [line]).outcome
    assert read.get("/me/x.css").body == b"please log in"


SPELLINGS = [
    "/a/b", "/a%2Fb", "/a%2fb", "/a%252Fb", "/a;b", "/a%3Bb", "/a/./b", "/a//b", "/a/b/", "/a/%62", "/A/b", "/a/b%00",
    "/a/b%0A", "/a/b%20", "/a/b?", "/a/b%3F", "/a/b%23", "/a/c/../b", "/a/c/%2e%2e/b", "/a\\b", "/a%5Cb", "/a/b;",
    "/a/b%C0%80", "/a/b%EF%BF%BD", "/a/b%FF",
]  # fmt: skip


def test_doyhenard_2024_no_two_spellings_of_a_path_share_an_answer(pair: Pair) -> None:
    """The app may tell them apart. (`/a/b` and `/a/b?` are one key: no interface tells an app of the empty query.)"""
    origin = Origin(lambda asked: Reply(f"{asked.path}?{asked.query}".encode("utf-8", "replace")))
    fill, read = pair(origin, rules=RULES)
    first = {url: fill.get(url).body for url in SPELLINGS}
    for url, body in first.items():
        response = read.get(url)
        assert response.body == body
        # What is no UTF-8 is not kept in L2, where tags are text.
        assert response.hit or "%C0" in url or "%FF" in url
    assert origin.calls >= len(SPELLINGS) - 1


@pytest.mark.parametrize(
    "url",
    ["/account/x", "/%61ccount/x", "/account%2Fx", "/account/%2e%2e/x", "/account/", "/account/a%0Ab", "/account/%FF"],
)
def test_a_private_rule_matches_what_the_app_routes_by(world: World, url: str) -> None:
    """Rules are matched with the decoded path that the app's router gets, and the key holds it beside the raw one."""
    face = world.face(Origin(), rules=RULES)
    assert face.get(url).outcome == "tiercache; fwd=bypass; detail=route"
    assert face.get(url).outcome == "tiercache; fwd=bypass; detail=route"


@pytest.mark.parametrize("raw", ["/account/%2e%2e/public", "//account/x", "/./account/x", "/public/..%2faccount/x"])
def test_cached_and_confused_2020_an_app_that_normalises_paths(pair: Pair, raw: str) -> None:
    """Where a layer within folds paths, a private page has names that its rule does not match. The user is still known
    by the credential."""

    def folding(asked: Asked) -> Reply:
        return personal(asked) if "account" in asked.path else Reply(b"public")

    fill, read = pair(Origin(folding), rules=RULES)
    for line in WHO:
        assert "stored" not in fill.get(raw, [line]).outcome
    assert b"alice" not in read.get(raw).body


def test_mount_points_are_in_the_key(pair: Pair) -> None:
    origin = Origin(lambda asked: Reply(b"answer %d" % len(origin.asked)))
    fill, read = pair(origin, rules={"/{rest:path}": {"ttl": "10m"}})
    assert fill.get("/a/b", mount="").body != fill.get("/a/b", mount="/a").body
    assert read.get("/a/b", mount="").body != read.get("/a/b", mount="/a").body


def test_a_url_seen_as_private_is_not_served_from_before(world: World) -> None:
    """The anonymous page under a URL is not what a user with a session gets, and the other way round."""
    face = world.face(Origin(personal), rules=RULES)
    line = WHO[0]
    bodies: list[Any] = [face.get("/me").body, face.get("/me", [line]).body, face.get("/me").body]
    assert bodies == [b"please log in", b"session=alice", b"please log in"]
