"""Freshness lifetimes, ages and stale windows as a specification (RFC 9111 §4.2, RFC 9213 §2.2, RFC 5861)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dates import format_date
from tiercache.core import freshness as f
from tiercache.core.cache_control import MAX_DELTA, parse_response
from tiercache.core.freshness import Freshness, Source, StaleWindows
from tiercache.core.messages import Fields

NOW = 1_780_000_000
"""When each response is received, Unix time."""
CDN = b"cdn-cache-control"
DAY = 86_400


def at(offset: int) -> bytes:
    return format_date(NOW + offset)


def date(offset: int) -> tuple[bytes, bytes]:
    return (b"date", at(offset))


def expires(offset: int) -> tuple[bytes, bytes]:
    return (b"expires", at(offset))


def modified(offset: int) -> tuple[bytes, bytes]:
    return (b"last-modified", at(offset))


def cc(value: bytes) -> tuple[bytes, bytes]:
    return (b"cache-control", value)


def age(value: bytes) -> tuple[bytes, bytes]:
    return (b"age", value)


NONE = Freshness(0, Source.NONE)
POLICY = Freshness(30, Source.POLICY)

# Each row: the fields, and the lifetime that they make where the policy gives 30 s to those that say nothing.
LIFETIMES: list[tuple[str, Fields, Freshness]] = [
    # Precedence
    ("4.2.1-s-maxage-over-max-age", (cc(b"max-age=1, s-maxage=9"), expires(5)), Freshness(9, Source.S_MAXAGE)),
    ("4.2.1-s-maxage-shorter", (cc(b"max-age=3600, s-maxage=1"),), Freshness(1, Source.S_MAXAGE)),
    ("4.2.1-max-age-over-expires", (expires(50), cc(b"max-age=5"), date(0)), Freshness(5, Source.MAX_AGE)),
    ("5.3-max-age-over-past-expires", (cc(b"max-age=9"), expires(-10_000), date(0)), Freshness(9, Source.MAX_AGE)),
    ("5.3-max-age-over-invalid-expires", (cc(b"max-age=9"), (b"expires", b"0")), Freshness(9, Source.MAX_AGE)),
    ("5.3-max-age-0-over-future-expires", (cc(b"max-age=0"), expires(10_000)), Freshness(0, Source.MAX_AGE)),
    ("4.2.1-invalid-max-age-over-expires", (cc(b"max-age=x"), expires(10_000)), Freshness(0, Source.MAX_AGE)),
    ("4.2.1-expires-over-policy", (expires(60), date(0)), Freshness(60, Source.EXPIRES)),
    ("policy-where-the-app-is-silent", (date(0),), POLICY),
    ("policy-beside-other-directives", (cc(b"public, must-revalidate"),), POLICY),
    ("4.2.2-policy-over-heuristic", (date(0), modified(-DAY)), POLICY),
    # Targeted
    ("9213-2.2-over-longer", (cc(b"s-maxage=99"), (CDN, b"max-age=1")), Freshness(1, Source.TARGETED)),
    ("9213-2.2-over-shorter", (cc(b"max-age=1"), (CDN, b"max-age=99")), Freshness(99, Source.TARGETED)),
    ("9213-2.2-s-maxage-inside", ((CDN, b"max-age=1, s-maxage=7"),), Freshness(7, Source.TARGETED)),
    ("9213-2.2-over-past-expires", ((CDN, b"max-age=9"), expires(-10_000)), Freshness(9, Source.TARGETED)),
    ("9213-2.2-0-over-future-expires", ((CDN, b"max-age=0"), expires(10_000)), Freshness(0, Source.TARGETED)),
    ("9213-2.2-cache-control-is-ignored", ((CDN, b"public"), cc(b"max-age=99"), expires(99)), POLICY),
    ("9213-2.1-invalid-is-ignored", ((CDN, b"max-age=99, &"), cc(b"max-age=1")), Freshness(1, Source.MAX_AGE)),
    # Expires and Date
    ("4.2.1-expires-minus-date", (date(-100), expires(20)), Freshness(120, Source.EXPIRES)),
    ("4.2.1-both-fast", (expires(300), date(400)), Freshness(0, Source.EXPIRES)),
    ("4.2.1-present", (expires(0), date(0)), Freshness(0, Source.EXPIRES)),
    ("4.2.1-past", (expires(-10), date(0)), Freshness(0, Source.EXPIRES)),
    ("9110-6.6.1-no-date", (expires(60),), Freshness(60, Source.EXPIRES)),
    ("9110-6.6.1-invalid-date", (expires(60), (b"date", b"foo")), Freshness(60, Source.EXPIRES)),
    ("4.2.1-two-dates", (expires(60), date(-100), date(-200)), Freshness(60, Source.EXPIRES)),
    ("5.3-zero", ((b"expires", b"0"), date(0)), Freshness(0, Source.EXPIRES)),
    ("5.3-minus-one", ((b"expires", b"-1"),), Freshness(0, Source.EXPIRES)),
    ("5.3-empty", ((b"expires", b""),), Freshness(0, Source.EXPIRES)),
    ("4.2-zone", ((b"expires", at(60).replace(b"GMT", b"UTC")),), Freshness(0, Source.EXPIRES)),
    ("4.2-case", ((b"expires", at(60).upper()), date(0)), Freshness(60, Source.EXPIRES)),
    ("4.2.1-two-that-differ", (expires(60), expires(61)), Freshness(0, Source.EXPIRES)),
    ("4.2.1-two-of-which-one-is-invalid", (expires(60), (b"expires", b"0")), Freshness(0, Source.EXPIRES)),
    ("4.2.1-two-alike", (expires(60), expires(60)), Freshness(60, Source.EXPIRES)),
    ("4.2.1-two-on-one-line", ((b"expires", at(60) + b", " + at(60)),), Freshness(0, Source.EXPIRES)),
    ("9110-5.6.7-rfc850", ((b"expires", b"Thursday, 18-Aug-50 02:01:18 GMT"), (b"date", b"Thu, 18 Aug 2050 02:01:08 GMT")), Freshness(10, Source.EXPIRES)),  # noqa: E501
    ("9110-5.6.7-asctime", ((b"expires", b"Thu Aug  8 02:01:18 2050"), (b"date", b"Mon, 08 Aug 2050 02:01:08 GMT")), Freshness(10, Source.EXPIRES)),  # noqa: E501
    # Numbers
    ("1.2.2-overflow", (cc(b"max-age=99999999999"),), Freshness(MAX_DELTA, Source.MAX_AGE)),
    ("5.2.2.1-several-lines", (cc(b"max-age=3600"), cc(b"s-maxage=1")), Freshness(1, Source.S_MAXAGE)),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), [row[1:] for row in LIFETIMES], ids=[row[0] for row in LIFETIMES])
def test_lifetime(fields: Fields, expected: Freshness) -> None:
    control = parse_response(fields, (CDN,))
    assert f.freshness(fields, control, received=NOW, ttl=30, heuristic=0.5) == expected


EXPLICIT = {Source.TARGETED, Source.S_MAXAGE, Source.MAX_AGE, Source.EXPIRES}


@pytest.mark.parametrize("source", list(Source))
def test_explicit_is_what_the_app_said_4_2(source: Source) -> None:
    assert Freshness(1, source).explicit is (source in EXPLICIT)


HEURISTIC: list[tuple[str, Fields, float | None, Freshness]] = [
    ("4.2.2-10-percent", (date(0), modified(-1000)), 0.1, Freshness(100, Source.HEURISTIC)),
    ("4.2.2-other-fraction", (date(0), modified(-1000)), 0.5, Freshness(500, Source.HEURISTIC)),
    ("4.2.2-only-if-asked-for", (date(0), modified(-1000)), None, NONE),
    ("4.2.2-no-date", (modified(-1000),), 0.1, Freshness(100, Source.HEURISTIC)),
    ("4.2.2-from-date-not-receipt", (date(-500), modified(-1500)), 0.1, Freshness(100, Source.HEURISTIC)),
    ("4.2.2-modified-later-than-made", (date(0), modified(10)), 0.1, Freshness(0, Source.HEURISTIC)),
    ("4.2.2-nothing-to-go-by", (date(0),), 0.1, NONE),
    ("4.2.2-invalid-last-modified", ((b"last-modified", b"0"),), 0.1, NONE),
    ("4.2.2-limit", (modified(-1000 * DAY),), 0.1, Freshness(DAY, Source.HEURISTIC)),
    ("4.2.2-not-beside-explicit", (expires(-5), modified(-1000)), 0.1, Freshness(0, Source.EXPIRES)),
]


@pytest.mark.parametrize(
    ("fields", "fraction", "expected"), [row[1:] for row in HEURISTIC], ids=[row[0] for row in HEURISTIC]
)
def test_heuristic_lifetime(fields: Fields, fraction: float | None, expected: Freshness) -> None:
    assert f.freshness(fields, parse_response(fields), received=NOW, heuristic=fraction) == expected


AGE_VALUES: list[tuple[str, tuple[bytes, ...], int]] = [
    ("5.1-absent", (), 0),
    ("5.1-number", (b"30",), 30),
    ("5.1-surrounding-whitespace", (b" 30 ",), 30),
    ("5.1-non-numeric", (b"abc",), 0),
    ("5.1-negative", (b"-7200",), 0),
    ("5.1-fraction", (b"7200.0",), 0),
    ("5.1-empty", (b"",), 0),
    ("5.1-quoted", (b'"7200"',), 0),
    ("5.1-parameter", (b"7200;foo=bar",), 0),
    ("1.2.2-2^31-1", (b"2147483647",), MAX_DELTA - 1),
    ("1.2.2-2^31", (b"2147483648",), MAX_DELTA),
    ("1.2.2-beyond-2^31", (b"2147483649",), MAX_DELTA),
    ("1.2.2-far-beyond", (b"9" * 10_000,), MAX_DELTA),
    ("5.1-first-member-old", (b"7200, 0",), 7200),
    ("5.1-first-member-0", (b"0, 7200",), 0),
    ("5.1-first-line-old", (b"7200", b"0"), 7200),
    ("5.1-first-line-0", (b"0", b"7200"), 0),
    ("5.1-repeated", (b"0, 0",), 0),
    ("5.1-repeated-on-two-lines", (b"3600", b"3600"), 3600),
    ("5.1-first-member-invalid", (b"x, 7200",), 0),
    ("5.1-first-line-invalid", (b"x", b"7200"), 0),
    ("9110-5.6.1.2-empty-members", (b" , ,7200",), 7200),
]


@pytest.mark.parametrize(("lines", "expected"), [row[1:] for row in AGE_VALUES], ids=[row[0] for row in AGE_VALUES])
def test_age_value(lines: tuple[bytes, ...], expected: int) -> None:
    assert f.age_value(tuple(age(line) for line in lines)) == expected


# Each row: fields, how long the response took, its age when it had arrived.
INITIAL_AGES: list[tuple[str, Fields, float, float]] = [
    ("4.2.3-nothing-known", (), 0.0, 0.0),
    ("4.2.3-delay", (), 1.5, 1.5),
    ("4.2.3-clock-set-back-meanwhile", (), -10.0, 0.0),
    ("4.2.3-corrected-age", (age(b"30"),), 1.5, 31.5),
    ("4.2.3-apparent-age", (date(-100),), 0.0, 99.0),
    ("4.2.3-apparent-age-is-higher", (date(-100), age(b"30")), 0.0, 99.0),
    ("4.2.3-corrected-age-is-higher", (date(-10), age(b"25")), 0.0, 25.0),
    ("4.2.3-date-ahead", (date(10), age(b"15")), 0.0, 15.0),
    ("4.2.3-date-of-this-second-is-no-age", (date(0),), 0.0, 0.0),
    ("4.2.3-date-rounded-down-is-no-age", (date(-1),), 0.0, 0.0),
    ("4.2.3-date-during-the-delay", (date(-5),), 6.0, 6.0),
    ("4.2.3-invalid-date", ((b"date", b"foo"), age(b"5")), 0.0, 5.0),
]


@pytest.mark.parametrize(
    ("fields", "delay", "expected"), [row[1:] for row in INITIAL_AGES], ids=[row[0] for row in INITIAL_AGES]
)
def test_initial_age(fields: Fields, delay: float, expected: float) -> None:
    assert f.initial_age(fields, requested=NOW - delay, received=NOW) == expected


def test_a_date_of_whole_seconds_does_not_age_a_response_kept_for_milliseconds() -> None:
    assert f.initial_age((date(0),), requested=NOW + 0.98, received=NOW + 0.99) == pytest.approx(0.01)


FRESH: list[tuple[str, Fields, float, bool]] = [
    ("4.2-fresh", (cc(b"max-age=10"),), 9.9, True),
    ("4.2-reached", (cc(b"max-age=10"),), 10.0, False),
    ("4.2-zero-is-stale-at-once", (cc(b"max-age=0"),), 0.0, False),
    ("4.2.3-age-above-max-age", (cc(b"max-age=10"), age(b"15"), date(0)), 0.0, False),
    ("4.2.3-age-and-slow-date", (date(-10), expires(10), age(b"25")), 0.0, False),
    ("4.2.3-age-and-fast-date", (date(10), expires(20), age(b"15")), 0.0, False),
    ("4.2.3-age-below", (cc(b"max-age=10000"), age(b"3600"), age(b"3600"), date(0)), 3.0, True),
    ("1.2.2-greatest-age-and-lifetime", (cc(b"max-age=99999999999"), age(b"99999999999")), 0.0, False),
    ("9213-2.2-age-above-targeted", ((CDN, b"max-age=3600"), age(b"7200"), date(0)), 0.0, False),
]


@pytest.mark.parametrize(("fields", "kept", "expected"), [row[1:] for row in FRESH], ids=[row[0] for row in FRESH])
def test_fresh(fields: Fields, kept: float, expected: bool) -> None:
    lifetime = f.freshness(fields, parse_response(fields, (CDN,)), received=NOW).lifetime
    initial = f.initial_age(fields, requested=NOW, received=NOW)
    assert (lifetime > initial + kept) is expected


# Each row: directives, windows that the policy gives (while revalidating, if error), windows that result.
STALE: list[tuple[str, bytes, tuple[int, int], tuple[int, int]]] = [
    ("5861-3-stale-while-revalidate", b"max-age=1, stale-while-revalidate=60", (0, 0), (60, 0)),
    ("5861-4-stale-if-error", b"max-age=1, stale-if-error=60", (0, 0), (0, 60)),
    ("4.2.4-not-without-permission", b"max-age=1", (0, 0), (0, 0)),
    ("4.2.4-policy-where-the-app-is-silent", b"max-age=1", (10, 20), (10, 20)),
    ("4.2.4-policy-and-no-directives", b"", (10, 20), (10, 20)),
    ("5861-3-app-over-policy", b"stale-while-revalidate=60", (10, 20), (60, 20)),
    ("5861-4-app-over-policy", b"stale-if-error=0", (10, 20), (10, 0)),
    ("5861-3-invalid-is-none", b"stale-while-revalidate=x", (10, 20), (0, 20)),
    ("5.2.2.2-must-revalidate", b"must-revalidate, stale-if-error=60", (10, 20), (0, 0)),
    ("5.2.2.8-proxy-revalidate", b"proxy-revalidate, stale-while-revalidate=60", (10, 20), (0, 0)),
    ("5.2.2.4-no-cache", b"no-cache, stale-while-revalidate=60", (10, 20), (0, 0)),
    ("5.2.2.4-qualified-no-cache", b'no-cache="a"', (10, 20), (10, 20)),
    ("5.2.2.10-s-maxage", b"s-maxage=2", (10, 20), (0, 0)),
    ("5.2.2.10-s-maxage-with-the-apps-word", b"s-maxage=2, stale-while-revalidate=60", (10, 20), (60, 0)),
    ("5.2.2.10-s-maxage-with-the-apps-other-word", b"s-maxage=2, stale-if-error=60", (10, 20), (0, 60)),
    ("5.2.2.10-invalid-s-maxage", b"s-maxage=x", (10, 20), (0, 0)),
]


@pytest.mark.parametrize(("value", "policy", "expected"), [row[1:] for row in STALE], ids=[row[0] for row in STALE])
def test_stale_windows(value: bytes, policy: tuple[int, int], expected: tuple[int, int]) -> None:
    control = parse_response((cc(value),))
    assert f.stale_windows(control, while_revalidate=policy[0], if_error=policy[1]) == StaleWindows(*expected)


NAMES = st.sampled_from([b"date", b"age", b"expires", b"last-modified", b"cache-control", CDN])
FIELDS = st.lists(st.tuples(NAMES, st.one_of(st.binary(max_size=30), st.integers(-DAY, DAY).map(at))), max_size=6).map(
    tuple
)


@given(FIELDS, st.floats(0, 4e9), st.floats(0, 4e9))
def test_nothing_raises_and_nothing_is_negative(fields: Fields, requested: float, received: float) -> None:
    control = parse_response(fields, (CDN,))
    found = f.freshness(fields, control, received=received, heuristic=0.1)
    assert found.lifetime >= 0
    assert f.initial_age(fields, requested=requested, received=received) >= 0
    assert min(f.stale_windows(control)) >= 0
