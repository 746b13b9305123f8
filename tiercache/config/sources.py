"""Settings from the environment, and which source wins: arguments, then the environment, then the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tiercache.config.settings import DISABLED_VARIABLE, Settings, switched_on
from tiercache.core.policy import Policy
from tiercache.core.validation import Secret, redacted, refuse_unknown
from tiercache.errors import ConfigError

PREFIX: Final = "TIERCACHE_"
CONFIG_VARIABLE: Final = "TIERCACHE_CONFIG"
_ROWS: Final = {PREFIX + row.name.upper(): row for row in Settings.settings()}
_SPECIAL: Final = (CONFIG_VARIABLE, DISABLED_VARIABLE)
_OF_KUBERNETES: Final = re.compile(
    r"_SERVICE_(?:HOST|PORT)(?:_[A-Z0-9_]+)?$|_PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?$"
)
"""What Kubernetes puts into every container of a namespace that has a service called tiercache or tiercache-redis."""


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings that `TIERCACHE_` variables give, parsed. An empty variable counts as absent.

    Raises:
        ConfigError: a variable that there is none of, or a value that is not accepted, named by the variable.
    """
    settings: dict[str, Any] = {}
    for variable in sorted(environ):
        text = environ[variable]
        if not variable.startswith(PREFIX) or variable in _SPECIAL or not text.strip():
            continue
        row = _ROWS.get(variable)
        if row is None:
            if not _OF_KUBERNETES.search(variable):
                _refuse(variable, text)
            continue
        settings[row.name] = row.kind.from_text(variable, Secret(text) if row.secret else text)
    if switched_on(DISABLED_VARIABLE, environ):
        settings["enabled"] = False
    return settings


def _refuse(variable: str, text: str) -> None:
    name = variable[len(PREFIX) :].lower()
    if name in Policy.names():
        accepted = f"this setting in a rule, in code or in the file that {CONFIG_VARIABLE} names"
        raise ConfigError(variable, redacted(text), accepted)
    refuse_unknown("", variable, text, [*_ROWS, *_SPECIAL])


def gathered(
    file: Mapping[str, Any], environ: Mapping[str, str], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings of a cache: what the arguments give, else the environment, else the file."""
    settings = {**file, **from_environment(environ), **arguments}
    # Not from the process's own environment where another one was given.
    settings.setdefault("debug", False)
    settings.setdefault("enabled", True)
    return settings

