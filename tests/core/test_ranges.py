"""Single ranges out of a stored response, as a specification (RFC 9110 §13.1.5, §14, §15.3.7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.dates import format_date
from tiercache.core import ranges as r
from tiercache.core.messages import Fields
from tiercache.core.ranges import ByteRange, Unsatisfiable

NOW = 1_780_000_000
"""When each stored response was received, Unix time."""
BODY = b"0123456789A"
NO_BYTES = Unsatisfiable(11)


def at(offset: int) -> bytes:
    return format_date(NOW + offset)


def accessor(request: dict[bytes, bytes]) -> Callable[[bytes], bytes | None]:
    """Stands in for `Request.field`."""
    return request.get


# Each row: the value of Range, what it selects of BODY: its part, NO_BYTES for a 416, None for the whole.
RANGES: list[tuple[str, bytes, bytes | Unsatisfiable | None]] = [
    ("14.1.2-first-and-last", b"bytes=0-1", b"01"),
    ("14.1.2-one-byte", b"bytes=3-3", b"3"),
    ("14.1.2-no-last", b"bytes=1-", b"123456789A"),
    ("14.1.2-everything", b"bytes=0-", BODY),
    ("14.1.2-suffix", b"bytes=-1", b"A"),
    ("14.1.2-suffix-longer-than-the-body", b"bytes=-99", BODY),
    ("14.1.2-last-beyond-the-end", b"bytes=9-99", b"9A"),
    ("14.1.2-last-byte", b"bytes=10-10", b"A"),
    ("14.1-unit-in-any-case", b"Bytes=0-1", b"01"),
    ("14.1.2-leading-zeros", b"bytes=000-0001", b"01"),
    ("14.1.2-huge-last", b"bytes=9-" + b"9" * 10_000, b"9A"),
    ("14.1.2-huge-suffix", b"bytes=-" + b"9" * 10_000, BODY),
    ("5.6.1.2-empty-members", b"bytes= , 0-1, ,", b"01"),
    ("5.6.3-surrounding-whitespace", b" bytes=0-1 ", b"01"),
    # 416
    ("14.1.2-begins-at-the-end", b"bytes=11-", NO_BYTES),
    ("14.1.2-begins-beyond-the-end", b"bytes=99-100", NO_BYTES),
    ("14.1.2-huge-first", b"bytes=" + b"9" * 10_000 + b"-", NO_BYTES),
    ("14.1.2-huge-both", b"bytes=" + b"9" * 50 + b"-" + b"9" * 60, NO_BYTES),
    ("14.1.2-suffix-of-nothing", b"bytes=-0", NO_BYTES),
    # Ignored
    ("14.2-two-ranges", b"bytes=0-1,3-4", None),
    ("14.2-two-ranges-of-which-one-is-satisfiable", b"bytes=0-1,99-", None),
    ("14.2-ten-thousand-ranges", b"bytes=" + b",".join([b"0-"] * 10_000), None),
    ("14.1.1-last-before-first", b"bytes=5-4", None),
    ("14.1.1-last-before-first-beyond-the-end", b"bytes=50-40", None),
    ("14.1-other-unit", b"lines=0-1", None),
    ("14.1-no-unit", b"0-1", None),
    ("14.1.1-no-number", b"bytes=-", None),
    ("14.1.1-no-hyphen", b"bytes=5", None),
    ("14.1.1-nothing", b"bytes=", None),
    ("14.1.1-empty", b"", None),
    ("14.1.1-negative", b"bytes=--5", None),
    ("14.1.1-three-numbers", b"bytes=1-2-3", None),
    ("14.1.1-letters", b"bytes=a-b", None),
    ("14.1.1-spaces-inside", b"bytes=0 - 1", None),
    ("14.1.1-space-before-equals", b"bytes =0-1", None),
    ("14.1.1-digits-of-other-scripts", "bytes=\u0660-\u0661".encode(), None),
    ("5.3-two-lines", b"bytes=0-1, bytes=3-4", None),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in RANGES], ids=[row[0] for row in RANGES])
def test_ranges(value: bytes, expected: bytes | Unsatisfiable | None) -> None:
    part = r.parse_range(value, len(BODY))
    assert (BODY[part.start : part.end] if isinstance(part, ByteRange) else part) == expected


@pytest.mark.parametrize("value", [b"bytes=0-", b"bytes=0-5", b"bytes=-5", b"bytes=-0"])
def test_of_an_empty_body_the_whole_is_sent(value: bytes) -> None:
    assert r.parse_range(value, 0) is None


def test_content_range_14_4() -> None:
    assert ByteRange(0, 2, 11).content_range == b"bytes 0-1/11"
    assert ByteRange(10, 11, 11).content_range == b"bytes 10-10/11"
    assert Unsatisfiable(11).content_range == b"bytes */11"


def test_fields_of_a_206_15_3_7() -> None:
    stored = ((b"etag", b'"a"'), (b"content-length", b"11"), (b"x", b"1"), (b"x", b"2"))
    assert r.partial_fields(stored, ByteRange(3, 5, 11)) == (
        (b"etag", b'"a"'),
        (b"x", b"1"),
        (b"x", b"2"),
        (b"content-range", b"bytes 3-4/11"),
        (b"content-length", b"2"),
    )


STRONG: Fields = ((b"etag", b'"a"'), (b"last-modified", at(-100)), (b"date", at(-40)))
WEAK: Fields = ((b"etag", b'W/"a"'), (b"last-modified", at(-99)), (b"date", at(-40)))
BARE: Fields = ((b"last-modified", at(-100)),)

# Each row: the stored response, the value of If-Range, whether a part may be sent.
IF_RANGE: list[tuple[str, Fields, bytes, bool]] = [
    ("13.1.5-strong-etag", STRONG, b'"a"', True),
    ("13.1.5-other-etag", STRONG, b'"b"', False),
    ("13.1.5-weak-etag", STRONG, b'W/"a"', False),
    ("13.1.5-stored-etag-is-weak", WEAK, b'"a"', False),
    ("13.1.5-both-etags-are-weak", WEAK, b'W/"a"', False),
    ("13.1.5-no-etag-stored", BARE, b'"a"', False),
    ("13.1.5-list-of-etags", STRONG, b'"a", "b"', False),
    ("13.1.5-star", STRONG, b"*", False),
    ("13.1.5-unquoted", STRONG, b"a", False),
    ("13.1.5-exact-date", STRONG, at(-100), True),
    ("13.1.5-later-date", STRONG, at(-99), False),
    ("13.1.5-earlier-date", STRONG, at(-101), False),
    ("8.8.2.2-modified-59-seconds-before-date", WEAK, at(-99), False),
    ("8.8.2.2-date-of-receipt", BARE, at(-100), True),
    ("8.8.2.2-modified-just-before-receipt", ((b"last-modified", at(-9)),), at(-9), False),
    ("13.1.5-no-last-modified-stored", ((b"etag", b'"a"'),), at(-100), False),
    ("13.1.5-invalid-date", ((b"last-modified", b"0"),), b"0", False),
    ("13.1.5-empty", STRONG, b"", False),
]


@pytest.mark.parametrize(
    ("stored", "value", "expected"), [row[1:] for row in IF_RANGE], ids=[row[0] for row in IF_RANGE]
)
def test_if_range(stored: Fields, value: bytes, expected: bool) -> None:
    request = {b"range": b"bytes=0-1", b"if-range": value}
    assert r.if_range_holds(value, stored, received=NOW) is expected
    found = r.select_range("GET", accessor(request), stored, len(BODY), received=NOW)
    assert found == (ByteRange(0, 2, 11) if expected else None)


REQUESTS: list[tuple[str, str, int, dict[bytes, bytes], ByteRange | Unsatisfiable | None]] = [
    ("14.2-get", "GET", 200, {b"range": b"bytes=0-1"}, ByteRange(0, 2, 11)),
    ("15.5.17-unsatisfiable", "GET", 200, {b"range": b"bytes=99-"}, NO_BYTES),
    ("14.2-no-range", "GET", 200, {}, None),
    ("14.2-head", "HEAD", 200, {b"range": b"bytes=0-1"}, None),
    ("14.2-post", "POST", 200, {b"range": b"bytes=0-1"}, None),
    ("14.2-not-found", "GET", 404, {b"range": b"bytes=0-1"}, None),
    ("13.1.5-if-range-alone", "GET", 200, {b"if-range": b'"a"'}, None),
    ("13.2.2-unsatisfiable-but-changed", "GET", 200, {b"range": b"bytes=99-", b"if-range": b'"x"'}, None),
]


@pytest.mark.parametrize(
    ("method", "status", "request_fields", "expected"),
    [row[1:] for row in REQUESTS],
    ids=[row[0] for row in REQUESTS],
)
def test_requests(
    method: str, status: int, request_fields: dict[bytes, bytes], expected: ByteRange | Unsatisfiable | None
) -> None:
    found = r.select_range(method, accessor(request_fields), STRONG, len(BODY), status=status, received=NOW)
    assert found == expected


PIECES = b"bytes = - , 0 1 5 99999999999999999999 lines".split()
VALUES = st.one_of(
    st.binary(max_size=30),
    st.lists(st.sampled_from([*PIECES, b" "]), max_size=8).map(lambda pieces: b"bytes=" + b"".join(pieces)),
)


@given(VALUES, st.integers(0, 10**12))
def test_nothing_raises_and_parts_lie_within(value: bytes, length: int) -> None:
    part = r.parse_range(value, length)
    if isinstance(part, ByteRange):
        assert 0 <= part.start < part.end <= length
    r.if_range_holds(value, STRONG, received=NOW)
    r.if_range_holds(value, ((b"etag", value), (b"last-modified", value), (b"date", value)), received=NOW)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40))
def test_parts_are_what_their_content_range_says(first: int, last: int, length: int) -> None:
    part = r.parse_range(b"bytes=%d-%d" % (first, last), length)
    if isinstance(part, ByteRange):
        assert part.content_range == b"bytes %d-%d/%d" % (first, min(last, length - 1), length)
    else:
        assert part == (None if last < first else Unsatisfiable(length))
        assert last < first or first >= length
