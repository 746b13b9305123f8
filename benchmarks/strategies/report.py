"""The figures of all ways, in order, and the table that the how-to shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from benchmarks.figures import Figure
from benchmarks.strategies import runs
from benchmarks.strategies.runs import LIST, MANY, THREADS, Amounts, Costs, Reads, Written
from benchmarks.strategies.ways import WAYS, Prices, ReadThrough, WriteBehind
from benchmarks.tables import Row, columns, markdown
from tools.postgres_server import PostgresServer
from tools.redis_server import RedisServer

LEAST = 10
"""Writes per second of write-behind, in those of write-through."""
ALONE, TOGETHER, MANY_AT_ONCE = "one by one", f"{THREADS} threads", f"set_many of {MANY}"
LOST = {
    "no cache": "nothing",
    "response cache": "app between commit and purge: the purge, so the old page stays for its `ttl`",
    "cache-aside": "app between commit and `delete`: the same",
    "read-through": "app between commit and `delete`: the same",
    "write-through": "app between commit and purge, within `set`: the same",
    "write-behind": "app, worker, database: nothing. Redis: see below",
}


@dataclass(slots=True)
class Line:
    """What was found of one way."""

    way: str
    reads: Reads
    staleness_ms: float
    alone: Written
    together: Written


@dataclass(slots=True)
class Found:
    lines: list[Line]
    costs: Costs
    at_once: Written
    """Write-behind, many at once."""
    database_ms: float
    """p99 until the database itself has what write-behind has acknowledged."""
    lost: dict[str, int]
    """By `appendfsync`, acknowledged writes that were gone after Redis was killed."""
    postgres: str
    redis: str
    acknowledged: int

    def line(self, way: str) -> Line:
        return next(line for line in self.lines if line.way == way)


def measure(amounts: Amounts) -> Found:
    """All of it, on servers of its own."""
    with ExitStack() as stack:
        database = stack.enter_context(PostgresServer(fsync=True))
        redis = stack.enter_context(RedisServer(appendonly="yes", appendfsync="everysec"))
        url = database.new_database("psycopg")
        prices = Prices(url)
        stack.callback(prices.engine.dispose)
        prices.fill()
        ways = [make(prices, redis.url) for make in WAYS]
        for way in ways:
            stack.callback(way.close)
        behind = next(way for way in ways if isinstance(way, WriteBehind))
        _tell("reads ...")
        read = [runs.reads(way, amounts.views) for way in ways]
        through = next(way for way in ways if isinstance(way, ReadThrough))
        costs = runs.costs(through, amounts.reads)
        stack.enter_context(runs.member("worker", redis.url, url))
        runs.empty(behind)
        # In turns, so that all share what the machine does meanwhile.
        changes = [(way, runs.one_by_one(way, threads), threads) for threads in (1, THREADS) for way in ways]
        changes.append((behind, runs.many(behind), 1))
        written: list[list[Written]] = [[] for _ in changes]
        for turn in range(amounts.rounds):
            _tell(f"writes, round {turn + 1} of {amounts.rounds} ...")
            for (way, change, threads), found in zip(changes, written, strict=True):
                found.append(runs.writes(way, change, threads, amounts, turn))
        middle = [runs.middle(found) for found in written]
        with runs.member("reader", redis.url, url) as reader:
            _tell("old prices ...")
            stale = [runs.staleness(way, reader, amounts.updates) for way in ways]
            database_ms = runs.staleness(behind, reader, amounts.updates, WAYS[0].name)  # type: ignore[attr-defined]
        lost = {kind: runs.lost_by_redis(prices, kind, amounts.acknowledged) for kind in ("always", "everysec")}
        n = len(ways)
        lines = [
            Line(way.name, read[i], stale[i], middle[i], middle[n + i]) for i, way in enumerate(ways)
        ]
        return Found(
            lines, costs, middle[2 * n], database_ms, lost, database.version, redis.version, amounts.acknowledged
        )


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def marks(found: Found) -> Iterator[Figure]:
    """Whether write-behind is worth its trouble."""
    through, behind = found.line("write-through"), found.line("write-behind")
    section = "Acknowledged writes of write-behind beside write-through, PostgreSQL with fsync on"
    for what, ours, theirs in (
        (f"`set`, {ALONE}", behind.alone, through.alone),
        (f"`set`, {TOGETHER}", behind.together, through.together),
        (f"`{MANY_AT_ONCE.replace(' of', '` of')}, beside `set` {ALONE}", found.at_once, through.alone),
    ):
        ratio = ours.per_second / theirs.per_second
        beside = f"{_count(ours.per_second)} beside {_count(theirs.per_second)} a second"
        yield Figure(section, what, ratio, "times", beside, at_least=LEAST)


def verdict(found: Found) -> str:
    """Which way reaches the mark, in words."""
    reached = [one.what for one in marks(found) if one.held]
    return f"{LEAST} times what write-through takes is reached by: {'; '.join(reached) or 'none of these'}."


def table(found: Found) -> tuple[Row, list[Row]]:
    header = (
        "", "reads per 1,000 page views", f"reads for a new list of {LIST}", "old price seen, p99",
        f"writes/s, {ALONE}", f"writes/s, {TOGETHER}", "what is lost if it crashes",
    )  # fmt: skip
    rows: list[Row] = [
        (
            line.way,
            f"{line.reads.per_1000:,.0f}",
            str(line.reads.of_a_list),
            f"{line.staleness_ms:.1f} ms",
            _count(line.alone.per_second),
            _count(line.together.per_second),
            LOST[line.way],
        )
        for line in found.lines
    ]
    return header, rows


_NUMBERS = {1, 2, 3, 4, 5}


def text(found: Found) -> str:
    """For a terminal."""
    header, rows = table(found)
    return columns(header[:-1], [row[:-1] for row in rows], _NUMBERS)


def page(found: Found) -> str:
    """For the how-to."""
    behind, costs = found.line("write-behind"), found.costs
    lost = {kind: "none" if number == 0 else str(number) for kind, number in found.lost.items()}
    paragraphs = [
        markdown(*table(found), _NUMBERS),
        f"PostgreSQL {found.postgres} with `fsync` on, Redis {found.redis} with `appendonly yes` and "
        "`appendfsync everysec`, one process that writes, one worker.",
        f"One read by one thread: {costs.load:,.0f} µs from the database, {costs.hit:.1f} µs from memory; what neither "
        f"tier has takes {costs.miss:,.0f} µs on top of the database, and an invalidation {costs.invalidation:,.0f} "
        f"µs. So below a hit rate of {costs.hit_rate:.0%} read-through would make the shop slower, and with reads and "
        f"writes at random below {costs.reads_per_write:.1f} reads for each write.",
        "Write-behind:",
        "\n".join(
            [
                f"- `{MANY_AT_ONCE.replace(' of', '` of')} at a time: {_count(found.at_once.per_second)} writes a "
                f"second. {verdict(found)}",
                f"- In the database, by one worker, each second: {_count(behind.alone.arrived)} of those that came one "
                f"by one, {_count(behind.together.arrived)} of those of {THREADS} threads, "
                f"{_count(found.at_once.arrived)} of those that came many at once. Of several quick changes of a key "
                "only the last one is written.",
                f"- Who reads the database by SQL sees the old price for {found.database_ms:.0f} ms (p99).",
                f"- Redis killed right after {found.acknowledged:,} acknowledged writes, and started from its log: "
                f"{lost['always']} lost with `appendfsync always`, {lost['everysec']} with `everysec`. The end of its "
                "*machine* is another matter: [what may be lost](write-behind.md#what-may-be-lost).",
            ]
        ),
    ]
    return "\n\n".join(paragraphs)


def rows(found: Found) -> list[dict[str, object]]:
    return [asdict(found)]


def _count(number: float) -> str:
    """To three digits: more would say that the next run finds the same."""
    digits = max(0, len(str(int(number))) - 3)
    return f"{round(number, -digits):,.0f}"
