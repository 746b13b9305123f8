"""Validators, conditions of clients and the 304 for them, as a specification (RFC 9110 §8.8, §13, §15.4.5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dates import format_date
from tiercache.core import conditional as c
from tiercache.core.conditional import Condition, ETag
from tiercache.core.messages import Fields

NOW = 1_780_000_000
"""When each stored response was received, Unix time."""


def at(offset: int) -> bytes:
    return format_date(NOW + offset)


def date(offset: int) -> tuple[bytes, bytes]:
    return (b"date", at(offset))


def modified(offset: int) -> tuple[bytes, bytes]:
    return (b"last-modified", at(offset))


def etag(value: bytes) -> tuple[bytes, bytes]:
    return (b"etag", value)


def inm(value: bytes) -> tuple[bytes, bytes]:
    return (b"if-none-match", value)


def ims(offset: int) -> tuple[bytes, bytes]:
    return (b"if-modified-since", at(offset))


def accessor(request: Fields) -> Callable[[bytes], bytes | None]:
    """Stands in for `Request.field`."""

    def field(name: bytes) -> bytes | None:
        found = [value for key, value in request if key == name]
        return b", ".join(found) if found else None

    return field


ETAGS = [
    ("8.8.3-strong", b'"abc"', ETag(b'"abc"', False)),
    ("8.8.3-weak", b'W/"abc"', ETag(b'"abc"', True)),
    ("8.8.3-empty-tag", b'""', ETag(b'""', False)),
    ("8.8.3-comma", b'"a,b"', ETag(b'"a,b"', False)),
    ("8.8.3-obs-text", b'"abc\xfc"', ETag(b'"abc\xfc"', False)),
    ("8.8.3-backslash-is-no-escape", b'"a\\"', ETag(b'"a\\"', False)),
    ("5.6.3-surrounding-whitespace", b' "abc"\t', ETag(b'"abc"', False)),
    ("8.8.3-absent", None, None),
    ("8.8.3-empty", b"", None),
    ("8.8.3-unquoted", b"abc", None),
    ("8.8.3-lower-case-w", b'w/"abc"', None),
    ("8.8.3-backslash-for-slash", b'W\\"abc"', None),
    ("8.8.3-no-slash", b'W"abc"', None),
    ("8.8.3-single-quotes", b"'abc'", None),
    ("8.8.3-open", b'"abc', None),
    ("8.8.3-quote-inside", b'"a"c"', None),
    ("8.8.3-space-inside", b'"a c"', None),
    ("8.8.3-control-inside", b'"a\x00c"', None),
    ("8.8.3-star", b"*", None),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in ETAGS], ids=[row[0] for row in ETAGS])
def test_parse_etag(value: bytes | None, expected: ETag | None) -> None:
    assert c.parse_etag(value) == expected


# The table of §8.8.3.2: two tags, whether they match strongly, whether weakly.
COMPARISON = [
    (b'W/"1"', b'W/"1"', False, True),
    (b'W/"1"', b'W/"2"', False, False),
    (b'W/"1"', b'"1"', False, True),
    (b'"1"', b'"1"', True, True),
    (b'"1"', b'"A"', False, False),
    (b'"a"', b'"A"', False, False),
]


@pytest.mark.parametrize(("one", "two", "strongly", "weakly"), COMPARISON)
def test_comparison_8_8_3_2(one: bytes, two: bytes, strongly: bool, weakly: bool) -> None:
    a, b = c.parse_etag(one), c.parse_etag(two)
    assert a is not None
    assert b is not None
    assert (a.matches_strongly(b), a.matches_weakly(b)) == (strongly, weakly)
    assert (b.matches_strongly(a), b.matches_weakly(a)) == (strongly, weakly)


LISTS = [
    ("13.1.2-one", b'"a"', [b'"a"']),
    ("13.1.2-several", b'"a", W/"b","c"', [b'"a"', b'"b"', b'"c"']),
    ("13.1.2-commas-inside", b'"a,b", "c,"', [b'"a,b"', b'"c,"']),
    ("5.6.1.2-empty-members", b' , "a",,\t"b" , ', [b'"a"', b'"b"']),
    ("13.1.2-others-are-skipped", b'abc, "a", w/"x", *, "b"x, "c"', [b'"a"', b'"c"']),
    ("13.1.2-open-at-the-end", b'"a", "b', [b'"a"']),
    ("13.1.2-empty", b"", []),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in LISTS], ids=[row[0] for row in LISTS])
def test_lists_of_etags(value: bytes, expected: list[bytes]) -> None:
    assert [tag.tag for tag in c.etags_in(value)] == expected


@pytest.mark.parametrize(
    "value", [b'"' * 200_000, b'",' * 200_000, b" " * 200_000, b'"a" x,' * 50_000, b'"' + b"," * 200_000]
)
def test_lists_of_etags_take_linear_time(value: bytes) -> None:
    # Quadratic work would take minutes here, and run into the timeout of the suite.
    assert all(b'"' not in tag.tag[1:-1] for tag in c.etags_in(value))


def test_made_etags() -> None:
    # Fixed, since processes and releases that share a store must agree on them.
    assert c.make_etag(b"hello") == b'W/"tc-jtclL0sD-eg3bbWy"'
    assert c.make_etag(b"hello") != c.make_etag(b"hallo")
    assert c.make_etag(b"hello", strong=True) == c.make_etag(b"hello").removeprefix(b"W/")
    assert c.parse_etag(c.make_etag(b"")) is not None
    assert c.is_generated(c.make_etag(b"hello"))
    assert not c.is_generated(b'"abc"')


SEND, NOT_MODIFIED, ORIGIN = Condition.SEND, Condition.NOT_MODIFIED, Condition.ORIGIN
TAGGED = (etag(b'"abcdef"'), modified(-5000), date(0))

# Each row: the stored response, the fields of a GET, the outcome.
CONDITIONS: list[tuple[str, Fields, Fields, Condition]] = [
    ("no-condition", TAGGED, (), SEND),
    # If-None-Match
    ("9110-13.1.2-strong", TAGGED, (inm(b'"abcdef"'),), NOT_MODIFIED),
    ("9110-13.1.2-other", TAGGED, (inm(b'"x"'),), SEND),
    ("9110-13.1.2-weak-comparison", TAGGED, (inm(b'W/"abcdef"'),), NOT_MODIFIED),
    ("9110-13.1.2-stored-is-weak", (etag(b'W/"abcdef"'),), (inm(b'W/"abcdef"'),), NOT_MODIFIED),
    ("9110-13.1.2-only-stored-is-weak", (etag(b'W/"abcdef"'),), (inm(b'"abcdef"'),), NOT_MODIFIED),
    ("9110-13.1.2-first-of-three", TAGGED, (inm(b'"abcdef", "1", "2"'),), NOT_MODIFIED),
    ("9110-13.1.2-second-of-three", TAGGED, (inm(b'"1", "abcdef", "2"'),), NOT_MODIFIED),
    ("9110-13.1.2-last-of-three", TAGGED, (inm(b'"1", "2", "abcdef"'),), NOT_MODIFIED),
    ("9110-5.3-several-lines", TAGGED, (inm(b'"1"'), inm(b'"abcdef"')), NOT_MODIFIED),
    ("9110-13.1.2-inside-another-tag", TAGGED, (inm(b'"x,abcdef"'),), SEND),
    ("9110-13.1.2-obs-text", (etag(b'"\xfc"'),), (inm(b'"\xfc"'),), NOT_MODIFIED),
    ("9110-13.1.2-star", TAGGED, (inm(b" * "),), NOT_MODIFIED),
    ("9110-13.1.2-star-without-etag", (date(0),), (inm(b"*"),), NOT_MODIFIED),
    ("9110-13.1.2-star-in-a-list", TAGGED, (inm(b'"x", *'),), SEND),
    ("9110-13.1.2-unquoted", TAGGED, (inm(b"abcdef"),), SEND),
    ("9110-13.1.2-both-unquoted", (etag(b"abcdef"),), (inm(b"abcdef"),), SEND),
    ("9110-13.1.2-empty", TAGGED, (inm(b""),), SEND),
    ("9110-13.1.2-no-etag-stored", (modified(-5000),), (inm(b'"abcdef"'),), SEND),
    ("9110-8.8.3-two-etags-stored", (etag(b'"abcdef"'), etag(b'"x"')), (inm(b'"abcdef"'),), SEND),
    # Precedence
    ("9110-13.2.2-match-over-date", TAGGED, (inm(b'"abcdef"'), ims(-6000)), NOT_MODIFIED),
    ("9110-13.2.2-no-match-over-date", TAGGED, (inm(b'"x"'), ims(0)), SEND),
    ("9110-13.2.2-garbage-over-date", TAGGED, (inm(b"x"), ims(0)), SEND),
    ("9110-13.2.2-no-etag-over-date", (modified(-5000),), (inm(b'"x"'), ims(0)), SEND),
    # If-Modified-Since
    ("9110-13.1.3-same", TAGGED, (ims(-5000),), NOT_MODIFIED),
    ("9110-13.1.3-later", TAGGED, (ims(-4000),), NOT_MODIFIED),
    ("9110-13.1.3-earlier", TAGGED, (ims(-5001),), SEND),
    ("9110-13.1.3-in-the-future", TAGGED, (ims(9999),), NOT_MODIFIED),
    ("9110-13.1.3-invalid", TAGGED, ((b"if-modified-since", b"yesterday"),), SEND),
    ("9110-13.1.3-more-than-one", TAGGED, (ims(0), ims(0)), SEND),
    ("9110-5.6.7-case", TAGGED, ((b"if-modified-since", at(0).lower()),), NOT_MODIFIED),
    ("9110-5.6.7-rfc850", (modified(0),), ((b"if-modified-since", b"Thursday, 18-Aug-50 02:01:18 GMT"),), NOT_MODIFIED),
    ("9111-4.3.2-date-without-last-modified", (date(-10),), (ims(-10),), NOT_MODIFIED),
    ("9111-4.3.2-date-later-than-condition", (date(-10),), (ims(-11),), SEND),
    ("9111-4.3.2-receipt-without-date", (), (ims(1),), NOT_MODIFIED),
    ("9111-4.3.2-receipt-later-than-condition", (), (ims(-1),), SEND),
    ("9111-4.3.2-receipt-within-the-same-second", (), (ims(0),), SEND),
    ("9110-8.8.2-invalid-last-modified", ((b"last-modified", b"0"), date(-10)), (ims(0),), SEND),
    # Conditions of which only the origin can tell
    ("9111-4.3.2-if-match", TAGGED, ((b"if-match", b'"abcdef"'), inm(b'"abcdef"')), ORIGIN),
    ("9111-4.3.2-if-unmodified-since", TAGGED, ((b"if-unmodified-since", at(0)),), ORIGIN),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "request_fields", "expected"), [row[1:] for row in CONDITIONS], ids=[row[0] for row in CONDITIONS]
)
def test_conditions(stored: Fields, request_fields: Fields, expected: Condition) -> None:
    assert c.evaluate("GET", accessor(request_fields), stored, received=NOW + 0.5) is expected


OTHER_REQUESTS: list[tuple[str, str, int, Fields, Condition]] = [
    ("9110-13.1.2-head", "HEAD", 200, (inm(b'"abcdef"'),), NOT_MODIFIED),
    ("9110-13.1.3-head", "HEAD", 200, (ims(0),), NOT_MODIFIED),
    ("9110-13.1.2-other-method", "PUT", 200, (inm(b"*"),), ORIGIN),
    ("9110-13.1.3-other-method", "POST", 200, (ims(0),), SEND),
    ("9110-9.1-methods-are-case-sensitive", "get", 200, (ims(0),), SEND),
    ("9110-13.2.1-not-found", "GET", 404, (inm(b'"abcdef"'),), SEND),
    ("9110-13.2.1-redirect", "GET", 301, (ims(0),), SEND),
]


@pytest.mark.parametrize(
    ("method", "status", "request_fields", "expected"),
    [row[1:] for row in OTHER_REQUESTS],
    ids=[row[0] for row in OTHER_REQUESTS],
)
def test_conditions_of_other_requests(method: str, status: int, request_fields: Fields, expected: Condition) -> None:
    assert c.evaluate(method, accessor(request_fields), TAGGED, status=status, received=NOW) is expected


# Each row: a field of a stored 200, and whether a 304 made from it carries that field.
NOT_MODIFIED_FIELDS = [
    ("9110-15.4.5-cache-control", b"cache-control", True),
    ("9110-15.4.5-content-location", b"content-location", True),
    ("9110-15.4.5-date", b"date", True),
    ("9110-15.4.5-etag", b"etag", True),
    ("9110-15.4.5-expires", b"expires", True),
    ("9110-15.4.5-vary", b"vary", True),
    ("9110-15.4.5-last-modified-beside-etag", b"last-modified", False),
    ("9110-15.4.5-content-type", b"content-type", False),
    ("9110-15.4.5-content-length", b"content-length", False),
    ("9110-15.4.5-content-encoding", b"content-encoding", False),
    ("9110-15.4.5-content-language", b"content-language", False),
    ("9110-15.4.5-content-disposition", b"content-disposition", False),
    ("9530-3-repr-digest", b"repr-digest", False),
    ("csp3-policy-is-no-metadata", b"content-security-policy", True),
    ("9213-2.2-targeted-fields", b"cdn-cache-control", True),
    ("fetch-cors", b"access-control-allow-origin", True),
    ("unknown-fields", b"x-unknown", True),
]


@pytest.mark.parametrize(
    ("name", "kept"), [row[1:] for row in NOT_MODIFIED_FIELDS], ids=[row[0] for row in NOT_MODIFIED_FIELDS]
)
def test_fields_of_a_304(name: bytes, kept: bool) -> None:
    stored = tuple(dict.fromkeys((etag(b'"a"'), (b"server", b"x"), (name, b'"a"'))))
    expected = stored if kept else stored[:2]
    assert c.not_modified_fields(stored) == expected


def test_a_304_without_etag_keeps_last_modified_9110_15_4_5() -> None:
    stored = (modified(-5), (b"content-type", b"text/html"))
    assert c.not_modified_fields(stored) == (modified(-5),)


CONDITION_NAMES = [b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"]
STORED_NAMES = [b"etag", b"last-modified", b"date", b"x"]
VALUES = st.one_of(
    st.binary(max_size=20),
    st.integers(-999, 999).map(at),
    st.lists(st.sampled_from([b'"', b'"a"', b"W/", b",", b" ", b"*", b"\\"]), max_size=12).map(b"".join),
)


def some(names: list[bytes]) -> st.SearchStrategy[Fields]:
    return st.lists(st.tuples(st.sampled_from(names), VALUES), max_size=5).map(tuple)


@given(some(STORED_NAMES), some(CONDITION_NAMES), st.floats(0, 4e9))
def test_nothing_raises(stored: Fields, request_fields: Fields, received: float) -> None:
    c.evaluate("GET", accessor(request_fields), stored, received=received)
    assert set(c.not_modified_fields(stored)) <= set(stored)


@given(st.binary(max_size=200))
def test_a_made_etag_is_found_in_any_list(body: bytes) -> None:
    made = c.make_etag(body)
    request_fields = (inm(b'"x", ' + made + b', W/"y"'),)
    assert c.evaluate("GET", accessor(request_fields), (etag(made),), received=NOW) is NOT_MODIFIED
