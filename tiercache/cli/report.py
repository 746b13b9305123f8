"""What `tiercache check` has found, as lines for a reader and as JSON for a program."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from tiercache.config.contradictions import SEVERITIES, Finding
from tiercache.config.effective import (
    DEFAULT,
    Configuration,
    Value,
    effective_event,
    effective_policy,
    effective_settings,
    named_policy,
)

FORMAT: Final = 1
"""Rises when something is taken from the JSON, or changes its meaning."""
_WIDTH: Final = 100
_BESIDE: Final = (
    "What a view does at run time is stronger than all of this. A decorator beside a view is weaker, and cannot be "
    "known here."
)


class Report(NamedTuple):
    """The outcome of a check."""

    target: str
    configuration: Configuration | None
    """None where the code itself raised."""
    findings: list[Finding]

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        counted = Counter(finding.severity for finding in self.findings)
        return {severity: counted[severity] for severity in SEVERITIES}


def as_lines(report: Report, *, everything: bool, quiet: bool) -> Iterator[str]:
    """For a reader. `everything`: with the defaults, each on its line; `quiet`: only what is wrong."""
    configuration = report.configuration
    if configuration is not None and not quiet:
        yield "cache"
        yield from _table(effective_settings(configuration), everything)
        for name in sorted(configuration.policies.layers()):
            yield ""
            yield f"policy {name!r}"
            yield from _table(named_policy(name, configuration.policies), everything)
        for route in configuration.routes:
            yield ""
            yield f"rule {route.template}"
            yield from _table(effective_policy(route), everything)
        for event in configuration.events:
            yield ""
            yield f"event {event.event}"
            yield from _table(effective_event(event), everything)
        yield ""
        yield "what no rule matches"
        yield "  as its own response headers say"
        yield ""
        yield from textwrap.wrap(_BESIDE, _WIDTH)
        yield ""
    for finding in report.findings:
        yield f"{finding.severity}: {finding.code}: {finding.where}"
        yield from textwrap.wrap(
            finding.message, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False,
            break_long_words=False,
        )  # fmt: skip
    counts = report.counts
    yield ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())


def _table(values: Mapping[str, Value], everything: bool) -> Iterator[str]:
    rows = {name: value for name, value in values.items() if everything or value.source != DEFAULT}
    if rows:
        names, shown = max(map(len, rows)), min(40, max(len(value.shown) for value in rows.values()))
        for name, value in rows.items():
            yield f"  {name:<{names}}  {value.shown:<{shown}}  {value.source}"
    rest = len(values) - len(rows)
    if rest:
        yield f"  {rest} {'others' if rows else 'settings'} as by default"


def as_json(report: Report) -> str:
    """For a program: durations in seconds and sizes in bytes."""
    configuration = report.configuration
    found: dict[str, Any] = {"format": FORMAT, "target": report.target}
    if configuration is not None:
        names = sorted(configuration.policies.layers())
        found["settings"] = _plain(effective_settings(configuration))
        found["policies"] = {name: _plain(named_policy(name, configuration.policies)) for name in names}
        found["routes"] = [
            {
                "template": route.template,
                "rule": route.named,
                "in_file_alone": route.configured,
                "policy": _plain(effective_policy(route)),
            }
            for route in configuration.routes
        ]
        found["events"] = [
            {"event": event.event, "rule": event.named, "purges": _plain(effective_event(event))}
            for event in configuration.events
        ]
    found["findings"] = [
        {
            "code": finding.code,
            "severity": finding.severity,
            "where": finding.where,
            "setting": finding.setting or None,
            "message": finding.message,
        }
        for finding in report.findings
    ]
    found["counts"] = report.counts
    return json.dumps(found, indent=2, ensure_ascii=False)


def _plain(values: Mapping[str, Value]) -> dict[str, Any]:
    return {name: {"value": _json(value.value), "source": value.source} for name, value in values.items()}


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        # What an event purges may be a function.
        return [one if isinstance(one, str | int | float) else str(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return value
