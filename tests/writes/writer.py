"""One writer: `python -m tests.writes.writer NUMBER FILE`. It writes rising values to keys of its own until it dies, in
several threads with keys of their own: what they write at once goes to Redis together.

Each line of the file says what was tried (`?`) before it was, and what was acknowledged (`!`) after it was, and when; a
line that was cut off by the end of the process does not count. It goes on from there when it is started again.

Between its writes it reads keys of its own by another cache, as another process would, with strong consistency: what it
finds older than what was acknowledged, or newer than what was tried, is noted as a line with `x`.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from tiercache import PurgeUnconfirmed, TierCache, TierCacheError

THREADS = 4
KEYS = 100
"""Of one thread."""
READS = 0.1
"""For each write. A read costs a connection to the database."""


def lines_of(path: Path) -> list[tuple[str, str, int, float]]:
    """What the file says: (`?`, `!` or `x`, key, value, Unix time)."""
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    rows = [line.split() for line in whole.splitlines()]
    # What was cut off has been ended by whoever went on.
    return [(row[0], row[1], int(row[2]), float(row[3])) for row in rows if len(row) == 4 and "." in row[3]]


def main() -> None:
    from tests.writes.shop import stock, stock_of

    number, path = int(sys.argv[1]), Path(sys.argv[2])
    tried: defaultdict[str, int] = defaultdict(int)
    for _, key, value, _ in lines_of(path):
        tried[key] = max(tried[key], value)
    # Acknowledged, and known in the ledger: whoever asks from now on sees it, or something newer.
    mirror = stock_of(TierCache(os.environ["WRITES_REDIS"], namespace="writes"), consistency="strong")
    seed = number * 1_000_003 + sum(tried.values())
    with path.open("ab", buffering=0) as file:
        if path.stat().st_size and path.read_bytes()[-1:] != b"\n":
            file.write(b"\n")

        def go_on(thread: int) -> None:
            rng = random.Random(seed * THREADS + thread)
            confirmed: dict[str, int] = {}
            while True:
                key = f"w{number}-{thread}-{rng.randrange(KEYS)}"
                tried[key] += 1
                file.write(f"? {key} {tried[key]} {time.time():.6f}\n".encode())
                try:
                    stock.set(key, tried[key])
                    confirmed[key] = tried[key]
                except PurgeUnconfirmed:
                    pass  # the write is queued all the same
                except TierCacheError:
                    time.sleep(0.05)
                    continue
                file.write(f"! {key} {tried[key]} {time.time():.6f}\n".encode())
                if confirmed and rng.random() < READS:
                    key = rng.choice([key, rng.choice(list(confirmed))])
                    wrong = misread(mirror, key, confirmed.get(key, 0), tried[key])
                    if wrong is not None:
                        file.write(f"x {key} {wrong} {time.time():.6f}\n".encode())

        threads = [threading.Thread(target=go_on, args=(thread,), daemon=True) for thread in range(THREADS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()


def misread(store: Any, key: str, least: int, most: int) -> int | None:
    """What is read of a key, if it may not be that; None if it may, or if nothing is."""
    try:
        found = store.get(key) or 0
    except (TierCacheError, DBAPIError):
        return None
    return None if least <= found <= most else found


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(0)
