"""How keys and values lie in the queue of a write-behind store.

A key is the name of what lies there, and can be read back from it. A value begins with what it is: `n` a whole number
that may be added to, `d` a removal, `v` anything else, with the codec that made it.
"""

from __future__ import annotations

import datetime
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from decimal import Decimal
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import msgspec

from tiercache.core.stores import plain_key
from tiercache.core.values import Body, Codec, body_from
from tiercache.errors import CodecError

LONGEST_KEY: Final = 1_024
"""Bytes of a key as it is written."""
LARGEST: Final = 2**53 - 1
"""Numbers beyond it are not added to."""
KEYS: Final = "str, int, bytes, bool, UUID, None, Decimal, float, dates and times, or tuples of these"

REMOVAL: Final = b"d"

_BACK: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "bool": lambda text: text == "yes",
        "uuid": lambda text: UUID(hex=text),
        "none": lambda: None,
        "float": float,
        "Decimal": lambda text: Decimal(text.removeprefix("Decimal('").removesuffix("')")),
        "date": lambda text, _: datetime.date.fromisoformat(text),
        "time": lambda text, fold: datetime.time.fromisoformat(text).replace(fold=fold),
        "datetime": lambda text, fold: datetime.datetime.fromisoformat(text).replace(fold=fold),
    }
)


def name_of(key: object) -> str:
    """The name of a key. Raises `TypeError` or `ValueError` for what is none, or could not be read back."""
    data = msgspec.msgpack.encode(plain_key(key))
    if len(data) > LONGEST_KEY:
        raise ValueError(f"a key of {len(data)} bytes, where {LONGEST_KEY} are the most")
    name = urlsafe_b64encode(data).decode()
    if key_from(name) != key:
        raise TypeError(f"{key!r} is no key of a write-behind store: {KEYS}")
    return name


def key_from(name: str) -> Any:
    """The key that was given. Raises `CodecError` for what is no name of a key."""
    try:
        return _back(msgspec.msgpack.decode(urlsafe_b64decode(name.encode())))
    except Exception as error:
        raise CodecError(f"{name!r} is no name of a key") from error


def _back(plain: Any) -> Any:
    if not isinstance(plain, list):
        return plain
    kind, *rest = plain
    if kind == "tuple":
        return tuple([_back(part) for part in rest])
    return _BACK[kind](*rest)


def partition_of(name: str, partitions: int) -> int:
    """The same in every process and release."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) % partitions


def queued(value: Any, body: Body, codec: Codec) -> bytes:
    """What lies in the queue for a value that has been made ready to be stored."""
    if type(value) is int and abs(value) <= LARGEST:
        return b"n%d" % value
    return b"v" + codec.name.encode() + b"\0" + bytes((body.form,)) + body.data


def unqueued(data: bytes, codec: Codec) -> tuple[Any, bool]:
    """The value, and whether it stands for a removal. Raises `CodecError` for what is not a value of this codec."""
    kind = data[:1]
    if kind == b"d":
        return None, True
    if kind == b"n":
        try:
            return int(data[1:]), False
        except ValueError as error:
            raise CodecError("not a number") from error
    name, _, rest = data[1:].partition(b"\0")
    if kind != b"v" or name != codec.name.encode() or not rest:
        raise CodecError("a value of another type or version: let the queue be written before the type changes")
    return body_from(rest[0], rest[1:], codec).whole, False
