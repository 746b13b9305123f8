"""HTTP dates (RFC 9110 §5.6.7), with the leniency and the strictness of RFC 9111 §4.2 and §5.3."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dates import format_date
from tiercache.core.dates import parse_date


def unix(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]


NOW = unix(2026, 6, 1)
THEN = unix(1994, 11, 6, 8, 49, 37)
LATER = unix(2050, 8, 18, 2, 1, 18)

VALID = [
    ("9110-5.6.7-imf-fixdate", b"Sun, 06 Nov 1994 08:49:37 GMT", THEN),
    ("9110-5.6.7-rfc850", b"Sunday, 06-Nov-94 08:49:37 GMT", THEN),
    ("9110-5.6.7-asctime", b"Sun Nov  6 08:49:37 1994", THEN),
    ("9110-5.6.7-asctime-two-digit-day", b"Wed Nov 16 08:49:37 1994", THEN + 10 * 86_400),
    ("9110-5.6.7-rfc850-within-50-years", b"Thursday, 18-Aug-50 02:01:18 GMT", LATER),
    ("9110-5.6.7-rfc850-49-years-ahead", b"Friday, 01-Jan-75 00:00:00 GMT", unix(2075, 1, 1)),
    ("9110-5.6.7-rfc850-more-than-50-years-ahead", b"Friday, 01-Jan-77 00:00:00 GMT", unix(1977, 1, 1)),
    ("9110-5.6.7-rfc850-most-recent-past", b"Friday, 31-Dec-99 23:59:59 GMT", unix(1999, 12, 31, 23, 59, 59)),
    ("9110-5.6.7-leap-second", b"Sat, 31 Dec 2016 23:59:60 GMT", unix(2017, 1, 1)),
    ("9111-4.2-case-weekday", b"THU, 18 Aug 2050 02:01:18 GMT", LATER),
    ("9111-4.2-case-month", b"Thu, 18 AUG 2050 02:01:18 GMT", LATER),
    ("9111-4.2-case-zone", b"Thu, 18 Aug 2050 02:01:18 gMT", LATER),
    ("9111-5.3-beyond-32-bits", b"Tue, 19 Jan 2038 14:14:08 GMT", unix(2038, 1, 19, 14, 14, 8)),
    ("9111-5.3-far-future", b"Sun, 21 Nov 2286 04:46:39 GMT", unix(2286, 11, 21, 4, 46, 39)),
    ("9110-5.6.7-weekday-is-not-compared", b"Mon, 06 Nov 1994 08:49:37 GMT", THEN),
    ("9110-5.6.3-surrounding-whitespace", b" \tSun, 06 Nov 1994 08:49:37 GMT ", THEN),
    ("before-1970", b"Wed, 31 Dec 1969 23:59:59 GMT", -1),
]

INVALID = [
    ("9111-5.3-zero", b"0"),
    ("9111-5.3-minus-one", b"-1"),
    ("9111-5.3-empty", b""),
    ("9111-5.3-words", b"foo"),
    ("9111-4.2-utc", b"Thu, 18 Aug 2050 02:01:18 UTC"),
    ("9111-4.2-other-zone", b"Thu, 18 Aug 2050 02:01:18 AEST"),
    ("9111-4.2-offset", b"Thu, 18 Aug 2050 02:01:18 +0000"),
    ("9111-4.2-no-zone", b"Thu, 18 Aug 2050 02:01:18"),
    ("9110-5.6.7-two-digit-year", b"Thu, 18 Aug 50 02:01:18 GMT"),
    ("9110-5.6.7-no-comma", b"Thu 18 Aug 2050 02:01:18 GMT"),
    ("9110-5.6.7-more-spaces", b"Thu, 18  Aug  2050 02:01:18 GMT"),
    ("9110-5.6.7-dashes", b"Thu, 18-Aug-2050 02:01:18 GMT"),
    ("9110-5.6.7-periods", b"Thu, 18 Aug 2050 02.01.18 GMT"),
    ("9110-5.6.7-one-digit-hour", b"Thu, 18 Aug 2050 2:01:18 GMT"),
    ("9110-5.6.7-one-digit-day", b"Thu, 8 Aug 2050 02:01:18 GMT"),
    ("9110-5.6.7-rfc850-short-weekday", b"Thu, 18-Aug-50 02:01:18 GMT"),
    ("9110-5.6.7-asctime-zone", b"Sun Nov  6 08:49:37 1994 GMT"),
    ("9110-5.3-two-dates", b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT"),
    ("no-such-day", b"Sun, 31 Feb 2021 08:49:37 GMT"),
    ("no-such-day-0", b"Sun, 00 Feb 2021 08:49:37 GMT"),
    ("no-such-day-rfc850", b"Sunday, 31-Feb-21 08:49:37 GMT"),
    ("no-such-year", b"Sun, 01 Feb 0000 08:49:37 GMT"),
    ("no-such-hour", b"Sun, 06 Nov 1994 24:00:00 GMT"),
    ("no-such-minute", b"Sun, 06 Nov 1994 08:60:00 GMT"),
    ("no-such-second", b"Sun, 06 Nov 1994 08:49:61 GMT"),
    ("iso-8601", b"1994-11-06T08:49:37Z"),
    ("trailing-newline", b"Sun, 06 Nov 1994 08:49:37 GMT\n"),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in VALID], ids=[row[0] for row in VALID])
def test_valid(value: bytes, expected: int) -> None:
    assert parse_date(value, NOW) == expected


@pytest.mark.parametrize("value", [row[1] for row in INVALID], ids=[row[0] for row in INVALID])
def test_invalid(value: bytes) -> None:
    assert parse_date(value, NOW) is None


@given(st.integers(0, unix(9999, 12, 31)))
def test_any_imf_fixdate_is_read(seconds: int) -> None:
    assert parse_date(format_date(seconds), NOW) == seconds


@given(st.integers(1970, 2150), st.integers(0, 99))
def test_two_digit_years_are_never_more_than_50_years_ahead(year: int, digits: int) -> None:
    now = unix(year, 6, 1)
    seconds = parse_date(b"Sunday, 01-Jun-%02d 00:00:00 GMT" % digits, now)
    assert seconds is not None
    found = datetime.fromtimestamp(seconds, UTC).year
    assert found % 100 == digits
    assert year - 50 <= found <= year + 50


DATE_LIKE = st.text("Sun,MoyayGMTgmt 0123456789:-Nov", max_size=40).map(str.encode)


@given(st.one_of(st.binary(max_size=60), DATE_LIKE), st.floats(allow_nan=False))
def test_nothing_raises(value: bytes, now: float) -> None:
    parse_date(value, now)
