"""What the rows came to, by section of the RFCs: as text for a terminal, and as the page of the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conformance.rows import Kind, Row
from tests.conformance.stage import COMBINATIONS, RULES, SETTINGS, Results, applies
from tests.conformance.tables import directives, freshness, selection, storing, validation

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "conformance.md"
ROWS: tuple[Row, ...] = (*freshness.ROWS, *directives.ROWS, *storing.ROWS, *selection.ROWS, *validation.ROWS)
TITLES = {
    "9110": "HTTP Semantics",
    "9111": "HTTP Caching",
    "9112": "HTTP/1.1",
    "9211": "The Cache-Status HTTP Response Header Field",
    "9213": "Targeted HTTP Cache Control",
    "9875": "HTTP Cache Groups",
    "5861": "HTTP Cache-Control Extensions for Stale Content",
}
PASSED, OTHERWISE, NOT_APPLICABLE, FAILED = VERDICTS = ("passed", "otherwise", "not applicable", "failed")

_INTRODUCTION = """\
# Conformance

<!-- Made by `make conformance ARGS=--write` from the tables in tests/conformance/. Change it there. -->

What tiercache does of what the RFCs on HTTP caching say: one line for each behaviour, and each line is a test. Every
test runs on WSGI and on ASGI, with L1 alone, and through L2 (a real Redis), where each request reaches a process that
has never seen the URL. A behaviour has passed if it has on all of them.

The first figures are for the behaviours that the public suite of the HTTP community
([http-tests/cache-tests](https://github.com/http-tests/cache-tests)) checks as well, told and tested here in our own
words: those that it requires, those that it calls optimal, and those that it only looks at, since the RFCs leave them
open. The others are further rules of the RFCs.

- **passed**: tiercache does it.
- **otherwise**: tiercache deliberately does something else, for the reason given. The line says what it does, and that
  is tested too.
- **not applicable**: an application server in Python has no means to show it.
"""

_CONFIGURATION = """\
The configuration that all this holds for, unless a line says otherwise (*rule*), gives no lifetime to anything: what is
stored is stored by the app's own words. The settings that it does have are all off by default: each is there because
some behaviour cannot be seen without it.
"""


class Verdict(NamedTuple):
    """What one row came to, and why."""

    word: str
    why: str = ""


def verdict(row: Row, results: Results) -> Verdict:
    wrong = [
        f"{kind} on {tier}: {message}"
        for kind, tier in COMBINATIONS
        if (message := results.get((row.id, kind, tier), "not run" if applies(row, kind) else ""))
    ]
    if wrong:
        return Verdict(FAILED, "; ".join(wrong))
    if not any(applies(row, kind) for kind, _ in COMBINATIONS):
        return Verdict(NOT_APPLICABLE, row.only.partition(": ")[2])
    if row.otherwise:
        return Verdict(OTHERWISE, row.otherwise)
    return Verdict(PASSED, f"on {row.only}" if row.only else "")


def sections(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows by RFC and section, in the order of these."""

    def place(section: str) -> tuple[int, list[int]]:
        rfc, _, numbers = section.partition(" §")
        # RFC 9111 first: it is what all the others add to.
        return (0 if rfc == "9111" else int(rfc)), [int(number) for number in numbers.split(".")]

    for section in sorted({row.section for row in rows}, key=place):
        yield section, [row for row in rows if row.section == section]


def totals(rows: Sequence[Row], results: Results) -> list[list[str]]:
    """A table: a line for each kind of behaviour, and a column for each verdict."""
    lines = [["behaviours", "in all", *VERDICTS]]
    for beyond, label in ((False, ""), (True, "further, ")):
        for kind in Kind:
            words = Counter(verdict(row, results).word for row in rows if (row.beyond, row.kind) == (beyond, kind))
            lines.append([f"{label}{kind}", str(words.total()), *[str(words[word]) for word in VERDICTS]])
    return lines


def failed(rows: Sequence[Row], results: Results) -> bool:
    return any(verdict(row, results).word == FAILED for row in rows)


def as_text(rows: Sequence[Row], results: Results) -> str:
    lines = []
    for section, members in sections(rows):
        lines.append(f"\nRFC {section}")
        for row in members:
            word, why = verdict(row, results)
            lines.append(f"  {word:<15} {row.kind:<9} {row.says}{f' ({why})' if why else ''}")
    lines.append("")
    lines += ["".join(f"{cell:<20}" for cell in line).rstrip() for line in totals(rows, results)]
    return "\n".join(lines)


def as_page(rows: Sequence[Row], results: Results) -> str:
    parts = [_INTRODUCTION, *_table(totals(rows, results)), "", _CONFIGURATION, "```python"]
    parts += ["from tiercache import TierCache", ""]
    parts += [f"cache = TierCache({_arguments(SETTINGS)})", "cache.route(", '    "/{rest:path}",']
    parts += [f"    {_arguments({name: value})}," for name, value in RULES["all"].items()] + [")", "```"]
    rfc = ""
    for section, members in sections(rows):
        number, _, place = section.partition(" ")
        if number != rfc:
            rfc = number
            parts += ["", f"## RFC {rfc}: {TITLES[rfc]}"]
        url = f"https://www.rfc-editor.org/rfc/rfc{rfc}#section-{place.removeprefix('§')}"
        parts += ["", f"### [{place}]({url})", ""]
        parts += _table([["behaviour", "", "result"], *[_line(row, results) for row in members]])
    return "\n".join(parts) + "\n"


def _line(row: Row, results: Results) -> list[str]:
    word, why = verdict(row, results)
    rule = "" if row.rule == "all" else f" (*rule: {_arguments(RULES[row.rule]) or 'no settings'}*)"
    return [_escaped(row.says) + rule, str(row.kind), _escaped(f"{word}: {why}" if why else word)]


def _arguments(settings: dict[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items()).replace("'", '"')


def _escaped(text: str) -> str:
    return text.replace("*", "\\*").replace("|", "\\|")


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    head, *rest = ["| " + " | ".join(line) + " |" for line in lines]
    return [head, "|---" * len(lines[0]) + "|", *rest]
