"""What an assertion sees in a response, and what it says when it does not hold."""

from __future__ import annotations

import email.message
from typing import Any

import httpx
import pytest
from django.http import HttpResponse
from flask import Flask

import tests.django_setup  # noqa: F401
from tiercache.core.decisions import REASONS
from tiercache.testing import assert_bypass, assert_hit, assert_miss, outcome_of
from tiercache.testing.responses import _ADVICE

HIT_L1 = "tiercache; hit; ttl=42; detail=l1"
HIT_L2 = "tiercache; hit; ttl=42; detail=l2"
STALE = "tiercache; hit; ttl=-3; detail=l1"
STORED = "tiercache; fwd=miss; stored"
MADE_ANEW = "tiercache; fwd=stale; stored"
OF_NO_ORIGIN = "tiercache; fwd=vary-miss; stored"
REFUSED = "tiercache; fwd=miss; detail=set-cookie"
COLLAPSED = "tiercache; fwd=miss; collapsed; ttl=42"
VALIDATED = "tiercache; fwd=stale; fwd-status=304; stored; ttl=600; detail=validated"
IN_PLACE_OF_AN_ERROR = "tiercache; fwd=stale; fwd-status=500; ttl=-3; detail=stale-if-error"
COOKIE = "tiercache; fwd=bypass; detail=cookie"
METHOD = "tiercache; fwd=method"
RANGE = "tiercache; fwd=request; detail=range"
ONLY = "tiercache; detail=only-if-cached"
EVERY = (
    HIT_L1, HIT_L2, STALE, STORED, MADE_ANEW, OF_NO_ORIGIN, REFUSED, COLLAPSED, VALIDATED, IN_PLACE_OF_AN_ERROR, COOKIE,
    METHOD, RANGE, ONLY,
)  # fmt: skip


def saying(value: str) -> Any:
    return {"Cache-Status": value}


def holds(assertion: Any, value: str, **asked: Any) -> bool:
    try:
        assertion(saying(value), **asked)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("assertion", "asked", "those"),
    [
        (assert_hit, {}, {HIT_L1, HIT_L2, STALE}),
        (assert_hit, {"tier": "l1"}, {HIT_L1, STALE}),
        (assert_hit, {"tier": "l2"}, {HIT_L2}),
        (assert_hit, {"tier": "isolated"}, set()),
        (assert_hit, {"stale": True}, {STALE}),
        (assert_hit, {"stale": False}, {HIT_L1, HIT_L2}),
        (assert_miss, {}, {STORED, MADE_ANEW, OF_NO_ORIGIN, REFUSED, RANGE, VALIDATED}),
        (assert_miss, {"stored": True}, {STORED, MADE_ANEW, OF_NO_ORIGIN, VALIDATED}),
        (assert_miss, {"stored": False}, {REFUSED, RANGE}),
        (assert_miss, {"reason": "set-cookie"}, {REFUSED}),
        (assert_miss, {"reason": "private"}, set()),
        (assert_bypass, {}, {COOKIE, METHOD}),
        (assert_bypass, {"reason": "cookie"}, {COOKIE}),
        (assert_bypass, {"reason": "method"}, {METHOD}),
    ],
)
def test_each_holds_for_these_and_no_others(assertion: Any, asked: Any, those: set[str]) -> None:
    assert {value for value in EVERY if holds(assertion, value, **asked)} == those


def flask_response() -> Any:
    app = Flask("x")
    app.get("/")(lambda: ("page", 200, [("Cache-Status", "cdn; hit"), ("Cache-Status", HIT_L1)]))
    return app.test_client().get("/")


def django_response() -> Any:
    response = HttpResponse("page")
    response["cache-status"] = f"cdn; hit, {HIT_L1}"
    return response


def http_client_response() -> Any:
    response: Any = type("Response", (), {})()
    response.headers = email.message.Message()
    response.headers.add_header("Cache-Status", "cdn; hit")
    response.headers.add_header("cache-status", HIT_L1)
    return response


@pytest.mark.parametrize(
    "make",
    [
        lambda: httpx.Response(200, headers=[("Cache-Status", "cdn; hit"), ("cache-status", HIT_L1)]),
        flask_response,
        django_response,
        http_client_response,
        lambda: {"cache-status": HIT_L1},
        lambda: [(b"Cache-Status", HIT_L1.encode())],
    ],
    ids=["httpx", "flask", "django", "http.client", "dict", "pairs"],
)
def test_the_responses_of_every_client(make: Any) -> None:
    assert_hit(make(), tier="l1")
    outcome = outcome_of(make())
    assert outcome is not None
    assert (outcome.hit, outcome.ttl, outcome.detail, outcome.stale) == (True, 42, "l1", False)


def test_of_several_caches_the_outermost() -> None:
    assert_hit(saying(f"{STORED}, another; fwd=miss, {HIT_L1}, cdn; fwd=miss"))


@pytest.mark.parametrize("value", ["", "cdn; hit", "tiercache hit", '"tiercache'])
def test_where_tiercache_says_nothing(value: str) -> None:
    assert outcome_of(saying(value)) is None
    for assertion in (assert_hit, assert_miss, assert_bypass):
        with pytest.raises(AssertionError, match="no Cache-Status of tiercache") as raised:
            assertion(saying(value))
        assert f"Cache-Status: {value or '(none)'}" in str(raised.value)


def test_a_message_says_what_was_asked_what_came_and_what_helps() -> None:
    request = httpx.Request("GET", "http://shop.example/p/1")
    response = httpx.Response(200, headers={"Cache-Status": COOKIE}, request=request)
    with pytest.raises(AssertionError) as raised:
        assert_hit(response, tier="l1", stale=False)
    assert str(raised.value).splitlines() == [
        f"expected a fresh hit in l1, but the store took no part: {REASONS['cookie']}",
        f"  Cache-Status: {COOKIE}",
        "  request: GET http://shop.example/p/1",
        "  status: 200",
        '  what helps: send the request without cookies, or see cookies="ignore" and ignore_cookies',
    ]


@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (lambda: httpx.Response(200, headers={"Cache-Status": COOKIE}), ""),
        (flask_response, "GET http://localhost/"),
        (django_response, "GET /p/1"),
        (lambda: {"cache-status": COOKIE}, ""),
    ],
    ids=["httpx, made by hand", "flask", "django", "dict"],
)
def test_a_message_says_what_was_asked_where_the_response_knows(make: Any, asked: str) -> None:
    response = make()
    if isinstance(response, HttpResponse):
        response.request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/p/1"}  # as its client does
    with pytest.raises(AssertionError) as raised:
        assert_miss(response)
    assert (f"  request: {asked}" in str(raised.value)) is bool(asked)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (HIT_L1, "it was a hit"),
        (STALE, "it was a stale hit"),
        (STORED, "its response was stored"),
        (REFUSED, f"was not stored: {REASONS['set-cookie']}"),
        (COLLAPSED, "waited for the fill of another request"),
        (COOKIE, "the store took no part"),
        (METHOD, REASONS["method"]),
        (ONLY, "neither the store nor the app answered"),
    ],
)
def test_what_happened_in_words(value: str, words: str) -> None:
    outcome = outcome_of(saying(value))
    assert outcome is not None
    assert words in outcome.in_words


def test_what_helps_is_said_of_reasons_that_there_are() -> None:
    assert set(_ADVICE) <= set(REASONS)


@pytest.mark.parametrize("assertion", [assert_miss, assert_bypass])
def test_a_reason_that_there_is_not(assertion: Any) -> None:
    with pytest.raises(ValueError, match="did you mean 'cookie'"):
        assertion(saying(COOKIE), reason="cookies")


def test_what_contradicts_itself() -> None:
    with pytest.raises(ValueError, match="stored=True"):
        assert_miss(saying(STORED), reason="private", stored=True)
    with pytest.raises(ValueError, match="tier='l3'"):
        assert_hit(saying(HIT_L1), tier="l3")
