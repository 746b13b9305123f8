"""Cache directives as a specification: RFC 9111 §5.2 and §4.2.1, RFC 9213, RFC 5861, RFC 8246."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.cache_control import (
    MAX_DELTA,
    NO_DIRECTIVES,
    NO_REQUEST_DIRECTIVES,
    CacheControl,
    RequestDirectives,
    delta_seconds,
    parse_request,
    parse_response,
    targeted,
)
from tiercache.core.messages import Fields


def response(*values: bytes) -> CacheControl:
    return parse_response(tuple((b"cache-control", value) for value in values))


def says(**expected: Any) -> CacheControl:
    return CacheControl(**expected)


LIST = frozenset({b"a", b"b"})
XY = frozenset({b"x", b"y"})

# Each row: what is on the lines of Cache-Control, and all that it says.
RESPONSE: list[tuple[str, tuple[bytes, ...], CacheControl]] = [
    ("9111-5.2-absent", (), says()),
    ("9111-5.2-empty", (b"",), says()),
    ("9111-5.2.2.1-max-age", (b"max-age=3600",), says(max_age=3600)),
    ("9111-5.2.2.10-s-maxage", (b"s-maxage=1, max-age=3600",), says(s_maxage=1, max_age=3600)),
    ("9111-5.2.2.2-must-revalidate", (b"must-revalidate",), says(must_revalidate=True)),
    ("9111-5.2.2.3-must-understand", (b"must-understand, no-store",), says(must_understand=True, no_store=True)),
    ("9111-5.2.2.4-no-cache", (b"no-cache",), says(no_cache=True)),
    ("9111-5.2.2.5-no-store", (b"no-store",), says(no_store=True)),
    ("9111-5.2.2.6-no-transform", (b"no-transform",), says(no_transform=True)),
    ("9111-5.2.2.7-private", (b"private",), says(private=True)),
    ("9111-5.2.2.8-proxy-revalidate", (b"proxy-revalidate",), says(proxy_revalidate=True)),
    ("9111-5.2.2.9-public", (b"public",), says(public=True)),
    ("5861-3-stale-while-revalidate", (b"stale-while-revalidate=5",), says(stale_while_revalidate=5)),
    ("5861-4-stale-if-error", (b"stale-if-error=5",), says(stale_if_error=5)),
    ("8246-2-immutable", (b"immutable",), says(immutable=True)),
    # Spelling
    ("9111-5.2-case", (b"MaX-aGe=3600, No-StOrE",), says(max_age=3600, no_store=True)),
    ("9111-5.2-several-lines", (b"max-age=1", b"no-store"), says(max_age=1, no_store=True)),
    ("9111-5.2-quoted-number", (b'max-age="3600"',), says(max_age=3600)),
    ("9110-5.6.4-quoted-pair", (b'max-age="3\\600"',), says(max_age=3600)),
    ("9110-5.6.1.2-empty-members", (b", ,max-age=1,,\tpublic ,",), says(max_age=1, public=True)),
    ("9110-5.6.1-no-space-after-comma", (b"max-age=1,public",), says(max_age=1, public=True)),
    ("9111-1.2.2-leading-zeros", (b"max-age=003600",), says(max_age=3600)),
    # Numbers
    ("9111-1.2.2-2^31", (b"max-age=2147483648",), says(max_age=MAX_DELTA)),
    ("9111-1.2.2-just-above-2^31", (b"max-age=2147483649",), says(max_age=MAX_DELTA)),
    ("9111-1.2.2-overflow", (b"max-age=99999999999",), says(max_age=MAX_DELTA)),
    ("9111-1.2.2-long-overflow", (b"max-age=" + b"9" * 20_000,), says(max_age=MAX_DELTA)),
    ("9111-4.2.1-zero", (b"max-age=0",), says(max_age=0)),
    ("9111-4.2.1-negative", (b"max-age=-100",), says(max_age=0)),
    ("9111-4.2.1-plus", (b"max-age=+100",), says(max_age=0)),
    ("9111-4.2.1-fraction", (b"max-age=3600.0",), says(max_age=0)),
    ("9111-4.2.1-leading-letter", (b"max-age=a3600",), says(max_age=0)),
    ("9111-4.2.1-trailing-letter", (b"max-age=3600a",), says(max_age=0)),
    ("9111-4.2.1-single-quotes", (b"max-age='3600'",), says(max_age=0)),
    ("9111-4.2.1-no-argument", (b"max-age",), says(max_age=0)),
    ("9111-4.2.1-empty-argument", (b"max-age=",), says(max_age=0)),
    ("9111-4.2.1-empty-quoted-argument", (b'max-age=""',), says(max_age=0)),
    ("9111-4.2.1-space-before-equals", (b"max-age =3600",), says(max_age=0)),
    ("9111-4.2.1-space-after-equals", (b"max-age= 3600",), says(max_age=0)),
    ("9111-4.2.1-underscores", (b"max-age=3_600",), says(max_age=0)),
    ("9111-4.2.1-digits-of-other-scripts", ("max-age=٣".encode(),), says(max_age=0)),
    ("9111-4.2.1-s-maxage-invalid", (b"s-maxage=x, max-age=5",), says(s_maxage=0, max_age=5)),
    ("5861-3-invalid", (b"stale-while-revalidate=x",), says(stale_while_revalidate=0)),
    # Duplicates
    ("9111-4.2.1-repeated", (b"max-age=5, max-age=5",), says(max_age=5)),
    ("9111-4.2.1-two-values", (b"max-age=1800, max-age=1",), says(max_age=0)),
    ("9111-4.2.1-two-values-on-two-lines", (b"max-age=1", b"max-age=1800"), says(max_age=0)),
    ("9111-4.2.1-three-values", (b"max-age=1, max-age=2, max-age=2",), says(max_age=0)),
    ("9111-4.2.1-one-of-two-invalid", (b"max-age=5, max-age=x",), says(max_age=0)),
    ("9111-4.2.1-repeated-flag", (b"no-store, no-store",), says(no_store=True)),
    # Qualified forms
    ("9111-5.2.2.4-qualified", (b'no-cache="A, b"',), says(no_cache_fields=LIST)),
    ("9111-5.2.2.4-qualified-one", (b'no-cache="a"',), says(no_cache_fields=frozenset({b"a"}))),
    ("9111-5.2.2.4-qualified-on-two-lines", (b'no-cache="a"', b'no-cache="b"'), says(no_cache_fields=LIST)),
    ("9111-5.2.2.4-both-forms", (b'no-cache, no-cache="a,b"',), says(no_cache=True, no_cache_fields=LIST)),
    ("9111-5.2.2.4-empty-list", (b'no-cache=""',), says(no_cache=True)),
    ("9111-5.2.2.4-list-of-nothing", (b'no-cache=" , "',), says(no_cache=True)),
    ("9111-5.2.2.4-no-field-names", (b'no-cache="a b"',), says(no_cache=True)),
    ("9111-5.2.2.4-token-form", (b"no-cache=a",), says(no_cache=True)),
    ("9111-5.2.2.7-qualified", (b'private="a,b", max-age=5',), says(private_fields=LIST, max_age=5)),
    ("9111-5.2.2.7-token-form", (b"private=1",), says(private=True)),
    ("9111-5.2.2.7-space-before-equals", (b'private ="a"',), says(private=True)),
    # What is inside a string is not a directive
    ("9110-5.6.4-before", (b'x="max-age=3600, public", max-age=1',), says(max_age=1, extensions=frozenset({b"x"}))),
    ("9110-5.6.4-after", (b'max-age=1, x="max-age=3600"',), says(max_age=1, extensions=frozenset({b"x"}))),
    ("9110-5.6.4-escaped", (b'x="\\", no-store"',), says(extensions=frozenset({b"x"}))),
    ("unclosed-string-ends-with-its-line", (b'x="a', b'y="b", no-store'), says(no_store=True, extensions=XY)),
    ("unclosed-string-hides-nothing", (b'x="a, no-store',), says(no_store=True, extensions=frozenset({b"x"}))),
    # Arguments where none belongs
    ("9111-5.2-argument-to-a-restriction", (b"no-store=1",), says(no_store=True)),
    ("9111-5.2-argument-to-a-permission", (b"public=1, must-understand=x, immutable=y",), says()),
    ("semicolon-instead-of-comma", (b"private; max-age=60",), says(private=True)),
    ("semicolon-after-lifetime", (b"max-age=60; private",), says(max_age=0)),
    # Extensions
    ("9111-5.2.3-unknown", (b'x, Y="UCI", max-age=1',), says(max_age=1, extensions=XY)),
    ("9111-5.2.3-not-a-token", (b"@, =5, max-age=1",), says(max_age=1)),
    ("9111-5.2-similar-names", (b"s-max-age=5, no-stores",), says(extensions=frozenset({b"s-max-age", b"no-stores"}))),
]


@pytest.mark.parametrize(("lines", "expected"), [row[1:] for row in RESPONSE], ids=[row[0] for row in RESPONSE])
def test_response_directives(lines: tuple[bytes, ...], expected: CacheControl) -> None:
    assert response(*lines) == expected


def test_absent_costs_nothing() -> None:
    assert parse_response(((b"date", b"x"), (b"x-cache-control", b"no-store"))) is NO_DIRECTIVES


def test_long_values_are_read_whole() -> None:
    padding = b", ".join(b"x%d" % n for n in range(1000))
    assert response(padding + b", no-store").no_store


FORBIDS_STALE = [
    ("9111-4.2.4-nothing", b"max-age=1", False),
    ("9111-4.2.4-must-revalidate", b"must-revalidate", True),
    ("9111-4.2.4-proxy-revalidate", b"proxy-revalidate", True),
    ("9111-4.2.4-no-cache", b"no-cache", True),
    ("9111-4.2.4-qualified-no-cache", b'no-cache="a"', False),
    ("9111-4.2.4-s-maxage", b"s-maxage=0", True),
]


@pytest.mark.parametrize(
    ("value", "expected"), [row[1:] for row in FORBIDS_STALE], ids=[row[0] for row in FORBIDS_STALE]
)
def test_forbids_stale(value: bytes, expected: bool) -> None:
    assert response(value).forbids_stale is expected


def test_withheld_are_the_fields_of_both_qualified_forms() -> None:
    assert response(b'no-cache="a", private="b"').withheld == LIST


OWN = b"tiercache-cache-control"
CDN = b"cdn-cache-control"
TARGETS = (OWN, CDN)


def cdn(**expected: Any) -> CacheControl:
    return CacheControl(target=CDN, **expected)


CC_NO_STORE = (b"cache-control", b"no-store")

TARGETED: list[tuple[str, bytes, CacheControl | None]] = [
    ("9213-2.1-max-age", b"max-age=3600", cdn(max_age=3600)),
    ("9213-2.1-several", b"max-age=3600, must-revalidate", cdn(max_age=3600, must_revalidate=True)),
    ("9213-2.1-flag", b"no-store", cdn(no_store=True)),
    ("9213-2.1-private", b"private", cdn(private=True)),
    ("9213-2.1-no-cache", b"no-cache", cdn(no_cache=True)),
    ("9213-2.1-no-cache-qualified", b'no-cache="a, B"', cdn(no_cache_fields=LIST)),
    ("9213-2.1-extension", b"foobar, max-age=3600", cdn(max_age=3600, extensions=frozenset({b"foobar"}))),
    ("9213-3.1-none-stands-for-empty", b"none", cdn(extensions=frozenset({b"none"}))),
    ("9213-2.1-parameters-are-ignored", b"max-age=60;s-maxage=5;no-store, public;x=1", cdn(max_age=60, public=True)),
    ("9213-2.1-2^31", b"max-age=2147483648", cdn(max_age=MAX_DELTA)),
    ("9213-2.1-overflow", b"max-age=99999999999", cdn(max_age=MAX_DELTA)),
    ("8941-3.2-last-of-two-counts", b"max-age=1, max-age=2", cdn(max_age=2)),
    # A valid dictionary with a value of another type than the directive has
    ("9213-2.1-string-for-integer", b'max-age="10000"', cdn(max_age=0)),
    ("9213-2.1-decimal-for-integer", b"max-age=1.5", cdn(max_age=0)),
    ("9213-2.1-token-for-integer", b"max-age=a", cdn(max_age=0)),
    ("9213-2.1-boolean-for-integer", b"max-age", cdn(max_age=0)),
    ("9213-2.1-list-for-integer", b"max-age=(1 2)", cdn(max_age=0)),
    ("9213-2.1-negative", b"max-age=-1", cdn(max_age=0)),
    ("9213-2.1-token-for-field-names", b"private=a", cdn(private=True)),
    ("9213-2.1-integer-for-field-names", b"no-cache=1", cdn(no_cache=True)),
    ("9213-2.1-integer-for-restriction", b"no-store=1", cdn(no_store=True)),
    ("9213-2.1-integer-for-permission", b"public=1", cdn()),
    ("9213-2.1-false", b"no-store=?0, private=?0, max-age=5", cdn(max_age=5)),
    ("9213-2.1-true", b"no-store=?1", cdn(no_store=True)),
    # Ignored as a whole
    ("9213-2.1-empty", b"", None),
    ("9213-2.1-blank", b"  ", None),
    ("9213-2.1-unknown-type", b"max-age=10000, &&&&&", None),
    ("9213-2.1-space-before-equals", b"max-age =100", None),
    ("9213-2.1-space-after-equals", b"max-age= 100", None),
    ("9213-2.1-upper-case-key", b"MaX-aGe=3600", None),
    ("9213-2.1-trailing-comma", b"max-age=3600,", None),
    ("9213-2.1-number-too-long", b"max-age=1234567890123456", None),
    ("9213-2.1-not-ascii", b"max-age=3600, \xff", None),
    ("9213-2.1-cookie-syntax", b"max-age=3600; x y", None),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in TARGETED], ids=[row[0] for row in TARGETED])
def test_targeted_field(value: bytes, expected: CacheControl | None) -> None:
    fields = (CC_NO_STORE, (CDN, value))
    assert targeted(fields, TARGETS) == expected
    # 9213 §2.2: it replaces Cache-Control altogether, or is as if it were absent.
    assert parse_response(fields, TARGETS) == (expected or says(no_store=True))


PRECEDENCE: list[tuple[str, Fields, CacheControl]] = [
    ("9213-2.2-first-target", ((CDN, b"max-age=1"), (OWN, b"max-age=2")), CacheControl(target=OWN, max_age=2)),
    ("9213-2.2-next-if-invalid", ((OWN, b"&"), (CDN, b"max-age=1")), cdn(max_age=1)),
    ("9213-2.2-next-if-empty", ((OWN, b""), (CDN, b"max-age=1")), cdn(max_age=1)),
    ("9213-2.2-other-targets-do-not-count", ((b"other-cache-control", b"max-age=1"), CC_NO_STORE), says(no_store=True)),
    ("9213-2.1-several-lines", ((CDN, b"max-age=1"), (CDN, b"private")), cdn(max_age=1, private=True)),
    ("9213-2.1-one-bad-line-spoils-all", ((CDN, b"max-age=1"), (CDN, b"&"), CC_NO_STORE), says(no_store=True)),
]


@pytest.mark.parametrize(("fields", "expected"), [row[1:] for row in PRECEDENCE], ids=[row[0] for row in PRECEDENCE])
def test_target_precedence(fields: Fields, expected: CacheControl) -> None:
    assert parse_response(fields, TARGETS) == expected


def test_targeted_fields_do_not_count_unless_asked_for_9213_2_2() -> None:
    assert parse_response(((CDN, b"max-age=1"), CC_NO_STORE)) == says(no_store=True)


REQUEST: list[tuple[str, bytes | None, bytes | None, RequestDirectives]] = [
    ("9111-5.2.1-absent", None, None, RequestDirectives()),
    ("9111-5.2.1.1-max-age", b"max-age=0", None, RequestDirectives(max_age=0)),
    ("9111-5.2.1.2-max-stale", b"max-stale=1000", None, RequestDirectives(max_stale=1000)),
    ("9111-5.2.1.2-max-stale-unlimited", b"max-stale", None, RequestDirectives(max_stale=MAX_DELTA)),
    ("9111-5.2.1.3-min-fresh", b"min-fresh=20", None, RequestDirectives(min_fresh=20)),
    ("9111-5.2.1.4-no-cache", b"no-cache", None, RequestDirectives(no_cache=True)),
    ("9111-5.2.1.5-no-store", b"No-Store", None, RequestDirectives(no_store=True)),
    ("9111-5.2.1.6-no-transform", b"no-transform", None, RequestDirectives(no_transform=True)),
    ("9111-5.2.1.7-only-if-cached", b"only-if-cached", None, RequestDirectives(only_if_cached=True)),
    ("5861-4-stale-if-error", b"stale-if-error=60", None, RequestDirectives(stale_if_error=60)),
    ("9111-5.2-quoted", b'max-age="5"', None, RequestDirectives(max_age=5)),
    ("9111-5.2.1-invalid-is-left-out", b"max-age=x, max-stale=-1, min-fresh", None, RequestDirectives()),
    ("9111-4.2.1-tighter-max-age", b"max-age=5, max-age=3", None, RequestDirectives(max_age=3)),
    ("9111-4.2.1-tighter-max-stale", b"max-stale, max-stale=3", None, RequestDirectives(max_stale=3)),
    ("9111-4.2.1-tighter-min-fresh", b"min-fresh=3, min-fresh=5", None, RequestDirectives(min_fresh=5)),
    ("9111-5.2.3-unknown", b"foobar=1", None, RequestDirectives()),
    ("9111-5.2.2-directives-of-responses", b"private, s-maxage=5, public", None, RequestDirectives()),
    ("7234-5.4-pragma", None, b"no-cache", RequestDirectives(no_cache=True)),
    ("7234-5.4-pragma-case", None, b"x, No-Cache", RequestDirectives(no_cache=True)),
    ("7234-5.4-pragma-other", None, b"foo", RequestDirectives()),
    ("7234-5.4-cache-control-wins", b"max-age=1", b"no-cache", RequestDirectives(max_age=1)),
]


@pytest.mark.parametrize(("value", "pragma", "expected"), [row[1:] for row in REQUEST], ids=[row[0] for row in REQUEST])
def test_request_directives(value: bytes | None, pragma: bytes | None, expected: RequestDirectives) -> None:
    assert parse_request(value, pragma) == expected


def test_absent_request_directives_cost_nothing() -> None:
    assert parse_request(None) is NO_REQUEST_DIRECTIVES


PIECES = b'max-age no-cache private no-store = = " " \\ , , 5 a ; ?0 ('.split()
SYNTAX = st.lists(st.sampled_from([*PIECES, b" "]), max_size=24).map(b"".join)
VALUES = st.one_of(SYNTAX, st.binary(max_size=40))


@given(VALUES)
def test_nothing_raises(value: bytes) -> None:
    control = response(value)
    assert control.max_age is None or 0 <= control.max_age <= MAX_DELTA
    parse_request(value, value)
    delta_seconds(value)
    parse_response(((CDN, value), (OWN, value)), TARGETS)


@given(VALUES)
def test_no_earlier_line_hides_a_no_store(value: bytes) -> None:
    # A stray quotation mark in what an inner layer wrote must not swallow what an outer one adds.
    assert response(value, b'x="a", no-store').no_store


@given(st.lists(st.sampled_from([b"no-store", b"max-age=5", b"x", b'no-cache="a"', b"public"]), max_size=6))
def test_order_and_lines_do_not_matter(directives: list[bytes]) -> None:
    expected = response(*directives)
    assert response(b",".join(directives)) == expected
    assert response(*reversed(directives)) == expected
