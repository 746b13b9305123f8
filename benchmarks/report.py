"""The results as one table to read, and as JSON to keep."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from benchmarks.cases import Comparison
from benchmarks.figures import Figure, rows
from benchmarks.measure import ratio

_LIBRARIES = ("cachetools", "flask", "http-sf", "msgspec", "redis", "hiredis", "starlette", "tiercache")
_HEADER = ("", "µs", "beside", "µs", "ratio", "at most", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison as measured; microseconds are medians, `ratio` the median of the rounds' ratios."""

    section: str
    case: str
    case_us: float
    base: str
    base_us: float
    ratio: float
    target: float | None
    held: bool | None
    """None where there is no target."""

    def cells(self, target: Fraction | None) -> tuple[str, ...]:
        mark = {True: "held", False: "MISSED", None: ""}[self.held]
        return (
            f"  {self.case}",
            f"{self.case_us:.1f}",
            self.base,
            f"{self.base_us:.1f}",
            _ratio(self.ratio),
            _target(target),
            mark,
        )


def row(comparison: Comparison) -> Row:
    case, base, target = comparison.case, comparison.base, comparison.target
    measured = ratio(case, base)
    return Row(
        section=comparison.section,
        case=case.name,
        case_us=case.median,
        base=base.name,
        base_us=base.median,
        ratio=measured,
        target=None if target is None else float(target),
        held=None if target is None else measured <= target,
    )


def table(comparisons: Sequence[Comparison]) -> str:
    lines: list[tuple[str, ...]] = [_HEADER]
    section = ""
    for comparison in comparisons:
        if comparison.section != section:
            section = comparison.section
            lines.append((section, *[""] * (len(_HEADER) - 1)))
        lines.append(row(comparison).cells(comparison.target))
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    numbers = {1, 3, 4, 5}
    text = [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * sum([*widths, 2 * len(widths) - 2]), *text[1:]])


def write_json(path: Path, comparisons: Iterable[Comparison], costs: Sequence[Figure], **run: object) -> None:
    installed = {found.name.lower() for found in importlib.metadata.distributions()}
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES if name in installed}
    document = {
        "run": run,
        "machine": {
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "system": platform.system(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "versions": versions,
        },
        "rows": [{name: getattr(found, name) for name in Row.__slots__} for found in map(row, comparisons)],
        "figures": rows(costs),
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"1/{1 / value:.0f}"


def _target(target: Fraction | None) -> str:
    if target is None:
        return ""
    return f"1/{target.denominator}" if target.numerator == 1 and target < 1 else f"{float(target):g}"
