"""What a run has brought, the judgement on its counts, and tables of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.load.client import Sample
from benchmarks.tables import columns, markdown


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked of the counts; None: nothing. Of times nothing is ever asked."""

    calls: int | None = None
    errors: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of a run (a phase, or all of its bursts together), judged by itself.

    `calls` are those that began in it; where it holds several bursts, those of the worst one.
    """

    name: str
    samples: Sequence[Sample]
    calls: int
    at_once: int
    limits: Limits = Limits()

    @property
    def errors(self) -> int:
        return sum(sample.status != 200 for sample in self.samples)

    def percentile(self, share: float) -> float:
        return percentile([sample.latency for sample in self.samples], share)

    def complaints(self) -> list[str]:
        """What the counts should have been and were not."""
        found = []
        for what, counted, limit in (
            ("calls of the app", self.calls, self.limits.calls),
            ("errors", self.errors, self.limits.errors),
        ):
            if limit is not None and counted > limit:
                found.append(f"{counted} {what}, at most {limit} asked")
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """One subject in one scenario. Times of `samples` and `calls` are seconds from the start."""

    label: str
    parts: Sequence[Part]
    samples: Sequence[Sample] = ()
    calls: Sequence[float] = ()
    phases: Sequence[tuple[str, float, float]] = ()
    note: str = ""
    """Why there is nothing, where there is nothing."""


@dataclass(slots=True)
class Result:
    """One scenario: its name, what it does in a sentence, and an outcome per subject."""

    name: str
    title: str
    about: str
    outcomes: list[Outcome] = field(default_factory=list)

    def complaints(self) -> list[str]:
        return [
            f"{self.name}: {outcome.label}{f', {part.name}' if part.name else ''}: {complaint}"
            for outcome in self.outcomes
            for part in outcome.parts
            for complaint in part.complaints()
        ]


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that this share (0 to 1) of all of them do not exceed; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


HEADER = ("", "part", "requests", "app calls", "at once", "errors", "p50 ms", "p99 ms", "max ms", "")
_NUMBERS = range(2, 9)


def rows(result: Result) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for outcome in result.outcomes:
        if outcome.note:
            lines.append((outcome.label, outcome.note, *[""] * (len(HEADER) - 2)))
        for number, part in enumerate(outcome.parts):
            lines.append(
                (
                    "" if number else outcome.label,
                    part.name,
                    str(len(part.samples)),
                    str(part.calls),
                    str(part.at_once),
                    str(part.errors),
                    *(milliseconds(part.percentile(share)) for share in (0.5, 0.99, 1.0)),
                    _mark(part),
                )
            )
    return lines


def milliseconds(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    return f"{seconds * 1000:.1f}" if seconds < 0.1 else f"{seconds * 1000:.0f}"


def _mark(part: Part) -> str:
    if part.limits == Limits():
        return ""
    missed = part.complaints()
    return f"MISSED: {'; '.join(missed)}" if missed else "held"


def text_table(result: Result) -> str:
    """For a terminal."""
    # A note runs on over the columns beside it.
    return f"{result.title}\n{result.about}\n\n{columns(HEADER, rows(result), _NUMBERS, runs_on=1)}\n"


def markdown_table(result: Result) -> str:
    """For a page."""
    return markdown(HEADER, rows(result), _NUMBERS)
