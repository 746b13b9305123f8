"""What a store of data is to the engine: the rule of its values, and one `get` as a request.

A rule has the `policy` and the counters that a route has, and a `Get` what the engine asks of a request, so that
values of data go through the same lookups, flights, leases and limits as responses.
"""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypedDict
from uuid import UUID

from msgspec.structs import replace

from tiercache.core.keys import Key, canonical
from tiercache.core.kinds import DURATION, SIZE, above_zero, optional, whole
from tiercache.core.messages import Request
from tiercache.core.policy import Policy
from tiercache.core.policy_kinds import placeholders
from tiercache.core.policy_settings import SESSION, Duration, Size
from tiercache.core.records import is_of_key, is_text
from tiercache.core.routes import fill_tags
from tiercache.core.validation import Setting, refuse_unknown
from tiercache.core.values import Codec, Held, StoredValue
from tiercache.errors import CodecError, ConfigError

SETTINGS: Final = (
    "ttl",
    "tags",
    "tiers",
    "isolated_ttl",
    "consistency",
    "max_body",
    "invalidates",
    "stale_while_revalidate",
    "stale_if_error",
    "early_refresh",
    "jitter",
    "coalesce",
    "serve_stale_after",
    "fill_timeout",
    "retry_after_error",
    "max_fills",
    "follow_data",
)
"""The settings of a route that a store of data has too; the others are about HTTP."""

OWN: Final = MappingProxyType(
    {
        row.name: row
        for row in (
            Setting(
                "none_ttl",
                optional(DURATION),
                None,
                "Lifetime of None, which a loader gives for a key that does not exist, in seconds; None: as `ttl`; 0: "
                "it is not kept.",
            ),
            Setting(
                "compress_above",
                optional(above_zero(SIZE)),
                None,
                "Bytes of an encoded value from which on it is compressed in the shared tier, by Zstandard (the extra "
                "`zstd`); None: never.",
            ),
            Setting("max_batch", whole(1, 100_000), 100, "Most keys of one call of `load_many`."),
        )
    }
)
"""The settings that only stores have, beside those that are no plain values: `version`, `codec` and `uncertain`."""

KEYS = "str, int, bytes, bool, UUID, None, Decimal, float, dates and times, members of an Enum, or tuples of these"

Tags = Callable[..., Any]


class StoreSettings(TypedDict, total=False):
    """The settings of a store, as a type checker sees them."""

    ttl: Duration
    tags: Collection[str] | Callable[[Any], str | Iterable[str]] | Callable[[Any, Any], str | Iterable[str]]
    tiers: Collection[str]
    isolated_ttl: Duration
    consistency: Literal["bounded", "strong"]
    max_body: Size | None
    invalidates: Collection[str]
    stale_while_revalidate: Duration | None
    stale_if_error: Duration | None
    early_refresh: float | Literal["probabilistic"] | None
    jitter: float | None
    coalesce: Literal["process", "fleet", False]
    serve_stale_after: Duration | None
    fill_timeout: Duration | None
    retry_after_error: Duration
    max_fills: int | None
    follow_data: bool
    none_ttl: Duration | None
    version: str | int
    codec: Codec | None
    compress_above: Size | None
    max_batch: int
    uncertain: Collection[type[Exception]]


class Packer(Protocol):
    """Makes long values shorter for L2."""

    above: int
    """Bytes from which on it is worth the time."""

    def pack(self, data: bytes) -> bytes: ...

    def unpack(self, data: bytes, size: int) -> bytes:
        """What was packed, which took `size` bytes. Raises for anything else, and makes no more than that."""


def plain_key(key: object) -> Any:
    """A key of data as part of a key of the store, one to one: what differs in kind (1, "1", True, 1.0) stays apart,
    in a dict too. TypeError for what is no key.
    """
    kind = key.__class__
    if kind is str or kind is int or kind is bytes:
        return key
    if kind is tuple:
        # In a tuple of its own that begins with its kind, so that no tuple of a user's is one of those below.
        return ("tuple", *[plain_key(part) for part in key])  # type: ignore[attr-defined]
    if kind is bool:
        return ("bool", "yes" if key else "no")
    if kind is UUID:
        return ("uuid", key.hex)  # type: ignore[attr-defined]
    if key is None:
        return ("none",)
    if kind is float or kind is Decimal:
        return (kind.__name__, repr(key))
    if kind is datetime.datetime or kind is datetime.date or kind is datetime.time:
        return (kind.__name__, key.isoformat(), getattr(key, "fold", 0))  # type: ignore[attr-defined]
    if isinstance(key, Enum):
        return ("enum", f"{kind.__module__}.{kind.__qualname__}", key.name)
    raise TypeError(f"{key!r} is no key: {KEYS}")


def text_of(key: object) -> str:
    """A key as tags show it."""
    if isinstance(key, tuple):
        return ":".join(map(text_of, key))
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    if isinstance(key, Enum):
        return text_of(key.value)
    return str(key)


class StoreRule:
    """What holds for the values of one store."""

    __slots__ = (
        "_by_value",
        "_invalidates",
        "_tags",
        "codec",
        "name",
        "named",
        "none_ttl",
        "own_tag",
        "packer",
        "policy",
        "prefix",
        "uncertain",
    )

    is_rule = True
    names: tuple[str, ...] = ("key",)
    """What templates of tags may name."""

    def __init__(
        self,
        name: object,
        settings: Mapping[str, Any],
        *,
        codec: Codec,
        version: str | int = "",
        none_ttl: float | None = None,
        owner: tuple[str, str] = ("", ""),
        packer: Packer | None = None,
        uncertain: Collection[type[BaseException]] = (),
    ) -> None:
        if not isinstance(name, str) or not name or not is_text(name):
            raise ConfigError("store", name, "a name: text that is not empty")
        self.name = name
        self.named = where = f"store {name!r}"
        tags = settings.get("tags", ())
        self._tags: Tags | None = tags if callable(tags) else None
        self._by_value = self._tags is not None and _takes_value(self._tags)
        self.policy = _policy(where, {**settings, "tags": ()} if callable(tags) else settings)
        for setting in ("tags", "invalidates"):
            for template in getattr(self.policy, setting):
                if placeholders(template) - set(self.names):
                    known = ", ".join("{" + name + "}" for name in self.names) or "no fields"
                    raise ConfigError(f"{where}: {setting}", template, f"templates with {known}, or a function")
        self.codec = codec
        self.packer = packer
        self.none_ttl = none_ttl
        self.own_tag = "v:" + name
        """Of every value of the store, in every app, version and type."""
        if is_of_key("h:" + self.own_tag):
            raise ConfigError("store", name, "a name that does not end in ':' and 32 hexadecimal digits, as keys do")
        self.prefix = repr(("data", *owner, name, str(version), codec.name))
        """What all keys of the store begin with. A value of another version or type is another question."""
        self.uncertain: tuple[type[BaseException], ...] = (TimeoutError, ConnectionError, *uncertain)
        """Errors of a write after which it may have been made all the same."""

    def key_for(self, key: object) -> Key:
        """Raises `ConfigError` for what is no key."""
        try:
            return (self.prefix, plain_key(key))
        except TypeError as error:
            raise ConfigError(f"{self.named}: key", key, KEYS) from error

    def tag_of(self, key: Key) -> str:
        """The tag of one key, in every version and type."""
        return f"{self.own_tag}:{blake2b(canonical(key[1:]), digest_size=16).hexdigest()}"

    def texts(self, subject: Any) -> Mapping[str, str]:
        """What is asked for, as templates of tags show it."""
        return {"key": text_of(subject)}

    def shown(self, subject: Any) -> Any:
        """What is asked for, as functions that give tags see it."""
        return subject

    def packed(self, stored: StoredValue) -> StoredValue:
        """What is written to L2."""
        packer, body = self.packer, stored.body
        if packer is None or len(body) < packer.above:
            return stored
        shorter = packer.pack(body)
        return stored if len(shorter) >= len(body) else replace(stored, body=shorter, packed=len(body))

    def unpacked(self, stored: StoredValue, most: int) -> bytes:
        """The body of what was read from L2, of `most` bytes at most. `CodecError` for what cannot be that."""
        if not stored.packed:
            return stored.body
        if self.packer is None or stored.packed > most:
            raise CodecError(f"{len(stored.body)} bytes that are packed, {stored.packed} in truth")
        try:
            return self.packer.unpack(stored.body, stored.packed)
        except Exception as error:
            raise CodecError(f"not to be unpacked: {error}") from error

    def implied(self, key: Key) -> tuple[str, str]:
        return (self.tag_of(key), self.own_tag)

    def tags_for(self, subject: object, value: object) -> tuple[str, ...]:
        """The tags by which users purge. What a function of theirs raises is theirs to see."""
        if self._tags is None:
            return fill_tags(self.policy.tags, self.texts(subject))
        shown = self.shown(subject)
        made = self._tags(shown, value) if self._by_value else self._tags(shown)
        tags = (made,) if isinstance(made, str) else tuple(made)
        for tag in tags:
            if not tag or not isinstance(tag, str) or not is_text(tag):
                raise ConfigError(f"{self.named}: tags", tag, "a function that gives non-empty strings")
        return tags

    def changed_by(self, subject: object, key: Key) -> list[str]:
        """What a change of one key purges, as members of the ledger."""
        more = fill_tags(self.policy.invalidates, self.texts(subject))
        return list(dict.fromkeys(["h:" + self.tag_of(key), *["h:t:" + tag for tag in more]]))

    def __repr__(self) -> str:
        return f"StoreRule({self.name!r}, {self.policy!r})"


def _takes_value(function: Tags) -> bool:
    """Whether it is a function of key and value: a second parameter that has to be given, or is called so."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    in_order = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.default is p.empty or p.name == "value" for p in in_order[1:2])


def _policy(where: str, settings: Mapping[str, Any]) -> Policy:
    for name, value in settings.items():
        if name not in SETTINGS:
            if name in Policy.names():
                raise ConfigError(f"{where}: {name}", value, f"a setting of stores: {', '.join(SETTINGS)}")
            refuse_unknown(where, name, value, SETTINGS)
    policy = Policy.parse(settings, where)
    if policy.ttl is None:
        raise ConfigError(f"{where}: ttl", None, "a lifetime, e.g. ttl='10m'")
    if policy.consistency == SESSION:
        raise ConfigError(f"{where}: consistency", SESSION, "'bounded' or 'strong'")
    return policy


class Get(Request):
    """One question for a value."""

    __slots__ = ("_read", "subject")

    kind = StoredValue
    method = "GET"
    path = ""
    special = ()
    credential = conditional = ""
    directives = None
    trusted = ()

    def __init__(self, rule: StoreRule, subject: object, key: Key) -> None:
        self.route = rule
        self.subject = subject
        """The key as the user gave it."""
        self.key = key
        self.bypass = ""
        self.current = self.early = self.isolated = False
        self.now = 0.0
        self._read: tuple[Held, Any] | None = None

    def has_read(self, entry: Held, value: Any) -> None:
        """Keep what was decoded to be checked when the entry came from L2: nobody else has it, and once it may be given
        away."""
        self._read = (entry, value)

    def take(self, entry: Held) -> Any:
        """The value of an entry for whoever asked."""
        read, self._read = self._read, None
        return read[1] if read is not None and read[0] is entry else entry.take()
