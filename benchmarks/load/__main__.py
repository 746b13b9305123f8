"""Put workers under a reproducible load, with and without the cache and beside its peers; print and draw what came."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.load.pages import write_json, write_pages
from benchmarks.load.results import Outcome, Result, text_table
from benchmarks.load.runs import Scale
from benchmarks.load.scenarios import SCENARIOS, Scenario
from examples.demo.processes import ROOT, StartFailed

QUICK = Scale(burst=100, bursts=2, rate=60.0, span=2.0, long=5.0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument(
        "--only", type=_names, default=list(SCENARIOS), help=f"scenarios, by commas, of {', '.join(SCENARIOS)}"
    )
    parser.add_argument("--subjects", default="", metavar="WORD", help="only the lines whose label has this in it")
    parser.add_argument("--quick", action="store_true", help="a short trial, to see that everything runs")
    parser.add_argument("--rate", type=float, help="requests a second, where they do not come in bursts")
    parser.add_argument("--seed", type=int, default=Scale().seed, help="of keys and arrivals (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "explanation", help="where the pictures and load.md are"
    )
    parser.add_argument("--no-write", action="store_true", help="print alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts and percentiles there as well")
    parser.add_argument("--strict", action="store_true", help="fail where a count is above what is asked")
    options = parser.parse_args(argv)
    scale = replace(QUICK if options.quick else Scale(), seed=options.seed)
    if options.rate:
        scale = replace(scale, rate=options.rate)
    results = []
    for name in options.only:
        result = asyncio.run(go_through(SCENARIOS[name], scale, options.subjects))
        results.append(result)
        print(text_table(result), flush=True)
        # At once: a run is long, and what it has brought so far is not to go with the rest.
        if not options.no_write:
            for written in write_pages(options.out, [result], scale):
                print(f"wrote {written}", file=sys.stderr)
        if options.json:
            write_json(options.json, results, scale)
    complaints = [complaint for result in results for complaint in result.complaints()]
    print("\n".join(complaints) or "Every count is what is asked of it.")
    return 1 if complaints and options.strict else 0


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in SCENARIOS:
            raise argparse.ArgumentTypeError(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    return names


async def go_through(scenario: Scenario, scale: Scale, word: str = "") -> Result:
    """Run one scenario for each of its subjects, one after the other; one that cannot start says so in its line."""
    result = Result(scenario.name, scenario.title, f"{scenario.about} {scenario.absent}".strip())
    subjects = [subject for subject in scenario.subjects if word.lower() in subject.label.lower()]
    for number, subject in enumerate(subjects, 1):
        print(f"{scenario.name} {number}/{len(subjects)}: {subject.label} ...", file=sys.stderr, flush=True)
        if not subject.installed:
            result.outcomes.append(Outcome(subject.label, [], note="not installed"))
            continue
        try:
            result.outcomes.append(await scenario.run(subject, scale))
        except StartFailed as error:
            if subject.library in ("none", "tiercache"):
                raise
            result.outcomes.append(Outcome(subject.label, [], note=f"failed: {str(error).splitlines()[0]}"))
            print(error, file=sys.stderr)
    return result


if __name__ == "__main__":
    sys.exit(main())
