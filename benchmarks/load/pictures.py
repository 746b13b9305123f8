"""One picture per scenario. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.load.results import Outcome, Result, percentile

BIN = 0.25
"""Seconds of a bar or a point where time goes from left to right."""
_OURS, _NONE, _PEER, _ERROR = "#1b7f5c", "#8a8a8a", "#b5651d", "#c0202a"
_FLOOR = 0.5
"""Milliseconds at the lower end of the axes; less than that is not told apart here."""


def draw(result: Result, path: Path) -> None:
    """Draw what a scenario has brought; the picture tells how to read it."""
    outcomes = [outcome for outcome in result.outcomes if outcome.parts]
    if any(outcome.phases for outcome in outcomes):
        figure = _timelines(result.title, outcomes)
    else:
        figure = _bursts(result.title, outcomes)
    figure.savefig(path, dpi=90)


def colour(label: str) -> str:
    if "no cache" in label:
        return _NONE
    return _OURS if "tiercache" in label else _PEER


def _bursts(title: str, outcomes: Sequence[Outcome]) -> Figure:
    figure = Figure(figsize=(10, 1.6 + 0.36 * len(outcomes)), layout="constrained")
    figure.suptitle(title)
    counts, waits = figure.subplots(1, 2, sharey=True)
    labels = [outcome.label for outcome in outcomes]
    at = list(range(len(outcomes)))
    calls = [outcome.parts[0].calls for outcome in outcomes]
    bars = counts.barh(at, [max(count, 0.7) for count in calls], color=[colour(label) for label in labels])
    counts.bar_label(bars, [str(count) for count in calls], padding=3)
    counts.set(xscale="log", xlim=(0.6, 3 * max([10, *calls])), xlabel="calls of the app, worst burst")
    counts.set_yticks(at, labels)
    counts.invert_yaxis()
    for row, outcome in enumerate(outcomes):
        part = outcome.parts[0]
        low, high, most = (1000 * part.percentile(share) for share in (0.5, 0.99, 1.0))
        waits.plot([low, most], [row, row], color=colour(outcome.label), linewidth=1)
        waits.plot([low, high], [row, row], color=colour(outcome.label), linewidth=5, solid_capstyle="butt")
        waits.plot([low], [row], "o", color="white", markeredgecolor=colour(outcome.label))
        if part.errors:
            waits.annotate(f"{part.errors} errors", (most, row), color=_ERROR, va="center", fontsize=8)
    waits.set_xlim(left=0)
    waits.set_xlabel("latency in ms: p50 (ring), p99 (thick), worst (thin)")
    for axes in (counts, waits):
        axes.grid(axis="x", alpha=0.3)
    return figure


def _timelines(title: str, outcomes: Sequence[Outcome]) -> Figure:
    columns = 2
    rows = math.ceil(len(outcomes) / columns)
    figure = Figure(figsize=(11, 1.0 + 2.1 * rows), layout="constrained")
    figure.suptitle(
        f"{title}\nlines: latency of each quarter of a second, median and worst (left); "
        "bars: calls of the app (right); red: errors",
        fontsize=10,
    )
    panes = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    highest = max([1, *(max(_counts(outcome.calls, outcome), default=0) for outcome in outcomes)])
    for pane, outcome in zip(panes, outcomes, strict=False):
        _timeline(pane, outcome, highest)
    for pane in panes[len(outcomes) :]:
        pane.set_visible(False)
    return figure


def _timeline(pane: Any, outcome: Outcome, highest: int) -> None:
    tint = colour(outcome.label)
    times = [BIN * (number + 0.5) for number in range(_bins(outcome))]
    calls = pane.twinx()
    calls.bar(times, _counts(outcome.calls, outcome), width=0.9 * BIN, color=tint, alpha=0.25)
    # One call is to be seen beside a hundred.
    calls.set_yscale("symlog", linthresh=1)
    calls.set(ylim=(0, 10 * highest), yticks=[number for number in (0, 1, 10, 100) if number <= highest])
    calls.yaxis.set_major_formatter("{x:.0f}")
    calls.minorticks_off()
    binned: list[list[float]] = [[] for _ in times]
    errors = [0] * len(times)
    for sample in outcome.samples:
        number = min(len(times) - 1, int(sample.due / BIN))
        binned[number].append(max(_FLOOR, 1000 * sample.latency))
        errors[number] += sample.status != 200
    for share, style in ((0.5, "-"), (1.0, ":")):
        pane.plot(times, [percentile(values, share) for values in binned], style, color=tint, linewidth=1.4)
    wrong = [(time, max(values)) for time, values, count in zip(times, binned, errors, strict=True) if count]
    pane.plot([time for time, _ in wrong], [worst for _, worst in wrong], "x", color=_ERROR, markersize=6)
    for number, (name, begin, end) in enumerate(outcome.phases):
        if 0 < number < len(outcome.phases) - 1:
            pane.axvspan(begin, end, color="#f2d7a0", alpha=0.2 + 0.2 * (number % 2), linewidth=0)
        pane.annotate(name, (begin, 1), xycoords=("data", "axes fraction"), va="top", fontsize=7, xytext=(2, -2),
                      textcoords="offset points")  # fmt: skip
    total = sum(part.calls for part in outcome.parts)
    failed = sum(part.errors for part in outcome.parts)
    pane.set_title(f"{outcome.label}: {total} calls, {failed} errors", fontsize=9, loc="left")
    pane.set(yscale="log", ylim=(_FLOOR, 2e4), xlim=(0, BIN * len(times)))
    pane.set_zorder(calls.get_zorder() + 1)
    pane.patch.set_visible(False)
    pane.grid(axis="y", alpha=0.3)
    pane.set_ylabel("ms", fontsize=8)
    calls.set_ylabel("calls", fontsize=8)


def _bins(outcome: Outcome) -> int:
    return math.ceil(outcome.phases[-1][2] / BIN) if outcome.phases else 1


def _counts(times: Sequence[float], outcome: Outcome) -> list[int]:
    counts = [0] * _bins(outcome)
    for time in times:
        if 0 <= time < BIN * len(counts):
            counts[int(time / BIN)] += 1
    return counts
