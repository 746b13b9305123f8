"""One validator for every setting, wherever it was written: code, TOML or environment.

A setting is a row of a table: name, kind, default, one line of documentation. The table parses what users write,
refuses what it does not know, and is what the reference documentation is made from.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

from tiercache.core.kinds import Kind
from tiercache.errors import ConfigError


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
    secret: bool = False
    """Never shown."""


class Secret(str):
    """Text that is never shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def redacted(value: object) -> object:
    """The value as it may be shown: what looks like a URL loses its user and its passwords."""
    if isinstance(value, Secret):
        return value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return value
    return re.sub(r"([?&]\w*password=)[^&#\s]*", r"\1***", re.sub(r"(://)\S*@", r"\1***@", value))


def takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with so many arguments; True where it does not tell."""
    try:
        inspect.signature(function).bind(*range(count))
    except ValueError:
        return True
    except TypeError:
        return False
    return True


def qualified(where: str, name: str) -> str:
    return f"{where}: {name}" if where else name


def refuse_unknown(where: str, name: object, value: object, known: Iterable[str]) -> NoReturn:
    """`ConfigError` for a setting that does not exist, with the closest that does."""
    accepted = f"only settings that exist{_closest(name, known)}"
    raise ConfigError(qualified(where, str(name)), redacted(value), accepted, code="unknown-setting")


def refuse_reference(setting: str, value: object, known: Iterable[str], what: str) -> NoReturn:
    """`ConfigError` for the name of something that does not exist, with the closest that does."""
    accepted = f"the name of {what}{_closest(value, known)}"
    raise ConfigError(setting, redacted(value), accepted, code="unknown-policy")


def _closest(name: object, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    return (f" (did you mean {close[0]!r}?)" if close else "") + f": {', '.join(known) or 'there is none yet'}"


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
    def names(cls) -> Collection[str]:
        """The names of all settings."""
        return cls._table.keys()

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
