from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.config import FORWARDING_HEADERS
from tiercache.core.credentials import CREDENTIAL_HEADERS, IGNORED_COOKIES, Credentials

default = Credentials()


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Proxy-Authorization", "X-Api-Key", "X-Auth-Token", "X-Access-Token", "X-Forwarded-User",
        "X-Forwarded-Email", "X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Access-Token",
        "Remote-User", "X-Remote-User", "Cf-Access-Jwt-Assertion", "X-Amzn-Oidc-Data", "X-Goog-Iap-Jwt-Assertion",
        "X-Ms-Client-Principal", "X-Ms-Token-Aad-Access-Token", "Client-Cert",
    ],
)  # fmt: skip
def test_well_known_credentials(name: str) -> None:
    field = name.lower().encode()
    assert default.credential_header([b"accept", field]) == field
    assert default.credential_header([b"accept", field], frozenset([field])) is None


@pytest.mark.parametrize("name", ["cookie", "accept", "x-csrf-token", "x-forwarded-for", "x-forwarded-proto", "host"])
def test_what_is_no_credential(name: str) -> None:
    assert default.credential_header([name.encode()]) is None


def test_every_entry_of_the_lists_is_well_formed() -> None:
    for names in (CREDENTIAL_HEADERS, FORWARDING_HEADERS):
        assert all(name == name.lower() and name.isascii() and " " not in name for name in names)
        assert len(set(names)) == len(names)
    assert len(set(IGNORED_COOKIES)) == len(IGNORED_COOKIES)
    assert all("*" not in name[:-1] and len(name.rstrip("*")) >= 3 for name in IGNORED_COOKIES)
    assert not set(CREDENTIAL_HEADERS) & set(FORWARDING_HEADERS)


def test_lists_from_settings() -> None:
    ours = Credentials(["X-Mine"], ["theme", "ab_*"])
    assert ours.headers == {b"x-mine"}
    assert ours.credential_cookie(b"theme=1; ab_7=x") is False
    assert ours.credential_cookie(b"_ga=1") is True
    assert Credentials([], []).credential_cookie(b"_ga=1") is True


@pytest.mark.parametrize(
    ("header", "credential"),
    [
        (b"", False),
        (b" ; ;", False),
        (b"_ga=GA1.2.3; _ga_ABC=GS1; _gid=4", False),
        (b"_ga=1;_fbp=2;  CookieConsent={stamp:'x'}", False),
        (b"__utma=1; _hjSessionUser_1=x; _pk_id.1.abc=y; OptanonConsent=a&b=c", False),
        (b"session=abc", True),
        (b"_ga=1; sessionid=x", True),
        (b"sessionid=x; _ga=1", True),
        (b"_ga =1", False),
        (b"_GA=1", True),
        (b"_gax=1", True),
        (b"_pk_custom=1", True),
        (b"session", True),
        (b"_ga", True),
        (b"=value", True),
        (b"_ga=1; \xff\xfe=2", True),
        (b'_ga="x; session=1"', True),
        (b"_ga=1; __Host-session=2", True),
    ],
)
def test_which_cookie_headers_are_credentials(header: bytes, credential: bool) -> None:
    assert default.credential_cookie(header) is credential


careful = Credentials(ignore_cookies=("_ga_x", *IGNORED_COOKIES, "_*"))
careful._harmless = None
hasty = Credentials(ignore_cookies=("_ga_x", *IGNORED_COOKIES, "_*"))
_SCRAPS = ("_ga", "_ga_x", "_x", "AWSALB", "session", "=", "=", ";", "; ", " ", "\t", "\n", "\x0b", ",", '"', "1")


@given(st.lists(st.sampled_from(_SCRAPS), max_size=12).map("".join).map(str.encode))
def test_the_short_look_at_cookies_lets_through_no_more_than_the_long_one(header: bytes) -> None:
    for keyed in ((), (b"session",)):
        assert hasty.credential_cookie(header, keyed) is careful.credential_cookie(header, keyed)


def test_what_browsers_send_takes_the_short_look() -> None:
    look = default._harmless
    assert look is not None
    assert look.fullmatch(b"_ga=GA1.2.345; _gid=GA1.2.1; _ga_X1=GS1.1.7; OptanonConsent=a=1&b=2; __cf_bm=x.y-1")
    assert not look.fullmatch(b"_ga=1; session=2")


def test_cookies_of_the_key_do_not_count() -> None:
    assert default.credential_cookie(b"theme=dark; _ga=1", (b"theme",)) is False
    assert default.credential_cookie(b"theme=dark; session=1", (b"theme",)) is True


def test_names_of_cookies() -> None:
    assert default.cookie_names(b"a=1; b=2;c = 3; a=4") == [b"a", b"b", b"c", b"a"]
    assert default.cookie_names(b"a=1=2; nameless; =x; ;") == [b"a", b"", b""]
    assert default.cookie_names(b"") == []


@given(st.binary(max_size=60) | st.text("_ga=; x\t\"'", max_size=30).map(str.encode))
def test_garbage_is_answered_and_both_answers_agree(header: bytes) -> None:
    names = default.cookie_names(header)
    assert default.credential_cookie(header) is any(default.credential_cookie(name + b"=") for name in names)
    assert default.credential_cookie(header, names) is (
        b"" in names and any(piece.strip() and b"=" not in piece for piece in header.split(b";"))
    )
