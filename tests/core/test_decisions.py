"""Each step of the decision with its reason; what the sections of the RFC ask for is in the conformance tables."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.asked import Asked, lines_of
from tests.core.test_entries import entry
from tiercache.core.decisions import (
    MAX_FIELDS,
    MAX_VARY,
    REASONS,
    Verdict,
    forward_for,
    has_validator,
    head_agrees,
    may_store,
    stored_fields,
    value_of,
    vary_names,
)
from tiercache.core.freshness import StaleWindows
from tiercache.core.policy import Policy

NOW = 1_700_000_000.0
LATE = "Date: Tue, 14 Nov 2023 22:13:20 GMT"
TAG = 'ETag: "v1"'
OLD = "Last-Modified: Mon, 13 Nov 2023 22:13:20 GMT"


def judged(
    *lines: str,
    status: int = 200,
    asked: Asked | None = None,
    elapsed: float = 0.0,
    chosen_ttl: float | None = None,
    refusal: str | None = None,
    max_body: int = 1000,
    targets: tuple[bytes, ...] = (),
    **settings: Any,
) -> Verdict:
    return may_store(
        Asked() if asked is None else asked,
        status,
        lines_of(*lines),
        Policy(**settings),
        now=NOW,
        elapsed=elapsed,
        chosen_ttl=chosen_ttl,
        refusal=refusal,
        max_body=max_body,
        targets=targets,
    )


STEPS: list[tuple[str, bool, dict[str, Any]]] = [
    ("view", True, {"refusal": "priced for one user"}),
    ("status", False, {"status": 206}),
    ("malformed", False, {"lines": ["X-Bad: a\nb"]}),
    ("must-understand", False, {"lines": ["Cache-Control: must-understand, max-age=9"], "status": 299}),
    ("no-store", True, {"lines": ["Cache-Control: no-store"]}),
    ("private", True, {"lines": ["Cache-Control: private"]}),
    ("cookie", True, {"asked": Asked(credential="cookie")}),
    ("no-cache", True, {"lines": ["Cache-Control: no-cache"]}),
    ("vary", True, {"lines": ["Vary: Accept, *"]}),
    ("set-cookie", True, {"lines": ["Set-Cookie: a=1"]}),
    ("event-stream", True, {"lines": ["Content-Type: Text/Event-Stream; charset=utf-8"]}),
    ("incomplete", False, {"lines": ["Content-Length: five"]}),
    ("too-large", True, {"lines": ["Content-Length: 1001"]}),
    ("no-lifetime", True, {}),
]
"""In the order in which they are looked at, with the least that makes each refuse."""


@pytest.mark.parametrize(("reason", "lasting", "case"), STEPS, ids=[step[0] for step in STEPS])
def test_each_step_refuses_by_its_name(reason: str, lasting: bool, case: dict[str, Any]) -> None:
    more = {name: value for name, value in case.items() if name != "lines"}
    settings = {} if reason == "no-lifetime" else {"ttl": 60}
    verdict = judged(*case.get("lines", ()), **more, **settings)
    assert (verdict.refusal, verdict.lasting) == (reason, lasting)
    assert verdict.refusal in REASONS


@pytest.mark.parametrize("first", range(len(STEPS) - 1))
def test_the_steps_are_taken_in_order(first: int) -> None:
    """Where several refuse, the first one is told: each step together with all that follow."""
    lines: list[str] = []
    more: dict[str, Any] = {}
    for reason, _, case in STEPS[first:]:
        # Its own status makes must-understand refuse, and in force it would put no-store out of it.
        if reason != "must-understand" or first == 3:
            lines += case.get("lines", ())
            more = {name: value for name, value in case.items() if name != "lines"} | more
    assert judged(*lines, **more).refusal == STEPS[first][0]


@pytest.mark.parametrize("status", [100, 103, 199, 206, 304, 400, 405, 408, 413, 414, 416, 428, 429, 431, 501, 511])
def test_statuses_that_nothing_makes_storable(status: int) -> None:
    assert judged("Cache-Control: public, max-age=60", status=status, chosen_ttl=60.0, ttl=60).refusal == "status"


@pytest.mark.parametrize(
    ("lines", "stored"),
    [
        (["X: " + "v" * (MAX_FIELDS - 1)], True),
        (["X: " + "v" * MAX_FIELDS], False),
        (["X Y: 1"], False),
        (["X: caf\xe9"], True),
        (["X: a\tb"], True),
        (["X: a\x7fb"], False),
        (["X: a\0b"], False),
        (["X: a\rb"], False),
        ([": 1"], False),
    ],
)
def test_fields_that_not_every_server_sends(lines: list[str], stored: bool) -> None:
    assert judged(*lines, ttl=60).refusal == ("" if stored else "malformed")


@pytest.mark.parametrize(
    ("control", "status", "refusal"),
    [
        ("must-understand, no-store, max-age=60", 200, ""),
        ("must-understand, no-store, max-age=60", 299, "must-understand"),
        ("must-understand, private, max-age=60", 200, "private"),
        ("no-store, max-age=60", 200, "no-store"),
        ('private="x-a", max-age=60', 200, ""),
        ("NO-STORE", 200, "no-store"),
    ],
)
def test_the_apps_words_against_storing(control: str, status: int, refusal: str) -> None:
    assert judged(f"Cache-Control: {control}", status=status).refusal == refusal


@pytest.mark.parametrize(
    ("control", "stored"),
    [
        ("public", True),
        ("public, max-age=60", True),
        ("s-maxage=60", True),
        ("s-maxage=0", False),
        ("must-revalidate, max-age=60", True),
        ("must-revalidate, max-age=0", False),
        ("must-revalidate", False),
        ("max-age=60", False),
        ("no-cache, s-maxage=60", False),
        ("public, no-cache", True),
    ],
)
@pytest.mark.parametrize("credential", ["cookie", "authorization", "credential"])
def test_what_of_a_request_with_a_credential_is_shared(control: str, stored: bool, credential: str) -> None:
    asked = Asked(credential=credential)
    verdict = judged(f"Cache-Control: {control}", TAG, asked=asked, ttl=60)
    assert verdict.refusal == ("" if stored else credential)
    assert verdict.public is stored
    # Without one it is stored in any case.
    assert judged(f"Cache-Control: {control}", TAG, ttl=60).refusal == ""


def test_no_cache_is_kept_to_be_validated_and_never_fresh() -> None:
    verdict = judged("Cache-Control: no-cache, max-age=600", TAG, chosen_ttl=60.0, stale_while_revalidate=60)
    assert (verdict.refusal, verdict.lifetime, verdict.validate_always) == ("", 0.0, True)
    assert (verdict.stale, verdict.may_stale) == (StaleWindows(0.0, 0.0), False)
    assert verdict.kept_stale > 0
    assert judged("Cache-Control: no-cache, max-age=600", 'ETag: W/"tc-1"', OLD, ttl=60).refusal == ""
    assert not judged("Cache-Control: max-age=600", TAG).validate_always


@pytest.mark.parametrize(
    ("vary", "names"),
    [
        (["Accept"], (b"accept",)),
        (["Accept-Language, ACCEPT", "accept"], (b"accept", b"accept-language")),
        (["", " , "], ()),
        ([], ()),
    ],
)
def test_the_fields_that_it_varies_by(vary: list[str], names: tuple[bytes, ...]) -> None:
    verdict = judged(*[f"Vary: {value}" for value in vary], ttl=60)
    assert (verdict.refusal, verdict.vary) == ("", names)
    assert vary_names(lines_of(*[f"Vary: {value}" for value in vary])) == names


def test_too_many_of_them_are_no_choice() -> None:
    names = [f"X-{number}" for number in range(MAX_VARY)]
    assert judged("Vary: " + ",".join(names), ttl=60).refusal == ""
    assert judged("Vary: " + ",".join([*names, "X-More"]), ttl=60).refusal == "vary"


def test_only_named_cookies_are_dropped() -> None:
    lines = ["Set-Cookie: seen=1; Path=/", "X-A: 1", "Set-Cookie:  seen =2"]
    assert judged(*lines, ttl=60, drop_cookies=["seen"]).fields == ((b"x-a", b"1"),)
    assert judged(*lines, "Set-Cookie: sid=1", ttl=60, drop_cookies=["seen"]).refusal == "set-cookie"
    assert judged("Set-Cookie2: seen=1", ttl=60, drop_cookies=["seen"]).refusal == "set-cookie"
    assert judged("Set-Cookie: SEEN=1", ttl=60, drop_cookies=["seen"]).refusal == "set-cookie"


def test_fields_are_kept_in_order_and_trimmed_without_those_of_the_connection() -> None:
    lines = [
        "Link: </a>", "Connection: x-hop", "X-Hop: 1", "Link:  </b>\t", "Age: 3", "Transfer-Encoding: chunked",
        'Cache-Control: max-age=60, no-cache="x-secret"', "X-Secret: 1", "X-Empty: ",
    ]  # fmt: skip
    assert judged(*lines).fields == (
        (b"link", b"</a>"),
        (b"link", b"</b>"),
        (b"cache-control", b'max-age=60, no-cache="x-secret"'),
        (b"x-empty", b""),
    )


@pytest.mark.parametrize(
    ("lines", "length", "refusal"),
    [
        ([], None, ""),
        (["Content-Length: 1000"], 1000, ""),
        (["Content-Length: 0"], 0, ""),
        (["Content-Length: 5", "Content-Length: 5"], 5, ""),
        (["Content-Length: 5, 5"], 5, ""),
        (["Content-Length: 5", "Content-Length: 6"], None, "incomplete"),
        (["Content-Length: 5, 6"], None, "incomplete"),
        (["Content-Length: -1"], None, "incomplete"),
        (["Content-Length: 0x10"], None, "incomplete"),
        (["Content-Length: 1_0"], None, "incomplete"),
        (["Content-Length: 1001"], None, "too-large"),
        (["Content-Length: " + "9" * 9000], None, "too-large"),
    ],
)
def test_the_length_that_is_announced(lines: list[str], length: int | None, refusal: str) -> None:
    verdict = judged(*lines, ttl=60)
    assert (verdict.refusal, verdict.content_length) == (refusal, length)


@pytest.mark.parametrize(
    ("case", "lifetime", "app_decides"),
    [
        ({"lines": ["Cache-Control: s-maxage=5, max-age=9"], "ttl": 60}, 5, True),
        ({"lines": ["Cache-Control: max-age=9", LATE], "ttl": 60}, 9, True),
        ({"lines": ["Expires: Tue, 14 Nov 2023 22:13:30 GMT", LATE], "ttl": 60}, 10, True),
        ({"lines": ["CDN-Cache-Control: max-age=7", "Cache-Control: max-age=9"], "ttl": 60}, 9, True),
        (
            {
                "lines": ["CDN-Cache-Control: max-age=7", "Cache-Control: max-age=9"],
                "targets": (b"cdn-cache-control",),
            },
            7,
            True,
        ),
        ({"ttl": 60}, 60, False),
        ({"lines": ["Cache-Control: max-age=9"], "chosen_ttl": 3.0, "ttl": 60}, 3, False),
        ({"chosen_ttl": 3.0}, 3, False),
        ({"chosen_ttl": 3.0, "status": 302}, 3, False),
        ({"chosen_ttl": 3.0, "status": 404, "ttl_by_status": {404: 4}}, 3, False),
        ({"chosen_ttl": 3.0, "status": 500, "lines": ["Cache-Control: max-age=9"]}, 3, False),
        ({"ttl": 60, "ttl_by_status": {200: 8, 404: 4}}, 8, False),
        ({"ttl": 60, "ttl_by_status": {404: 4}, "status": 404}, 4, False),
        ({"lines": ["Cache-Control: max-age=9"], "status": 500}, 9, True),
        ({"lines": [OLD, LATE], "heuristic": 0.1}, 8640, False),
        ({"lines": [OLD, LATE], "heuristic": 0.1, "status": 404}, 8640, False),
        ({"lines": [OLD, LATE], "heuristic": 0.1, "ttl": 60}, 60, False),
        ({"lines": [OLD, LATE, "Cache-Control: public"], "heuristic": 0.1, "status": 503}, 8640, False),
    ],
)
def test_where_the_lifetime_comes_from(case: dict[str, Any], lifetime: float, app_decides: bool) -> None:
    case = dict(case)
    verdict = judged(*case.pop("lines", ()), **case)
    assert (verdict.refusal, verdict.lifetime, verdict.app_decides) == ("", lifetime, app_decides)


@pytest.mark.parametrize(
    ("case", "refusal", "lasting"),
    [
        ({}, "no-lifetime", True),
        ({"status": 301}, "no-lifetime", True),
        ({"status": 404, "ttl": 60}, "status", False),
        ({"status": 500, "ttl": 60}, "status", False),
        ({"status": 302, "ttl": 60}, "status", False),
        # The view has failed after it had said so, or refuses one client.
        ({"status": 500, "chosen_ttl": 60.0, "ttl": 60}, "status", False),
        ({"status": 403, "chosen_ttl": 60.0}, "status", False),
        ({"lines": [OLD, LATE], "status": 503, "heuristic": 0.1}, "status", False),
        ({"lines": ["Cache-Control: max-age=0"], "ttl": 60}, "expired", True),
        ({"lines": ["Cache-Control: max-age=60", "Age: 60"]}, "expired", True),
        ({"lines": ["Age: 60"], "ttl": 60}, "expired", False),
        ({"chosen_ttl": 0.0, "ttl": 60}, "expired", False),
    ],
)
def test_without_a_lifetime_it_is_not_stored(case: dict[str, Any], refusal: str, lasting: bool) -> None:
    case = dict(case)
    verdict = judged(*case.pop("lines", ()), **case)
    assert (verdict.refusal, verdict.lasting) == (refusal, lasting)


def test_the_time_the_app_takes_counts_only_behind_another_cache() -> None:
    assert judged(ttl=60, elapsed=50.0).initial_age == 0.0
    assert judged("Age: 7", ttl=60, elapsed=50.0).initial_age == 57.0
    assert judged("Age: 0", ttl=60, elapsed=50.0).initial_age == 0.0


@pytest.mark.parametrize(
    ("lines", "settings", "kept"),
    [
        ([], {"ttl": 600}, 0),
        ([], {"ttl": 600, "stale_if_error": 30, "stale_while_revalidate": 10}, 30),
        ([TAG], {"ttl": 600}, 600),
        ([TAG], {"ttl": 5}, 60),
        ([OLD], {"ttl": "30d"}, 86_400),
        ([TAG, "Age: 100"], {"ttl": 600}, 700),
        ([TAG], {"ttl": 600, "stale_if_error": 9_000}, 9_000),
        ([], {"ttl": 600, "client_directives": True}, 600),
        (["Cache-Control: must-revalidate"], {"ttl": 600, "client_directives": True}, 0),
        (["Cache-Control: must-revalidate"], {"ttl": 600, "stale_if_error": 30}, 0),
        (["Cache-Control: max-age=9, stale-if-error=40"], {"stale_if_error": 30}, 40),
    ],
)
def test_how_long_it_is_worth_keeping(lines: list[str], settings: Any, kept: float) -> None:
    verdict = judged(*lines, **settings)
    assert (verdict.refusal, verdict.kept_stale) == ("", kept)


@pytest.mark.parametrize(
    ("control", "may"),
    [("max-age=60", True), ("max-age=60, must-revalidate", False), ("max-age=60, proxy-revalidate", False)],
)
def test_whether_it_may_be_used_stale(control: str, may: bool) -> None:
    assert judged(f"Cache-Control: {control}").may_stale is may


def test_what_is_stored_has_a_length_and_a_validator() -> None:
    plain = stored_fields(Verdict(fields=()), 200, b"hello", Policy())
    assert value_of(plain, b"content-length") == b"5"
    assert value_of(plain, b"etag").startswith(b'W/"')
    assert plain == stored_fields(Verdict(fields=()), 200, b"hello", Policy())
    assert value_of(plain, b"etag") != value_of(stored_fields(Verdict(), 200, b"other", Policy()), b"etag")
    strong = stored_fields(Verdict(fields=()), 200, b"hello", Policy(etag="strong"))
    assert value_of(strong, b"etag").startswith(b'"')
    assert not has_validator(stored_fields(Verdict(fields=()), 200, b"hello", Policy(etag=False)))
    assert not has_validator(stored_fields(Verdict(fields=()), 404, b"gone", Policy()))
    assert stored_fields(Verdict(fields=()), 204, b"", Policy()) == ()
    own = lines_of("Content-Length: 5", TAG)
    assert stored_fields(Verdict(fields=own), 200, b"hello", Policy()) == own
    assert has_validator(lines_of(OLD))


def test_a_head_is_about_what_is_stored_or_about_another() -> None:
    stored = entry(fields=lines_of(TAG), body=b"hello").response
    assert head_agrees(stored, lines_of(TAG, "Content-Length: 5"))
    assert not head_agrees(stored, lines_of(TAG, "Content-Length: 6"))
    assert not head_agrees(stored, lines_of('ETag: "v2"'))


def test_why_a_request_goes_to_the_app() -> None:
    assert forward_for("method") == ("method", "")
    assert forward_for("cookie") == ("bypass", "cookie")
