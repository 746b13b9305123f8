"""What every store of values can, wherever it lies: one suite for all of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.tiers.redis_help import soon
from tiercache.errors import TierUnavailable
from tiercache.tiers.memcached import MemcachedValues
from tiercache.tiers.pools import Pools
from tiercache.tiers.redis_pipelines import LONGEST

KEYS = [f"{i:032x}" for i in range(40)]
"""Enough for each of several servers to have some."""


def pools_of(tier: Any) -> Pools:
    pools: Pools = tier._pools if isinstance(tier, MemcachedValues) else tier._wire
    return pools


class ValuesContract:
    """Whoever takes it gives the fixtures `tier`, and `open_small`, which makes one with so many connections."""

    def test_values(self, tier: Any) -> None:
        for key in KEYS:
            assert tier.get(key, soon()) is None
            tier.set(key, key.encode() * 100, 60_000, soon())
        assert [tier.get(key, soon()) for key in KEYS] == [key.encode() * 100 for key in KEYS]
        for key in KEYS:
            tier.delete(key, soon())
        assert [tier.get(key, soon()) for key in KEYS] == [None] * len(KEYS)

    async def test_values_in_an_event_loop(self, tier: Any) -> None:
        await asyncio.gather(*(tier.aset(key, key.encode(), 60_000, soon()) for key in KEYS))
        assert await asyncio.gather(*(tier.aget(key, soon()) for key in KEYS)) == [key.encode() for key in KEYS]
        await asyncio.gather(*(tier.adelete(key, soon()) for key in KEYS))
        assert await asyncio.gather(*(tier.aget(key, soon()) for key in KEYS)) == [None] * len(KEYS)

    async def test_many_values_at_once(self, tier: Any) -> None:
        assert tier.get_many([], soon()) == await tier.aget_many([], soon()) == []
        # The first call knows no server yet.
        assert tier.get_many(KEYS, soon()) == await tier.aget_many(KEYS, soon()) == [None] * len(KEYS)
        for key in KEYS[::2]:
            tier.set(key, key.encode() * 1_000, 60_000, soon())
        asked = [*KEYS, KEYS[0], KEYS[1]]
        expected = [key.encode() * 1_000 if key in KEYS[::2] else None for key in asked]
        assert tier.get_many(asked, soon()) == await tier.aget_many(asked, soon()) == expected

    async def test_more_values_than_one_pipeline_takes(self, tier: Any) -> None:
        tier.set(KEYS[0], b"first", 60_000, soon())
        tier.set(KEYS[1], b"last", 60_000, soon())
        asked = [KEYS[0], *(f"none{i}" for i in range(5 * LONGEST)), KEYS[1]]
        expected = [b"first", *[None] * (5 * LONGEST), b"last"]
        assert tier.get_many(asked, soon()) == await tier.aget_many(asked, soon()) == expected

    async def test_many_values_with_no_time_left(self, tier: Any) -> None:
        for _ in range(2):
            with pytest.raises(TierUnavailable):
                tier.get_many(KEYS, time.monotonic())
            with pytest.raises(TierUnavailable):
                await tier.aget_many(KEYS, time.monotonic())
            assert tier.get_many(KEYS, soon()) == await tier.aget_many(KEYS, soon())

    async def test_a_deadline_that_has_passed(self, tier: Any) -> None:
        for _ in range(2):
            with pytest.raises(TierUnavailable):
                tier.get("a", time.monotonic())
            with pytest.raises(TierUnavailable):
                await tier.aget("a", time.monotonic())
            # The second round has connections and knows the servers.
            assert tier.get("a", soon()) is await tier.aget("a", soon()) is None

    def test_threads_and_loops_at_once_stay_within_their_pools(self, open_small: Callable[[int], Any]) -> None:
        tier = open_small(4)

        async def tasks(name: str) -> int:
            async def one(key: str) -> None:
                await tier.aset(name + key, (name + key).encode(), 60_000, soon())
                assert await tier.aget(name + key, soon()) == (name + key).encode()

            await asyncio.gather(*(one(key) for key in KEYS))
            return len(pools_of(tier).loops[asyncio.get_running_loop()]._all)

        def thread(name: str) -> int:
            for key in KEYS:
                tier.set(name + key, (name + key).encode(), 60_000, soon())
                assert tier.get(name + key, soon()) == (name + key).encode()
            return len(pools_of(tier).threads._all)

        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            running = [threads.submit(asyncio.run, tasks(f"loop{n}")) for n in range(2)]
            running += [threads.submit(thread, f"thread{n}") for n in range(4)]
            assert all(1 <= one.result() <= 4 for one in running)

    async def test_it_goes_on_after_close(self, tier: Any) -> None:
        for _ in range(2):
            for key in KEYS:
                await tier.aset(key, b"x", 60_000, soon())
                assert tier.get(key, soon()) == b"x"
            threads, pool = pools_of(tier).threads, pools_of(tier).loops[asyncio.get_running_loop()]
            await tier.aclose()
            assert not threads._all
            assert not pool._all
