"""What may be handed out twice, what comes back as it was, and how a value lies in L2."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import sys
import zlib
from collections import OrderedDict
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest

from tiercache.core.codec import decode, encode
from tiercache.core.values import (
    ABSENT,
    BYTES,
    ENCODED,
    Held,
    MsgspecCodec,
    StoredValue,
    alike,
    body_from,
    body_of,
    size_whole,
)
from tiercache.errors import CodecError, ConfigError

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Frozen:
    id: int
    parts: Any = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    id: int
    parts: Any = ()


@dataclasses.dataclass
class Open:
    id: int
    parts: Any = ()


@dataclasses.dataclass(frozen=True)
class Caching:
    id: int

    @cached_property
    def parts(self) -> list[int]:
        return [self.id]


@dataclasses.dataclass(frozen=True, slots=True)
class Typed:
    id: int
    parts: tuple[str, ...] = ()


class Inheriting(Frozen):
    """Not decorated itself: it may hold whatever it likes."""


class FrozenStruct(msgspec.Struct, frozen=True):
    id: int
    parts: Any = ()


class OpenStruct(msgspec.Struct):
    id: int


class StructWithDict(msgspec.Struct, frozen=True, dict=True):
    id: int


class Pair(NamedTuple):
    left: Any
    right: Any


class Colours:
    """A class of an app, which nobody can read back."""


class Text(str):
    pass


class Colour(enum.Enum):
    RED = "red"


WHOLE = [
    *(None, True, 7, 1.5, 2**70, "text", b"bytes", Decimal("1.10"), UUID(int=7), NOW, NOW.date(), NOW.time()),
    *(datetime.timedelta(seconds=5), Colour.RED, (), (1, ("a", b"b")), frozenset({1, (2, 3)}), Frozen(1, ("a", 2))),
    *(Slotted(1, (Frozen(2),)), FrozenStruct(1, (Slotted(2),)), Pair(1, "a")),
]
CHANGEABLE = [
    *([], {}, set(), bytearray(b"x"), ([],), (1, (2, {})), frozenset({Open}), Open(1), Frozen(1, []), Slotted(1, {})),
    *(Caching(1), Inheriting(1), OpenStruct(1), StructWithDict(1), FrozenStruct(1, [1]), Pair(1, []), Text("a")),
    *(object(), lambda: None, iter(()), Frozen(1, (Frozen(2, [3]),)), OrderedDict()),
]


@pytest.mark.parametrize("value", WHOLE)
def test_what_nobody_can_change_is_handed_out_as_it_is(value: object) -> None:
    size = size_whole(value)
    assert size is not None
    assert size >= sys.getsizeof(value)


@pytest.mark.parametrize("value", CHANGEABLE, ids=lambda value: type(value).__name__)
def test_whatever_can_be_changed_somewhere_is_not(value: object) -> None:
    assert size_whole(value) is None


def test_attributes_beside_the_fields_count_as_changeable() -> None:
    value = Frozen(1)
    assert size_whole(value) is not None
    object.__setattr__(value, "extra", [])
    assert size_whole(value) is None


def test_what_is_nested_very_deeply_counts_as_changeable() -> None:
    value: Any = ()
    for _ in range(5_000):
        value = (value,)
    assert size_whole(value) is None


def test_what_holds_itself_is_not_kept() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(CodecError):
        body_of(value, MsgspecCodec())


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ({"a": [1, 2.5, None, True, "x", b"y"]}, Any),
        ([[]], Any),
        ((1, "a"), tuple[int, str]),
        (Typed(1, ("a",)), Typed),
        (Open(1, [1]), Open),
        ([FrozenStruct(1, [2])], list[FrozenStruct]),
        ({"a": Decimal("1.10")}, dict[str, Decimal]),
        (UUID(int=7), UUID),
        (NOW, datetime.datetime),
        (datetime.datetime(2026, 1, 2), datetime.datetime),  # noqa: DTZ001
        (NOW.date(), datetime.date),
        ({1, 2}, set[int]),
        (Colour.RED, Colour),
        (Pair(1, 2), Pair),
        ({1: "a"}, dict[int, str]),
        (b"x", bytes | int),
        (7, bytes | int),
        (2.5, float),
    ],
)
def test_what_is_kept_comes_back_equal_and_of_the_same_class(value: Any, type_: Any) -> None:
    codec = MsgspecCodec(type_)
    made = body_of(value, codec)
    back = body_from(made.form, made.data, codec)
    assert alike(value, codec.decode(made.data) if made.form == ENCODED else back.whole)
    assert (codec.decode(made.data) if made.form == ENCODED else back.whole) == value


def test_an_int_may_be_given_for_a_float_where_it_is_the_same_number() -> None:
    made = body_of([1, 2.5], MsgspecCodec(list[float]))
    assert MsgspecCodec(list[float]).decode(made.data) == [1.0, 2.5]
    with pytest.raises(CodecError):
        body_of(2**53 + 1, MsgspecCodec(float))


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        ((1, 2), Any),
        ({"a": (1,)}, Any),
        ({1, 2}, Any),
        (Frozen(1), Any),
        (FrozenStruct(1), Any),
        (Decimal(1), Any),
        (UUID(int=1), Any),
        (bytearray(b"x"), Any),
        (Colour.RED, Any),
        (object(), Any),
        (2**70, Any),
        ("\ud800", Any),
        ({"id": 1}, Frozen),
        (Open(1), Frozen),
        ([1], tuple[int, ...]),
        (b"x", Frozen),
        ("x", int),
        (lambda: None, Any),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(value: Any, type_: Any) -> None:
    with pytest.raises(CodecError):
        body_of(value, MsgspecCodec(type_))


def test_bytes_and_none_are_stored_as_they_are() -> None:
    data = b"\xff" * 100
    assert body_of(data, MsgspecCodec())[:3] == (BYTES, data, data)
    assert body_of(None, MsgspecCodec(Frozen))[:3] == (ABSENT, b"", None)


class Odd:
    name = "odd"

    def encode(self, value: Any) -> Any:
        return value

    def decode(self, data: bytes) -> Any:
        return data


def test_a_codec_of_an_app_is_taken_at_its_word_but_for_bytes() -> None:
    with pytest.raises(CodecError, match="no bytes"):
        body_of("text", Odd())


def test_a_type_that_cannot_be_read_says_so() -> None:
    for type_ in (Frozen | Open, Colours, list[Colours], dict[str, Colours | None], complex):
        with pytest.raises(ConfigError, match="codec=") as caught:
            MsgspecCodec(type_)
        assert "\n" not in str(caught.value)


def test_the_name_of_a_codec_changes_with_the_type_and_its_fields() -> None:
    def shape(**fields: Any) -> Any:
        return dataclasses.make_dataclass("Shape", fields.items(), frozen=True)

    types = [Any, int, str, bytes, list[int], tuple[int, ...], Frozen, Open, FrozenStruct, Frozen | None]
    types += [shape(a=int), shape(a=str), shape(b=int), shape(a=int, b=int)]
    names = [MsgspecCodec(type_).name for type_ in types]
    assert len(set(names)) == len(names)
    assert MsgspecCodec(shape(a=int)).name == MsgspecCodec(shape(a=int)).name


# -- in L1 -------------------------------------------------------------------------------------------------------------


def held(value: Any, type_: Any = Any) -> Held:
    codec = MsgspecCodec(type_)
    return Held(stored(), body_of(value, codec), codec, offset=0.0, isolated_ttl=1.0, mark=-1, began=0.0)


def test_what_can_be_changed_is_new_for_each_caller() -> None:
    given = {"a": [1]}
    entry = held(given)
    given["a"].append(2)
    first = entry.take()
    first["a"].append(3)
    first["b"] = 4
    assert entry.take() == {"a": [1]}
    assert entry.take() is not entry.take()


def test_what_cannot_is_one_object() -> None:
    given = Typed(1, ("a",))
    entry = held(given, Typed)
    assert entry.take() is given is entry.take()


def test_the_size_of_an_entry_counts_its_bytes() -> None:
    assert held({"a": "x" * 10_000}).size >= 10_000
    assert held("x" * 10_000).size >= 10_000
    assert held(Typed(1, ("y" * 10_000,)), Typed).size >= 10_000


# -- in L2 -------------------------------------------------------------------------------------------------------------


def stored(**more: Any) -> StoredValue:
    own: dict[str, Any] = {
        "key": b"k", "epoch": "E", "number": 3, "tags": ("t:a", "v:s"), "created": 1_000.0, "fresh_until": 1_060.0,
        "keep_until": 1_400.0, "cost": 0.5, "body": b"\x93\x01\x02\x03",
    }  # fmt: skip
    return StoredValue(**(own | more))


@pytest.mark.parametrize(
    "value", [stored(), stored(body=b"", form=ABSENT), stored(form=BYTES, body=b"x" * 70_000), stored(packed=99)]
)
def test_what_is_written_is_read(value: StoredValue) -> None:
    assert decode(encode(value), b"k") == value


@pytest.mark.parametrize(
    "wrong",
    [
        {"form": 3}, {"form": -1}, {"form": ABSENT}, {"packed": -1}, {"number": -1}, {"cost": -1.0},
        {"fresh_until": 1e15}, {"keep_until": 10.0}, {"created": float("nan")},
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_neither_written_nor_read(wrong: dict[str, Any]) -> None:
    with pytest.raises(CodecError):
        encode(stored(**wrong))
    with pytest.raises(CodecError):
        decode(forged(stored(**wrong)), b"k")


def forged(value: StoredValue) -> bytes:
    """As another program might write it: whole, and with the right checksum."""
    meta = msgspec.msgpack.encode(msgspec.structs.replace(value, body=b""))
    rest = bytes([3]) + len(meta).to_bytes(4, "big") + len(value.body).to_bytes(4, "big") + meta + value.body
    return b"\xc1tc\x01" + zlib.crc32(rest).to_bytes(4, "big") + rest


def test_a_forged_value_is_read_if_it_could_be() -> None:
    assert decode(forged(stored()), b"k") == stored()


def test_a_value_of_another_key_is_refused() -> None:
    with pytest.raises(CodecError, match="another key"):
        decode(encode(stored()), b"other")


def test_every_cut_and_every_flipped_byte_is_noticed() -> None:
    data = encode(stored())
    for end in range(len(data)):
        with pytest.raises(CodecError):
            decode(data[:end], b"k")
    for index in range(len(data)):
        with pytest.raises(CodecError):
            decode(data[:index] + bytes([data[index] ^ 0x41]) + data[index + 1 :], b"k")


@pytest.mark.parametrize("form", [ENCODED, 7])
def test_bytes_of_another_type_are_no_value(form: int) -> None:
    with pytest.raises(CodecError):
        body_from(form, b"\xa1x", MsgspecCodec(int))
