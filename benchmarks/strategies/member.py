"""Another process of the shop: `python -m benchmarks.strategies.member KIND REDIS DATABASE`.

`worker` writes what is queued until its input ends. `reader` takes a line for each way: it looks at the price of one
product without a pause until the next line comes, and then says when it has seen which price last. Times are
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from benchmarks.strategies.ways import WAYS, Prices, Way, WriteBehind

WATCHED = 1
"""The product whose price is watched."""
PAUSE = 0.0005
"""Seconds between two looks: a loop at full speed would measure the machine."""


def work(prices: Prices, redis: str) -> None:
    way = WriteBehind(prices, redis)
    worker = way.cache.worker()
    worker.start()
    print("ready", flush=True)
    sys.stdin.read()
    worker.stop(10.0)
    way.close()


def read(prices: Prices, redis: str) -> None:
    ways = [make(prices, redis) for make in WAYS]
    by_name = {way.name: way for way in ways}
    for way in ways:
        way.view(WATCHED)
    print("ready", flush=True)
    for line in sys.stdin:
        watch(by_name[line.strip()])
    for way in ways:
        way.close()


def watch(way: Way) -> None:
    """Look until a line comes, and print the last sight of each price: cents -> when it was asked for, and had."""
    seen: dict[int, tuple[float, float]] = {}
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            asked = time.monotonic()
            cents = way.view(WATCHED)
            seen[cents] = (asked, time.monotonic())
            done.wait(PAUSE)

    thread = threading.Thread(target=look)
    thread.start()
    print("watching", flush=True)
    sys.stdin.readline()
    done.set()
    thread.join()
    print(json.dumps(list(seen.items())), flush=True)


if __name__ == "__main__":
    _, kind, redis_url, database = sys.argv
    (work if kind == "worker" else read)(Prices(database), redis_url)
