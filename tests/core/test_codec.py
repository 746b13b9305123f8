from __future__ import annotations

import json
import math
import pickle  # noqa: TID251 - to see it refused
import struct
import tracemalloc
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core import codec
from tiercache.core.codec import VaryMarker, decode, encode
from tiercache.core.fields import CONTROLS
from tiercache.core.messages import StoredResponse
from tiercache.errors import CodecError

KEY = b"4:shop|4:http|11:example.org|5:/p/17"
TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


def response(**changes: Any) -> StoredResponse:
    values: dict[str, Any] = {
        "key": KEY,
        "epoch": "e1",
        "number": 7,
        "tags": ("t:product:17", "p:/p/17"),
        "status": 200,
        "reason": b"OK",
        "fields": ((b"content-type", b"text/html"), (b"link", b"</a>"), (b"link", b"</b>")),
        "created": 1_000.25,
        "fresh_until": 1_060.25,
        "keep_until": 1_120.25,
        "cost": 0.125,
        "vary": ((b"accept", b"text/html"), (b"accept-language", None)),
        "etag": b'W/"abc"',
        "last_modified": b"Sun, 06 Nov 1994 08:49:37 GMT",
        "declared": {"ttl": 600, "tags": ["a"]},
        "body": b"<p>hello</p>",
    }
    return StoredResponse(**{**values, **changes})


def framed(meta: bytes, body: bytes = b"", kind: int = codec.KIND_RESPONSE, version: int = codec.VERSION) -> bytes:
    """What somebody who knows the layout could write: everything right but the content."""
    rest = struct.pack(">BII", kind, len(meta), len(body)) + meta + body
    return b"\xc1tc" + struct.pack(">BI", version, zlib.crc32(rest)) + rest


def hostile(**changes: Any) -> bytes:
    """A response with a right checksum that `encode` would not have let through."""
    value = response(**changes)
    return framed(msgspec.msgpack.encode(msgspec.structs.replace(value, body=b"")), value.body)


names = st.text(TOKEN, min_size=1, max_size=12).map(str.encode).filter(lambda name: name != b"content-length")
texts = st.binary(max_size=20).map(lambda value: value.translate(None, CONTROLS))
times = st.lists(st.floats(-1e11, 1e11), min_size=3, max_size=3).map(sorted)


@st.composite
def responses(draw: st.DrawFn) -> StoredResponse:
    created, fresh_until, keep_until = draw(times)
    return StoredResponse(
        key=draw(st.binary()),
        epoch=draw(st.text(max_size=8)),
        number=draw(st.integers(0, 2**63 - 1)),
        tags=tuple(draw(st.lists(st.text(max_size=12), max_size=4))),
        status=draw(st.integers(200, 599).filter(lambda status: status not in (204, 206, 304))),
        reason=draw(texts),
        fields=tuple(draw(st.lists(st.tuples(names, texts), max_size=6))),
        created=created,
        fresh_until=fresh_until,
        keep_until=keep_until,
        cost=draw(st.floats(0, 1e6)),
        vary=tuple(draw(st.lists(st.tuples(names, st.none() | texts), max_size=3))),
        etag=draw(texts),
        last_modified=draw(texts),
        declared=draw(st.none() | st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=5))),
        body=draw(st.binary(max_size=300)),
    )


@given(responses())
def test_a_response_comes_back_equal(value: StoredResponse) -> None:
    data = encode(value)
    assert decode(data, value.key) == value
    assert decode(data) == value


@given(st.binary(), st.lists(names, max_size=5).map(tuple))
def test_a_vary_marker_comes_back_equal(key: bytes, nominated: tuple[bytes, ...]) -> None:
    marker = VaryMarker(key=key, names=nominated)
    assert decode(encode(marker), key) == marker


def test_the_body_is_carried_raw_and_once() -> None:
    body = bytes(range(256)) * 400
    data = encode(response(body=body))
    assert data.endswith(body)
    assert len(data) < len(body) + 400


@pytest.mark.parametrize("value", [response(), VaryMarker(key=KEY, names=(b"accept", b"cookie"))])
def test_every_flipped_bit_is_refused(value: codec.Value) -> None:
    data = encode(value)
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(CodecError):
                decode(bytes(changed), KEY)


@pytest.mark.parametrize("value", [response(), VaryMarker(key=KEY, names=(b"accept", b"cookie"))])
def test_every_truncation_is_refused(value: codec.Value) -> None:
    data = encode(value)
    for length in range(len(data)):
        with pytest.raises(CodecError):
            decode(data[:length], KEY)


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(CodecError, match="announced"):
        decode(encode(response()) + b"\0")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


@given(st.binary(max_size=120), st.binary(max_size=20), st.integers(0, 255))
def test_random_content_in_a_right_frame_is_refused_or_whole(meta: bytes, body: bytes, kind: int) -> None:
    try:
        value = decode(framed(meta, body, kind))
    except CodecError:
        return
    assert decode(encode(value)) == value


@given(responses(), st.data())
def test_changed_meta_in_a_right_frame_is_refused_or_whole(value: StoredResponse, data: st.DataObject) -> None:
    meta = bytearray(msgspec.msgpack.encode(msgspec.structs.replace(value, body=b"")))
    position = data.draw(st.integers(0, len(meta) - 1))
    meta[position] = data.draw(st.integers(0, 255))
    try:
        changed = decode(framed(bytes(meta), value.body))
    except CodecError:
        return
    assert decode(encode(changed)) == changed


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(response().body),
        pickle.dumps({"status": 200}, protocol=0),
        json.dumps({"status": 200, "body": "x" * 40}).encode(),
        msgspec.msgpack.encode(response()),
        zlib.compress(b"x" * 1000),
        b"",
        b"OK",
    ],
)
def test_foreign_values_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


def test_a_pickle_in_a_right_frame_is_not_run() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    with pytest.raises(CodecError):
        decode(framed(pickle.dumps(Bomb())))


def test_a_body_inside_the_meta_part_is_refused() -> None:
    """Of two bodies it would be open which one was checked."""
    value = response(body=b"<p>inside</p>")
    with pytest.raises(CodecError, match="inside"):
        decode(framed(msgspec.msgpack.encode(value), b"<p>outside</p>"), KEY)


@pytest.mark.parametrize("data", ["text", None, 7, [b"x"]])
def test_what_is_not_bytes_is_refused(data: Any) -> None:
    with pytest.raises(CodecError, match="not bytes"):
        decode(data)


@pytest.mark.parametrize("version", [0, codec.VERSION + 1, 255])
def test_another_version_is_refused(version: int) -> None:
    meta = msgspec.msgpack.encode(response(body=b""))
    assert decode(framed(meta)) == response(body=b"")
    with pytest.raises(CodecError, match="version"):
        decode(framed(meta, version=version))


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(CodecError, match="kind"):
        decode(framed(msgspec.msgpack.encode(response(body=b"")), kind=kind))


def test_a_marker_is_not_read_as_a_response_nor_the_other_way() -> None:
    marker = msgspec.msgpack.encode(VaryMarker(key=KEY, names=(b"accept",)))
    with pytest.raises(CodecError):
        decode(framed(marker))
    with pytest.raises(CodecError):
        decode(framed(msgspec.msgpack.encode(response(body=b"")), kind=codec.KIND_VARY))
    with pytest.raises(CodecError):
        decode(framed(marker, b"body", kind=codec.KIND_VARY))


def test_fields_that_a_later_release_adds_are_ignored() -> None:
    later = msgspec.msgpack.encode([*msgspec.to_builtins(response(body=b""), builtin_types=(bytes,)), "new", 1])
    assert decode(framed(later, b"<p>hello</p>"), KEY) == response()


def test_fields_that_an_earlier_release_did_not_have_take_their_default() -> None:
    earlier = msgspec.msgpack.encode(msgspec.to_builtins(response(), builtin_types=(bytes,))[:11])
    value = decode(framed(earlier, b"<p>hello</p>"), KEY)
    assert value == response(vary=(), etag=b"", last_modified=b"", declared=None)


@pytest.mark.parametrize("value", [response(), VaryMarker(key=KEY, names=(b"accept",))])
def test_a_value_of_another_key_is_refused(value: codec.Value) -> None:
    data = encode(value)
    for other in (KEY + b"8", KEY[:-1], b""):
        with pytest.raises(CodecError, match="another key"):
            decode(data, other)


@pytest.mark.parametrize(
    ("meta_length", "body_length"),
    [(2**32 - 1, 2**32 - 1), (2**32 - 1, 0), (0, 2**32 - 1), (10**9, 5), (0, 0)],
)
def test_huge_lengths_are_refused_without_allocating(meta_length: int, body_length: int) -> None:
    rest = struct.pack(">BII", codec.KIND_RESPONSE, meta_length, body_length) + b"x" * 50
    refused_cheaply(b"\xc1tc" + struct.pack(">BI", codec.VERSION, zlib.crc32(rest)) + rest)


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"])
def test_huge_lengths_inside_the_meta_are_refused_without_allocating(head: bytes) -> None:
    values = msgspec.to_builtins(response(body=b""), builtin_types=(bytes,))
    encoded = [msgspec.msgpack.encode(value) for value in values]
    for position in range(len(encoded)):
        meta = bytes([0x90 + 15]) + b"".join(encoded[:position]) + head + b"\x7f\xff\xff\xff" + b"\x01" * 8
        refused_cheaply(framed(meta))
    refused_cheaply(framed(head + b"\x7f\xff\xff\xff"))


def refused_cheaply(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_deep_nesting_is_refused() -> None:
    values = msgspec.to_builtins(response(body=b""), builtin_types=(bytes,))
    encoded = [msgspec.msgpack.encode(value) for value in values]
    encoded[14] = b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(CodecError):
        decode(framed(b"\xdc\x00\x10" + b"".join(encoded)))


SPLITTING = b"x\r\nset-cookie: admin=1", b"x\nlocation: //evil", b"x\r", b"x\0y"


@pytest.mark.parametrize(
    "changes",
    [
        *({"fields": ((b"a", b"1"), (b"x", value))} for value in SPLITTING),
        *({"fields": ((name, b"1"),)} for name in (b"", b"a b", b"a:b", b"a\r\nb", b"A", b"a\0", b"\xe9", b"a\n")),
        *({"reason": value} for value in SPLITTING),
        *({"etag": value} for value in SPLITTING),
        *({"last_modified": value} for value in SPLITTING),
        *({"vary": ((b"accept", value),)} for value in SPLITTING),
        {"vary": ((b"", b"x"),)},
        {"vary": ((b"Accept", None),)},
        {"fields": ((b"content-length", b"5"),), "body": b"123456"},
        {"fields": ((b"content-length", b"6"), (b"content-length", b"5")), "body": b"123456"},
        *({"status": status} for status in (0, 100, 101, 199, 600, -200, 2**62)),
        *({name: math.nan} for name in ("created", "fresh_until", "keep_until", "cost")),
        *({name: math.inf} for name in ("created", "fresh_until", "keep_until", "cost")),
        *({name: -math.inf} for name in ("created", "fresh_until", "cost")),
        {"keep_until": 1e300},
        {"cost": -1.0},
        {"fresh_until": 1_120.5},
        {"created": 1_120.5},
        {"number": -1},
        {"number": 2**63},
    ],
    ids=repr,
)
def test_a_response_that_could_do_harm_is_refused_both_ways(changes: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        decode(hostile(**changes), KEY)
    with pytest.raises(CodecError):
        encode(response(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": ((b"content-length", b"6"),), "body": b"123456"},
        {"fields": ((b"x", b""), (b"y", b"caf\xe9\t,"))},
        {"fields": (), "body": b""},
        {"created": 1_120.25, "fresh_until": 1_120.25},
        {"fresh_until": 0.0},
        {"status": 599},
    ],
    ids=repr,
)
def test_what_is_unusual_but_right_passes(changes: dict[str, Any]) -> None:
    assert decode(hostile(**changes), KEY) == response(**changes) == decode(encode(response(**changes)), KEY)


@pytest.mark.parametrize(
    ("position", "wrong"),
    [
        (0, "text"), (1, b"bytes"), (2, "7"), (2, 7.5), (3, "t:a"), (3, [1]), (3, [b"t:a"]), (4, "200"), (4, True),
        (5, "OK"), (6, [["a", "b"]]), (6, [[b"a"]]), (6, [[b"a", b"b", b"c"]]), (6, {}), (7, "now"), (8, None),
        (11, [[b"a", 1]]), (14, []), (14, {1: 2}), (15, "text"), (15, b"a second body"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(position: int, wrong: object) -> None:
    values = list(msgspec.to_builtins(response(body=b""), builtin_types=(bytes,)))
    assert decode(framed(msgspec.msgpack.encode(values))) == response(body=b"")
    values[position] = wrong
    with pytest.raises(CodecError):
        decode(framed(msgspec.msgpack.encode(values)))


@pytest.mark.parametrize("name", [b"", b"a b", b"A", b"a\r\n", b"a\0"])
def test_a_marker_with_a_name_that_is_no_field_name_is_refused_both_ways(name: bytes) -> None:
    marker = VaryMarker(key=KEY, names=(b"accept", name))
    with pytest.raises(CodecError):
        encode(marker)
    with pytest.raises(CodecError):
        decode(framed(msgspec.msgpack.encode(marker), kind=codec.KIND_VARY))


@pytest.mark.parametrize(
    "changes",
    [{"declared": {"ttl": object()}}, {"tags": ("\ud800",)}, {"declared": {"n": 2**70}}, {"fields": ((b"a", "b"),)}],
    ids=["object", "surrogate", "integer", "text"],
)
def test_what_msgpack_cannot_hold_is_a_codec_error(changes: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="not encodable"):
        encode(response(**changes))
