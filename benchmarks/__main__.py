"""Measure the cache beside bare apps, frameworks and plain Redis, in one interleaved run, and print the ratios."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import measure
from benchmarks.cases import Comparison, Maker, asgi_hits, uncached, wsgi_hits
from benchmarks.lines import SUBJECTS, profile
from benchmarks.report import row, table, write_json
from benchmarks.shared import l2_hits, redis_url


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=75, help="times that every case is measured (%(default)s)")
    parser.add_argument("--batch-ms", type=float, default=0.5, help="length of one measurement (%(default)s)")
    parser.add_argument("--no-redis", action="store_true", help="leave the hits in L2 out")
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
    with ExitStack() as resources:
        runner = resources.enter_context(asyncio.Runner())
        comparisons = compare(runner, resources, with_redis=not options.no_redis)
        cases = list({id(case): case for found in comparisons for case in (found.case, found.base)}.values())
        print(f"{len(cases)} cases, {options.rounds} rounds ...", file=sys.stderr)
        measure.run(cases, rounds=options.rounds, batch_ms=options.batch_ms)
    print(table(comparisons))
    if options.json:
        write_json(options.json, comparisons, rounds=options.rounds, batch_ms=options.batch_ms)
    missed = [comparison for comparison in comparisons if row(comparison).held is False]
    print(f"\n{len(missed)} of {sum(c.target is not None for c in comparisons)} ratios are above what they may be.")
    return 1 if missed and options.strict else 0


def compare(runner: asyncio.Runner, resources: ExitStack, *, with_redis: bool) -> list[Comparison]:
    make = Maker(runner)
    comparisons = [*asgi_hits(make), *wsgi_hits(make), *uncached(make)]
    if with_redis:
        url = resources.enter_context(redis_url())
        comparisons += l2_hits(runner, url, resources)
    return comparisons


if __name__ == "__main__":
    sys.exit(main())
