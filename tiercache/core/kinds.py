"""What settings may hold: durations, sizes, names and lists, each in words, as a function and as a JSON Schema.

A `Kind` says in one place what is accepted and turns it into a plain, immutable value; parsing that value again
gives the same value, so that what was parsed may be kept, sent and parsed once more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from tiercache.errors import ConfigError

MAX_SECONDS = 2147483648
"""The longest duration. RFC 9111 §1.2.2: what does not fit delta-seconds counts as 2^31."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
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


def _as_it_is(text: str) -> Any:
    return text


class Kind(NamedTuple):
    """What a setting accepts: in words, as a function, as a JSON Schema, and as text where there is nothing else."""

    accepted: str
    convert: Callable[[Any], Any]
    """Raises `ValueError`, `TypeError` or `OverflowError` on what is not accepted."""
    schema: Mapping[str, Any] = MappingProxyType({})
    """What of it JSON and TOML can say, for editors."""
    read: Callable[[str], Any] = _as_it_is
    """Makes of text, as in the environment, what `convert` takes; raises like it."""
    written: str = ""
    """What is accepted as text, where that is something else."""
    unit: str = ""
    """`s` or `B` where a parsed number is seconds or bytes."""

    def __call__(self, setting: str, value: object) -> Any:
        """The parsed value; `ConfigError` with the name `setting` if it is not accepted."""
        try:
            return self.convert(value)
        except _BadItem as bad:
            raise ConfigError(setting, bad.item, self.accepted) from None
        except (ValueError, TypeError, OverflowError):
            raise ConfigError(setting, value, self.accepted) from None

    def from_text(self, setting: str, text: str) -> Any:
        """The same for a value that can only be text, such as that of an environment variable."""
        accepted = self.written or self.accepted
        try:
            return self.convert(self.read(text.strip()))
        except _BadItem as bad:
            raise ConfigError(setting, bad.item, accepted) from None
        except (ValueError, TypeError, OverflowError):
            raise ConfigError(setting, text, accepted) from None


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


def _number_or_text(text: str) -> Any:
    """Digits are a number, as they are where they need no quotes."""
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text


def _whole_from(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError
    return int(text)


def _flag_from(text: str) -> bool:
    word = text.lower()
    if word not in ON | OFF:
        raise ValueError
    return word in ON


def _names_from(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


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


ON = frozenset({"1", "true", "yes", "on"})
OFF = frozenset({"", "0", "false", "no", "off"})
SWITCH = "1, true, yes, on; or 0, false, no, off"
NONE = "none"
"""Says None where only text can be written, and in TOML, which has no word for it."""

DURATION = Kind(
    "seconds (int or float), a timedelta, or text such as '250ms', '5s', '10m', '1h', '7d'; 0 to 2147483648 s",
    _duration,
    {"type": ["number", "string"], "minimum": 0, "maximum": MAX_SECONDS, "pattern": f"^{_DURATION.pattern}$"},
    _number_or_text,
    "seconds, or a number and its unit, such as 250ms, 5s, 10m, 1h, 7d; 0 to 2147483648 s",
    "s",
)
SIZE = Kind(
    "bytes (int), or text such as '512B', '1KiB', '10MB', '64MiB', '1GiB'; not negative",
    _size,
    {"type": ["integer", "string"], "minimum": 0, "maximum": _MAX_BYTES, "pattern": f"^{_SIZE.pattern}$"},
    _number_or_text,
    "bytes, or a number and its unit, such as 512B, 1KiB, 10MB, 64MiB, 1GiB; not negative",
    "B",
)
FLAG = Kind("True or False", _flag, {"type": "boolean"}, _flag_from, SWITCH)


def as_text(unit: str, value: float) -> str:
    """Seconds (`s`) or bytes (`B`) as a user would write them: with the largest unit that divides them."""
    if unit == "B":
        units = ("GiB", "MiB", "KiB", "B") if value else ("B",)
        name = next(name for name in units if value % _UNIT_BYTES[name] == 0)
        return f"{int(value) // _UNIT_BYTES[name]}{name}"
    if value != int(value):
        number, name = (value * 1000, "ms") if value < 1 else (value, "s")
        return f"{number:.6f}".rstrip("0").rstrip(".") + name
    name = next(name for name in (("d", "h", "m", "s") if value else ("s",)) if value % _UNIT_SECONDS[name] == 0)
    return f"{int(value) // _UNIT_SECONDS[name]}{name}"


def optional(kind: Kind) -> Kind:
    """The same, or None for "left open"."""

    def convert(value: Any) -> Any:
        return None if value is None or value == NONE else kind.convert(value)

    def read(text: str) -> Any:
        return None if text.lower() == NONE else kind.read(text)

    schema = {"anyOf": [kind.schema, {"const": NONE}]}
    written = f"{kind.written or kind.accepted}; or {NONE}"
    return Kind(f"{kind.accepted}; or None", convert, schema, read, written, kind.unit)


def above_zero(kind: Kind) -> Kind:
    def convert(value: Any) -> Any:
        parsed = kind.convert(value)
        if parsed <= 0:
            raise ValueError
        return parsed

    schema = {**kind.schema, "exclusiveMinimum": 0, "pattern": kind.schema["pattern"].replace("^", "^(?=.*[1-9])")}
    schema.pop("minimum")
    return Kind(f"{kind.accepted}; above 0", convert, schema, kind.read, f"{kind.written}; above 0", kind.unit)


def whole(low: int, high: int) -> Kind:
    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError
        if not low <= value <= high:
            raise ValueError
        return value

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(f"a whole number from {low} to {high}", convert, schema, _whole_from)


def one_of(*options: object) -> Kind:
    def convert(value: Any) -> Any:
        # By type too: 0 == False, and True == 1.
        for option in options:
            if type(value) is type(option) and value == option:
                return option
        raise ValueError

    return Kind(f"one of {', '.join(map(repr, options))}", convert, {"enum": list(options)})


def listing(
    accepted: str,
    item: Callable[[Any], Any],
    *,
    empty: bool = True,
    words: tuple[str, ...] = (),
    schema: Mapping[str, Any] | None = None,
) -> Kind:
    """A list, tuple or set of items, without repeats; or one of `words` alone. `schema` is that of an item."""

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

    array: dict[str, Any] = {"type": "array", "items": schema or {"type": "string", "minLength": 1}}
    if not empty:
        array["minItems"] = 1
    whole_schema = {"anyOf": [{"enum": list(words)}, array]} if words else array
    return Kind(accepted, convert, whole_schema, _names_from, f"{accepted}; as text: the names with commas between")


def field_names(*, empty: bool = True) -> Kind:
    return listing(
        "a list of header field names, e.g. ['accept-language']",
        _field_name,
        empty=empty,
        schema=_pattern(_FIELD_NAME),
    )


def cookie_names() -> Kind:
    return listing("a list of cookie names, e.g. ['theme']", _cookie_name, schema=_pattern(_COOKIE_NAME))


def cookie_patterns() -> Kind:
    return listing(
        "a list of cookie names, each with * at its end or without, e.g. ['_ga', '_ga_*']",
        _cookie_pattern,
        schema=_pattern(_COOKIE_NAME, "[*]?"),
    )


def words_or_names(word: str, what: str, *, cookies: bool = False) -> Kind:
    """None, a word such as "ignore", or a list of at least one name."""
    return optional(
        listing(
            f"{word!r}, or a list of at least one {what} name",
            _cookie_name if cookies else _text,
            empty=False,
            words=(word,),
            schema=_pattern(_COOKIE_NAME) if cookies else None,
        )
    )


def _pattern(item: re.Pattern[str], end: str = "") -> Mapping[str, Any]:
    return {"type": "string", "pattern": f"^{item.pattern}{end}$"}
