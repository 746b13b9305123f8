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

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tiercache.config.settings import Settings
from tiercache.core.event_rules import EventRule
from tiercache.core.named_policies import Layers, source_of
from tiercache.core.policy import Policy
from tiercache.core.routes import Route
from tiercache.core.templates import ACCEPTED
from tiercache.core.validation import qualified, refuse_reference, refuse_unknown
from tiercache.errors import ConfigError

POLICIES: Final = "policies"
ROUTES: Final = "routes"
EVENTS: Final = "events"
EVENT: Final = "event"
PATH: Final = "path"
POLICY: Final = "policy"


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


def read_toml(path: str | Path) -> Document:
    """Read a configuration file.

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
        return parse_document(tool["tiercache"], f"{name}: [tool.tiercache]")
    if Path(path).name == "pyproject.toml":
        raise ConfigError("configuration file", name, "a pyproject.toml with a table [tool.tiercache]")
    return parse_document(parsed, name)


def parse_document(tables: object, name: str) -> Document:
    """The same from tables that have been read; `name` is how errors name them."""
    if not isinstance(tables, Mapping):
        raise ConfigError(name, tables, "a table")
    settings = {}
    for key, value in tables.items():
        if key in (POLICIES, ROUTES, EVENTS):
            continue
        if key not in Settings.names():
            _refuse(key, value, name)
        settings[key] = Settings.converted(key, qualified(name, key), value)
    policies = {key: _policy(key, value, name) for key, value in _table(tables.get(POLICIES, {}), name).items()}
    used: set[str] = set()
    routes = tuple(
        [
            _route(row, f"{name}: [[{ROUTES}]] {number}", policies, used)
            for number, row in enumerate(_rows(tables.get(ROUTES, []), name, ROUTES), 1)
        ]
    )
    events = tuple(
        [
            _event(row, f"{name}: [[{EVENTS}]] {number}")
            for number, row in enumerate(_rows(tables.get(EVENTS, []), name, EVENTS), 1)
        ]
    )
    return Document(name, settings, policies, routes, frozenset(used), events)


def _refuse(key: str, value: object, name: str) -> None:
    if key in Policy.names():
        raise ConfigError(
            qualified(name, key), value, f"this setting in a rule, [[{ROUTES}]], or in a policy, [{POLICIES}.NAME]"
        )
    refuse_unknown(name, key, value, [*Settings.names(), POLICIES, ROUTES, EVENTS])


def _table(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(one, Mapping) for one in value.values()):
        raise ConfigError(qualified(name, POLICIES), value, f"tables, one for each name: [{POLICIES}.NAME]")
    return value


def _rows(value: object, name: str, key: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise ConfigError(qualified(name, key), value, f"tables, one for each rule: [[{key}]]")
    return value


def _policy(key: str, settings: Mapping[str, Any], name: str) -> Layers:
    where = f"{name}: [{POLICIES}.{key}]"
    policy = Policy.parse(settings, where)
    if not policy.given:
        raise ConfigError(where, {}, 'a policy with at least one setting, e.g. ttl = "10m"')
    return ((f"{source_of(key)} in {name}", policy),)


def _route(row: Mapping[str, Any], where: str, policies: Mapping[str, Layers], used: set[str]) -> Route:
    row = dict(row)
    template = row.pop(PATH, None)
    if not isinstance(template, str):
        raise ConfigError(qualified(where, PATH), template, ACCEPTED)
    where = f"{where} {template!r}"
    below: Layers = ()
    if POLICY in row:
        chosen = row.pop(POLICY)
        if chosen not in list(policies):
            refuse_reference(qualified(where, POLICY), chosen, policies, f"a policy of this file, [{POLICIES}.NAME]")
        used.add(chosen)
        below = policies[chosen]
    for name, value in row.items():
        if name not in Policy.names():
            refuse_unknown(where, name, value, [PATH, POLICY, *Policy.names()])
    policy = Policy.parse(row, where)
    own: Layers = ((where.partition(" '")[0], policy),) if policy.given else ()
    if not own and not below:
        raise ConfigError(where, {}, 'a rule with at least one setting or a policy, e.g. ttl = "10m" or cache = false')
    return Route(template, named=where, layers=(*own, *below), configured=True)


def _event(row: Mapping[str, Any], where: str) -> EventRule:
    row = dict(row)
    name = row.pop(EVENT, None)
    return EventRule.of(name, row, where)
