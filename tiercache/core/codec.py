"""Bytes in L2: how a stored response lies in Redis, Valkey or Memcached. Versioned, checked, never pickle.

What is read from a shared server is data from outside: it may be cut short, left by another release or another
program, or written by somebody who means harm. So nothing is believed before it is checked, and everything that
fails a check is a `CodecError`, which the tiers count as a miss.

Layout, integers big-endian and unsigned:

    offset  bytes
    0       3      magic, b"\\xc1tc" (0xC1 is the one byte that msgpack never uses; it begins no JSON and no pickle)
    3       1      version of this layout
    4       4      CRC-32 of all that follows
    8       1      kind: 1 a response, 2 a Vary marker, 3 a value of data; the others are reserved
    9       4      length of the meta part
    13      4      length of the body
    17             meta: a msgpack array, the fields of the struct in order, with an empty body
    17 + meta      the body as it is; nothing after it

The meta array may grow at its end without a new version: readers ignore what they do not know, and what is missing
takes its default. The body lies outside it, so that it is copied once each way. The CRC guards against accidents
(it catches every flipped bit); it is no signature, hence the checks on meaning: a response that would split a header
block, or that answers another key, is refused even where its CRC is right.
"""

from __future__ import annotations

from struct import Struct as Layout
from zlib import crc32

import msgspec

from tiercache.core.fields import CONTROLS, NEVER_STORED, TOKEN
from tiercache.core.keys import MAX_SELECTING
from tiercache.core.messages import StoredResponse
from tiercache.core.values import ABSENT, BYTES, ENCODED, StoredValue
from tiercache.errors import CodecError

VERSION = 1
KIND_RESPONSE = 1
KIND_VARY = 2
KIND_VALUE = 3

_MAGIC = b"\xc1tc"
_PREFIX = Layout(">3sBI")
_LENGTHS = Layout(">BII")
_START = _PREFIX.size + _LENGTHS.size
_MAX_LENGTH = 2**32 - 1

_NOT_STORED = NEVER_STORED | {b"set-cookie", b"set-cookie2"}
"""Nobody writes these; replayed, they would break the framing of a message or hand one user's session to all."""
# Far beyond any clock (the year 33658), and small enough that sums of times stay exact to a fraction of a millisecond.
_MAX_TIME = 1e12


class VaryMarker(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What lies under a key whose responses vary: the request fields to look at before the variant's key is known.

    A hint only; the `Vary` of the response that is found under the variant's key decides (RFC 9111 §4.1).
    """

    key: bytes
    """The whole key, without a variant, that this was stored under."""
    names: tuple[bytes, ...]
    """The nominated request fields, lower-case, in the order in which the variant's key was built."""


Value = StoredResponse | VaryMarker | StoredValue

_encode_meta = msgspec.msgpack.Encoder().encode
_decode_response = msgspec.msgpack.Decoder(StoredResponse).decode
_decode_vary = msgspec.msgpack.Decoder(VaryMarker).decode
_decode_value = msgspec.msgpack.Decoder(StoredValue).decode


def encode(value: Value) -> bytes:
    """The bytes for L2. What this accepts, `decode` gives back equal, with one reservation: `declared` returns as
    msgpack keeps it (a tuple as a list).

    Raises `CodecError` for a value that `decode` would refuse: a header that could not be sent, a time that is not
    finite, a `declared` that msgpack cannot hold, a body of 4 GiB or more.
    """
    try:
        if isinstance(value, StoredResponse):
            _check_response(value)
            kind, body = KIND_RESPONSE, value.body
            meta = _encode_meta(msgspec.structs.replace(value, body=b"") if body else value)
        elif isinstance(value, StoredValue):
            _check_value(value)
            kind, body = KIND_VALUE, value.body
            meta = _encode_meta(msgspec.structs.replace(value, body=b"") if body else value)
        else:
            _check_names(value.names)
            kind, body = KIND_VARY, b""
            meta = _encode_meta(value)
    except CodecError:
        raise
    except Exception as error:  # Whatever a wrongly typed value trips over: the caller has one error to expect.
        raise CodecError(f"not encodable: {error}") from error
    if len(meta) > _MAX_LENGTH or len(body) > _MAX_LENGTH:
        raise CodecError("not encodable: longer than 4 GiB")
    lengths = _LENGTHS.pack(kind, len(meta), len(body))
    check = crc32(body, crc32(meta, crc32(lengths)))
    return b"".join((_PREFIX.pack(_MAGIC, VERSION, check), lengths, meta, body))


def decode(data: bytes, key: bytes | None = None) -> Value:
    """The value in `data`, which must have been stored under `key` (None: any key will do).

    Raises `CodecError` for bytes that are foreign, of another version or kind, cut short, too long or corrupt, for a
    value of another key, and for one that no response could have: see `encode`.
    """
    if not isinstance(data, bytes):
        raise CodecError(f"not bytes but {type(data).__name__}")
    if len(data) < _START:
        raise CodecError(f"cut short: {len(data)} bytes")
    magic, version, check = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise CodecError("foreign: it does not begin like a stored value")
    if version != VERSION:
        raise CodecError(f"version {version}, this one reads {VERSION}")
    kind, meta_length, body_length = _LENGTHS.unpack_from(data, _PREFIX.size)
    # Before anything is copied or decoded: lengths are only believed once they add up to what is there.
    if _START + meta_length + body_length != len(data):
        raise CodecError(f"{len(data)} bytes where {_START + meta_length + body_length} are announced")
    view = memoryview(data)
    if crc32(view[_PREFIX.size :]) != check:
        raise CodecError("checksum")
    meta = view[_START : _START + meta_length]
    if kind == KIND_RESPONSE:
        return _response(meta, data[_START + meta_length :], key)
    if kind == KIND_VALUE:
        return _value(meta, data[_START + meta_length :], key)
    if kind == KIND_VARY and not body_length:
        return _vary(meta, key)
    raise CodecError(f"kind {kind} with a body of {body_length} bytes")


def _response(meta: memoryview, body: bytes, key: bytes | None) -> StoredResponse:
    try:
        response = _decode_response(meta)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise CodecError(f"not a response: {error}") from error
    _put_body(response, body, key)
    _check_response(response)
    return response


def _value(meta: memoryview, body: bytes, key: bytes | None) -> StoredValue:
    try:
        value = _decode_value(meta)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise CodecError(f"not a value: {error}") from error
    _put_body(value, body, key)
    _check_value(value)
    return value


def _put_body(stored: StoredResponse | StoredValue, body: bytes, key: bytes | None) -> None:
    if key is not None and stored.key != key:
        raise CodecError("stored under another key")
    if stored.body:
        raise CodecError("a body inside the meta part")
    # Frozen for everybody who holds it; nobody but this module does yet, and a copy would cost as much as decoding.
    msgspec.structs.force_setattr(stored, "body", body)


def _vary(meta: memoryview, key: bytes | None) -> VaryMarker:
    try:
        marker = _decode_vary(meta)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise CodecError(f"not a Vary marker: {error}") from error
    if key is not None and marker.key != key:
        raise CodecError("stored under another key")
    if len(marker.names) > MAX_SELECTING:
        raise CodecError(f"it varies by {len(marker.names)} fields")
    _check_names(marker.names)
    return marker


def _check_response(response: StoredResponse) -> None:
    status = response.status
    if not 200 <= status <= 599 or status in (206, 304) or (status == 204 and response.body):
        raise CodecError(f"status {status}")
    _check_stamp(response)
    fields = response.fields
    texts = [response.reason, response.etag, response.last_modified]
    if fields:
        names = [name for name, _ in fields]
        _check_names(names)
        texts += [value for _, value in fields]
        if not _NOT_STORED.isdisjoint(names):
            raise CodecError("a field that is never stored")
        if b"content-length" in names:
            # A length that disagrees with the body is how one response is made to look like two (RFC 9112 §11.1).
            lengths = {value for name, value in fields if name == b"content-length"}
            if lengths != {b"%d" % len(response.body)}:
                raise CodecError("Content-Length disagrees with the body")
    if response.vary:
        if len(response.vary) > MAX_SELECTING:
            raise CodecError(f"it varies by {len(response.vary)} fields")
        _check_names([name for name, _ in response.vary])
        _check_text(b"".join(value for _, value in response.vary if value))
    _check_text(b"".join(texts))


def _check_value(value: StoredValue) -> None:
    _check_stamp(value)
    if value.form not in (ABSENT, BYTES, ENCODED) or value.packed < 0 or (value.form == ABSENT and value.body):
        raise CodecError(f"a value of form {value.form} with {len(value.body)} bytes, {value.packed} unpacked")


def _check_stamp(stored: StoredResponse | StoredValue) -> None:
    if not 0 <= stored.number < 2**63:
        raise CodecError(f"ledger number {stored.number}")
    created, fresh_until, keep_until = stored.created, stored.fresh_until, stored.keep_until
    # What is no number compares as false with everything, so that one chain refuses it too.
    if not (-_MAX_TIME < created <= keep_until < _MAX_TIME and -_MAX_TIME < fresh_until <= keep_until):
        raise CodecError(f"times out of order or reach: {created}, {fresh_until}, {keep_until}")
    if not 0 <= stored.cost < _MAX_TIME:
        raise CodecError(f"a cost of {stored.cost}")


def _check_names(names: tuple[bytes, ...] | list[bytes]) -> None:
    # One pass over all the names at once: a stray byte shows wherever it stands, and an empty name is seen apart.
    if not all(names) or b"".join(names).translate(None, TOKEN):
        raise CodecError("a field name that is no lower-case token")


def _check_text(text: bytes) -> None:
    # RFC 9110 §5.5: CR and LF split a header block, and servers refuse to send the other controls.
    if len(text.translate(None, CONTROLS)) != len(text):
        raise CodecError("CR, LF, NUL or another control in a field value")
