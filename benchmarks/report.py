"""Comparisons as a table to read, for a terminal and for a page, and as rows to keep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.cases import Comparison
from benchmarks.measure import ratio
from benchmarks.tables import columns, markdown

_HEADER = ("", "µs", "beside", "µs", "ratio", "at most", "")
_NUMBERS = {1, 3, 4, 5}


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
    lines: list[tuple[str, ...]] = []
    section = ""
    for comparison in comparisons:
        if comparison.section != section:
            section = comparison.section
            lines.append((section, *[""] * (len(_HEADER) - 1)))
        lines.append(row(comparison).cells(comparison.target))
    return columns(_HEADER, lines, _NUMBERS)


def page_table(comparisons: Sequence[Comparison]) -> str:
    """The same for a page."""
    lines: list[tuple[str, ...]] = []
    section = ""
    for comparison in comparisons:
        if comparison.section != section:
            section = comparison.section
            lines.append((f"**{section}**", *[""] * (len(_HEADER) - 1)))
        name, *cells, mark = row(comparison).cells(comparison.target)
        lines.append((name.strip(), *cells, mark.replace("MISSED", "**missed**")))
    return markdown(_HEADER, lines, _NUMBERS)


def comparison_rows(comparisons: Iterable[Comparison]) -> list[dict[str, object]]:
    """The same for JSON."""
    return [{name: getattr(found, name) for name in Row.__slots__} for found in map(row, comparisons)]


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"1/{1 / value:.0f}"


def _target(target: Fraction | None) -> str:
    if target is None:
        return ""
    return f"1/{target.denominator}" if target.numerator == 1 and target < 1 else f"{float(target):g}"
