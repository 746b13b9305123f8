"""One validator for every setting, wherever it was written: code, TOML or environment.

A setting is a row of a table: name, kind, default, one line of documentation. The table parses what users write,
refuses what it does not know, and is what the reference documentation is made from.
A `Kind` says in one place what is accepted and turns it into a plain, immutable value; parsing that value again
gives the same value, so that what was parsed may be kept, sent and parsed once more.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

from tiercache.errors import ConfigError

MAX_SECONDS = 2147483648
"""The longest duration. RFC 9111 §1.2.2: what does not fit delta-seconds counts as 2^31."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(B|KB|MB|GB|KiB|MiB|GiB)")
_UNIT_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MAX_BYTES = 2**50
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'+.^_`|~-]+")
"""RFC 9110 §5.6.2 token, without `*`: here a star can only be meant as a pattern."""
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'+.^_`|~\[\]:-]+")


class _BadItem(ValueError):
    """One element of a list that is not accepted; the error then shows it, not the whole list."""

    def __init__(self, item: object) -> None:
        self.item = item


class Kind(NamedTuple):
    """What a setting accepts, in words and as a function."""

    accepted: str
    convert: Callable[[Any], Any]
    """Raises `ValueError`, `TypeError` or `OverflowError` on what is not accepted."""

    def __call__(self, setting: str, value: object) -> Any:
        """The parsed value; `ConfigError` with the name `setting` if it is not accepted."""
        try:
            return self.convert(value)
        except _BadItem as bad:
            raise ConfigError(setting, bad.item, self.accepted) from None
        except (ValueError, TypeError, OverflowError):
            raise ConfigError(setting, value, self.accepted) from None


class Setting(NamedTuple):
    """One row: what users may set, and what the reference says of it."""

    name: str
    kind: Kind
    default: object
    """As a user would write it."""
    doc: str
    """One line, with the unit."""
    early: bool = False
    """Decided before the app is reached, so that a view cannot declare it."""


def _duration(value: Any) -> float:
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.strip())
        if found is None:
            raise ValueError
        number, unit = found.groups()
        # Dividing is exact where multiplying by 0.001 is not.
        seconds = float(number) / 1000 if unit == "ms" else float(number) * _UNIT_SECONDS[unit]
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    else:
        seconds = _number(value)
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError
    return seconds


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _size(value: Any) -> int:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            raise ValueError
        number, unit = found.groups()
        size = int(float(number) * _UNIT_BYTES[unit]) if "." in number else int(number) * _UNIT_BYTES[unit]
    elif isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    else:
        size = value
    if not 0 <= size <= _MAX_BYTES:
        raise ValueError
    return size


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _field_name(value: Any) -> str:
    if not isinstance(value, str) or not _FIELD_NAME.fullmatch(value):
        raise ValueError
    return value.lower()


def _cookie_name(value: Any) -> str:
    if not isinstance(value, str) or not _COOKIE_NAME.fullmatch(value):
        raise ValueError
    return value


def _cookie_pattern(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    # A bare "*" would let every session cookie through.
    return _cookie_name(value[:-1]) + "*" if value.endswith("*") else _cookie_name(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


DURATION = Kind(
    "seconds (int or float), a timedelta, or text such as '250ms', '5s', '10m', '1h', '7d'; 0 to 2147483648 s",
    _duration,
)
SIZE = Kind("bytes (int), or text such as '512B', '1KiB', '10MB', '64MiB', '1GiB'; not negative", _size)
FLAG = Kind("True or False", _flag)


def optional(kind: Kind) -> Kind:
    """The same, or None for "left open"."""
    return Kind(f"{kind.accepted}; or None", lambda value: None if value is None else kind.convert(value))


def above_zero(kind: Kind) -> Kind:
    def convert(value: Any) -> Any:
        parsed = kind.convert(value)
        if parsed <= 0:
            raise ValueError
        return parsed

    return Kind(f"{kind.accepted}; above 0", convert)


def whole(low: int, high: int) -> Kind:
    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"a whole number from {low} to {high}", convert)


def one_of(*options: object) -> Kind:
    def convert(value: Any) -> Any:
        # By type too: 0 == False, and True == 1.
        for option in options:
            if type(value) is type(option) and value == option:
                return option
        raise ValueError

    return Kind(f"one of {', '.join(map(repr, options))}", convert)


def listing(accepted: str, item: Callable[[Any], Any], *, empty: bool = True, words: tuple[str, ...] = ()) -> Kind:
    """A list, tuple or set of items, without repeats; or one of `words` alone."""

    def convert(value: Any) -> Any:
        if isinstance(value, str) and value in words:
            return value
        # A bare string is nearly always a forgotten pair of brackets, and would be read letter by letter.
        if isinstance(value, set | frozenset):
            value = sorted(value)
        if not isinstance(value, list | tuple) or not (value or empty):
            raise TypeError
        items: dict[Any, None] = {}
        for one in value:
            try:
                items[item(one)] = None
            except (ValueError, TypeError):
                raise _BadItem(one) from None
        return tuple(items)

    return Kind(accepted, convert)


def field_names(*, empty: bool = True) -> Kind:
    return listing("a list of header field names, e.g. ['accept-language']", _field_name, empty=empty)


def cookie_names() -> Kind:
    return listing("a list of cookie names, e.g. ['theme']", _cookie_name)


def cookie_patterns() -> Kind:
    return listing("a list of cookie names, each with * at its end or without, e.g. ['_ga', '_ga_*']", _cookie_pattern)


def words_or_names(word: str, what: str, *, cookies: bool = False) -> Kind:
    """None, a word such as "ignore", or a list of at least one name."""
    item = _cookie_name if cookies else _text
    return optional(listing(f"{word!r}, or a list of at least one {what} name", item, empty=False, words=(word,)))


class Secret(str):
    """Text that is never shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def redacted(value: object) -> object:
    """The value as it may be shown: what looks like a URL loses its user and password."""
    if isinstance(value, Secret):
        return value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return re.sub(r"(://)\S*@", r"\1***@", value) if isinstance(value, str) else value


def qualified(where: str, name: str) -> str:
    return f"{where}: {name}" if where else name


def refuse_unknown(where: str, name: object, value: object, known: Iterable[str]) -> NoReturn:
    """`ConfigError` for a setting that does not exist, with the closest that does."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ConfigError(
        qualified(where, str(name)), redacted(value), f"only settings that exist{hint}: {', '.join(known)}"
    )


class Validated:
    """Frozen settings made from a table; a subclass names the attributes and gives the table."""

    __slots__ = ("given",)
    _table: ClassVar[Mapping[str, Setting]]
    _defaults: ClassVar[Mapping[str, Any]]
    given: frozenset[str]
    """The settings that were written down, as opposed to those that have their default."""

    def __init_subclass__(cls) -> None:
        cls._defaults = MappingProxyType({s.name: s.kind(s.name, s.default) for s in cls._table.values()})

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        """Every setting with its default and documentation, in the order of the reference."""
        return tuple(cls._table.values())

    @classmethod
    def parse(cls, settings: Mapping[str, Any], where: str = "") -> Self:
        """The settings as written by a user; errors name them as `where: setting`."""
        made = cls.__new__(cls)
        made._load(settings, where)
        return made

    def _load(self, settings: Mapping[str, Any], where: str) -> None:
        values = dict(self._defaults)
        for name, value in settings.items():
            setting = self._table.get(name)
            if setting is None:
                refuse_unknown(where, name, value, self._table)
            values[name] = setting.kind(qualified(where, name), value)
        self._set(values, frozenset(settings))
        self._check(where)

    def _set(self, values: Mapping[str, Any], given: frozenset[str]) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "given", given)

    def _check(self, where: str) -> None:
        """Raise `ConfigError` where settings that are each fine contradict each other."""

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._table}

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.given == other.given and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self.given))

    def __repr__(self) -> str:
        shown = (f"{name}={redacted(getattr(self, name))!r}" for name in self._table if name in self.given)
        return f"{type(self).__name__}({', '.join(shown)})"
