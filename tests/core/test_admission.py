from __future__ import annotations

from typing import Any

import pytest

from tests.core.asked import Asked
from tiercache.core.admission import FORWARDING, RequestRules, examine, origins, scrubbed
from tiercache.core.credentials import IDENTITY, Credentials
from tiercache.core.policy import Policy

RULES = RequestRules(Credentials(), ())
HTTP = {"scheme": "http", "host": b"shop.example:8080", "query": b"q=1"}
HTTPS = {"scheme": "https", "host": b"shop.example", "query": b""}
HOST = (b"shop.example:8080", b"shop.example")
SCHEME = (b"http", b"https")
TLS = (b"off", b"on")
TARGET = (b"/p/1", b"/p/1")
METHOD = (b"GET", b"GET")

AGREEING: dict[bytes, tuple[bytes, bytes] | None] = {
    b"x-forwarded-host": HOST, b"x-host": HOST, b"x-original-host": HOST, b"x-backend-host": HOST,
    b"x-http-host-override": HOST,
    b"x-forwarded-proto": SCHEME, b"x-forwarded-scheme": SCHEME, b"x-scheme": SCHEME, b"x-url-scheme": SCHEME,
    b"cloudfront-forwarded-proto": SCHEME, b"x-forwarded-protocol": SCHEME,
    b"x-forwarded-port": (b"8080", b"443"),
    b"forwarded": (b"for=1.2.3.4;host=shop.example:8080;proto=http", b'for="[::1]";proto=https'),
    b"x-forwarded-ssl": TLS, b"front-end-https": TLS,
    b"x-original-url": TARGET, b"x-rewrite-url": TARGET, b"x-original-uri": TARGET, b"x-forwarded-uri": TARGET,
    b"x-forwarded-path": TARGET, b"x-envoy-original-path": TARGET, b"x-replaced-path": TARGET,
    b"x-http-method-override": METHOD, b"x-http-method": METHOD, b"x-method-override": METHOD,
    b"x-forwarded-method": METHOD, b"x-original-method": METHOD,
    b"x-forwarded-prefix": None, b"x-forwarded-context": None, b"x-ingress-path": None, b"x-script-name": None,
}  # fmt: skip
"""What each field says where it agrees with the two URLs above; None: nothing agrees."""


def examined(asked: Asked, policy: Policy | None = None, rules: RequestRules = RULES) -> Asked:
    examine(asked, asked.route.policy if policy is None else policy, rules)
    return asked


def test_the_table_has_every_field_that_is_watched() -> None:
    assert AGREEING.keys() == FORWARDING.keys()
    assert FORWARDING.keys() <= RULES.watched


@pytest.mark.parametrize("name", FORWARDING, ids=bytes.decode)
@pytest.mark.parametrize(("index", "url"), [(0, HTTP), (1, HTTPS)], ids=["http", "https"])
def test_a_forwarding_field_passes_only_where_it_says_what_is_so(name: bytes, index: int, url: Any) -> None:
    agreeing = AGREEING[name]
    if agreeing is not None:
        assert examined(Asked({name: agreeing[index]}, **url)).bypass == ""
        for other in (agreeing[index] + b", evil.example", agreeing[index].swapcase() or b"x"):
            if other != agreeing[index] and name not in (b"forwarded", b"x-forwarded-port"):
                assert examined(Asked({name: other}, **url)).bypass == "forwarded"
    for value in (b"evil.example", b"", b"host=evil.example"):
        if (name, value) not in ((b"forwarded", b"evil.example"), (b"forwarded", b"")):
            assert examined(Asked({name: value}, **url)).bypass == "forwarded"


@pytest.mark.parametrize(
    ("scheme", "host", "port", "harmless"),
    [
        ("http", b"shop.example", b"80", True),
        ("https", b"shop.example", b"443", True),
        ("https", b"shop.example", b"80", False),
        ("http", b"shop.example:8080", b"8080", True),
        ("http", b"shop.example:8080", b"80", False),
        ("http", b"[::1]", b"80", True),
        ("http", b"[::1]:8080", b"8080", True),
        ("gopher", b"shop.example", b"70", False),
    ],
)
def test_the_port_that_counts(scheme: str, host: bytes, port: bytes, harmless: bool) -> None:
    asked = examined(Asked({b"x-forwarded-port": port}, scheme=scheme, host=host))
    assert (asked.bypass == "") is harmless


@pytest.mark.parametrize(
    ("value", "harmless"),
    [
        (b"for=192.0.2.60;by=203.0.113.43", True),
        (b"for=192.0.2.60, for=198.51.100.17", True),
        (b'Host="shop.example";PROTO=http', True),
        (b"host=shop.example, host=evil.example", False),
        (b"for=x;host=evil.example", False),
        (b"for=x;proto=https", False),
        (b'for="a;host=evil.example"', False),
        (b"for=x;\thost = evil.example", False),
    ],
)
def test_forwarded_is_harmless_where_it_says_who_and_not_where(value: bytes, harmless: bool) -> None:
    assert (examined(Asked({b"forwarded": value})).bypass == "") is harmless


def test_a_target_may_come_with_its_query_and_only_encoded() -> None:
    url: Any = {"path": "/a?b", "target": b"/a%3Fb", "template": "/{rest:path}"}
    assert examined(Asked({b"x-original-url": b"/a%3Fb"}, **url)).bypass == ""
    assert examined(Asked({b"x-original-url": b"/a?b"}, **url)).bypass == "forwarded"
    assert examined(Asked({b"x-original-url": b"/p/1?q=1"}, query=b"q=1")).bypass == ""
    assert examined(Asked({b"x-original-url": b"/p/1?q=2"}, query=b"q=1")).bypass == "forwarded"


def test_what_is_trusted_counts_and_does_not_bypass() -> None:
    rules = RequestRules(Credentials(), (b"x-forwarded-host", b"x-forwarded-proto"))
    asked = examined(Asked({b"x-forwarded-host": b"other.example"}), rules=rules)
    assert (asked.bypass, asked.trusted) == ("", (b"other.example", None))
    assert examined(Asked({b"cookie": b"_ga=1"}), rules=rules).trusted == ()
    # Only what is named: the other fields are as they were.
    assert examined(Asked({b"x-forwarded-port": b"1"}), rules=rules).bypass == "forwarded"


@pytest.mark.parametrize(
    ("fields", "more", "bypass"),
    [
        ([b"host", b"upgrade", b"x-forwarded-host", b"if-match"], {"body": True}, "host"),
        ([b"upgrade", b"x-forwarded-host", b"if-match"], {"body": True}, "upgrade"),
        ([b"x-forwarded-host", b"if-match"], {"body": True}, "body"),
        ([b"x-forwarded-host", b"if-match"], {}, "forwarded"),
        ([b"if-match"], {}, "condition"),
        ([b"if-unmodified-since"], {}, "condition"),
        ([], {}, ""),
    ],
)
def test_what_bypasses_and_in_which_order(fields: list[bytes], more: Any, bypass: str) -> None:
    asked = Asked(dict.fromkeys(fields, b"x"), **more)
    assert examined(asked).bypass == bypass


@pytest.mark.parametrize(
    ("fields", "settings", "credential"),
    [
        ({b"authorization": b"Basic x"}, {}, "authorization"),
        ({b"x-api-key": b"k"}, {}, "credential"),
        ({IDENTITY: b""}, {}, "credential"),
        ({IDENTITY: b"", b"authorization": b"x"}, {"headers": ["Authorization"]}, "credential"),
        ({b"cookie": b"session=1"}, {}, "cookie"),
        ({b"cookie": b"_ga=1"}, {}, ""),
        ({b"cookie": b"_ga=1; session=1"}, {}, "cookie"),
        ({b"cookie": b"session=1"}, {"cookies": "ignore"}, ""),
        ({b"cookie": b"theme=1"}, {"cookies": ["theme"]}, ""),
        ({b"cookie": b"theme=1; session=1"}, {"cookies": ["theme"]}, "cookie"),
        ({b"x-api-key": b"k"}, {"headers": ["X-Api-Key"]}, ""),
        ({b"x-api-key": b"k", b"authorization": b"x"}, {"headers": ["X-Api-Key"]}, "authorization"),
        ({b"authorization": b"x", b"cookie": b"session=1"}, {"cookies": "ignore"}, "authorization"),
    ],
)
def test_who_is_asking(fields: Any, settings: Any, credential: str) -> None:
    asked = examined(Asked(fields, **settings))
    assert (asked.credential, asked.bypass) == (credential, "")


@pytest.mark.parametrize(
    ("names", "conditional"),
    [
        ([b"range"], "range"),
        ([b"if-none-match"], "condition"),
        ([b"if-modified-since"], "condition"),
        ([b"range", b"if-none-match"], "range"),
        ([b"if-range"], ""),
    ],
)
def test_what_asks_for_less_than_the_whole(names: list[bytes], conditional: str) -> None:
    asked = examined(Asked(dict.fromkeys(names, b"x")))
    assert (asked.conditional, asked.bypass) == (conditional, "")


def test_what_is_known_by_a_name_that_means_another() -> None:
    host, other = frozenset({b"x-forwarded-host"}), frozenset({b"x-colour"})
    assert RULES.ambiguous(Asked(mistakable=host), Policy(), ())
    assert not RULES.ambiguous(Asked(mistakable=other), Policy(), ())
    assert RULES.ambiguous(Asked(mistakable=other), Policy(headers=["X-Colour"]), ())
    assert RULES.ambiguous(Asked(mistakable=other), Policy(), (b"x-colour",))
    assert not RULES.ambiguous(Asked(), Policy(headers=["X-Colour"]), (b"x-colour",))


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({}, [("http", b"shop.example")]),
        ({b"x-forwarded-proto": b"https"}, [("http", b"shop.example"), ("https", b"shop.example")]),
        (
            {b"x-forwarded-proto": b"https, http", b"x-forwarded-host": b"a.example , b.example"},
            [("http", b"shop.example"), ("https", b"a.example")],
        ),
    ],
)
def test_the_origins_that_a_url_is_known_by(fields: Any, known: list[tuple[str, bytes]]) -> None:
    trusting = RequestRules(Credentials(), (b"x-forwarded-host", b"x-forwarded-proto"))
    assert list(origins(Asked(fields), trusting)) == known
    assert list(origins(Asked(fields), RULES)) == known[:1]


def scrub(fields: Any, vary: tuple[bytes, ...] = (), rules: RequestRules = RULES, **settings: Any) -> Any:
    asked = Asked(fields, **settings)
    return scrubbed(asked, asked.route.policy, rules, vary)


def test_a_refresh_asks_by_what_tells_answers_apart_and_nothing_else() -> None:
    sent = {
        b"accept": b"text/html", b"accept-language": b"de", b"x-colour": b"red", b"cookie": b"theme=dark; session=1",
        b"authorization": b"Basic x", b"x-api-key": b"k", b"if-none-match": b'"x"', b"range": b"bytes=0-1",
        b"user-agent": b"browser",
    }  # fmt: skip
    asked = scrub(sent, (b"accept-language", b"x-absent"), headers=["X-Colour"], cookies=["theme", "lang"])
    assert asked == (
        (b"host", b"shop.example"),
        (b"x-colour", b"red"),
        (b"accept-language", b"de"),
        (b"cookie", b"theme=dark"),
    )


def test_a_choice_by_credential_cannot_be_refreshed_for_somebody() -> None:
    assert scrub({b"authorization": b"x"}, (b"authorization",)) is None
    assert scrub({b"cookie": b"a=1"}, (b"cookie",)) is None
    assert scrub({}, (b"authorization", b"cookie")) == ((b"host", b"shop.example"),)
    keyed = scrub({b"x-api-key": b"k"}, (b"x-api-key",), headers=["X-Api-Key"])
    assert keyed == ((b"host", b"shop.example"), (b"x-api-key", b"k"))


def test_a_refresh_believes_itself_where_the_client_did() -> None:
    rules = RequestRules(Credentials(), (b"x-forwarded-host",))
    assert (b"x-forwarded-host", b"a.example") in scrub({b"x-forwarded-host": b"a.example"}, rules=rules)
    assert (b"x-forwarded-proto", b"http") in scrub({b"x-forwarded-proto": b"http"})
