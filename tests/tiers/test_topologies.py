"""One suite for every way to reach Redis: what holds on one server holds with Sentinel and on a Cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import socket
import time
from collections.abc import Callable

import pytest

from tests.tiers.redis_help import NOTHING, in_child, shortly, soon
from tiercache.core.records import Stamp, SyncRequest
from tiercache.errors import TierUnavailable
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis_pipelines import LONGEST

KEYS = [f"{i:032x}" for i in range(40)]
"""Enough for every master of a Cluster to have some."""


@pytest.fixture
def tier(topology_url: str, open_tier: Callable[..., RedisTier]) -> RedisTier:
    return open_tier(topology_url)


class TestContract:
    def test_values(self, tier: RedisTier) -> None:
        for key in KEYS:
            assert tier.get(key, soon()) is None
            tier.set(key, key.encode() * 100, 60_000, soon())
        assert [tier.get(key, soon()) for key in KEYS] == [key.encode() * 100 for key in KEYS]
        for key in KEYS:
            tier.delete(key, soon())
        assert [tier.get(key, soon()) for key in KEYS] == [None] * len(KEYS)

    async def test_values_in_an_event_loop(self, tier: RedisTier) -> None:
        await asyncio.gather(*(tier.aset(key, key.encode(), 60_000, soon()) for key in KEYS))
        assert await asyncio.gather(*(tier.aget(key, soon()) for key in KEYS)) == [key.encode() for key in KEYS]
        await asyncio.gather(*(tier.adelete(key, soon()) for key in KEYS))
        assert await asyncio.gather(*(tier.aget(key, soon()) for key in KEYS)) == [None] * len(KEYS)

    async def test_many_values_at_once(self, tier: RedisTier) -> None:
        assert tier.get_many([], soon()) == await tier.aget_many([], soon()) == []
        # The first call knows no server yet.
        assert tier.get_many(KEYS, soon()) == await tier.aget_many(KEYS, soon()) == [None] * len(KEYS)
        for key in KEYS[::2]:
            tier.set(key, key.encode() * 1_000, 60_000, soon())
        asked = [*KEYS, KEYS[0], KEYS[1]]
        expected = [key.encode() * 1_000 if key in KEYS[::2] else None for key in asked]
        assert tier.get_many(asked, soon()) == await tier.aget_many(asked, soon()) == expected

    async def test_more_values_than_one_pipeline_takes(self, tier: RedisTier) -> None:
        tier.set(KEYS[0], b"first", 60_000, soon())
        tier.set(KEYS[1], b"last", 60_000, soon())
        asked = [KEYS[0], *(f"none{i}" for i in range(5 * LONGEST)), KEYS[1]]
        expected = [b"first", *[None] * (5 * LONGEST), b"last"]
        assert tier.get_many(asked, soon()) == await tier.aget_many(asked, soon()) == expected

    async def test_many_values_with_no_time_left(self, tier: RedisTier) -> None:
        for _ in range(2):
            with pytest.raises(TierUnavailable):
                tier.get_many(KEYS, time.monotonic())
            with pytest.raises(TierUnavailable):
                await tier.aget_many(KEYS, time.monotonic())
            assert tier.get_many(KEYS, soon()) == await tier.aget_many(KEYS, soon())

    async def test_the_ledger(self, tier: RedisTier) -> None:
        first = tier.purge([f"h:{i}" for i in range(1_500)], False, soon())
        assert [message.number for message in first] == [1, 2]
        (second,) = await tier.apurge(["s:a"], False, soon(), Stamp(first[0].epoch, 2))
        assert (second.number, second.prev) == (3, 2)
        page = tier.sync(SyncRequest(second.epoch, 2, 0.0), "p", soon())
        assert (page.head, page.records, page.complete) == (3, (("s:a", 3),), True)
        assert tier.guarded
        (third,) = tier.purge([], True, soon())
        page = await tier.asynchronise(NOTHING, "q", soon(), fleet=True)
        assert (page.head, page.floor, page.records) == (third.number, third.number, ())
        assert page.rows is not None
        assert {row.process_id for row in page.rows} == {"p", "q"}

    def test_a_ledger_that_has_lost_its_end_is_begun_anew(self, tier: RedisTier) -> None:
        (message,) = tier.purge(["h:a"], False, soon())
        assert tier.sync(SyncRequest(message.epoch, 9, 0.0), "p", soon()).epoch != message.epoch

    async def test_the_bus(self, tier: RedisTier, topology_url: str, open_tier: Callable[..., RedisTier]) -> None:
        subscription = tier.listen(soon())
        other = open_tier(topology_url)
        sent = [*other.purge(["h:a"], False, soon()), *(await other.apurge([], True, soon()))]
        heard = [subscription.wait(20) for _ in sent]
        assert heard == [message._replace(previous=()) for message in sent]
        tier.close()
        with pytest.raises(TierUnavailable):
            subscription.wait(20)

    async def test_a_deadline_that_has_passed(self, tier: RedisTier) -> None:
        for _ in range(2):
            with pytest.raises(TierUnavailable):
                tier.get("a", time.monotonic())
            with pytest.raises(TierUnavailable):
                await tier.aget("a", time.monotonic())
            # The second round has connections and knows the servers.
            assert tier.get("a", soon()) is await tier.aget("a", soon()) is None

    def test_threads_and_loops_at_once_stay_within_their_pools(
        self, topology_url: str, open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(topology_url, pool_size=4)

        async def tasks(name: str) -> int:
            async def one(key: str) -> None:
                await tier.aset(name + key, (name + key).encode(), 60_000, soon())
                assert await tier.aget(name + key, soon()) == (name + key).encode()

            await asyncio.gather(*(one(key) for key in KEYS))
            return len(tier._wire.loops[asyncio.get_running_loop()]._all)

        def thread(name: str) -> int:
            for key in KEYS:
                tier.set(name + key, (name + key).encode(), 60_000, soon())
                assert tier.get(name + key, soon()) == (name + key).encode()
            return len(tier._wire.threads._all)

        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            running = [threads.submit(asyncio.run, tasks(f"loop{n}")) for n in range(2)]
            running += [threads.submit(thread, f"thread{n}") for n in range(4)]
            assert all(1 <= one.result() <= 4 for one in running)

    async def test_it_goes_on_after_close(self, tier: RedisTier) -> None:
        for _ in range(2):
            for key in KEYS:
                await tier.aset(key, b"x", 60_000, soon())
                assert tier.get(key, soon()) == b"x"
            threads, pool = tier._wire.threads, tier._wire.loops[asyncio.get_running_loop()]
            await tier.aclose()
            assert not threads._all
            assert not pool._all

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    async def test_a_fork(self, tier: RedisTier) -> None:
        for key in KEYS:
            tier.set(key, b"x", 60_000, soon())
            await tier.aget(key, soon())
        subscription = await asyncio.to_thread(tier.listen, soon())
        before = len(tier._wire.threads._all)

        def child() -> None:
            tier.reset_after_fork()
            gc.collect()
            asyncio._set_running_loop(None)
            assert tier.get(KEYS[0], soon()) == b"x"
            assert asyncio.run(tier.aget(KEYS[1], soon())) == b"x"
            tier.purge(["h:a"], False, soon())

        in_child(child)
        heard = await asyncio.to_thread(subscription.wait, 20)
        assert heard is not None
        assert heard.members == ("h:a",)
        # The parent's connections are as they were.
        assert [tier.get(key, soon()) for key in KEYS] == [b"x"] * len(KEYS)
        assert await asyncio.gather(*(tier.aget(key, soon()) for key in KEYS)) == [b"x"] * len(KEYS)
        assert len(tier._wire.threads._all) == before


URLS = ["redis://{}", "redis+sentinel://{}/shop", "redis+cluster://{}"]


class TestNobodyThere:
    @pytest.mark.parametrize("url", URLS)
    async def test_a_black_hole(self, url: str, silent: str, open_tier: Callable[..., RedisTier]) -> None:
        host = silent.removeprefix("redis://").removesuffix("/0")
        tier = open_tier(url.format(host))
        for call in (
            lambda: tier.get("a", shortly()),
            lambda: tier.purge(["h:a"], False, shortly()),
            lambda: tier.sync(NOTHING, "p", shortly()),
            lambda: tier.listen(shortly()),
        ):
            with pytest.raises(TierUnavailable, match="in time"):
                call()
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aget("a", shortly())

    @pytest.mark.parametrize("url", URLS)
    async def test_nobody_listens(self, url: str, open_tier: Callable[..., RedisTier]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        tier = open_tier(url.format(f"127.0.0.1:{port}"))
        with pytest.raises(TierUnavailable, match=f"127.0.0.1:{port} cannot be reached"):
            tier.get("a", soon())
        with pytest.raises(TierUnavailable, match="cannot be reached"):
            await tier.aget("a", soon())
        with pytest.raises(TierUnavailable, match="cannot be reached"):
            tier.listen(soon())

    async def test_one_of_those_named_is_enough(
        self, topology_url: str, silent: str, open_tier: Callable[..., RedisTier]
    ) -> None:
        if "+" not in topology_url:
            pytest.skip("one server is all there is")
        scheme, _, rest = topology_url.partition("://")
        host = silent.removeprefix("redis://").removesuffix("/0")
        tier = open_tier(f"{scheme}://{host},localhost:1,{rest}")
        deadline = time.monotonic() + 4
        tier.set("a", b"x", 60_000, deadline)
        assert await open_tier(f"{scheme}://localhost:1,{rest}").aget("a", deadline) == b"x"
