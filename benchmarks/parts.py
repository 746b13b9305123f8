"""The parts of `make bench`: each measures, prints, and says what belongs into the documentation."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import figures, measure
from benchmarks.cases import Comparison, Maker, asgi_hits, uncached, wsgi_hits
from benchmarks.documents import machine_line
from benchmarks.figures import Figure
from benchmarks.growth import curves as growth_curves
from benchmarks.growth.every import every
from benchmarks.invalidation import FEW, Amounts
from benchmarks.invalidation import figures as invalidation_figures
from benchmarks.peers import in_process, under_wrk
from benchmarks.peers import report as peers_report
from benchmarks.peers.standings import Standings
from benchmarks.reads import l2_reads
from benchmarks.report import comparison_rows, page_table, row, table
from benchmarks.shared import l2_hits, redis_url
from benchmarks.shared_together import hits_together
from benchmarks.strategies import report as strategies_report
from benchmarks.strategies import runs as strategies_runs

Draw = Callable[[Path], None]

DOCUMENTS = {"strategies": "../how-to/choose-a-strategy.md"}
"""The pages of those parts that have another one than performance.md, from docs/explanation."""


@dataclass(slots=True)
class Outcome:
    """What a part has brought."""

    name: str
    page: str
    """For the documentation, in Markdown."""
    missed: int
    limits: int
    rows: list[dict[str, Any]]
    """For JSON."""
    pictures: dict[str, Draw] = field(default_factory=dict)
    document: str = "performance.md"
    """The page, from docs/explanation."""


def requests(options: argparse.Namespace) -> Outcome:
    """What requests cost beside bare apps, frameworks and plain Redis."""
    with ExitStack() as resources:
        runner = resources.enter_context(asyncio.Runner())
        comparisons = _compare(runner, resources, with_redis=not options.no_redis)
        cases = list({id(case): case for found in comparisons for case in (found.case, found.base)}.values())
        print(f"{len(cases)} cases, {options.rounds} rounds ...", file=sys.stderr)
        measure.run(cases, rounds=options.rounds, batch_ms=options.batch_ms)
    print(table(comparisons))
    missed = sum(row(comparison).held is False for comparison in comparisons)
    limits = sum(comparison.target is not None for comparison in comparisons)
    return Outcome("requests", page_table(comparisons), missed, limits, comparison_rows(comparisons))


def _compare(runner: asyncio.Runner, resources: ExitStack, *, with_redis: bool) -> list[Comparison]:
    make = Maker(runner)
    comparisons = [*asgi_hits(make), *wsgi_hits(make), *uncached(make)]
    if with_redis:
        url = resources.enter_context(redis_url())
        comparisons += l2_hits(runner, url, resources)
        comparisons += hits_together(runner, url, resources)
        comparisons += l2_reads(runner, url, resources)
    return comparisons


def peers(options: argparse.Namespace) -> Outcome:
    """Hits of other caches, in process."""
    # Half of the rounds: most of these cases take far longer than those of the part above.
    rounds = max(1, options.rounds // 2)
    with ExitStack() as resources:
        url = None if options.no_redis else resources.enter_context(redis_url())
        runs = [_told(one) for one in in_process.standings(url, rounds=rounds, batch_ms=options.batch_ms)]
    return _of_standings("peers", "A hit in process", runs)


def wrk(options: argparse.Namespace) -> Outcome:
    """The same behind real servers, under wrk."""
    try:
        turns = under_wrk.standings(rounds=1 if options.quick else options.turns, seconds=1)
        runs = [_told(one) for one in turns]
    except FileNotFoundError as error:
        print(f"Not measured: {error}")
        return Outcome("wrk", f"Not measured: {error}.", 0, 0, [])
    return _of_standings("wrk", "Under wrk", runs)


def _told(found: Standings) -> Standings:
    print(peers_report.text(found), flush=True)
    return found


def _of_standings(name: str, title: str, runs: list[Standings]) -> Outcome:
    def draw(path: Path) -> None:
        from benchmarks.peers import pictures

        pictures.draw(title, runs, path)

    marks = list(peers_report.marks(runs))
    print(figures.markdown(marks))
    page = f"{figures.markdown(marks)}\n\n{peers_report.page(runs)}"
    rows: list[dict[str, Any]] = [
        {
            "run": found.title,
            "unit": found.unit,
            "subject": line.subject.name,
            "version": line.version,
            "median": line.median if line.samples else None,
            "cpu_us": line.cpu,
            "note": line.note,
        }
        for found in runs
        for line in found.ordered()
    ]
    return Outcome(name, page, *_judged(marks), rows, {f"performance-{name}.png": draw})


def _judged(marks: list[Figure]) -> tuple[int, int]:
    return sum(one.held is False for one in marks), sum(one.held is not None for one in marks)


def invalidation(options: argparse.Namespace) -> Outcome:
    """What invalidation costs to keep."""
    costs = list(invalidation_figures(FEW if options.quick else Amounts()))
    print(figures.markdown(costs))
    return Outcome("invalidation", figures.markdown(costs), *_judged(costs), figures.rows(costs))


def growth(options: argparse.Namespace) -> Outcome:
    """What grows with entries, purged tags, rules and tags of an entry, and what does not."""
    curves = []
    for curve in every(options.quick, rounds=max(1, options.rounds // 5), batch_ms=options.batch_ms):
        print(growth_curves.text(curve), flush=True)
        curves.append(curve)

    def draw(path: Path) -> None:
        from benchmarks.growth import pictures

        pictures.draw(curves, path)

    rows = [curve.to_json() for curve in curves]
    return Outcome("growth", growth_curves.page(curves), 0, 0, rows, {"performance-growth.png": draw})


def strategies(options: argparse.Namespace) -> Outcome:
    """What each strategy costs and gives, on the shop."""
    found = strategies_report.measure(strategies_runs.FEW if options.quick else strategies_runs.Amounts())
    marks = list(strategies_report.marks(found))
    print(strategies_report.text(found))
    print(figures.markdown(marks))
    print(strategies_report.verdict(found))
    page = f"{strategies_report.page(found)}\n\n{figures.markdown(marks)}"
    rows = strategies_report.rows(found)
    return Outcome("strategies", page, *_judged(marks), rows, document=DOCUMENTS["strategies"])


PARTS: Mapping[str, Callable[[argparse.Namespace], Outcome]] = {
    "requests": requests,
    "peers": peers,
    "wrk": wrk,
    "invalidation": invalidation,
    "growth": growth,
    "strategies": strategies,
}
WITHOUT_REDIS = ("requests", "peers", "wrk", "growth")
LIBRARIES = (
    "tiercache", "cachetools", "http-sf", "msgspec", "redis", "hiredis", "starlette", "flask", "fastapi", "litestar",
    "django", "uvicorn", "uvloop", "httptools", "granian", "gunicorn",
)  # fmt: skip


def made_on() -> str:
    """Says how busy the machine was as well: a run takes up to two cores, and what is above that is somebody else's."""
    load = f" Load of the machine at the end: {os.getloadavg()[0]:.1f}." if hasattr(os, "getloadavg") else ""
    return f"Made on {machine_line(LIBRARIES)}.{load}"
