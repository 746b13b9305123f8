"""What a log must not show, however it is spelt."""

from __future__ import annotations

import pytest

from tiercache.core.redaction import Redactor, passwords_of, redact, secret_name

SECRET = "s3cr3t-Zq81"


@pytest.mark.parametrize(
    "text",
    [
        f"Error 111 connecting to redis://me:{SECRET}@host:6379/0",
        f"redis+sentinel://:{SECRET}@a:1,b:2/shop",
        f"https://{SECRET}@host/path",
        f"redis://me:p@ss{SECRET}@host",
        f"Authorization: Bearer {SECRET}",
        f"authorization: {SECRET}",
        f"{{'Authorization': 'Basic {SECRET}', 'Accept': '*/*'}}",
        f"[(b'cookie', b'a=b; session={SECRET}')]",
        f"Cookie: a=b; c={SECRET}; d={SECRET}",
        f"bad header Set-Cookie=id={SECRET}; Path=/",
        f"META HTTP_COOKIE='sid={SECRET}', HTTP_AUTHORIZATION='x {SECRET}'",
        f"X-Api-Key: {SECRET}",
        f"x-forwarded-user: {SECRET}",
        f"cf-access-jwt-assertion={SECRET}",
        f"no such page: /p?access_token={SECRET}&page=2",
        f"GET /p?page=2&api_key={SECRET}",
        f"login(user='a', password='{SECRET}')",
        f'{{"client_secret": "{SECRET}"}}',
        f"passwd: {SECRET}",
        f"csrf_token => {SECRET}",
        f"PHPSESSID: sessionid={SECRET}",
        f"the server said bearer {SECRET}",
        f"jwt eyJhbGciOi.{SECRET}.abc was refused",
        f"proxy-authorization:{SECRET}",
        f"a=token={SECRET}",
        f"{'x' * 500}_token={SECRET}",
        f"{'x' * 500} = secret: {SECRET}",
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: str) -> None:
    shown = redact(text)
    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "TimeoutError: no answer within 0.05 s from 127.0.0.1:6379",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "NOAUTH Authentication required.",
        "the jar has no cookie",
        "author, title",
        "KeyError: 'price'",
        "connect to redis://localhost:6379/0 refused",
        "NOPERM User default has no permissions to access the 'tc:{shop}:ledger' key",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece",
    ["a", "-", "session", "token=", "token='", "://", "a=", "eyJaaaa.", "bearer ", "auth   ", "cookie =>", "'\\", "_"],
)
def test_a_strange_text_takes_no_longer_than_it_is_long(piece: str) -> None:
    """Four times the text, and not sixty-four times the steps: a regular expression that goes back and forth over it
    would take minutes here, and the guard against hangs would end it."""
    redact(piece * (40_000 // len(piece)))
    redact("password" + " " * 40_000)


def test_what_is_known_to_be_secret_is_left_out_wherever_it_stands() -> None:
    known = Redactor(["x-mine"], ["correct horse/battery", "abc"])
    assert known("said correct horse/battery twice") == "said *** twice"
    assert known("said correct%20horse%2Fbattery and correct+horse%2Fbattery") == "said *** and ***"
    assert known("the abc of it") == "the abc of it"
    assert known("X-Mine: yes") == "X-Mine: ***"


@pytest.mark.parametrize(
    ("url", "passwords"),
    [
        (None, ()),
        ("redis://localhost:6379/0", ()),
        ("redis://me:hun%40ter2@host/0", ("hun%40ter2", "hun@ter2")),
        ("redis://me:a:b@c@host/0", ("a:b@c",)),
        ("redis+sentinel://host/shop?password=one&sentinel_password=two", ("one", "two")),
        ("rediss://me:one@host?password=two", ("one", "two")),
    ],
)
def test_the_passwords_of_a_url(url: str | None, passwords: tuple[str, ...]) -> None:
    assert passwords_of(url) == passwords


def test_names_of_parameters_that_hold_secrets() -> None:
    assert all(map(secret_name, ["token", "access_token", "X-Amz-Signature", "API-KEY", "sid", "password2"]))
    assert not any(map(secret_name, ["page", "sort", "author", "key", "q"]))
