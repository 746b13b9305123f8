"""Who stands where, as bars. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.peers.standings import Standings
from benchmarks.peers.subjects import Kind

COLOURS: dict[Kind, str] = {
    "bare": "#8a8a8a", "alike": "#8a8a8a", "plain": "#c2c2c2",
    "tiercache": "#1b7f5c", "peer": "#b5651d", "front": "#4a6fa5",
}  # fmt: skip


def draw(title: str, runs: Sequence[Standings], path: Path) -> None:
    """A pane for each run, the fastest on top."""
    runs = [found for found in runs if any(line.samples for line in found.lines)]
    heights = [sum(bool(line.samples) for line in found.lines) + 1 for found in runs]
    figure = Figure(figsize=(9, 1.0 + 0.3 * sum(heights)), layout="constrained")
    figure.suptitle(title)
    panes = figure.subplots(len(runs), 1, squeeze=False, height_ratios=heights)
    for found, pane in zip(runs, panes[:, 0], strict=True):
        lines = [line for line in found.ordered() if line.samples]
        ratios = [line.ratio(found.base or line) for line in lines]
        bars = pane.barh(range(len(lines)), ratios, color=[COLOURS[line.subject.kind] for line in lines])
        values = [f"{line.median:,.{found.digits}f} {found.unit}" for line in lines]
        labels = [f"{ratio:.2f}  ({value})" for ratio, value in zip(ratios, values, strict=True)]
        pane.bar_label(bars, labels, padding=3, fontsize=8)
        pane.set_yticks(range(len(lines)), [line.subject.name for line in lines], fontsize=8)
        pane.invert_yaxis()
        pane.set_title(_title(found), fontsize=9, loc="left")
        if found.unit == "µs":
            pane.set(xscale="log", xlim=(min(ratios) / 2, max(ratios) * 8))
        else:
            pane.set_xlim(0, max(ratios) * 1.35)
        pane.tick_params(axis="x", labelsize=8)
        pane.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=90)


def _title(found: Standings) -> str:
    base = "" if found.base is None else found.base.subject.name
    if found.unit == "µs":
        return f"{found.title}: times as long as {base} (shorter is better)"
    return f"{found.title}: requests a second, of those of {base} (longer is better)"
