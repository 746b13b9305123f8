"""What holds in the end, and where each part of it was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tiercache.config.settings import DEBUG_VARIABLE, DISABLED_VARIABLE, Settings
from tiercache.config.sources import PREFIX, gathered
from tiercache.config.toml import Document
from tiercache.core.event_rules import EventRule, EventRules
from tiercache.core.kinds import as_text
from tiercache.core.named_policies import NamedPolicies
from tiercache.core.policy import Policy
from tiercache.core.redaction import HIDDEN
from tiercache.core.routes import IN_CODE, Route, RouteTable
from tiercache.core.validation import Setting, redacted
from tiercache.errors import ConfigError

DEFAULT: Final = "default"
_EXTENDED: Final = frozenset({"credential_headers", "ignore_cookies"})
"""Settings that add to a long list of well-known names; what is added is what somebody wrote."""
_SWITCHES: Final = {"enabled": (True, DISABLED_VARIABLE), "debug": (False, DEBUG_VARIABLE)}
"""Settings that a variable switches although nobody configures from the environment, and their default."""


class Configuration(NamedTuple):
    """What one cache is told, from all places together."""

    settings: Settings
    sources: Mapping[str, str]
    """Where each setting was written that has not its default."""
    policies: NamedPolicies
    routes: RouteTable
    events: EventRules
    refused: Sequence[ConfigError] = ()
    """What was left out, because it is not accepted."""

    @property
    def files(self) -> frozenset[str]:
        """Which of the sources are files."""
        return frozenset(one for one in self.sources.values() if one != IN_CODE and not one.startswith(PREFIX))


class Value(NamedTuple):
    """The value of one setting, as it holds."""

    value: Any
    source: str
    """Where it was written; `default` if nowhere."""
    shown: str
    """As a user would write it; no secret."""


def configuration_of(document: Document, environ: Mapping[str, str], refused: list[ConfigError]) -> Configuration:
    """The same that `TierCache.from_toml` makes, as far as it can be made; `refused` gets what cannot."""
    gained, sources = gathered(document.settings, environ, {}, document.name, refused.append)
    settings = Settings(url=gained.pop("url", None), **gained)
    policies = NamedPolicies()
    policies.configure(document.policies, document.used)
    routes = RouteTable()
    for route in document.routes:
        try:
            routes.add(route)
        except ConfigError as error:
            refused.append(error)
    events = EventRules()
    for event in document.events:
        events.add(event)
    return Configuration(settings, sources, policies, routes, events, refused)


def effective_settings(configuration: Configuration) -> dict[str, Value]:
    """Every setting of the cache."""
    settings, sources = configuration.settings, configuration.sources
    values = {}
    for row in Settings.settings():
        value = getattr(settings, row.name)
        if row.name in _EXTENDED:
            well_known = getattr(Settings(), row.name)
            value = tuple(one for one in value if one not in well_known)
        source = sources.get(row.name, DEFAULT)
        if source == DEFAULT and row.name in _SWITCHES and value != _SWITCHES[row.name][0]:
            source = _SWITCHES[row.name][1]
        plain = HIDDEN if row.secret and value is not None else redacted(value)
        values[row.name] = Value(plain, source, shown(row, value))
    return values


def effective_policy(route: Route) -> dict[str, Value]:
    """Every setting of a rule, from all its layers."""
    return _values(route.policy, {name: route.source(name) for name in route.policy.given})


def effective_event(rule: EventRule) -> dict[str, Value]:
    """Every setting of what one event purges."""
    return _values(rule, dict.fromkeys(rule.given, rule.named))


def named_policy(name: str, policies: NamedPolicies) -> dict[str, Value]:
    """Every setting of a named policy, from the file and the code."""
    layers = policies.layers()[name]
    policy = Policy.layered(layers, name)
    sources = {one: " and ".join([at for at, said in layers if one in said.given]) for one in policy.given}
    return _values(policy, sources)


def _values(holder: Policy | EventRule, sources: Mapping[str, str]) -> dict[str, Value]:
    return {
        row.name: Value(value := getattr(holder, row.name), sources.get(row.name, DEFAULT), shown(row, value))
        for row in holder.settings()
    }


def shown(row: Setting, value: Any) -> str:
    """A value as a user would write it in a file."""
    if value is None:
        return "none"
    if row.secret:
        return HIDDEN
    if isinstance(value, bool):
        return "true" if value else "false"
    if row.kind.unit and isinstance(value, int | float):
        return as_text(row.kind.unit, value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {as_text('s', seconds)}" for key, seconds in value.items()) or "{}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "[]"
    return str(redacted(value)) or '""'
