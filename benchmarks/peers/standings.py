"""Who stands where: the samples of each subject, round by round, and their ratios within the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.peers.subjects import Kind, Subject

Unit = Literal["µs", "requests/s"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One subject: a sample for each round, or the reason why there is none."""

    subject: Subject
    samples: Sequence[float] = ()
    note: str = ""
    version: str = ""
    cpu: float | None = None
    """Microseconds of the server's processor for each answer: on a busy machine it says more than the rate does."""
    p50: float | None = None
    p99: float | None = None
    """Microseconds, as the client saw them; None where nobody did."""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def ratio(self, base: Standing) -> float:
        """The median of the ratios within the rounds: what slows down a whole round slows down both sides of it."""
        return statistics.median(one / other for one, other in zip(self.samples, base.samples, strict=True))


@dataclass(slots=True)
class Standings:
    """One interleaved run."""

    title: str
    unit: Unit
    lines: list[Standing] = field(default_factory=list)

    @property
    def digits(self) -> int:
        """After the point, where its figures are shown."""
        return 1 if self.unit == "µs" else 0

    def first(self, kind: Kind) -> Standing | None:
        """The first of that kind that was measured."""
        return next((line for line in self.lines if line.subject.kind == kind and line.samples), None)

    @property
    def base(self) -> Standing | None:
        """What all others are compared with: the bare app, or tiercache where there is none."""
        return self.first("bare") or self.first("tiercache")

    def best_peer(self) -> Standing | None:
        return next((line for line in self.ordered() if line.subject.kind == "peer" and line.samples), None)

    def ordered(self) -> list[Standing]:
        """The fastest first, by their ratios; those without samples last."""
        base, sign = self.base, 1 if self.unit == "µs" else -1

        def place(line: Standing) -> tuple[bool, float]:
            if not line.samples:
                return True, 0.0
            return False, sign * (line.median if base is None else line.ratio(base))

        return sorted(self.lines, key=place)
