"""Validating a stored response and updating it, as a specification (RFC 9111 §3.2, §4.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dates import format_date
from tiercache.core import conditional as c
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


OWN = c.make_etag(b"body")

VALIDATORS: list[tuple[str, Fields, Fields]] = [
    ("4.3.1-etag", (etag(b'"a"'),), (inm(b'"a"'),)),
    ("4.3.1-weak-etag", (etag(b'W/"a"'),), (inm(b'W/"a"'),)),
    ("4.3.1-last-modified", (modified(-5),), (ims(-5),)),
    ("4.3.1-both", (modified(-5), etag(b'"a"')), (inm(b'"a"'), ims(-5))),
    ("4.3.1-neither", (date(0),), ()),
    ("4.3.1-invalid-date", ((b"last-modified", b"0"),), ()),
    ("4.3.1-etag-of-another-syntax-as-it-is", (etag(b"abc"),), (inm(b"abc"),)),
    ("4.3.1-empty-etag", (etag(b""),), ()),
    ("4.3.1-two-etags", (etag(b'"a"'), etag(b'"b"')), ()),
    ("4.3.1-our-own-etag", (etag(OWN),), ()),
    ("4.3.1-our-own-etag-and-a-date", (etag(OWN), modified(-5)), (ims(-5),)),
    ("4.3.1-our-own-strong-etag", (etag(c.make_etag(b"body", strong=True)),), ()),
]


@pytest.mark.parametrize(("stored", "expected"), [row[1:] for row in VALIDATORS], ids=[row[0] for row in VALIDATORS])
def test_validators_of_a_stored_response(stored: Fields, expected: Fields) -> None:
    assert c.validators(stored, received=NOW) == expected


A, B = etag(b'"a"'), etag(b'"b"')
WEAK_A = etag(b'W/"a"')

# Each row: the stored responses, the 304, which of them it updates.
SELECTION: list[tuple[str, tuple[Fields, ...], Fields, tuple[int, ...]]] = [
    ("strong-etag", ((A,), (B,)), (A,), (0,)),
    ("strong-etag-of-several", ((A, date(-9)), (B,), (A, date(-5))), (A,), (0, 2)),
    ("strong-etag-of-none", ((A,), (B,)), (etag(b'"c"'),), ()),
    ("strong-etag-of-none-but-one-stored", ((A,),), (B,), ()),
    ("strong-etag-and-weak-stored", ((WEAK_A,),), (A,), ()),
    ("strong-etag-over-last-modified", ((B, modified(-99)),), (A, modified(-99), date(0)), ()),
    ("weak-etag", ((A,), (B,)), (WEAK_A,), (0,)),
    ("weak-etag-most-recent", ((WEAK_A, date(-9)), (WEAK_A, date(-5)), (WEAK_A, date(-7))), (WEAK_A,), (1,)),
    ("weak-etag-of-none", ((B,),), (WEAK_A,), ()),
    (
        "strong-last-modified",
        ((modified(-99), date(-9)), (modified(-99),), (modified(-98),)),
        (modified(-99), date(0)),
        (0, 1),
    ),
    (
        "weak-last-modified-most-recent",
        ((modified(-9), date(-9)), (modified(-9), date(-5))),
        (modified(-9), date(0)),
        (1,),
    ),
    ("last-modified-of-none", ((modified(-99),),), (modified(-98), date(0)), ()),
    ("no-validator-at-all", ((date(0),),), (date(0),), (0,)),
    ("no-validator-and-several-stored", ((date(0),), (date(0),)), (date(0),), ()),
    ("no-validator-but-one-is-stored", ((A,),), (date(0),), ()),
    ("no-validator-but-a-date-is-stored", ((modified(-9),),), (date(0),), ()),
    ("nothing-stored", (), (A,), ()),
]


@pytest.mark.parametrize(
    ("stored", "update", "expected"), [row[1:] for row in SELECTION], ids=["4.3.4-" + row[0] for row in SELECTION]
)
def test_which_stored_response_a_304_updates(
    stored: tuple[Fields, ...], update: Fields, expected: tuple[int, ...]
) -> None:
    assert c.selected_for_update(stored, update, received=NOW) == expected


def test_a_bare_304_to_the_validators_of_one_response_means_that_one() -> None:
    assert c.selected_for_update([(A,)], (date(0),), received=NOW, sole=True) == (0,)
    # One that repeats another validator does not.
    assert c.selected_for_update([(A,)], (B,), received=NOW, sole=True) == ()


X1, X2 = (b"x", b"1"), (b"x", b"2")

# Each row: stored fields, fields of the 304, fields afterwards.
FRESHENED: list[tuple[str, Fields, Fields, Fields]] = [
    ("3.2-replaced", (X1,), (X2,), (X2,)),
    ("3.2-added", (A,), (X1,), (A, X1)),
    ("4.3.4-stored-field-that-the-304-omits", (X1, A), (A,), (X1, A)),
    ("3.2-all-lines-replaced", (X1, X1, A), (X2, (b"x", b"3")), (A, X2, (b"x", b"3"))),
    (
        "3.2-cache-control",
        ((b"cache-control", b"max-age=1"),),
        ((b"cache-control", b"max-age=9"),),
        ((b"cache-control", b"max-age=9"),),
    ),
    (
        "3.2-content-prefix-is-no-exception",
        ((b"content-foo", b"1"),),
        ((b"content-foo", b"2"),),
        ((b"content-foo", b"2"),),
    ),
    (
        "3.2-content-location",
        ((b"content-location", b"/1"),),
        ((b"content-location", b"/2"),),
        ((b"content-location", b"/2"),),
    ),
    ("3.2-content-length", ((b"content-length", b"5"),), ((b"content-length", b"0"),), ((b"content-length", b"5"),)),
    ("3.2-content-range", (), ((b"content-range", b"bytes 0-1/2"),), ()),
    (
        "3.2-content-encoding",
        ((b"content-encoding", b"gzip"),),
        ((b"content-encoding", b"br"),),
        ((b"content-encoding", b"gzip"),),
    ),
    (
        "3.2-content-type",
        ((b"content-type", b"a/b"),),
        ((b"content-type", b"text/html"),),
        ((b"content-type", b"a/b"),),
    ),
    ("3.2-content-type-is-not-added", (), ((b"content-type", b"text/html"),), ()),
    ("7.3-set-cookie", (), ((b"set-cookie", b"a=b"), (b"set-cookie2", b"a=b")), ()),
    ("3.1-hop-by-hop", (), ((b"keep-alive", b"5"), (b"transfer-encoding", b"chunked"), (b"upgrade", b"x")), ()),
    ("3.1-named-by-connection", (X1,), (X2, (b"connection", b"x")), (X1,)),
    ("3.1-proxy-fields", (), ((b"proxy-authenticate", b"x"), (b"proxy-authentication-info", b"x")), ()),
    ("4.2.3-age-begins-anew", ((b"age", b"500"),), ((b"age", b"5"),), ()),
    ("9110-6.6.1-date", (date(-9),), (date(0),), (date(0),)),
    ("9110-6.6.1-no-date-means-received-now", (date(-9), A), (A,), (A,)),
    (
        "5.2.2.4-listed-by-the-update",
        (X1,),
        ((b"cache-control", b'no-cache="x"'),),
        ((b"cache-control", b'no-cache="x"'),),
    ),
    ("5.2.2.4-listed-by-both", (X1,), (X2, (b"cache-control", b'private="X"')), ((b"cache-control", b'private="X"'),)),
    ("5.2.2.4-listed-before", ((b"cache-control", b'no-cache="x"'),), (X2,), ((b"cache-control", b'no-cache="x"'),)),
    (
        "5.2.2.4-no-longer-listed",
        ((b"cache-control", b'no-cache="x"'),),
        (X2, (b"cache-control", b"a")),
        (X2, (b"cache-control", b"a")),
    ),
]


@pytest.mark.parametrize(
    ("stored", "update", "expected"), [row[1:] for row in FRESHENED], ids=[row[0] for row in FRESHENED]
)
def test_freshening(stored: Fields, update: Fields, expected: Fields) -> None:
    assert c.freshen(stored, update) == expected


def test_freshening_obeys_targeted_fields_9213_2_2() -> None:
    control = (b"cdn-cache-control", b'no-cache="x"')
    assert c.freshen((X1,), (control,), targets=(b"cdn-cache-control",)) == (control,)
    assert c.freshen((X1,), (control,)) == (X1, control)


# Each row: stored fields (of a body of 5 bytes), fields of the 200 to HEAD, whether they agree.
HEADS: list[tuple[str, Fields, Fields, bool]] = [
    ("nothing-to-compare", (A,), (X2,), True),
    ("same-etag", (A,), (A,), True),
    ("same-etag-weakly", (A,), (WEAK_A,), True),
    ("other-etag", (A,), (B,), False),
    ("etag-where-none-was", (X1,), (A,), False),
    ("same-etag-of-another-syntax", (etag(b"abc"),), (etag(b"abc"),), True),
    ("other-etag-of-another-syntax", (etag(b"abc"),), (etag(b"abd"),), False),
    ("two-etags", (A,), (A, B), False),
    ("same-last-modified", (modified(-9),), (modified(-9),), True),
    ("other-last-modified", (modified(-9),), (modified(-8),), False),
    ("last-modified-where-none-was", (A,), (A, modified(-8)), False),
    ("same-etag-and-other-last-modified", (A, modified(-9)), (A, modified(-8)), False),
    ("same-length", (A,), (A, (b"content-length", b"5")), True),
    ("same-length-with-zeros", (A,), (A, (b"content-length", b"005")), True),
    ("other-length", (A,), (A, (b"content-length", b"6")), False),
    ("two-lengths", (A,), (A, (b"content-length", b"5, 6")), False),
    ("no-length", (A,), (A, (b"content-length", b"x")), False),
    ("huge-length", (A,), (A, (b"content-length", b"9" * 10_000)), False),
]


@pytest.mark.parametrize(
    ("stored", "head", "expected"), [row[1:] for row in HEADS], ids=["4.3.5-" + row[0] for row in HEADS]
)
def test_whether_a_head_response_agrees(stored: Fields, head: Fields, expected: bool) -> None:
    assert c.head_agrees(stored, 5, head) is expected


NAMES = [b"etag", b"last-modified", b"date", b"connection", b"cache-control", b"content-length", b"x"]
VALUES = st.one_of(
    st.binary(max_size=20),
    st.integers(-999, 999).map(at),
    st.lists(st.sampled_from([b'"', b'"a"', b"W/", b",", b" ", b"*", b"\\"]), max_size=12).map(b"".join),
)


def some(names: list[bytes]) -> st.SearchStrategy[Fields]:
    return st.lists(st.tuples(st.sampled_from(names), VALUES), max_size=5).map(tuple)


@given(some(NAMES), some(NAMES), st.floats(0, 4e9))
def test_nothing_raises(stored: Fields, update: Fields, received: float) -> None:
    c.validators(stored, received=received)
    c.selected_for_update([stored, update], update, received=received)
    c.head_agrees(stored, 5, update)
    freshened = c.freshen(stored, update)
    assert c.freshen(freshened, update) == freshened
