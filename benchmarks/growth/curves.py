"""Curves: figures over a number that grows, all points of one measured in one interleaved run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measure import Case, ratio
from benchmarks.tables import columns, markdown


@dataclass(frozen=True, slots=True)
class Curve:
    """`series` has a figure for each of `over`, by name; the unit is of all of them."""

    title: str
    grows: str
    unit: str
    over: Sequence[int]
    series: Mapping[str, Sequence[float]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def of_cases(title: str, grows: str, over: Sequence[int], cases: Mapping[str, Sequence[Case]]) -> Curve:
    """A curve of measured cases, in µs: the first point of each series, and the others by their ratios to it."""
    series = {name: [found[0].median * ratio(case, found[0]) for case in found] for name, found in cases.items()}
    return Curve(title, grows, "µs", over, series)


def _header(curve: Curve) -> tuple[str, ...]:
    return (curve.grows, *curve.series)


def _rows(curve: Curve) -> list[tuple[str, ...]]:
    return [
        (f"{at:,}", *(f"{figures[number]:,.{0 if curve.unit == 'bytes' else 2}f}" for figures in curve.series.values()))
        for number, at in enumerate(curve.over)
    ]


def text(curve: Curve) -> str:
    return f"{curve.title}, {curve.unit}\n\n{columns(_header(curve), _rows(curve), range(len(_header(curve))))}\n"


def page(curves: Sequence[Curve]) -> str:
    return "\n\n".join(
        f"**{curve.title}**, {curve.unit}\n\n{markdown(_header(curve), _rows(curve), range(len(_header(curve))))}"
        for curve in curves
    )
