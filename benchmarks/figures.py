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
    at_least: float | None = None
    """Both None: for information."""

    @property
    def held(self) -> bool | None:
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def mark(self) -> str:
        """What it has to keep, in words, and whether it does."""
        least = f"at least {_number(self.at_least)}" if self.at_least is not None else ""
        asked = least if self.at_most is None else f"at most {_number(self.at_most)}"
        return asked + ("" if self.held is not False else ", **missed**")


def markdown(figures: Iterable[Figure]) -> str:
    lines = ["| measured | figure | beside | mark |", "|---|---|---|---|"]
    section = ""
    for figure in figures:
        if figure.section != section:
            section = figure.section
            lines.append(f"| **{section}** | | | |")
        value = f"{_number(figure.value)} {figure.unit}".rstrip()
        lines.append(f"| {figure.what} | {value} | {figure.beside} | {figure.mark} |")
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
