"""From an event of the application to the purge that its rules ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from tiercache.core.event_rules import EventRule, EventRules
from tiercache.core.routes import RouteTable
from tiercache.engine.purging import Purge, PurgeSettings, purge_for


def checked(routes: RouteTable, rule: EventRule) -> EventRule:
    """The rule, if it can be carried out as far as that can be told when it is declared: the rules for paths that it
    names may still come.

    Raises:
        ConfigError: a URL that is neither a path nor absolute, a ban that is soft, and the like.
    """
    sample = rule.sample()
    if any(sample.get(setting) for setting in ("tags", "urls", "prefix", "glob", "everything")):
        purge_for(routes, cast("PurgeSettings", sample), rule.named)
    return rule


def purges_of(routes: RouteTable, rules: EventRules, event: str, arguments: Mapping[str, Any]) -> list[Purge]:
    """One purge for each rule of the event that names something.

    Raises:
        ConfigError: the event has no rule here, or an argument is missing or cannot stand in a tag.
    """
    asked = [(rule, rule.purge(arguments)) for rule in rules.find(event)]
    selecting = ("tags", "urls", "route", "prefix", "glob", "everything")
    return [
        purge_for(routes, cast("PurgeSettings", settings), rule.named)
        for rule, settings in asked
        # A function may find that there is nothing to purge.
        if any(settings.get(setting) for setting in selecting)
    ]


def united(purges: Iterable[Purge]) -> Purge:
    """Several purges as one: the ledger takes hard and soft ones together. Repeating them is for each of its own."""
    purges = list(purges)
    everything = any(purge.everything for purge in purges)
    return Purge(
        named=tuple(dict.fromkeys(name for purge in purges for name in purge.named)),
        members=() if everything else tuple(dict.fromkeys(member for purge in purges for member in purge.members)),
        everything=everything,
        wait=any(purge.wait for purge in purges),
        settle=0.0,
        quiet=all(purge.quiet for purge in purges),
    )
