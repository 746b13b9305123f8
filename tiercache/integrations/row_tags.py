"""What the integrations with databases share: tags from the values of a row, and purges that never fail a commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from tiercache.cache import TierCache
from tiercache.core.policy_kinds import placeholders, tag_template
from tiercache.core.policy_settings import Duration
from tiercache.core.records import is_text
from tiercache.core.tag_templates import as_text
from tiercache.engine.effects import adrive, drive
from tiercache.engine.purging import Purge, PurgeSettings, purge_for
from tiercache.errors import ConfigError, PurgeUnconfirmed

Names = str | Iterable[str]
Function = Callable[[Any], Any]
Templates = str | Function | Iterable[str | Function]
"""What a user gives for one class: templates, functions of an instance, or several of both."""

MOST_ROWS: Final = 1_000
"""Rows that one statement may change before they are counted as unknown."""
UNKNOWN: Final = None
"""Among tags: something has changed of which nobody knows what it was."""
Tags = set[str | None]

_ACCEPTED: Final = "a tag template such as 'product:{id}', a function of an instance that returns tags, or several"


class RowTags:
    """The templates for one class."""

    __slots__ = ("functions", "names", "templates")

    def __init__(self, templates: Any, where: str, *, empty: bool = False) -> None:
        """Raises `ConfigError`, naming `where`, for what is no template, and for none unless there may be `empty`."""
        given = [templates] if isinstance(templates, str) or not isinstance(templates, Iterable) else list(templates)
        if not given and not empty:
            raise ConfigError(where, templates, _ACCEPTED)
        try:
            texts = [tag_template(one) for one in given if not callable(one)]
        except ValueError:
            raise ConfigError(where, templates, _ACCEPTED) from None
        self.templates: tuple[str, ...] = tuple(dict.fromkeys(texts))
        self.functions: tuple[Function, ...] = tuple(one for one in given if callable(one))
        self.names: frozenset[str] = frozenset().union(*map(placeholders, self.templates))
        """Of the attributes whose values the templates need."""

    def of(self, values: Mapping[str, Any]) -> Tags:
        """The tags of a row with these values. A template with a value that is null belongs to no tag; one whose value
        is missing or cannot stand in a tag makes the row unknown.
        """
        tags: Tags = set()
        for template in self.templates:
            needed = placeholders(template)
            if not needed <= values.keys():
                tags.add(UNKNOWN)
                continue
            if any(values[name] is None for name in needed):
                continue
            try:
                texts = {name: "" if values[name] == "" else as_text(values[name]) for name in needed}
            except ValueError:
                tags.add(UNKNOWN)
            else:
                tags.add(template.format_map(texts))
        return tags

    def called(self, instance: Any) -> Tags:
        """What the functions say of an instance. Raises what they raise, and `ValueError` for what is no tag."""
        tags: Tags = set()
        for function in self.functions:
            said = function(instance)
            for tag in (said,) if isinstance(said, str) else said:
                if not isinstance(tag, str) or not tag or not is_text(tag):
                    raise ValueError(f"{tag!r} is no tag")
                tags.add(tag)
        return tags


class QuietPurger:
    """Purges for one cache after the fact: the change is committed, so that nothing may fail any more."""

    def __init__(
        self, cache: TierCache, where: str, *, unknown: Names | None, soft: bool = False, settle: Duration | None = None
    ) -> None:
        """`unknown`: the tags to purge where it is not known what has changed; None: everything.

        Raises:
            ConfigError: a setting that cannot work.
        """
        self._engine = cache._engine
        self._cache = cache
        self._settings: PurgeSettings = {"soft": soft, "settle": settle}
        if isinstance(unknown, Iterable) and not isinstance(unknown, str):
            unknown = tuple(unknown)
        self._unknown: PurgeSettings = {"everything": True} if unknown is None else {"tags": unknown}
        purge_for(cache.routes, {**self._settings, **self._unknown}, where)
        self._instead = (
            f"everything was purged, pages and values of all kinds; name what is enough, {where}(..., unknown=[tags])"
            if unknown is None
            else f"purged in their place: {unknown if isinstance(unknown, str) else ', '.join(unknown)}"
        )

    def purge(self, tags: Tags) -> None:
        """Purge these. Never raises; at worst it waits for `purge_timeout`."""
        if tags:
            self.carry_out(self._purges(tags))

    def carry_out(self, purges: list[Purge]) -> None:
        """The same for purges as they are."""
        try:
            drive(self._cache._carrying_out(purges))
        except Exception as error:
            self._note(error)

    async def apurge(self, tags: Tags) -> None:
        """`purge` for async code."""
        if tags:
            try:
                await adrive(self._cache._carrying_out(self._purges(tags)))
            except Exception as error:
                self._note(error)

    def _purges(self, tags: Tags) -> list[Purge]:
        named: set[str] = {tag for tag in tags if tag is not None}
        purges = [purge_for(self._cache.routes, {**self._settings, "tags": sorted(named)})] if named else []
        if UNKNOWN in tags:
            self.swallow("change of unknown rows", self._instead)
            purges.append(purge_for(self._cache.routes, {**self._settings, **self._unknown}))
        return purges

    def _note(self, error: Exception) -> None:
        # One that is not confirmed has been counted and logged where it was queued.
        if not isinstance(error, PurgeUnconfirmed):
            self.swallow("purge after a commit", f"{type(error).__name__}: {error}")

    def swallow(self, kind: str, problem: object) -> None:
        self._engine.complaints.swallow(kind, problem)
