"""What L1 keeps: its hit ratios on made traces beside SIEVE alone, LRU, W-TinyLFU and S3-FIFO.

    python -m benchmarks.eviction            the table
    python -m benchmarks.eviction --speed    what a hit and a store cost, beside a dict

Nothing here is timed but the latter: the same numbers come out on every machine.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from time import process_time

from benchmarks.policies import POLICIES, Policy
from benchmarks.traces import Trace, every
from tiercache.tiers.memory import MemoryTier

PARTS = (100, 10)
"""A cache of one in so many of the bytes of all keys that are asked for again."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The part of what visitors asked for that the cache had, once it was warm."""

    objects: float
    bytes: float


def hit_ratio(policy: Policy, trace: Trace) -> Ratio:
    """Of the last three quarters of a trace, without the requests that nobody repeats."""
    ask, size = policy.ask, trace.size
    warm = len(trace.requests) // 4
    asked = found = asked_bytes = found_bytes = 0
    for turn, (key, counts) in enumerate(trace.requests):
        weight = size(key)
        hit = ask(key, weight)
        if counts and turn >= warm:
            asked += 1
            asked_bytes += weight
            if hit:
                found += 1
                found_bytes += weight
    return Ratio(found / asked, found_bytes / asked_bytes)


def compare(traces: Iterable[Trace], policies: dict[str, Callable[[int], Policy]]) -> Iterator[list[str]]:
    """Rows of a table: trace, part of the bytes, and for each policy the ratio of objects and of bytes in percent."""
    for trace in traces:
        for part in PARTS:
            capacity = trace.total // part
            ratios = [hit_ratio(make(capacity), trace) for make in policies.values()]
            cells = [f"{found.objects * 100:.1f} ({found.bytes * 100:.1f})" for found in ratios]
            yield [trace.name, f"{100 // part} %", *cells]


def speed(rounds: int) -> Iterator[list[str]]:
    """Microseconds of a process's own time for a hit, a store, and a store that has to make room; beside dict reads."""
    keys = [(("shop", ""), "https", b"www.example.org", b"/p/%d" % n, f"/p/{n}", "", b"") for n in range(6000)]
    read: list[float] = []
    found: dict[str, list[float]] = {"a hit": [], "a store": [], "a store that evicts": []}
    for _ in range(rounds):
        roomy, tight = MemoryTier(10**9, timer=lambda: 0.0), MemoryTier(3000 * 1000, timer=lambda: 0.0)
        plain = dict.fromkeys(keys, 1)
        for key in keys[:2000]:
            tight.store(key, key, 3000, math.inf)
        began = process_time()
        for key in keys:
            plain.get(key)
        read.append(process_time() - began)
        for name, tier in (("a store", roomy), ("a store that evicts", tight)):
            began = process_time()
            for key in keys[2000:]:
                tier.store(key, key, 3000, 1e9)
            found[name].append((process_time() - began) * 1.5)
        began = process_time()
        for key in keys[2000:]:
            roomy.lookup(key)
        found["a hit"].append((process_time() - began) * 1.5)
    for name, times in found.items():
        ratio = median(time / base for time, base in zip(times, read, strict=True))
        yield [name, f"{median(times) / len(keys) * 1e6:.2f}", f"{ratio:.1f}"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eviction", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000, help="keys that are asked for again (%(default)s)")
    parser.add_argument("--requests", type=int, default=300_000, help="requests of a trace, the flood beside them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="TEXT", help="only the traces with this in their names")
    parser.add_argument("--speed", action="store_true", help="measure what L1 costs instead")
    options = parser.parse_args(argv)
    if options.speed:
        rows: Iterable[list[str]] = speed(rounds=25)
        head = ["of L1", "µs", "reads of a dict"]
    else:
        traces = every(options.keys, options.requests, options.seed)
        rows = compare((trace for trace in traces if options.only in trace.name), POLICIES)
        head = ["trace", "size", *POLICIES]
    print(line(head))
    print(line(["---"] * len(head)))
    for row in rows:
        print(line(row))
        sys.stdout.flush()
    return 0


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
