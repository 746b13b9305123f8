"""Real processes under faults: `python -m tests.faults`, or `make chaos`. Exit status 1 if anything was violated."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import time
from math import inf
from pathlib import Path

import tests.faults.topologies  # noqa: F401  its faults are among them then
from tests.faults.faults import FAULTS, Fault, schedule
from tests.faults.fleet import FLEETS
from tests.faults.judge import Judge, Read, Verdict, kept_exactly
from tests.faults.plants import PLANTS
from tests.faults.purger import Purger
from tests.faults.readers import Readers
from tests.faults.report import Tally, markdown, write
from tests.faults.terms import ROUTES
from tools.redis_server import available_servers

RECOVERY = 10.0
"""Seconds after the end of a fault in which every process must have caught up, on a machine that is busy."""
READERS = 4
"""For each app."""
QUIET = 5.0
"""Seconds before the first fault, to see how long a purge takes while nothing is wrong."""


class Checker:
    """A run of one kind of fleet."""

    def __init__(
        self, args: argparse.Namespace, kind: str, count: int, until: float, rng: random.Random, tally: Tally
    ) -> None:
        self.args, self.rng, self.tally = args, rng, tally
        self.kind, self.count, self.until = kind, count, until
        binary = rng.choice([server for server in available_servers() if server.version.startswith(args.redis)])
        tally.say(f"{kind}: Redis {binary.version} of {binary.origin}, seed {args.seed}")
        tally.servers.append(f"{kind} {binary.version}")
        self.fleet = FLEETS[kind](binary, args.plant)

    async def run(self) -> None:
        await asyncio.to_thread(self.fleet.start)
        await self._until_caught_up()
        self.tally.calm_since_start = True
        judge = Judge(ROUTES)
        readers = Readers(self.fleet.apps, judge, self.tally, random.Random(self.rng.random()))
        purger = Purger(self.fleet, judge, readers, self.tally, random.Random(self.rng.random()))
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for app in self.fleet.apps:
                for _ in range(READERS):
                    rate = self.args.reads / len(self.fleet.apps) / READERS
                    tasks.create_task(readers.run(app, rate, over))
            tasks.create_task(purger.run(self.args.purges, over))
            try:
                await self._faults(readers, judge)
            finally:
                over.set()

    async def _faults(self, readers: Readers, judge: Judge) -> None:
        names = [fault.name for fault in FAULTS.values() if self.kind in fault.on]
        names = [name for name in names if name in (self.args.only or names)]
        await asyncio.sleep(QUIET)
        reads, purges = self.tally.reads.total(), self.tally.purges.total()
        share = self.count / self.args.faults
        for number, fault in enumerate(schedule(self.rng, names), 1):
            done = (
                number > self.count
                and self.tally.reads.total() - reads >= share * self.args.least_reads
                and self.tally.purges.total() - purges >= share * self.args.least_purges
            )
            if done or self._over():
                return
            violations = self.tally.violations.copy()
            before = await readers.kept()
            epoch = self.fleet.head()[0]
            # From here on, since a fault may still be felt when its processes have caught up.
            self.tally.calm_since_start = False
            self.tally.current = fault.name
            self.tally.note(f"begins: {fault.name}")
            await self._one(fault)
            self.tally.note(f"ends: {fault.name}")
            self.tally.current = f"recovery from {fault.name}"
            took = await self._until_caught_up()
            self.tally.faults[fault.name] += 1
            if took is not None:
                await self._see_what_was_kept(fault, epoch, before, readers, judge)
            self.tally.current = ""
            split = self.fleet.split()
            if split:
                self.tally.excuse(violations, split)
            if number % 10 == 0:
                self.tally.say(self.tally.so_far())
            await asyncio.sleep(self.args.calm)

    def _over(self) -> bool:
        return time.monotonic() > self.until or bool(self.args.plant and not self.tally.good)

    async def _one(self, fault: Fault) -> None:
        """Begin it, hold it, end it; in a thread, since it waits for processes."""
        steps = fault.run(self.fleet, self.rng)
        try:
            while True:
                hold = await asyncio.to_thread(next, steps, None)
                if hold is None:
                    return
                self.tally.note(f"{fault.name} holds for {hold:.3f} s")
                await asyncio.sleep(hold)
                self.tally.note(f"{fault.name} goes on")
        except Exception as error:
            self.tally.error("the checker", f"{fault.name} could not be done: {type(error).__name__}: {error}")
            await asyncio.to_thread(self._mend)

    def _mend(self) -> None:
        self.fleet.mend()
        for app in self.fleet.apps:
            if app.is_away:
                app.resume()
            app.start()

    async def _until_caught_up(self) -> float | None:
        began = time.monotonic()
        while True:
            asked = time.monotonic()
            missing = await asyncio.to_thread(self.fleet.caught_up)
            if not missing:
                self.tally.recovery.add(asked - began)
                return asked - began
            if asked - began > RECOVERY:
                text = f"not within {RECOVERY} s: {missing}"
                self.tally.verdicts("", [Verdict("not caught up", text)])
                return None
            await asyncio.sleep(0.05)

    async def _see_what_was_kept(
        self, fault: Fault, epoch: str, before: list[Read], readers: Readers, judge: Judge
    ) -> None:
        now = self.fleet.head()[0]
        if now != epoch:
            if fault.keeps:
                text = f"a new history began, though none was lost by {fault.name}"
                self.tally.verdicts("", [Verdict("flushed", text)])
            return
        after = await readers.kept()
        self.tally.kept += len(after)
        self.tally.verdicts("", kept_exactly(judge, before, after))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0, help="begin no fault after so many; 0: no limit")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--least-reads", type=int, default=0, help="go on with faults until there are so many")
    parser.add_argument("--least-purges", type=int, default=0, help="likewise")
    parser.add_argument("--reads", type=float, default=600, help="a second, of all readers")
    parser.add_argument("--purges", type=float, default=10, help="a second")
    parser.add_argument("--calm", type=float, default=0.3, help="seconds between two faults")
    parser.add_argument("--redis", default="", help="version of Redis, or how it begins")
    parser.add_argument("--on", action="append", choices=list(FLEETS), help="this kind of fleet; may be repeated")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="this fault; may be repeated")
    parser.add_argument("--plant", default="", choices=["", *PLANTS], help="break tiercache so, until it is noticed")
    parser.add_argument("--out", type=Path, default=Path("build/chaos"), help="directory of the report")
    return parser.parse_args()


def shares(args: argparse.Namespace) -> dict[str, int]:
    """How many faults each kind of fleet gets: in proportion to the faults that there are for it."""
    wanted = [fault for fault in FAULTS.values() if fault.name in (args.only or FAULTS)]
    chosen = args.on or (["single"] if args.plant else list(FLEETS))
    kinds = {kind: sum(kind in fault.on for fault in wanted) for kind in chosen}
    total = sum(kinds.values())
    return {kind: round(args.faults * count / total) for kind, count in kinds.items() if count}


def main() -> int:
    args = arguments()
    tally = Tally(args.out / "chaos.log")
    rng = random.Random(args.seed)
    until = tally.began
    for kind, count in shares(args).items():
        # So that a slow machine makes fewer faults of each kind of fleet, and none goes without.
        until += args.seconds * count / args.faults if args.seconds else inf
        checker = Checker(args, kind, count, until, rng, tally)
        try:
            asyncio.run(checker.run())
        finally:
            with contextlib.suppress(OSError):
                for name, text in checker.fleet.logs().items():
                    (args.out / f"{kind}-{name}.log").write_text(text)
            checker.fleet.close()
    figures = {"seed": args.seed, "plant": args.plant, **tally.figures()}
    write(figures, args.out)
    sys.stdout.write("\n" + markdown(figures))
    if args.plant:
        found = figures["first trouble after"]
        sys.stdout.write(f"\n{args.plant}: " + (f"found after {found:.0f} s\n" if found else "NOT FOUND\n"))
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
