"""Reads of the L2 tier by itself, one at a time and 32 under way, beside one `GET` through the same client library."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

from benchmarks.cases import LARGE, MIDDLE, SMALL, Comparison, named
from benchmarks.measure import Case, timed_singly, timed_singly_async
from benchmarks.shared import plain_redis
from tiercache.tiers.redis import RedisTier

ALONE, TOGETHER = Fraction(12, 10), Fraction(3, 10)
CROWD = 32
"""Callers under way at once."""
TURNS = 8
"""Reads of each of them, one after the other."""
PATIENCE = 10.0
"""Seconds that a read may take: what is measured is not to end it."""

Read = Callable[[str], Awaitable[Any]]


def l2_reads(runner: asyncio.Runner, url: str, resources: ExitStack) -> Iterator[Comparison]:
    plain, plain_async, tag = plain_redis(runner, url, resources)
    tier = RedisTier(url, f"{tag}r")
    resources.callback(tier.close)
    resources.callback(lambda: runner.run(tier.aclose()))
    threads = resources.enter_context(ThreadPoolExecutor(CROWD))

    def get(name: str) -> bytes | None:
        return tier.get(name, time.monotonic() + PATIENCE)

    async def aget(name: str) -> bytes | None:
        return await tier.aget(name, time.monotonic() + PATIENCE)

    async def aplain(name: str) -> Any:
        return await plain_async.get(f"tc:{tag}r:{name}")

    def sync_plain(name: str) -> Any:
        return plain.get(f"tc:{tag}r:{name}")

    for size in (SMALL, MIDDLE, LARGE):
        names = [f"{size}:{i}" for i in range(CROWD)]
        for name in names:
            tier.set(name, bytes(size), 3_600_000, time.monotonic() + PATIENCE)
        sized = named(size)
        one = _one(f"redis-py asyncio GET, {sized}", runner, aplain, names, size)
        crowd = _crowd(f"redis-py asyncio, {CROWD} under way, {sized}", runner, aplain, names, size)
        together = TOGETHER if size == MIDDLE else None
        yield Comparison("ASGI read of L2", _one(f"alone, {sized}", runner, aget, names, size), one, ALONE)
        case = _crowd(f"{CROWD} under way, each, {sized}", runner, aget, names, size)
        yield Comparison("ASGI read of L2", case, one, together)
        yield Comparison("ASGI read of L2", case, crowd, None)
        sync_one = _one_thread(f"redis-py GET, {sized}", sync_plain, names, size)
        sync_crowd = _threads(f"redis-py, {CROWD} threads, {sized}", threads, sync_plain, names, size)
        yield Comparison("WSGI read of L2", _one_thread(f"alone, {sized}", get, names, size), sync_one, ALONE)
        case = _threads(f"{CROWD} threads, each, {sized}", threads, get, names, size)
        yield Comparison("WSGI read of L2", case, sync_crowd, None)


def _one(label: str, runner: asyncio.Runner, read: Read, names: list[str], size: int) -> Case:
    async def check() -> None:
        assert len(await read(names[0])) == size

    return Case(label, timed_singly_async(runner, lambda: read(names[0]), _nothing), lambda: runner.run(check()))


def _crowd(label: str, runner: asyncio.Runner, read: Read, names: list[str], size: int) -> Case:
    async def caller(name: str) -> None:
        for _ in range(TURNS):
            await read(name)

    async def all_of_them() -> None:
        await asyncio.gather(*map(caller, names))

    async def check() -> None:
        assert [len(value) for value in await asyncio.gather(*map(read, names))] == [size] * CROWD

    return Case(label, _each(timed_singly_async(runner, all_of_them, _nothing)), lambda: runner.run(check()))


def _one_thread(label: str, read: Callable[[str], Any], names: list[str], size: int) -> Case:
    def check() -> None:
        assert len(read(names[0])) == size

    return Case(label, timed_singly(lambda: read(names[0]), _nothing), check)


def _threads(label: str, threads: ThreadPoolExecutor, read: Callable[[str], Any], names: list[str], size: int) -> Case:
    def caller(name: str) -> None:
        for _ in range(TURNS):
            read(name)

    def check() -> None:
        assert [len(value) for value in threads.map(read, names)] == [size] * CROWD

    return Case(label, _each(timed_singly(lambda: list(threads.map(caller, names)), _nothing)), check)


def _each(crowds: Callable[[int], int]) -> Callable[[int], int]:
    """A batch in which every read counts, of one that takes whole crowds."""

    def batch(n: int) -> int:
        times = max(1, n // (CROWD * TURNS))
        return crowds(times) * n // (times * CROWD * TURNS)

    return batch


def _nothing() -> None:
    pass
