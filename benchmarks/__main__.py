"""Measure the cache beside bare apps, frameworks and plain Redis, and what invalidation costs; in interleaved runs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import figures, measure
from benchmarks.cases import Comparison, Maker, asgi_hits, uncached, wsgi_hits
from benchmarks.invalidation import FEW, Amounts
from benchmarks.invalidation import figures as invalidation
from benchmarks.lines import SUBJECTS, profile
from benchmarks.report import row, table, write_json
from benchmarks.shared import l2_hits, redis_url


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=75, help="times that every case is measured (%(default)s)")
    parser.add_argument("--batch-ms", type=float, default=0.5, help="length of one measurement (%(default)s)")
    parser.add_argument(
        "--only",
        choices=("requests", "invalidation"),
        help="what requests cost, or what invalidation does, as a Markdown table (default: both)",
    )
    parser.add_argument("--quick", action="store_true", help="invalidation in small amounts, to see that it runs")
    parser.add_argument("--no-redis", action="store_true", help="leave out the hits in L2, and invalidation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--strict", action="store_true", help="fail where a ratio is above what it may be")
    parser.add_argument(
        "--profile",
        nargs="?",
        const="asgi",
        choices=SUBJECTS,
        help="print a profile by line instead: of a hit in L1 (asgi, the default, or wsgi), or of a way past the store",
    )
    options = parser.parse_args(argv)
    if options.profile:
        profile(options.profile)
        return 0
    logging.getLogger("tiercache").setLevel(logging.ERROR)
    comparisons = [] if options.only == "invalidation" else requests(options)
    missed = len([comparison for comparison in comparisons if row(comparison).held is False])
    costs: list[figures.Figure] = []
    if options.only == "invalidation" or not (options.only or options.no_redis):
        costs = list(invalidation(FEW if options.quick else Amounts()))
        print(figures.markdown(costs))
        missed += len([figure for figure in costs if figure.held is False])
    if options.json:
        write_json(options.json, comparisons, costs, rounds=options.rounds, batch_ms=options.batch_ms)
    limits = sum(c.target is not None for c in comparisons) + sum(figure.at_most is not None for figure in costs)
    print(f"\n{missed} of {limits} figures are above what they may be.")
    return 1 if missed and options.strict else 0


def requests(options: argparse.Namespace) -> list[Comparison]:
    """Measure what requests cost and print it."""
    with ExitStack() as resources:
        runner = resources.enter_context(asyncio.Runner())
        comparisons = compare(runner, resources, with_redis=not options.no_redis)
        cases = list({id(case): case for found in comparisons for case in (found.case, found.base)}.values())
        print(f"{len(cases)} cases, {options.rounds} rounds ...", file=sys.stderr)
        measure.run(cases, rounds=options.rounds, batch_ms=options.batch_ms)
    print(table(comparisons))
    return comparisons


def compare(runner: asyncio.Runner, resources: ExitStack, *, with_redis: bool) -> list[Comparison]:
    make = Maker(runner)
    comparisons = [*asgi_hits(make), *wsgi_hits(make), *uncached(make)]
    if with_redis:
        url = resources.enter_context(redis_url())
        comparisons += l2_hits(runner, url, resources)
    return comparisons


if __name__ == "__main__":
    sys.exit(main())
