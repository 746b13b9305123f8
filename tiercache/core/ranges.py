"""Single byte ranges out of a stored response (RFC 9110 §14).

A server may ignore `Range` altogether (§14.2), so only what can be answered simply is: one range. Several ranges,
overlapping or not, one or ten thousand, are answered with the whole, as is anything that is not well-formed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tiercache.core.conditional import Accessor, etag_of, is_strong_date, modified_of, parse_etag
from tiercache.core.dates import parse_date
from tiercache.core.fields import OWS
from tiercache.core.messages import Fields

_BYTES = re.compile(rb"bytes=[ \t,]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t,]*", re.IGNORECASE)

_HUGE = 10**18
"""Beyond any length: longer numbers are not read, since `int` refuses them or takes its time."""

_ETAG_START = (b'"', b'W/"')


class ByteRange(NamedTuple):
    """The part `body[start:end]` of a body of `length` bytes, to be sent with status 206."""

    start: int
    end: int
    length: int

    @property
    def content_range(self) -> bytes:
        """The value of `Content-Range` (RFC 9110 §14.4), which counts the last byte in."""
        return b"bytes %d-%d/%d" % (self.start, self.end - 1, self.length)


class Unsatisfiable(NamedTuple):
    """No byte of the body is in the range: status 416."""

    length: int

    @property
    def content_range(self) -> bytes:
        """The value of `Content-Range` (RFC 9110 §14.4)."""
        return b"bytes */%d" % self.length


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return _HUGE if len(digits) > 18 else int(digits or b"0")


def parse_range(value: bytes, length: int) -> ByteRange | Unsatisfiable | None:
    """The range that a `Range` field asks for, of a body of `length` bytes; None: send the whole (RFC 9110 §14.2)."""
    match = _BYTES.fullmatch(value.strip(OWS))
    # No `Content-Range` can describe a part of nothing, and clients that always add a range are better served by an
    # empty 200 than by an error.
    if match is None or length <= 0:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        wanted = min(_number(suffix), length)
        return ByteRange(length - wanted, length, length) if wanted else Unsatisfiable(length)
    start = _number(first)
    stop = _number(last) if last else _HUGE
    if stop < start:  # §14.1.1: invalid, hence ignored
        return None
    if start >= length:
        return Unsatisfiable(length)
    return ByteRange(start, min(stop + 1, length), length)


def if_range_holds(value: bytes, stored: Fields, *, received: float) -> bool:
    """Whether an `If-Range` allows to send a part of the stored response (RFC 9110 §13.1.5).

    An entity tag is compared strongly. A date has to be exactly the `Last-Modified`, and that has to be a strong
    validator (§8.8.2.2). `received` is when the response came, for one without a `Date`.
    """
    value = value.strip(OWS)
    if value.startswith(_ETAG_START):
        wanted, current = parse_etag(value), etag_of(stored)
        return wanted is not None and current is not None and wanted.matches_strongly(current)
    date = parse_date(value, received)
    modified = modified_of(stored, received)
    return date is not None and date == modified and is_strong_date(stored, date, received)


def select_range(
    method: str,
    field: Accessor,
    stored: Fields,
    length: int,
    *,
    status: int = 200,
    received: float,
) -> ByteRange | Unsatisfiable | None:
    """What part of a stored response answers a request; None: the whole (RFC 9110 §14.2, §13.2.2).

    The other conditions come first: see `conditional.evaluate`.
    """
    if method != "GET" or status != 200:
        return None
    value = field(b"range")
    if value is None:
        return None
    if_range = field(b"if-range")
    if if_range is not None and not if_range_holds(if_range, stored, received=received):
        return None
    return parse_range(value, length)


def partial_fields(fields: Fields, part: ByteRange) -> Fields:
    """The fields of a 206 with a part of a stored response (RFC 9110 §15.3.7): all of them, and what part it is."""
    kept = [field for field in fields if field[0] not in (b"content-length", b"content-range")]
    return (
        *kept,
        (b"content-range", part.content_range),
        (b"content-length", b"%d" % (part.end - part.start)),
    )
