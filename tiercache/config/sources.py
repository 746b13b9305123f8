"""Settings from the environment, and which source wins: arguments, then the environment, then the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

from tiercache.config.settings import DISABLED_VARIABLE, Settings, switched_on
from tiercache.config.toml import Refused, refuse
from tiercache.core.policy import Policy
from tiercache.core.routes import IN_CODE
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


def from_environment(environ: Mapping[str, str], refused: Refused = refuse) -> dict[str, Any]:
    """The settings that `TIERCACHE_` variables give, parsed. An empty variable counts as absent.

    Args:
        environ: the variables.
        refused: told of each that there is none of, or whose value is not accepted. If it does not raise, that one is
            left out.

    Raises:
        ConfigError: what `refused` is told of, named by the variable.
    """
    settings: dict[str, Any] = {}
    for variable in sorted(environ):
        text = environ[variable]
        if not variable.startswith(PREFIX) or variable in _SPECIAL or not text.strip():
            continue
        row = _ROWS.get(variable)
        if row is None and _OF_KUBERNETES.search(variable):
            continue
        try:
            if row is None:
                _refuse(variable, text)
            settings[row.name] = row.kind.from_text(variable, Secret(text) if row.secret else text)
        except ConfigError as error:
            refused(error)
    try:
        if switched_on(DISABLED_VARIABLE, environ):
            settings["enabled"] = False
    except ConfigError as error:
        refused(error)
    return settings


def _refuse(variable: str, text: str) -> NoReturn:
    name = variable[len(PREFIX) :].lower()
    if name in Policy.names():
        accepted = f"this setting in a rule, in code or in the file that {CONFIG_VARIABLE} names"
        raise ConfigError(variable, redacted(text), accepted)
    refuse_unknown("", variable, text, [*_ROWS, *_SPECIAL])


class Gathered(NamedTuple):
    """The settings of a cache, and where each was written."""

    settings: dict[str, Any]
    sources: dict[str, str]


def gathered(
    file: Mapping[str, Any],
    environ: Mapping[str, str],
    arguments: Mapping[str, Any],
    name: str = "",
    refused: Refused = refuse,
) -> Gathered:
    """The settings of a cache: what the arguments give, else the environment, else the file, which is called `name`."""
    variables = from_environment(environ, refused)
    settings = {**file, **variables, **arguments}
    sources = dict.fromkeys(file, name)
    sources |= {setting: PREFIX + setting.upper() for setting in variables}
    if "enabled" in variables and variables["enabled"] is False and environ.get(DISABLED_VARIABLE, "").strip():
        sources["enabled"] = DISABLED_VARIABLE
    sources |= dict.fromkeys(arguments, IN_CODE)
    # Not from the process's own environment where another one was given.
    settings.setdefault("debug", False)
    settings.setdefault("enabled", True)
    return Gathered(settings, sources)

