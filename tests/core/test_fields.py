"""Reading header fields (RFC 9110 §5), and which are stored (RFC 9111 §3.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core import fields as f
from tiercache.core.messages import Fields

MEMBERS = [
    ("9110-5.6.1-plain", b"a, b,c", [b"a", b"b", b"c"]),
    ("9110-5.6.1.2-empty-members", b" , a,, \t,b , ", [b"a", b"b"]),
    ("9110-5.6.1.2-empty-value", b"", []),
    ("9110-5.6.4-comma-in-string", b'a="x, y", b', [b'a="x, y"', b"b"]),
    ("9110-5.6.4-escaped-quote", rb'a="x\", y", b', [rb'a="x\", y"', b"b"]),
    ("9110-5.6.4-escaped-backslash", rb'a="x\\", b', [rb'a="x\\"', b"b"]),
    ("unclosed-string-hides-nothing", b'a="x, no-store', [b'a="x', b"no-store"]),
    ("unclosed-string-after-a-closed-one", b'a="x,y", b="z, c, d', [b'a="x,y"', b'b="z', b"c", b"d"]),
    ("unclosed-string-ends-in-backslash", b'a, b="x\\', [b"a", b'b="x\\']),
    ("quote-inside-member", b'a"b,c"d, e', [b'a"b,c"d', b"e"]),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in MEMBERS], ids=[row[0] for row in MEMBERS])
def test_members(value: bytes, expected: list[bytes]) -> None:
    assert f.members(value) == expected


@pytest.mark.parametrize("value", [b'"' * 300_000, b'",' * 300_000, b'"\\' * 300_000, b'a="' + b"\\" * 300_000])
def test_members_take_linear_time(value: bytes) -> None:
    # Quadratic work would take minutes here, and run into the timeout of the suite.
    assert b"".join(f.members(value)).count(b'"') == value.count(b'"')


LINES: Fields = ((b"a", b" 1 "), (b"b", b"x"), (b"a", b"2"), (b"b", b"x\t"))


def test_lines_are_kept_apart_and_stripped() -> None:
    assert f.lines(LINES, b"a") == [b"1", b"2"]
    assert f.lines(LINES, b"c") == []


def test_joined_9110_5_3() -> None:
    assert f.joined(LINES, b"a") == b"1, 2"
    assert f.joined(LINES, b"c") is None
    assert f.joined(((b"a", b""),), b"a") == b""


def test_single_is_none_where_lines_disagree() -> None:
    assert f.single(LINES, b"a") is None
    assert f.single(LINES, b"b") == b"x"
    assert f.single(LINES, b"c") is None


ONE = (b"x", b"1")

NOT_STORED: list[tuple[str, Fields]] = [
    ("9110-7.6.1-connection", ((b"connection", b"close"),)),
    ("9110-7.6.1-named-by-connection", ((b"connection", b"A , b"), (b"a", b"1"), (b"b", b"2"))),
    ("9110-7.6.1-two-connection-lines", ((b"connection", b"a"), (b"connection", b"b"), (b"a", b"1"), (b"b", b"2"))),
    ("9110-7.6.1-keep-alive", ((b"keep-alive", b"timeout=5"),)),
    ("9110-7.6.1-proxy-connection", ((b"proxy-connection", b"close"),)),
    ("9110-7.6.1-te", ((b"te", b"trailers"),)),
    ("9110-7.6.1-trailer", ((b"trailer", b"x"),)),
    ("9110-7.6.1-transfer-encoding", ((b"transfer-encoding", b"chunked"),)),
    ("9110-7.6.1-upgrade", ((b"upgrade", b"h2c"),)),
    ("9111-3.1-proxy-authenticate", ((b"proxy-authenticate", b"Basic"),)),
    ("9111-3.1-proxy-authentication-info", ((b"proxy-authentication-info", b"x"),)),
    ("9111-3.1-proxy-authorization", ((b"proxy-authorization", b"x"),)),
    ("9111-4-age-is-made-anew", ((b"age", b"5"),)),
    ("9111-5.2.2.4-listed-by-no-cache", ((b"secret", b"x"), (b"secret", b"y"))),
]


@pytest.mark.parametrize("dropped", [row[1] for row in NOT_STORED], ids=[row[0] for row in NOT_STORED])
def test_not_stored(dropped: Fields) -> None:
    assert f.storable((ONE, *dropped, ONE), frozenset({b"secret"})) == (ONE, ONE)


def test_everything_else_is_stored_as_it_came() -> None:
    kept = ((b"x-unknown", b"1"), (b"set-cookie", b"a=b"), (b"x-unknown", b"2"), (b"content-length", b"3"))
    assert f.storable(kept) == kept


FIELDS = st.lists(
    st.tuples(st.one_of(st.binary(max_size=8), st.sampled_from([b"connection", b"age"])), st.binary(max_size=40)),
    max_size=6,
).map(tuple)


@given(FIELDS)
def test_nothing_raises(fields: Fields) -> None:
    for stored in f.storable(fields):
        assert stored in fields
    for name, value in fields:
        f.single(fields, name)
        assert all(member in value for member in f.members(value))
