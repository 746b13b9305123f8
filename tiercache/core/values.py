"""Values of data: how they are stored, and who may be handed the same one twice.

The rule on change: what cannot be changed all the way down (text, bytes, numbers, moments, tuples and frozen sets of
such, frozen Structs and dataclasses of such) is handed out as the one object that it is. Of anything else the store
keeps bytes and makes a new object for each caller, so that nobody can change what another one has.

A value comes back as it was given or is not kept at all: what a codec would turn into something of another class (a
tuple into a list, a dataclass into a dict) is refused when it is stored, not found out about later.
"""

from __future__ import annotations

import dataclasses
import datetime
import sys
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from enum import Enum
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

import msgspec

from tiercache.core.entries import Kept
from tiercache.errors import CodecError, ConfigError

ABSENT, ENCODED, BYTES = 0, 1, 2
"""What the body of a stored value is: nothing, since the value is None; what a codec has made; the value itself."""

_ATOMS = frozenset(
    {
        *(str, bytes, int, float, bool, complex, type(None), Decimal, UUID),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    }
)
_DEEPEST = 100
"""Levels that are looked at: what is nested deeper counts as changeable."""


class StoredValue(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One value of data, as it lies in L2. Times and new fields are as for `StoredResponse`."""

    key: bytes
    """The whole key that this is the value of; compared on every read from L2."""
    epoch: str
    number: int
    tags: tuple[str, ...]
    """Ledger members that kill it: `t:` tags, and the implied `v:` of its store and of its own key."""
    created: float
    fresh_until: float
    keep_until: float
    cost: float
    """Seconds that the load took."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    form: int = ENCODED
    packed: int = 0
    """Bytes of the body before it was compressed; 0: it was not."""
    body: bytes = b""

    vary: ClassVar[tuple[tuple[bytes, bytes | None], ...]] = ()
    """No value depends on fields of a request."""


@runtime_checkable
class Codec(Protocol):
    """Turns values into bytes and back. What it raises for a value that it cannot take keeps the value out."""

    @property
    def name(self) -> str:
        """Part of every key: a codec that writes other bytes, or means another type by them, has another name."""

    def encode(self, value: Any) -> bytes: ...

    def decode(self, data: bytes) -> Any: ...


class MsgspecCodec:
    """Values of one type as msgspec writes them in MessagePack; without a type, what JSON knows, and bytes.

    Raises:
        ConfigError: the type is none that msgspec can read.
    """

    def __init__(self, type_: Any = Any) -> None:
        self.type = type_
        self.raw = type_ in (Any, bytes)
        """Whether bytes are stored as they are."""
        try:
            self.decode = msgspec.msgpack.Decoder(type_).decode
            self.name = "msgspec:" + _fingerprint(type_)
        except (TypeError, NameError, ValueError) as error:
            # What it says of classes that it does not know ends with which.
            problem = str(error).splitlines()[-1]
            raise ConfigError("type", type_, f"a type that msgspec reads ({problem}), or a codec: codec=…") from error
        self._encode = msgspec.msgpack.Encoder().encode

    def encode(self, value: Any) -> bytes:
        # A copy: msgspec gives the room away that it has reserved and not used, up to half as much again, for good.
        return memoryview(self._encode(value)).tobytes()


def _fingerprint(type_: Any) -> str:
    """Changes with the name of the type, and with its fields. Raises `TypeError` for what holds an unknown class."""
    shape = b"" if type_ is Any else msgspec.json.encode(msgspec.json.schema(type_), order="sorted")
    named = f"{type_.__module__}.{type_.__qualname__}" if isinstance(type_, type) else repr(type_)
    return blake2b(named.encode() + b"\0" + shape, digest_size=8).hexdigest()


def size_whole(value: object, depth: int = 0) -> int | None:
    """The bytes that a value takes if nothing in it can ever be changed; None if something can."""
    kind = type(value)
    if kind is dict or kind is list:
        return None
    size = sys.getsizeof(value)
    if kind in _ATOMS:
        return size
    if depth > _DEEPEST:
        return None
    parts: Iterable[object]
    if kind is tuple or kind is frozenset:
        parts = value  # type: ignore[assignment]
    elif isinstance(value, tuple):
        # A named tuple has no room for more than its parts.
        if not hasattr(value, "_fields") or hasattr(value, "__dict__"):
            return None
        parts = value
    elif isinstance(value, Enum):
        return size
    elif isinstance(value, msgspec.Struct):
        if not value.__struct_config__.frozen or hasattr(value, "__dict__"):
            return None
        parts = [getattr(value, name) for name in value.__struct_fields__]
    elif _frozen_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        own = getattr(value, "__dict__", {})
        if not own.keys() <= set(names):
            return None
        parts = [getattr(value, name) for name in names]
        size += sys.getsizeof(own)
    else:
        return None
    for part in parts:
        more = size_whole(part, depth + 1)
        if more is None:
            return None
        size += more
    return size


def _frozen_dataclass(kind: type) -> bool:
    """A class of its own decoration: one that merely inherits may hold more. What caches in itself changes later."""
    parameters = vars(kind).get("__dataclass_params__")
    return (
        parameters is not None
        and parameters.frozen
        and not any(isinstance(item, cached_property) for base in kind.__mro__ for item in vars(base).values())
    )


def alike(one: object, other: object) -> bool:
    """Whether what was given and what would come back are of the same classes, all the way down."""
    kind = type(one)
    if kind is not type(other):
        # Whoever declares a float may give an int (PEP 484).
        return kind is int and type(other) is float and one == other
    if kind in _ATOMS:
        return True
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and len(one) == len(other)
            and all(alike(a, b) for a, b in zip([*one, *one.values()], [*other, *other.values()], strict=True))
        )
    if isinstance(one, list | tuple):
        return (
            isinstance(other, list | tuple)
            and len(one) == len(other)
            and all(alike(a, b) for a, b in zip(one, other, strict=True))
        )
    if isinstance(one, set | frozenset):
        return isinstance(other, set | frozenset) and Counter(map(type, one)) == Counter(map(type, other))
    if isinstance(one, msgspec.Struct):
        names: Iterable[str] = one.__struct_fields__
    elif dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
    else:
        return True
    return all(alike(getattr(one, name, None), getattr(other, name, None)) for name in names)


class Body(NamedTuple):
    """A value as it is stored, and as L1 hands it out."""

    form: int
    data: bytes
    whole: Any
    """The value itself where nobody can change it, or has it: what was read from L2 was made for one caller."""
    size: int
    """Bytes that it takes in L1; below 0: what is kept there are the bytes."""


def body_of(value: Any, codec: Codec) -> Body:
    """A value made ready to be stored.

    Raises:
        CodecError: the codec cannot take it, or would give something else back.
    """
    if value is None:
        return Body(ABSENT, b"", None, 0)
    if type(value) is bytes and isinstance(codec, MsgspecCodec) and codec.raw:
        return Body(BYTES, value, value, len(value))
    try:
        data = codec.encode(value)
        back = codec.decode(data)
    except Exception as error:
        raise CodecError(f"its codec cannot take a {type(value).__name__}: {error}") from error
    if not isinstance(data, bytes):
        raise CodecError(f"its codec has made a {type(data).__name__}, and no bytes")
    if isinstance(codec, MsgspecCodec) and not alike(value, back):
        raise CodecError(
            f"a {type(value).__name__} would not come back as it was given: name its type with type=…, or give a codec"
        )
    size = _size_whole(value)
    return Body(ENCODED, data, None if size is None else value, -1 if size is None else size)


def body_from(form: int, data: bytes, codec: Codec) -> Body:
    """What lay in L2. `CodecError` for bytes that are not a value of this codec."""
    if form == ABSENT and not data:
        return Body(ABSENT, b"", None, 0)
    if form == BYTES:
        return Body(BYTES, data, data, len(data))
    if form != ENCODED:
        raise CodecError(f"a value of form {form}")
    try:
        value = codec.decode(data)
    except Exception as error:
        raise CodecError(f"not a value of this type: {error}") from error
    size = _size_whole(value)
    return Body(ENCODED, data, value, -1 if size is None else size)


def _size_whole(value: Any) -> int | None:
    try:
        return size_whole(value)
    except Exception:  # a class of its own that does not even tell its fields
        return None


class Held(Kept):
    """One value in L1."""

    __slots__ = ("decode", "size", "value")

    def __init__(
        self,
        stored: StoredValue,
        body: Body,
        codec: Codec,
        *,
        offset: float,
        isolated_ttl: float,
        mark: int,
        began: float,
        early: float | str | None = None,
    ) -> None:
        super().__init__(stored, offset=offset, isolated_ttl=isolated_ttl, mark=mark, began=began, early=early)
        whole = body.size >= 0
        self.value: Any = body.whole if whole else body.data
        self.decode = None if whole else codec.decode
        """Makes a new object of `value` for each caller; None where the value can be shared."""
        self.size = body.size if whole else sys.getsizeof(body.data)

    def take(self) -> Any:
        """The value for one caller."""
        return self.value if self.decode is None else self.decode(self.value)
