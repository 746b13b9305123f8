"""What invalidation costs in commands, bytes and the server's own time: counted on a server that nobody else uses."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import msgspec
import redis

from benchmarks.apps import constant_wsgi
from benchmarks.cases import SMALL
from benchmarks.drive import wsgi_call, wsgi_status
from benchmarks.figures import Figure
from benchmarks.shared import HIT_L2, forget_l1, until_l2_answers
from tiercache import TierCache
from tiercache.core.ledger import Ledger
from tiercache.core.records import BATCH, HARD, SOFT, Message
from tiercache.engine import flows
from tiercache.engine.effects import drive
from tiercache.tiers.redis import RedisTier

FAR = 30.0
"""Seconds: a guard, never waited for."""
OURS = {"info", "config|resetstat", "hello", "client|setinfo"}
"""What counting itself sends, and what each new connection does."""


class Counter:
    """Commands and bytes of a server during `of`, without the counter's own."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    def of(self, call: Callable[[], object]) -> dict[str, tuple[int, float]]:
        """Command -> how often clients sent it, and its microseconds in the server. What scripts call is not told
        apart by the server, so scripts are taken alone where there are any."""
        self.client.config_resetstat()
        call()
        stats = self.client.info("commandstats")
        found = {
            name.removeprefix("cmdstat_"): (int(figures["calls"]), float(figures["usec"]))
            for name, figures in stats.items()
        }
        scripts = {name: value for name, value in found.items() if name in ("evalsha", "eval")}
        return scripts or {name: value for name, value in found.items() if name not in OURS}

    def traffic(self, call: Callable[[], object]) -> tuple[float, float]:
        """Bytes that the server received and sent."""

        def bytes_of(stats: Any) -> tuple[int, int]:
            return stats["total_net_input_bytes"], stats["total_net_output_bytes"]

        before, between = bytes_of(self.client.info("stats")), bytes_of(self.client.info("stats"))
        call()
        after = bytes_of(self.client.info("stats"))
        # One INFO lies between the first two, and one between the last two.
        got, sent = (c - 2 * b + a for a, b, c in zip(before, between, after, strict=True))
        return max(0, got), max(0, sent)


def waiting(url: str, namespace: str) -> TierCache:
    """A cache without a listener, whose commands would be counted too: it syncs when told to or for a request."""
    cache = TierCache(url, namespace=namespace, staleness_bound="600s", l2_budget="20s", purge_timeout="20s")
    cache._lifecycle.ensure_running = lambda: None  # type: ignore[method-assign]
    cache.route("/{page}", ttl="1h")
    return cache


def sync(cache: TierCache, times: int = 1) -> None:
    for _ in range(times):
        assert drive(flows.sync(cache._engine, time.monotonic() + FAR)) is not None


def tags_of(numbers: Sequence[int]) -> list[str]:
    return [f"product:{number:06d}" for number in numbers]


def members_of(kind: str, total: int) -> list[str]:
    return [f"{kind}t:{tag}" for tag in tags_of(range(total))]


def trips(url: str) -> Iterator[Figure]:
    """Commands of hits, purges and syncs."""
    section = "Round trips"
    counter = Counter(url)
    cache = waiting(url, "trips")
    app = cache.wsgi(constant_wsgi(SMALL))
    forget = forget_l1(cache)
    try:
        until_l2_answers(cache, lambda: wsgi_status(app, "GET", "/200"))
        call = wsgi_call(app, "GET", "/200")
        sync(cache)
        yield Figure(section, "hit in L1, commands", _sent(counter.of(call)), at_most=0)
        forget()
        assert HIT_L2 in wsgi_status(app, "GET", "/200")
        forget()
        yield Figure(section, "hit in L2, commands", _sent(counter.of(call)), at_most=1)
        cache.purge(tags="known")  # the server keeps the script from here on
        for tags in (1, BATCH, BATCH + 1, 10 * BATCH):
            names = tags_of(range(tags))
            did = counter.of(lambda names=names: cache.purge(tags=names))  # type: ignore[misc]
            what = f"purge of {tags:,} tag{'s' * (tags > 1)}, scripts"
            yield Figure(section, what, _sent(did), at_most=-(-tags // BATCH))
            spent = sum(usec for _, usec in did.values())
            yield Figure(section, f"purge of {tags:,} tag{'s' * (tags > 1)}, the server's time", spent / 1000, "ms")
    finally:
        cache.close()


def syncs(url: str, repeat: int) -> Iterator[Figure]:
    """What a process asks every third of the staleness bound, where nothing has happened and in a large ledger."""
    section = "Sync, per process and third of the staleness bound"
    counter = Counter(url)
    cache = waiting(url, "syncs")
    try:
        cache.purge(tags=tags_of(range(BATCH)))
        sync(cache)
        did = counter.of(lambda: sync(cache, repeat))
        yield Figure(section, "scripts", _sent(did) / repeat, at_most=1)
        yield Figure(section, "the server's time", sum(usec for _, usec in did.values()) / repeat, "µs")
        got, sent = counter.traffic(lambda: sync(cache, repeat))
        yield Figure(section, "asked", got / repeat, "bytes")
        yield Figure(section, "answered", sent / repeat, "bytes")
    finally:
        cache.close()


def memory(url: str, tags: int) -> Iterator[Figure]:
    section = "Memory"
    client = redis.Redis.from_url(url)
    for kind, name in ((HARD, "hard"), (SOFT, "soft")):
        tier = RedisTier(url, f"memory-{name}")
        _purge(tier, members_of(kind, tags))
        used = client.memory_usage(tier._scripts.ledger, samples=0) or 0
        tier.close()
        yield Figure(section, f"{name} purge in Redis, per tag", used / tags, "bytes", at_most=200)
    for kind, name in ((HARD, "hard"), (SOFT, "soft")):
        # Soft purges keep in the mirror when this process heard of them.
        yield Figure(section, f"{name} purge in the mirror, per tag", _mirror(kind, tags), "bytes", at_most=220)


def caps(url: str, limit: int) -> Iterator[Figure]:
    """The ledger at its limit, and past it."""
    section = "Memory"
    client = redis.Redis.from_url(url)
    tier = RedisTier(url, "caps", ledger_limit=limit)
    ledger = Ledger(bound=600.0, epoch="?", shared=True)
    most = 0
    members = members_of(HARD, 3 * limit)
    _attach(ledger, tier)
    for at in range(0, len(members), BATCH):
        for message in tier.purge(members[at : at + BATCH], False, time.monotonic() + FAR):
            ledger.heard(message, 0.0)
        most = max(most, len(ledger._view.members))
    kept = client.zcard(tier._scripts.ledger) - 4
    used = client.memory_usage(tier._scripts.ledger, samples=0) or 0
    tier.close()
    what = f"after purges of {len(members):,} tags"
    yield Figure(section, f"{what}, kept in Redis", kept, "tags", at_most=limit)
    yield Figure(section, f"{what}, ledger in Redis", used / 1e6, "MB")
    # What the floor has overtaken goes once the mirror has doubled.
    yield Figure(section, f"{what}, most in the mirror", most, "tags", at_most=2 * limit + BATCH)


def _mirror(kind: str, tags: int) -> float:
    """Each tag by a purge of its own, from the wire, as a process hears of it."""
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(Message).decode
    wire = [
        encode((f"{1:016x}", number, number - 1, 0, (member,), False))
        for number, member in zip(count(1), members_of(kind, tags), strict=False)
    ]
    ledger = Ledger(bound=600.0, epoch=f"{1:016x}", shared=True)
    gc.collect()
    tracemalloc.start()
    try:
        for position, data in enumerate(wire):
            ledger.heard(decode(data), float(position))
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / tags
    finally:
        tracemalloc.stop()


def _attach(ledger: Ledger, tier: RedisTier) -> None:
    while True:
        request = ledger.sync_request(0.0)
        if ledger.synced(request, tier.sync(request, "benchmark", time.monotonic() + FAR)):
            return


def _purge(tier: RedisTier, members: Sequence[str]) -> None:
    tier.purge(members, False, time.monotonic() + FAR)


def _sent(did: dict[str, tuple[int, float]]) -> int:
    return sum(calls for calls, _ in did.values())
