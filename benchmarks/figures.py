"""Single figures, each beside what it is compared with and what it may be, as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was counted or timed."""

    section: str
    what: str
    value: float
    unit: str = ""
    beside: str = ""
    """What it is compared with, in words."""
    at_most: float | None = None
    """None: for information."""

    @property
    def held(self) -> bool | None:
        return None if self.at_most is None else self.value <= self.at_most


def markdown(figures: Iterable[Figure]) -> str:
    lines = ["| measured | figure | beside | at most |", "|---|---|---|---|"]
    section = ""
    for figure in figures:
        if figure.section != section:
            section = figure.section
            lines.append(f"| **{section}** | | | |")
        most = "" if figure.at_most is None else _number(figure.at_most) + (", **missed**" if not figure.held else "")
        value = f"{_number(figure.value)} {figure.unit}".rstrip()
        lines.append(f"| {figure.what} | {value} | {figure.beside} | {most} |")
    return "\n".join(lines)


def rows(figures: Sequence[Figure]) -> list[dict[str, object]]:
    return [{**asdict(figure), "held": figure.held} for figure in figures]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _number(value: float) -> str:
    if value == int(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
