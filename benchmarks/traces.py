"""Made requests for comparing evictions: skewed, swept, flooded, looped, and in the shape of measured web traffic.

Every trace is a pure function of its numbers and its seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

MEDIAN = 4_096
SMALLEST, LARGEST = 200, 900_000


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests as (key, whether anybody will want it again: what is counted), and the size of every key."""

    name: str
    requests: list[tuple[int, bool]]
    keys: int
    """How many keys are asked for again; what comes once only has a number from here on."""
    size: Callable[[int], int]

    @property
    def total(self) -> int:
        """Bytes of all keys that are asked for again."""
        return sum(map(self.size, range(self.keys)))


def sizes(seed: int) -> Callable[[int], int]:
    """Log-normal sizes of about 8 kB on average, the same for a key whenever it is asked."""
    rng = random.Random(seed)
    drawn = [min(max(int(rng.lognormvariate(0.0, 1.2) * MEDIAN), SMALLEST), LARGEST) for _ in range(65_521)]
    return lambda key: drawn[key % 65_521]


def zipf(rng: random.Random, alpha: float, keys: int, count: int) -> list[int]:
    """`count` keys, the k-th most popular with a probability that goes with 1 / k**alpha. Their numbers say nothing."""
    names = list(range(keys))
    rng.shuffle(names)
    return rng.choices(names, cum_weights=list(accumulate(rank**-alpha for rank in range(1, keys + 1))), k=count)


def plain(alpha: float, keys: int, count: int, seed: int) -> Trace:
    found = [(key, True) for key in zipf(random.Random(seed), alpha, keys, count)]
    return Trace(f"Zipf {alpha}", found, keys, sizes(seed))


def flooded(alpha: float, keys: int, count: int, seed: int, *, share: float) -> Trace:
    """`share` of all requests are for URLs that nobody asks for twice, evenly among `count` requests of visitors."""
    rng = random.Random(seed)
    found: list[tuple[int, bool]] = []
    fresh = keys
    for key in zipf(rng, alpha, keys, count):
        while rng.random() < share:
            found.append((fresh, False))
            fresh += 1
        found.append((key, True))
    return Trace(f"Zipf {alpha}, {share:.0%} flood", found, keys, sizes(seed))


def swept(alpha: float, keys: int, count: int, seed: int) -> Trace:
    """Four times in the trace somebody walks through pages that nobody else asks for, a fifth as many as there are
    keys, nine requests of the sweep to one of a visitor: a crawler, or a job that visits every page."""
    rng = random.Random(seed)
    every = count // 5
    found: list[tuple[int, bool]] = []
    fresh, left = keys, 0
    for turn, key in enumerate(zipf(rng, alpha, keys, count), 1):
        found.append((key, True))
        if turn % every == 0 and turn < count:
            left = keys // 5
        for _ in range(min(left, 9)):
            found.append((fresh, False))
            fresh += 1
            left -= 1
    return Trace(f"Zipf {alpha}, sweeps", found, keys, sizes(seed))


def looped(alpha: float, keys: int, count: int, seed: int) -> Trace:
    """Half of the requests go round and round through a twentieth of the keys: a monitor, a list that is polled."""
    rng = random.Random(seed)
    around = [rng.randrange(keys) for _ in range(keys // 20)]
    found = zipf(rng, alpha, keys, count)
    for turn in range(0, count, 2):
        found[turn] = around[turn // 2 % len(around)]
    return Trace(f"Zipf {alpha}, loop", [(key, True) for key in found], keys, sizes(seed))


def proxy(count: int, seed: int) -> Trace:
    """Web traffic as it was measured at proxies: a third as many pages as requests, 70 % of the pages asked for once,
    the others by Zipf 0.75, a quarter of their requests soon after another one for the same page.

    The one-timers are those of Mahanti, Williamson, Eager: "Traffic Analysis of a Web Proxy Caching Hierarchy", IEEE
    Network 2000, the slope is in the middle of what Breslau and others found ("Web Caching and Zipf-like
    Distributions", INFOCOM 1999), and the making follows ProWGen (Busari, Williamson, Computer Networks 2002).
    All requests count, also those for the one-timers.
    """
    rng = random.Random(seed)
    pages = count // 3
    once, again = pages * 7 // 10, pages * 3 // 10
    drawn = iter(zipf(rng, 0.75, again, count - once))
    positions = iter(sorted(rng.sample(range(count), once)))
    following = next(positions)
    recent: list[int] = []
    found: list[tuple[int, bool]] = []
    fresh = again
    for turn in range(count):
        if turn == following:
            found.append((fresh, True))
            fresh += 1
            following = next(positions, -1)
            continue
        key = next(drawn)
        if recent and rng.random() < 0.25:
            key = rng.choice(recent)
        recent.append(key)
        if len(recent) > 1000:
            recent[rng.randrange(1000)] = recent.pop()
        found.append((key, True))
    return Trace("web proxy", found, pages, sizes(seed))


ALPHAS: Final = (0.7, 0.9, 1.1)


def every(keys: int, count: int, seed: int) -> Iterator[Trace]:
    for alpha in ALPHAS:
        yield plain(alpha, keys, count, seed)
        yield swept(alpha, keys, count, seed)
        yield flooded(alpha, keys, count, seed, share=0.5)
        yield flooded(alpha, keys, count // 3, seed, share=0.9)
        yield looped(alpha, keys, count, seed)
    yield proxy(count, seed)
