"""Measure the cache beside bare apps, frameworks, plain Redis and its peers, in interleaved runs; print and draw it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.documents import fill_in, machine
from benchmarks.lines import SUBJECTS, profile
from benchmarks.parts import LIBRARIES, PARTS, WITHOUT_REDIS, Outcome, made_on

EXPLANATION = Path(__file__).resolve().parents[1] / "docs" / "explanation"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=_names, help=f"parts, by commas, of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=75, help="times that every case is measured (%(default)s)")
    parser.add_argument("--batch-ms", type=float, default=0.5, help="length of one measurement (%(default)s)")
    parser.add_argument("--turns", type=int, default=9, help="of a second, for each subject under wrk (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="in small amounts, to see that everything runs")
    parser.add_argument("--no-redis", action="store_true", help="leave out the hits in L2, and invalidation")
    parser.add_argument("--out", type=Path, default=EXPLANATION, help="where performance.md and its pictures are")
    parser.add_argument("--no-write", action="store_true", help="print alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--strict", action="store_true", help="fail where a figure does not keep its mark")
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
    log = logging.getLogger("tiercache")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return _measure(options)
    finally:
        # Tests call this, and others after them look into the log.
        log.setLevel(level)


def _measure(options: argparse.Namespace) -> int:
    outcomes: list[Outcome] = []
    for name in options.only or (WITHOUT_REDIS if options.no_redis else PARTS):
        outcome = PARTS[name](options)
        outcomes.append(outcome)
        # At once: a run is long, and what it has brought so far is not to go with the rest.
        if not options.no_write:
            for written in write_page(options.out, outcome):
                print(f"wrote {written}", file=sys.stderr)
        if options.json:
            write_json(options.json, outcomes, options)
    missed = sum(outcome.missed for outcome in outcomes)
    print(f"\n{missed} of {sum(outcome.limits for outcome in outcomes)} figures do not keep their marks.")
    return 1 if missed and options.strict else 0


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {name!r}; there are {', '.join(PARTS)}")
    return names


def write_page(folder: Path, outcome: Outcome) -> list[Path]:
    """A part's pictures, and its place in the page of that folder; no pictures where matplotlib is not installed."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if importlib.util.find_spec("matplotlib") is not None:
        for name, draw in outcome.pictures.items():
            draw(folder / name)
            written.append(folder / name)
    page = folder / outcome.document
    if page.exists():
        text = fill_in(page.read_text(encoding="utf-8"), f"bench: {outcome.name}", f"{made_on()}\n\n{outcome.page}")
        page.write_text(text, encoding="utf-8")
        written.append(page)
    return written


def write_json(path: Path, outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    document = {
        "run": {"rounds": options.rounds, "batch_ms": options.batch_ms, "turns": options.turns},
        "machine": machine(LIBRARIES),
        "parts": {outcome.name: outcome.rows for outcome in outcomes},
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
