"""What came of a run: counted while it goes on, and told at its end."""

from __future__ import annotations

import json
import sys
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.faults.judge import Finding, Read, Verdict
from tests.faults.terms import BOUND

SHOWN = 20
"""Violations that are told in full."""
_STEPS = [0.001 * 1.1**i for i in range(110)]


class Histogram:
    """Seconds, in buckets 10 % wide."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_STEPS) + 1)
        self.total = 0
        self.worst = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_STEPS, seconds)] += 1
        self.total += 1
        self.worst = max(self.worst, seconds)

    def at(self, share: float) -> float:
        """The least number of seconds that this share does not exceed."""
        left = self.total * share
        for step, count in zip([*_STEPS, self.worst], self.counts, strict=True):
            left -= count
            if left <= 0:
                return min(step, self.worst)
        return self.worst


class Tally:
    """Counters of one run."""

    def __init__(self, log: Path) -> None:
        self.began = time.monotonic()
        self.reads: Counter[str] = Counter()
        self.purges: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.stale: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.calm: defaultdict[str, Histogram] = defaultdict(Histogram)
        """The same for the time before the first fault."""
        self.calm_since_start = True
        self.servers: list[str] = []
        self.took = Histogram()
        self.recovery = Histogram()
        self.unconfirmed = 0
        """Purges that raised, and how many of them a queue had confirmed later."""
        self.confirmed_later = 0
        self.kept = 0
        """Reads that found after a fault what they had found before it."""
        self.excused = 0
        """Requests that failed because their app had been killed or stopped."""
        self.errors: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.splits = 0
        """Faults in which Redis itself was split, and something was served that should not be."""
        self.first_trouble: float | None = None
        self.current = ""
        """The fault under way, or the last one and `recovery`; empty between them."""
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        self._shown = 0

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.began:8.1f}  {text}\n"
        sys.stdout.write(line)
        sys.stdout.flush()

    def so_far(self) -> str:
        return f"{self.faults.total()} faults, {self.reads.total():,} reads, {self.purges.total():,} purges"

    def note(self, text: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{time.monotonic():.4f} {text}\n")

    def read(self, read: Read, finding: Finding) -> None:
        self.reads[read.tier] += 1
        self.took.add(read.received - read.sent)
        if finding.staleness > 0:
            self.stale[read.tier].add(finding.staleness)
            if self.calm_since_start:
                self.calm[read.tier].add(finding.staleness)
        if finding.softly > 0:
            self.stale[f"{read.tier}, purged softly"].add(finding.softly)

    def error(self, app: str, text: str) -> None:
        self.errors[app] += 1
        self._show(f"ERROR at {app}: {text}")

    def verdicts(self, app: str, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            self.violations[verdict.kind] += 1
            self._show(f"VIOLATION at {app or 'the fleet'} ({verdict.kind}): {verdict.text}")

    def excuse(self, since: Counter[str], why: str) -> None:
        """Take back the violations since then: what happened is outside of what is promised."""
        if self.violations != since:
            self.splits += 1
            self.violations = since
            self.say(f"excused: {why}")
            self.note(f"excused: {why}")

    def _show(self, text: str) -> None:
        if self.first_trouble is None:
            self.first_trouble = time.monotonic() - self.began
        text = f"{text} [during {self.current or 'a calm'}]"
        self.note(text)
        self._shown += 1
        if self._shown <= SHOWN:
            self.say(text)

    @property
    def wrong_bodies(self) -> int:
        return self.violations["wrong body"] + self.violations["answer of another request"]

    @property
    def good(self) -> bool:
        return not self.violations.total() and not self.errors.total()

    def figures(self) -> dict[str, Any]:
        return {
            "servers": self.servers,
            "seconds": round(time.monotonic() - self.began, 1),
            "faults": self.faults.total(),
            "faults by kind": dict(sorted(self.faults.items())),
            "reads": self.reads.total(),
            "reads by tier": dict(self.reads.most_common()),
            "purges": self.purges.total(),
            "purges by kind": dict(self.purges.most_common()),
            "purges not confirmed at once": self.unconfirmed,
            "of these confirmed later": self.confirmed_later,
            "bound": BOUND,
            "staleness by tier": {tier: _figures(histogram) for tier, histogram in sorted(self.stale.items())},
            "staleness in calm": {tier: _figures(histogram) for tier, histogram in sorted(self.calm.items())},
            "answer times": _figures(self.took),
            "recovery": _figures(self.recovery),
            "kept exactly": self.kept,
            "failed with their app": self.excused,
            "excused as split brain": self.splits,
            "violations": dict(self.violations),
            "first trouble after": self.first_trouble,
            "wrong bodies": self.wrong_bodies,
            "errors because of the cache": self.errors.total(),
        }


def _figures(histogram: Histogram) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {
        "count": histogram.total,
        **{name: round(histogram.at(share), 4) for name, share in shares.items()},
        "worst": round(histogram.worst, 4),
    }


def markdown(figures: dict[str, Any]) -> str:
    """The report for people."""
    names = ["faults", "reads", "purges", "purges not confirmed at once", "of these confirmed later", "kept exactly"]
    names += ["wrong bodies", "errors because of the cache"]
    lines = ["| what | how many |", "|---|---|", *[f"| {name} | {figures[name]:,} |" for name in names]]
    lines.append(f"| violations | {sum(figures['violations'].values()):,} {figures['violations'] or ''} |")
    lines += ["", f"Staleness of stale answers in seconds, with D = {figures['bound']:g} s:", ""]
    lines += ["| tier | during | answers | p50 | p99 | worst |", "|---|---|---|---|---|---|"]
    for when, name in (("the whole run", "staleness by tier"), ("the time before any fault", "staleness in calm")):
        for tier, row in figures[name].items():
            numbers = f"{row['count']:,} | {row['p50']:.3f} | {row['p99']:.3f} | {row['worst']:.3f}"
            lines.append(f"| {tier} | {when} | {numbers} |")
    for name in ("answer times", "recovery"):
        row = figures[name]
        lines += ["", f"{name}: p50 {row['p50']:.4f} s, p99 {row['p99']:.3f} s, worst {row['worst']:.3f} s"]
    lines += ["", "reads by tier: " + _counts(figures["reads by tier"])]
    lines += ["purges by kind: " + _counts(figures["purges by kind"])]
    lines += ["faults by kind: " + _counts(figures["faults by kind"])]
    return "\n".join(lines) + "\n"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def write(figures: dict[str, Any], directory: Path) -> None:
    (directory / "chaos.json").write_text(json.dumps(figures, indent=2) + "\n")
    (directory / "chaos.md").write_text(markdown(figures))
