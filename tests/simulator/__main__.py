"""`make simulate`: many histories, in several processes. `ARGS="--seeds 1000000"`, `--from 0`, `--jobs 2`,
`--processes 2` (as many in each history), `--explain 17` (one seed, step by step), `--plants`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial

from tests.simulator.plan import shape_of
from tests.simulator.plants import PLANTS
from tests.simulator.run import Figures, too_rare
from tests.simulator.shrink import explain
from tests.simulator.work import CHUNK, chunk, one_plant


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _simulate(first: int, seeds: int, jobs: int, processes: int | None) -> int:
    figures, broken = Figures(), 0
    began = said = time.monotonic()
    work = partial(chunk, end=first + seeds, processes=processes)
    with ProcessPoolExecutor(jobs) as pool:
        parts = [pool.submit(work, start) for start in range(first, first + seeds, CHUNK)]
        for future in as_completed(parts):
            part, wrong = future.result()
            figures.add(part)
            broken += len(wrong)
            for text in wrong:
                _say(text)
            if time.monotonic() - said > 60:
                said = time.monotonic()
                _say(f"{said - began:6.0f} s: {figures.line()}; {broken} violations")
    _say(f"seeds {first} to {first + seeds - 1} in {time.monotonic() - began:.0f} s on {jobs} cores")
    _say(f"{figures.line()}; {broken} violations")
    for event, count in sorted(figures.seen.items()):
        _say(f"  {count:12,}  {event}")
    rare = too_rare(figures) if processes is None else {}
    if rare:
        _say(f"too rare to show anything: {rare}")
    return 1 if broken or rare else 0


def _plants(jobs: int) -> int:
    missed = 0
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(one_plant, name) for name in PLANTS]):
            name, caught, seconds = future.result()
            missed += caught is None
            _say(f"{seconds:7.1f} s  {name}: " + ("NOT NOTICED" if caught is None else f"history {caught[0]}"))
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--explain", type=int, metavar="SEED")
    parser.add_argument("--plants", action="store_true")
    given = parser.parse_args()
    if given.explain is not None:
        _say(explain(given.explain, shape=shape_of(given.explain, given.processes)))
        return 0
    if given.plants:
        return _plants(given.jobs)
    return _simulate(given.first, given.seeds, given.jobs, given.processes)


if __name__ == "__main__":
    sys.exit(main())
