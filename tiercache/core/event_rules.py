"""What the application's own events purge: rules by the name of the event, from code and configuration files."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self, TypedDict

from tiercache.core.kinds import DURATION, FLAG, Kind, optional
from tiercache.core.policy_kinds import TAGS, placeholders, tag_template
from tiercache.core.policy_settings import Duration
from tiercache.core.tag_templates import filled
from tiercache.core.validation import Setting, Validated, redacted, refuse_reference
from tiercache.errors import ConfigError

Names = str | Iterable[str]
Tags = str | Callable[..., Names] | Iterable[str | Callable[..., Names]]
"""Templates, functions that are given the arguments of the event and return tags, or several of both."""


class EventSettings(TypedDict, total=False):
    """What `on` takes beside the name of the event."""

    tags: Tags
    urls: Names
    route: Names
    prefix: Names
    glob: Names
    everything: bool
    soft: bool
    wait: bool
    settle: Duration | None
    quiet: bool


def _template(value: Any) -> Any:
    if inspect.iscoroutinefunction(value):
        raise TypeError
    return value if callable(value) else tag_template(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


_TEMPLATE: Final = TAGS.schema["items"]


def _several(accepted: str, item: Callable[[Any], Any]) -> Kind:
    """One, or several: as the arguments of a purge."""

    def convert(value: Any) -> tuple[Any, ...]:
        if isinstance(value, Mapping):
            raise TypeError
        one = isinstance(value, str) or not isinstance(value, Iterable)
        return tuple(dict.fromkeys(item(part) for part in ([value] if one else value)))

    text = _TEMPLATE if item in (tag_template, _template) else {"type": "string", "minLength": 1}
    return Kind(accepted, convert, {"anyOf": [text, {"type": "array", "items": text}]})


_FILLED: Final = ", filled from the arguments of the event, or several"
_ROWS: Final = (
    Setting(
        "tags",
        _several("tag templates such as 'product:{id}', functions that return tags, or several of both", _template),
        (),
        "Tags to purge: templates filled from the arguments of the event, or functions that are given these.",
    ),
    Setting("urls", _several(f"paths or full URLs{_FILLED}", tag_template), (), "Paths and URLs to purge."),
    Setting("route", _several("the template of a rule, as it stands there, or several", _text), (), "Rules to purge."),
    Setting("prefix", _several(f"beginnings of paths{_FILLED}", tag_template), (), "Beginnings of paths to ban."),
    Setting("glob", _several(f"patterns of paths{_FILLED}", tag_template), (), "Patterns of paths to ban."),
    Setting("everything", FLAG, False, "The whole namespace."),
    Setting("soft", FLAG, False, "Whether what is named counts as stale in place of dead."),
    Setting("wait", FLAG, False, "Whether `emit` returns only when every process has applied it."),
    Setting("settle", optional(DURATION), None, "Repeat it once after this time, in seconds."),
    Setting("quiet", FLAG, False, "Whether nothing is raised where Redis has not confirmed it: the receipt tells."),
)
_FILLED_SETTINGS: Final = ("urls", "prefix", "glob")
_SELECTING: Final = ("tags", "route", *_FILLED_SETTINGS, "everything")


class EventRule(Validated):
    """What one event purges, as one `on` or one table of a configuration file says."""

    __slots__ = ("event", "named", *(row.name for row in _ROWS))
    _table: ClassVar[Mapping[str, Setting]] = MappingProxyType({row.name: row for row in _ROWS})

    event: str
    named: str
    """How errors name it."""
    tags: tuple[str | Callable[..., Names], ...]
    urls: tuple[str, ...]
    route: tuple[str, ...]
    prefix: tuple[str, ...]
    glob: tuple[str, ...]
    everything: bool
    soft: bool
    wait: bool
    settle: float | None
    quiet: bool

    @classmethod
    def of(cls, event: Any, settings: Mapping[str, Any], where: str = "") -> Self:
        """A rule as users give it; errors name its settings as `where: setting`.

        Raises:
            ConfigError: no name, a setting that cannot work, or nothing to purge.
        """
        if not isinstance(event, str) or not event or not event.isprintable():
            raise ConfigError(where or "event", redacted(event), "the name of an event: printable text, not empty")
        named = f"{where} {event!r}" if where else f"event {event!r}"
        rule = cls.parse(settings, named)
        object.__setattr__(rule, "event", event)
        object.__setattr__(rule, "named", named)
        if not any(getattr(rule, setting) for setting in _SELECTING):
            raise ConfigError(named, dict(settings), f"at least one of {', '.join(_SELECTING)}=True")
        return rule

    def purge(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the purge that the event asks for with these arguments.

        Raises:
            ConfigError: an argument is missing, cannot stand in a tag or path, or does not fit a function.
        """
        asked: dict[str, Any] = {setting: getattr(self, setting) for setting in self.given}
        asked["tags"] = [tag for template in self.tags for tag in self._tags_of(template, arguments)]
        for setting in _FILLED_SETTINGS:
            asked[setting] = [filled(template, arguments, self.named) for template in getattr(self, setting)]
        for template in self.glob:
            for name in placeholders(template):
                if set(str(arguments[name])) & set("*?"):
                    raise ConfigError(f"{self.named}: {name}", arguments[name], "text without * and ? in a glob")
        return asked

    def sample(self) -> dict[str, Any]:
        """The same with a value made up for each name, as far as it can be known without arguments and rules."""
        templates = [text for text in (*self.tags, *self.urls, *self.prefix, *self.glob) if isinstance(text, str)]
        values = dict.fromkeys(frozenset().union(*map(placeholders, templates)), "0")
        constant = EventRule.parse(
            {
                **{setting: getattr(self, setting) for setting in self.given},
                "tags": [tag for tag in self.tags if isinstance(tag, str)],
                "route": (),
            }
        )
        object.__setattr__(constant, "named", self.named)
        return constant.purge(values)

    def _tags_of(self, template: str | Callable[..., Names], arguments: Mapping[str, Any]) -> Iterable[str]:
        if isinstance(template, str):
            return (filled(template, arguments, self.named),)
        try:
            inspect.signature(template).bind(**arguments)
        except TypeError as error:
            raise ConfigError(
                f"{self.named}: tags", sorted(arguments), f"the arguments of {template!r} ({error})"
            ) from None
        except ValueError:  # it has none that can be told, as some written in C
            pass
        tags = template(**arguments)
        return (tags,) if isinstance(tags, str) else tags


class EventRules:
    """The rules of one cache. Several of one event add up."""

    __slots__ = ("_rules",)

    def __init__(self) -> None:
        self._rules: dict[str, tuple[EventRule, ...]] = {}

    def add(self, rule: EventRule) -> None:
        self._rules[rule.event] = (*self._rules.get(rule.event, ()), rule)

    def find(self, event: Any) -> tuple[EventRule, ...]:
        """The rules of an event; `ConfigError` with the names that there are for one that has none."""
        rules = self._rules.get(event) if isinstance(event, str) else None
        if rules is None:
            refuse_reference("emit", event, sorted(self._rules), "an event that `on` or [[events]] has declared here")
        return rules

    def __iter__(self) -> Iterator[EventRule]:
        return (rule for rules in self._rules.values() for rule in rules)

    def names(self) -> tuple[str, ...]:
        return tuple(self._rules)
