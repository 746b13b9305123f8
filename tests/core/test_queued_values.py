"""How keys and values lie in the queue of a write-behind store."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tiercache.core.queued_values import LARGEST, LONGEST_KEY, key_from, name_of, partition_of, queued, unqueued
from tiercache.core.values import MsgspecCodec, body_of
from tiercache.errors import CodecError

NOON = datetime.datetime(2026, 3, 29, 12, tzinfo=datetime.UTC)
KEYS = [
    *("a", "", "ä", 1, "1", -5, 2**60, b"1", b"\xff\x00", True, False, None, 1.0, 1.5),
    *(UUID(int=7), Decimal("1.50"), NOON, datetime.date(2026, 1, 2), datetime.time(12, 30)),
    *((), ("a", 1), (("a",), 1), ("tuple", "a"), ("bool", "yes"), (None, True)),
]  # fmt: skip


class Colour(enum.Enum):
    GREEN = 1


class Product(msgspec.Struct):
    name: str
    cents: int


def codec(type_: Any = Any) -> MsgspecCodec:
    return MsgspecCodec(type_)


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_a_key_is_read_back_from_its_name(key: Any) -> None:
    back = key_from(name_of(key))
    assert back == key
    assert type(back) is type(key)
    assert " " not in name_of(key)


def test_no_two_keys_have_one_name() -> None:
    assert len({name_of(key) for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("key", [Colour.GREEN, ["a"], {"a"}, object()], ids=lambda key: type(key).__name__)
def test_what_could_not_be_read_back_is_no_key(key: Any) -> None:
    with pytest.raises((TypeError, CodecError)):
        name_of(key)


def test_a_key_may_not_be_endless() -> None:
    name_of("x" * (LONGEST_KEY - 5))
    with pytest.raises(ValueError, match="1024"):
        name_of("x" * LONGEST_KEY)


@pytest.mark.parametrize("name", ["", "!", "gaR1dWlk", "k6R0dXBsZQ", "\xe4"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(CodecError):
        key_from(name)


def test_partitions_are_the_same_everywhere_and_all_used() -> None:
    assert [partition_of(name_of(key), 16) for key in ("a", "b", 1)] == [2, 0, 1]
    assert {partition_of(name_of(number), 8) for number in range(200)} == set(range(8))
    assert {partition_of(name_of(number), 1) for number in range(20)} == {0}


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        *((1, int), (-1, Any), (LARGEST, int), (LARGEST + 1, int), (None, Any), ("text", str), (b"\x00", bytes)),
        *((1.5, float), (True, bool), ({"a": [1]}, Any), (Product("tea", 890), Product), ((1, "a"), tuple[int, str])),
    ],
    ids=repr,
)
def test_a_value_is_read_back(value: Any, type_: Any) -> None:
    made = codec(type_)
    back, removed = unqueued(queued(value, body_of(value, made), made), made)
    assert back == value
    assert type(back) is type(value)
    assert not removed


def test_a_number_can_be_added_to_and_a_removal_is_one() -> None:
    made = codec(int)
    assert queued(-7, body_of(-7, made), made) == b"n-7"
    assert unqueued(b"n12", made) == (12, False)
    assert unqueued(b"d", made) == (None, True)


def test_a_value_of_another_type_is_not_misread() -> None:
    made = codec(Product)
    data = queued(Product("tea", 890), body_of(Product("tea", 890), made), made)
    with pytest.raises(CodecError, match="another type"):
        unqueued(data, codec(dict))
    for damaged in (b"", b"x", b"v", data[:12], b"n", b"nan", data.replace(b"tea", b"t")):
        with pytest.raises(CodecError):
            unqueued(damaged, made)
