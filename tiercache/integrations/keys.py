"""Settings of a cache as a framework's own configuration holds them: keys in upper case, and the rules under one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiercache.config import Settings
from tiercache.core.policy import Policy
from tiercache.core.validation import redacted, refuse_unknown
from tiercache.errors import ConfigError

ROUTES = "ROUTES"
_OF_ROUTES = frozenset(row.name for row in Policy.settings())
ROWS = {row.name.upper(): row for row in Settings.settings()}


def read_keys(config: Mapping[str, Any], named: Callable[[str], str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings, ready for `TierCache`, and the rules: templates and the settings of each.

    Args:
        config: keys such as `URL`, `L1_SIZE` and `ROUTES`, and their values.
        named: how errors name a key, so that it is found where it stands.

    Raises:
        ConfigError: a key that does not exist, or a value that cannot work.
    """
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if key == ROUTES:
            continue
        row = ROWS.get(key)
        if row is None and str(key).lower() in _OF_ROUTES:
            rule = {"/products/{id}": {str(key).lower(): value}}
            raise ConfigError(
                named(key), redacted(value), f"this setting in a rule, such as {named(ROUTES)} = {redacted(str(rule))}"
            )
        if row is None:
            refuse_unknown("", named(key), value, [named(known) for known in (*ROWS, ROUTES)])
        settings[row.name] = Settings.converted(row.name, named(key), value)
    routes = config.get(ROUTES) or {}
    if not isinstance(routes, Mapping) or not all(isinstance(rule, Mapping) for rule in routes.values()):
        accepted = "a dict from templates to settings, e.g. {'/products/{id}': {'ttl': '10m'}}"
        raise ConfigError(named(ROUTES), routes, accepted)
    return settings, dict(routes)
