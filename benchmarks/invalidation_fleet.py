"""Purges among real processes: how soon all have them, how many one can take, and what attaching costs one that serves.

Every process notes the moment by the clock that all of them share.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import redis

from benchmarks.figures import Figure, quantile
from benchmarks.invalidation_costs import FAR, members_of
from benchmarks.invalidation_member import Plain
from tiercache import TierCache
from tiercache.core.records import BATCH, HARD
from tiercache.tiers.redis import RedisTier

ROOT = Path(__file__).resolve().parent.parent
LONG = 600.0
"""A staleness bound, in seconds, within which nothing is synced unasked."""
GAP = 0.004
"""Seconds between two purges: all processes sleep when one comes."""
RATIO = 1.5
ATTACH = 2.0


class Member:
    """A process that is measured; ready when it is made."""

    def __init__(self, kind: str, url: str, namespace: str, bound: float = LONG) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.invalidation_member", kind, url, namespace, str(bound)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def ready(self) -> float:
        """Seconds until it had subscribed and knew all of the ledger."""
        return float(self.answer()["ready"])

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the fleet has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.answer()

    def heard(self, count: int) -> tuple[dict[int, int], float]:
        """Number -> nanoseconds of the next `count` messages, and the seconds of processor that it has taken so far."""
        found: dict[int, int] = {}
        until = time.monotonic() + FAR
        while True:
            report = self.ask("report")
            found |= dict(report["heard"])
            if len(found) >= count:
                return found, report["cpu"]
            if time.monotonic() > until:
                raise RuntimeError(f"{len(found)} of {count} messages were heard")
            time.sleep(0.02)

    def __enter__(self) -> Member:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def delivery(url: str, processes: int, purges: int) -> Iterator[Figure]:
    """From the call of `purge()` until the last of the other processes applies it, in turn with the same bytes
    published by redis-py to as many processes that listen with redis-py: once as in a fleet, where the process that
    sends listens too, and once to the others alone."""
    section = f"Delivery to all of {processes} other processes"
    client = redis.Redis.from_url(url)
    with ExitStack() as stack:
        # Every process by itself, as in a fleet; the bound is the default one, so that syncs go on meanwhile.
        ours = [stack.enter_context(Member("cache", url, "delivery", 1.0)) for _ in range(processes)]
        theirs = [stack.enter_context(Member("plain", url, "fleet,others")) for _ in range(processes)]
        for member in (*ours, *theirs):
            member.ready()
        cache = TierCache(url, namespace="delivery", purge_timeout="20s", staleness_bound="1s")
        stack.callback(cache.close)
        stack.callback(Plain(url, ["fleet"]).close)
        epoch = cache.purge(tags="warm").epoch
        for member in ours:
            member.heard(1)
        sent: dict[int, int] = {}
        published: dict[str, dict[int, int]] = {"fleet": {}, "others": {}}
        returned: list[float] = []
        serial = count(1)

        def purge() -> None:
            start = time.monotonic_ns()
            number = cache.purge(tags="product:000001").number
            returned.append((time.monotonic_ns() - start) / 1e3)
            sent[number] = start

        def publish(channel: str) -> None:
            number = next(serial)
            data = msgspec.msgpack.encode((epoch, number, number - 1, 0, ("h:t:product:000001",), False))
            published[channel][number] = time.monotonic_ns()
            client.publish(channel, data)

        calls: list[Callable[[], None]] = [purge, lambda: publish("fleet"), lambda: publish("others")]
        for turn in range(purges):
            for call in calls if turn % 2 == 0 else reversed(calls):
                call()
                time.sleep(GAP)
        took = _until_all(sent, [member.heard(purges)[0] for member in ours])
        plainly = [member.heard(2 * purges)[0] for member in theirs]
        for channel, listen in (("fleet", "the sender listens too"), ("others", "only the others listen")):
            beside = _until_all(published[channel], plainly)
            for share, name in ((0.50, "p50"), (0.99, "p99")):
                one, other = quantile(took, share), quantile(beside, share)
                what = f"{name}, `purge()` {one:,.0f} µs"
                text = f"redis-py pub/sub, {listen}: {other:,.0f} µs"
                yield Figure(section, what, one / other, "times", text, RATIO)
        waits = list(_barriers(cache, max(2, purges // 5)))
        section = f"Barrier with {processes} other processes"
        for share, name in ((0.50, "p50"), (0.99, "p99")):
            one, other = quantile(waits, share), quantile(returned, share)
            yield Figure(section, f"{name}, `purge(wait=True)`", one / 1e3, "ms", f"`purge()`: {other / 1e3:.2f} ms")


def _barriers(cache: TierCache, count: int) -> Iterator[float]:
    for _ in range(count):
        start = time.monotonic_ns()
        cache.purge(tags="product:000001", wait=True)
        yield (time.monotonic_ns() - start) / 1e3
        time.sleep(GAP)


def _until_all(sent: dict[int, int], heard: Sequence[dict[int, int]]) -> list[float]:
    """Microseconds from sending until the last has it."""
    return [(max(one[number] for one in heard) - at) / 1e3 for number, at in sent.items()]


def floods(url: str, single: int, large: int) -> Iterator[Figure]:
    """Messages published as fast as the server takes them, to one process that applies them all."""
    for tags, messages in ((1, single), (BATCH, large)):
        section = f"Flood of purges of {tags:,} tag{'s' * (tags > 1)} each, in one process that hears them"
        namespace = f"flood{tags}"
        client = redis.Redis.from_url(url)
        with Member("cache", url, namespace) as member:
            member.ready()
            cache = TierCache(url, namespace=namespace, purge_timeout="20s")
            first = cache.purge(tags="first")
            cache.close()
            cpu = member.heard(1)[1]
            every = members_of(HARD, tags * messages)
            numbers = range(first.number + 1, first.number + 1 + messages)
            data = [
                msgspec.msgpack.encode((first.epoch, number, number - 1, 0, every[at : at + tags], False))
                for number, at in zip(numbers, range(0, len(every), tags), strict=True)
            ]
            began = time.monotonic_ns()
            for at in range(0, messages, 1_000):
                with client.pipeline(transaction=False) as pipeline:
                    for one in data[at : at + 1_000]:
                        pipeline.publish(f"tc:{{{namespace}}}:bus", one)
                    pipeline.execute()
            heard, after = member.heard(messages)
            seconds = (max(heard[number] for number in numbers) - began) / 1e9
        yield Figure(section, "applied a second", messages / seconds, "purges", f"{messages:,} published")
        yield Figure(section, "processor time of one", (after - cpu) * 1e6 / messages, "µs")


def attach(url: str, tags: int) -> Iterator[Figure]:
    """A large ledger, for a process that begins and for one that serves while the ledger is replaced under it."""
    section = f"Attaching to a ledger of {tags:,} tags"
    client = redis.Redis.from_url(url)
    fill = RedisTier(url, "attach")
    fill.purge(members_of(HARD, tags), False, time.monotonic() + FAR)
    fill.close()
    with Member("cache", url, "attach") as member:
        yield Figure(section, "a process that begins", member.ready(), "s", at_most=ATTACH)
    for pause, name in ((0.0, "answering without a pause"), (0.001, "answering every millisecond")):
        namespace = f"attach{pause}"
        with Member("server", url, namespace) as member:
            member.ready()
            before = member.ask(f"serve 1 {pause}")
            client.copy("tc:{attach}:ledger", f"tc:{{{namespace}}}:ledger", replace=True)
            member.tell(f"serve 0 {pause}")
            time.sleep(0.1)
            # Another process purges, and so this one hears of another epoch.
            other = RedisTier(url, namespace)
            other.purge(members_of(HARD, 1), False, time.monotonic() + FAR)
            other.close()
            meanwhile = member.answer()
            assert meanwhile["members"] >= tags, meanwhile
            yield Figure(section, f"{name}: until it is complete", meanwhile["seconds"], "s", at_most=ATTACH)
            rates = [one["hits"] / one["seconds"] for one in (meanwhile, before)]
            yield Figure(section, f"{name}: hits a second", rates[0], "", f"before: {rates[1]:,.0f}")
            for key in ("p50", "p99", "most"):
                yield Figure(section, f"{name}: a hit, {key}", meanwhile[key], "µs", f"before: {before[key]:,.0f} µs")
            yield Figure(section, f"{name}: answered by the app", meanwhile["app"], "", f"of {meanwhile['hits']:,}")
