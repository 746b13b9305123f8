"""A configuration file: settings of the cache, named policies and rules, in TOML.

    namespace = "shop"                     the settings of the cache, at the top

    [policies.pages]                       policies by name
    ttl = "10m"

    [[routes]]                             rules, in order
    path = "/products/{id}"
    policy = "pages"
    tags = ["product:{id}"]

    [[events]]                             what the application's events purge
    event = "product.updated"
    tags = ["product:{id}"]

In a `pyproject.toml` the same stands in `[tool.tiercache]`.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from tiercache.config.settings import Settings
from tiercache.core.event_rules import EventRule
from tiercache.core.named_policies import Layers, source_of
from tiercache.core.policy import Policy
from tiercache.core.routes import Route
from tiercache.core.templates import ACCEPTED
from tiercache.core.validation import qualified, refuse_reference, refuse_unknown
from tiercache.errors import ConfigError

T = TypeVar("T")

POLICIES: Final = "policies"
ROUTES: Final = "routes"
EVENTS: Final = "events"
EVENT: Final = "event"
PATH: Final = "path"
POLICY: Final = "policy"


Refused = Callable[[ConfigError], None]
"""Told of each error; it raises it, or keeps it and lets the rest be read."""


def refuse(error: ConfigError) -> None:
    raise error


class Document(NamedTuple):
    """What a configuration file says, each value validated."""

    name: str
    settings: Mapping[str, Any]
    """Settings of the cache, parsed."""
    policies: Mapping[str, Layers]
    routes: tuple[Route, ...]
    used: frozenset[str]
    """Names of the policies that its rules refer to."""
    events: tuple[EventRule, ...] = ()


NOTHING: Final = Document("", {}, {}, (), frozenset())


def read_toml(path: str | Path, refused: Refused = refuse) -> Document:
    """Read a configuration file.

    Args:
        path: of the file.
        refused: told of what is not accepted in it. If it does not raise, that is left out and the rest is read.

    Raises:
        ConfigError: it cannot be read or is not TOML; or something in it is not accepted, named by file, table,
            setting and value.
    """
    name = str(path)
    try:
        text = Path(path).read_bytes().decode()
        parsed = tomllib.loads(text)
    except OSError as error:
        raise ConfigError("configuration file", name, f"a file that can be read ({error.strerror})") from error
    except ValueError as error:
        # What stands in the file may be a password: the error tells the place, not the line.
        raise ConfigError("configuration file", name, f"TOML ({error})") from None
    tool = parsed.get("tool")
    if isinstance(tool, dict) and "tiercache" in tool:
        return parse_document(tool["tiercache"], f"{name}: [tool.tiercache]", refused)
    if Path(path).name == "pyproject.toml":
        raise ConfigError("configuration file", name, "a pyproject.toml with a table [tool.tiercache]")
    return parse_document(parsed, name, refused)


def parse_document(tables: object, name: str, refused: Refused = refuse) -> Document:
    """The same from tables that have been read; `name` is how errors name them."""
    if not isinstance(tables, Mapping):
        raise ConfigError(name, tables, "a table")
    return _Reader(name, refused).document(tables)


class _Reader:
    """Reads the tables of one file, from the top down."""

    def __init__(self, name: str, refused: Refused) -> None:
        self._name = name
        self._refused = refused
        self._policies: dict[str, Layers] = {}
        self._used: set[str] = set()

    def document(self, tables: Mapping[str, Any]) -> Document:
        settings = {}
        for key, value in tables.items():
            if key not in (POLICIES, ROUTES, EVENTS):
                with self._go_on():
                    settings[key] = self._setting(key, value)
        for key, value in self._table(tables.get(POLICIES, {})).items():
            layers = self._without_refused(value, functools.partial(self._policy, key))
            if layers is not None:
                self._policies[key] = layers
        routes = tuple(self._made_of(ROUTES, tables, self._route))
        events = tuple(self._made_of(EVENTS, tables, _event))
        return Document(self._name, settings, self._policies, routes, frozenset(self._used), events)

    def _made_of(
        self, key: str, tables: Mapping[str, Any], make: Callable[[str, Mapping[str, Any]], T]
    ) -> Iterator[T]:
        """What is made of each table of an array."""
        for number, row in enumerate(self._rows(tables.get(key, []), key), 1):
            made = self._without_refused(row, functools.partial(make, f"{self._name}: [[{key}]] {number}"))
            if made is not None:
                yield made

    @contextmanager
    def _go_on(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self._refused(error)

    def _without_refused(self, row: Mapping[str, Any], make: Callable[[dict[str, Any]], T]) -> T | None:
        """What is made of a table; of what is left of it, where a setting is refused; None where that is nothing."""
        left = dict(row)
        while True:
            try:
                return make(left)
            except ConfigError as error:
                self._refused(error)
                name = error.setting.rpartition(": ")[2]
                if name not in left:
                    return None
                del left[name]
                if not left.keys() - {PATH, EVENT}:
                    return None

    def _setting(self, key: str, value: object) -> Any:
        if key not in Settings.names():
            if key in Policy.names():
                accepted = f"this setting in a rule, [[{ROUTES}]], or in a policy, [{POLICIES}.NAME]"
                raise ConfigError(qualified(self._name, key), value, accepted, code="unknown-setting")
            refuse_unknown(self._name, key, value, [*Settings.names(), POLICIES, ROUTES, EVENTS])
        return Settings.converted(key, qualified(self._name, key), value)

    def _table(self, value: object) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(one, Mapping) for one in value.values()):
            accepted = f"tables, one for each name: [{POLICIES}.NAME]"
            self._refused(ConfigError(qualified(self._name, POLICIES), value, accepted))
            return {}
        return value

    def _rows(self, value: object, key: str) -> list[Mapping[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            accepted = f"tables, one for each rule: [[{key}]]"
            self._refused(ConfigError(qualified(self._name, key), value, accepted))
            return []
        return value

    def _policy(self, key: str, settings: Mapping[str, Any]) -> Layers:
        where = f"{self._name}: [{POLICIES}.{key}]"
        policy = Policy.parse(settings, where)
        if not policy.given:
            accepted = 'a policy with at least one setting, e.g. ttl = "10m"'
            raise ConfigError(where, {}, accepted, code="rule-empty")
        return ((f"{source_of(key)} in {self._name}", policy),)

    def _route(self, at: str, row: Mapping[str, Any]) -> Route:
        row = dict(row)
        template = row.pop(PATH, None)
        if not isinstance(template, str):
            raise ConfigError(qualified(at, PATH), template, ACCEPTED)
        where = f"{at} {template!r}"
        below: Layers = ()
        if POLICY in row:
            chosen = row.pop(POLICY)
            if chosen not in list(self._policies):
                refuse_reference(
                    qualified(where, POLICY), chosen, self._policies, f"a policy of this file, [{POLICIES}.NAME]"
                )
            self._used.add(chosen)
            below = self._policies[chosen]
        for name, value in row.items():
            if name not in Policy.names():
                refuse_unknown(where, name, value, [PATH, POLICY, *Policy.names()])
        policy = Policy.parse(row, where)
        own: Layers = ((at, policy),) if policy.given else ()
        if not own and not below:
            accepted = 'a rule with at least one setting or a policy, e.g. ttl = "10m" or cache = false'
            raise ConfigError(where, {}, accepted, code="rule-empty")
        return Route(template, named=where, layers=(*own, *below), configured=True)


def _event(where: str, row: Mapping[str, Any]) -> EventRule:
    row = dict(row)
    name = row.pop(EVENT, None)
    return EventRule.of(name, row, where)
