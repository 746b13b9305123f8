"""Policies with a name, which rules refer to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tiercache.core.policy import Policy
from tiercache.core.validation import redacted, refuse_reference
from tiercache.errors import ConfigError

NAME_ACCEPTED = "a name: text that is not empty"
Layers = tuple[tuple[str, Policy], ...]
"""Where each part of what holds for a rule was written, and what it says there: the strongest first."""


def source_of(name: str) -> str:
    """How a named policy is called where the source of a setting is told."""
    return f"policy {name!r}"


class NamedPolicies:
    """The policies of one cache by name. A configuration file is stronger than code that uses the same name."""

    __slots__ = ("_configured", "_layers", "_used")

    def __init__(self) -> None:
        self._configured: dict[str, Layers] = {}
        self._layers: dict[str, Layers] = {}
        self._used: set[str] = set()

    def configure(self, layers: Mapping[str, Layers], used: frozenset[str] = frozenset()) -> None:
        """Take the policies of a configuration file, and which of them its own rules refer to."""
        self._configured = dict(layers)
        self._layers = {**self._layers, **layers}
        self._used |= used

    def add(self, name: str, policy: Policy) -> Policy:
        """Name a policy from code; what a configuration file gives under the name is put over it.

        Raises:
            ConfigError: no name; a policy that sets nothing; or the name has been given in code before.
        """
        where = f"policy {redacted(name)!r}"
        if not name or not isinstance(name, str):
            raise ConfigError("policy", redacted(name), NAME_ACCEPTED)
        if not policy.given:
            raise ConfigError(where, None, "a policy with at least one setting, e.g. ttl='10m'")
        above = self._configured.get(name, ())
        if len(self._layers.get(name, ())) > len(above):
            raise ConfigError("policy", name, "a name that no policy has yet")
        self._layers[name] = (*above, (f"{source_of(name)} in code", policy))
        return Policy.layered(self._layers[name], where)

    def find(self, name: str, where: str) -> Layers:
        """What holds under a name; `ConfigError` with the closest name there is. `where` names who asks."""
        if name not in self._layers:
            refuse_reference(f"{where}: policy", name, sorted(self._layers), "a policy that has been given before")
        self._used.add(name)
        return self._layers[name]

    def unused(self) -> tuple[str, ...]:
        """The names that no rule has referred to."""
        return tuple(sorted(self._layers.keys() - self._used))

    def layers(self) -> Mapping[str, Layers]:
        return MappingProxyType(self._layers)
