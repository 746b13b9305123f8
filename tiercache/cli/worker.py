"""`tiercache worker`: take the queued writes of write-behind stores to the database."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tiercache.cli.exits import FINE, FOUND, Unreadable
from tiercache.cli.targets import cache_in
from tiercache.core.kinds import DURATION
from tiercache.engine.writers import Worker
from tiercache.errors import ConfigError, TierError, TierUnavailable
from tiercache.write_behind import WriteBehind

NAME: Final = "worker"
HELP: Final = "take the queued writes of write-behind stores to the database, until it is told to stop"
_EXITS: Final = """\
exit codes:
  0  it was told to stop (SIGTERM, SIGINT), and has written all that it owned
  1  it was told to stop, and --drain was over before all was written: another worker goes on with the rest
  2  it cannot begin: no such module or store, or Redis does not keep what it acknowledges
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.epilog = _EXITS
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE", help="a TierCache in code, or an app with one; imported")
    parser.add_argument(
        "--store", action="append", default=[], metavar="NAME", help="work for this store; several may be given"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="workers in this process (default: 1)")
    parser.add_argument("--interval", default="50ms", metavar="TIME", help="pause where nothing waits (default: 50ms)")
    parser.add_argument(
        "--owned", default="5s", metavar="TIME", help="until another worker takes over from a dead one (default: 5s)"
    )
    parser.add_argument("--drain", default="10s", metavar="TIME", help="for the last writes at the end (default: 10s)")
    parser.add_argument("--app-dir", default=".", metavar="DIR", help="where to import from (default: .)")
    parser.add_argument("--factory", action="store_true", help="call the attribute first")


def run(options: argparse.Namespace) -> int:
    """Work until a signal says that it is enough."""
    if options.threads < 1:
        raise Unreadable(f"--threads {options.threads}: at least 1")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        drain: float = DURATION.from_text("--drain", options.drain)
        interval = DURATION.from_text("--interval", options.interval)
        owned = DURATION.from_text("--owned", options.owned)
        cache = cache_in(options.target, options.app_dir, factory=options.factory)
        stores = [cache.write_behind_store(name) for name in options.store]
        make = partial(cache.worker, *stores, interval=interval, owned=owned)
        workers = _when_redis_answers(make, options.threads, stopping)
    except (ConfigError, TierError) as error:
        raise Unreadable(str(error)) from error
    for worker in workers:
        worker.start()
    print(f"writing for {', '.join(names(stores) or cache.write_behind_stores())}", file=sys.stderr, flush=True)
    # A thread that has ended without being told is a bug; others take over.
    while not stopping.wait(0.5) and all(worker.running for worker in workers):
        pass
    drained = _stop_all(workers, drain)
    cache.close()
    written = sum(worker.written for worker in workers)
    print(f"{written} writes written, {sum(worker.buried for worker in workers)} kept aside", file=sys.stderr)
    return FINE if drained and stopping.is_set() else FOUND


def _when_redis_answers(make: Callable[[], Worker], count: int, stopping: threading.Event) -> list[Worker]:
    """Workers, made once Redis can be asked whether it keeps what it acknowledges."""
    told = False
    while not stopping.is_set():
        try:
            return [make() for _ in range(count)]
        except TierUnavailable as error:
            if not told:
                told = True
                print(f"waiting for Redis: {error}", file=sys.stderr, flush=True)
            stopping.wait(1.0)
    return []


def names(stores: list[WriteBehind[Any, Any]]) -> list[str]:
    """Of stores, for messages."""
    return [store.name for store in stores]


def _stop_all(workers: list[Worker], drain: float) -> bool:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda one=worker: results.append(one.stop(drain))) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return all(results)
