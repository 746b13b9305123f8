"""The curves as one picture. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.growth.curves import Curve

_COLUMNS = 2


def draw(curves: Sequence[Curve], path: Path) -> None:
    rows = math.ceil(len(curves) / _COLUMNS)
    figure = Figure(figsize=(11, 3.6 * rows), layout="constrained")
    panes = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for curve, pane in zip(curves, panes, strict=False):
        for name, figures in curve.series.items():
            pane.plot(curve.over, figures, "o-", markersize=3, linewidth=1.2, label=name)
        # From none on: what has to be seen is whether anything grows.
        if 0 in curve.over:
            # What lies below the first number that is not none is drawn as wide as a decade.
            pane.set_xscale("symlog", linthresh=min(filter(None, curve.over)), linscale=1)
        else:
            pane.set_xscale("log")
        pane.set_ylim(0, 1.25 * max(max(figures) for figures in curve.series.values()))
        pane.set(xlabel=curve.grows, ylabel=curve.unit)
        pane.set_title(curve.title, fontsize=9, loc="left")
        pane.legend(fontsize=7)
        pane.grid(alpha=0.3)
    for pane in panes[len(curves) :]:
        pane.set_visible(False)
    figure.savefig(path, dpi=90)
