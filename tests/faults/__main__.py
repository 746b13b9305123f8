"""Real processes under faults: `python -m tests.faults`, or `make chaos`. Exit status 1 if anything was violated."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import time
from pathlib import Path

from tests.faults.faults import FAULTS, Fault, end_everything, schedule
from tests.faults.fleet import Fleet
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


class Checker:
    """One run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.tally = Tally(args.out / "chaos.log")
        self.rng = random.Random(args.seed)
        servers = [server for server in available_servers() if server.version.startswith(args.redis)]
        self.binary = self.rng.choice(servers)
        self.tally.say(f"seed {args.seed}, Redis {self.binary.version}, plant {args.plant or 'none'}")
        self.fleet = Fleet(self.binary, args.plant)

    async def run(self) -> None:
        await asyncio.to_thread(self.fleet.start)
        await self._until_caught_up()
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
        end = time.monotonic() + self.args.seconds if self.args.seconds else float("inf")
        names = self.args.only or list(FAULTS)
        for number, fault in enumerate(schedule(self.rng, self.args.faults, names), 1):
            if time.monotonic() > end or (self.args.plant and self.tally.violations.total()):
                return
            before = await readers.kept()
            epoch = self.fleet.head()[0]
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
            if number % 10 == 0:
                reads, purges = self.tally.reads.total(), self.tally.purges.total()
                self.tally.say(f"{number} faults, {reads:,} reads, {purges:,} purges")
            await asyncio.sleep(self.args.calm)

    async def _one(self, fault: Fault) -> None:
        """Begin it, hold it, end it; in a thread, since it waits for processes."""
        steps = fault.run(self.fleet, self.rng)
        try:
            while True:
                hold = await asyncio.to_thread(next, steps, None)
                if hold is None:
                    return
                await asyncio.sleep(hold)
        except Exception as error:
            self.tally.say(f"{fault.name} could not be done: {type(error).__name__}: {error}")
            self.tally.faults["(not done)"] += 1
            await asyncio.to_thread(end_everything, self.fleet)

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
    parser.add_argument("--reads", type=float, default=600, help="a second, of all readers")
    parser.add_argument("--purges", type=float, default=10, help="a second")
    parser.add_argument("--calm", type=float, default=0.3, help="seconds between two faults")
    parser.add_argument("--redis", default="", help="version of Redis, or how it begins")
    parser.add_argument("--plant", default="", choices=["", *PLANTS], help="break tiercache so, until it is noticed")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="this fault; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("build/chaos"), help="directory of the report")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    checker = Checker(args)
    try:
        asyncio.run(checker.run())
    finally:
        for app in checker.fleet.apps:
            with contextlib.suppress(OSError):
                (args.out / f"{app.name}.log").write_text(app.log())
        checker.fleet.close()
        figures = {"seed": args.seed, "redis": checker.binary.version, "plant": args.plant, **checker.tally.figures()}
        write(figures, args.out)
        sys.stdout.write("\n" + markdown(figures))
    if args.plant:
        found = figures["first violation after"]
        sys.stdout.write(f"\n{args.plant}: " + (f"found after {found:.0f} s\n" if found else "NOT FOUND\n"))
    return 0 if checker.tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
