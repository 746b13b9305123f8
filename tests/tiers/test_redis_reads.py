"""Reads of one event loop that go out together: what each of them sees of the others' luck."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from redis.crc import key_slot

from tests.servers import Proxy, RedisServer
from tests.tiers.redis_help import Held, in_child, shortly, soon
from tiercache.errors import TierRejected, TierUnavailable
from tiercache.tiers.reads import BYTES, LARGE
from tiercache.tiers.redis import RedisTier
from tools.redis_topologies import ClusterSetup

KEYS = [f"k{i}" for i in range(32)]
VALUES = [key.encode() * 10 for key in KEYS]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One version is enough: what goes over the wire is a GET."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    server.expect("FLUSHALL")
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def tier(proxy: Proxy, open_tier: Callable[..., RedisTier]) -> RedisTier:
    """With the values there, and one idle connection of the running loop."""
    tier = open_tier(proxy.url)
    for key, value in zip(KEYS, VALUES, strict=True):
        await tier.aset(key, value, 60_000, soon())
    assert await tier.aget(KEYS[0], soon()) == VALUES[0]
    assert proxy.accepted == 1
    return tier


def start(tier: RedisTier, *keys: str, deadline: float | None = None) -> list[asyncio.Task[bytes | None]]:
    return [asyncio.create_task(tier.aget(key, deadline or soon())) for key in keys]


class HeldAll(Held):
    """So many replies, of as many connections."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self._left = expected

    def __call__(self, data: bytes) -> bytes:
        self._left -= 1
        if self._left <= 0:
            self.arrived.set()
        self.release.wait(30)
        return data


async def held_up(tier: RedisTier, proxy: Proxy, *keys: str) -> tuple[Held, list[asyncio.Task[bytes | None]]]:
    """A read that goes alone, and with more keys a batch of them behind it: their answers are on their way."""
    proxy.on_reply = held = HeldAll(2 if keys else 1)
    tasks = start(tier, KEYS[0], *keys)
    await asyncio.to_thread(held.arrived.wait, 20)
    return held, tasks


def let_go(proxy: Proxy, held: Held) -> None:
    proxy.on_reply = lambda data: data
    held.release.set()


class TestTogether:
    async def test_reads_of_one_turn_share_a_connection(self, tier: RedisTier, proxy: Proxy) -> None:
        assert await asyncio.gather(*start(tier, *KEYS)) == VALUES
        # The first one goes at once, and takes the idle one; all the others are one batch.
        assert proxy.accepted == 2

    async def test_a_caller_of_many_shares_it_too(self, tier: RedisTier, proxy: Proxy) -> None:
        many = asyncio.create_task(tier.aget_many(KEYS, soon()))
        assert await asyncio.gather(*start(tier, *KEYS[:8])) == VALUES[:8]
        assert await many == VALUES
        assert proxy.accepted == 1

    async def test_the_same_key_twice(self, tier: RedisTier) -> None:
        assert await asyncio.gather(*start(tier, *["k1"] * 5)) == [VALUES[1]] * 5
        assert await tier.aget_many(["k1", "none", "k1"], soon()) == [VALUES[1], None, VALUES[1]]

    async def test_those_that_come_meanwhile_go_on_another_connection(self, tier: RedisTier, proxy: Proxy) -> None:
        held, first = await held_up(tier, proxy, "k1", "k2")
        proxy.on_reply = lambda data: data
        # The batch before it is stuck, and is not waited for.
        assert await asyncio.gather(*start(tier, "k3", "k4")) == VALUES[3:5]
        assert not any(task.done() for task in first)
        held.release.set()
        assert await asyncio.gather(*first) == VALUES[:3]

    async def test_large_values_come_side_by_side(self, tier: RedisTier, proxy: Proxy) -> None:
        large = b"x" * (LARGE * 3)
        for key in KEYS[:8]:
            await tier.aset(key, large, 60_000, soon())
        for _ in range(8):
            assert await tier.aget(KEYS[0], soon()) == large
        before = proxy.accepted
        assert await asyncio.gather(*start(tier, *KEYS[:8])) == [large] * 8
        assert proxy.accepted == before + 7

    async def test_a_batch_is_bounded_by_bytes(self, tier: RedisTier, proxy: Proxy) -> None:
        size = LARGE // 2
        for key in KEYS:
            await tier.aset(key, b"x" * size, 60_000, soon())
        for _ in range(16):
            await tier.aget(KEYS[0], soon())
        reads = tier._wire.reads()
        assert BYTES / LARGE <= reads._most <= BYTES / size + 2
        assert await asyncio.gather(*start(tier, *KEYS)) == [b"x" * size] * 32
        assert 3 <= proxy.accepted <= 4

    async def test_a_small_value_among_large_ones(self, tier: RedisTier, proxy: Proxy) -> None:
        """Nobody knew that they were large, so they share a connection; later small ones have another."""
        for key in KEYS[1:20]:
            await tier.aset(key, b"x" * 200_000, 60_000, soon())
        held, large = await held_up(tier, proxy, *KEYS[1:20])
        proxy.on_reply = lambda data: data
        assert await tier.aget("k31", soon()) == VALUES[31]
        assert not all(task.done() for task in large)
        held.release.set()
        assert [len(value or b"") for value in await asyncio.gather(*large)] == [len(VALUES[0]), *[200_000] * 19]

    async def test_more_than_the_pool_has_connections(
        self, tier: RedisTier, proxy: Proxy, open_tier: Callable[..., RedisTier]
    ) -> None:
        small = open_tier(proxy.url, pool_size=1)
        keys = KEYS * 20
        assert await asyncio.gather(*start(small, *keys)) == VALUES * 20
        assert await small.aget_many(keys, soon()) == VALUES * 20
        assert proxy.accepted == 2


class TestEachForItself:
    async def test_one_deadline_is_shorter(self, tier: RedisTier, proxy: Proxy) -> None:
        held, first = await held_up(tier, proxy)
        (hurried,) = start(tier, "k1", deadline=shortly())
        others = start(tier, "k2", "k3")
        with pytest.raises(TierUnavailable, match="in time"):
            await hurried
        assert not any(task.done() for task in (*first, *others))
        let_go(proxy, held)
        assert await asyncio.gather(*first, *others) == [VALUES[0], *VALUES[2:4]]

    async def test_a_deadline_within_a_batch_under_way(self, tier: RedisTier, proxy: Proxy) -> None:
        proxy.on_reply = held = Held()
        tasks = [*start(tier, "k0", "k1"), *start(tier, "k2", "k3", deadline=shortly()), *start(tier, "k4")]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done <= {tasks[2], tasks[3]}
        let_go(proxy, held)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [found[0], found[1], found[4]] == [VALUES[0], VALUES[1], VALUES[4]]
        assert [type(error) for error in found[2:4]] == [TierUnavailable] * 2
        assert found[2] is not found[3]

    async def test_no_time_left(self, tier: RedisTier) -> None:
        late, *others = [*start(tier, "k1", deadline=time.monotonic()), *start(tier, "k2", "k3")]
        assert await asyncio.gather(*others) == VALUES[2:4]
        with pytest.raises(TierUnavailable, match="time"):
            await late
        late, *others = [*start(tier, "k0"), *start(tier, "k1", deadline=time.monotonic()), *start(tier, "k2")]
        assert [await late, await others[1]] == [VALUES[0], VALUES[2]]
        with pytest.raises(TierUnavailable, match="time"):
            await others[0]

    async def test_one_is_cancelled(self, tier: RedisTier, proxy: Proxy) -> None:
        held, tasks = await held_up(tier, proxy, "k1", "k2", "k3")
        tasks[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[2]
        let_go(proxy, held)
        assert [await tasks[n] for n in (0, 1, 3)] == [VALUES[0], VALUES[1], VALUES[3]]
        accepted = proxy.accepted
        assert await asyncio.gather(*start(tier, *KEYS)) == VALUES
        # Its connection is as good as before.
        assert proxy.accepted == accepted

    async def test_all_are_cancelled(self, tier: RedisTier, proxy: Proxy) -> None:
        held, tasks = await held_up(tier, proxy, "k1", "k2")
        many = asyncio.create_task(tier.aget_many(KEYS[3:6], soon()))
        await asyncio.sleep(0)
        for task in (*tasks, many):
            task.cancel()
        await asyncio.wait([*tasks, many])
        reads = tier._wire.reads()
        for _ in range(100):
            if not reads._tasks:
                break
            await asyncio.sleep(0.01)
        # Nobody waits, so nothing is left that holds a connection.
        assert not reads._tasks
        let_go(proxy, held)
        assert await asyncio.gather(*start(tier, *KEYS)) == VALUES

    async def test_one_that_cannot_be_read(self, tier: RedisTier, server: RedisServer) -> None:
        await tier.adelete("k2", soon())
        server.ask("LPUSH", "tc:shop:k2", "a list")
        found = await asyncio.gather(*start(tier, *KEYS[:4]), return_exceptions=True)
        assert isinstance(found[2], TierRejected)
        assert "WRONGTYPE" in str(found[2])
        assert [found[n] for n in (0, 1, 3)] == [VALUES[0], VALUES[1], VALUES[3]]
        for call in (tier.aget_many(KEYS[:4], soon()), asyncio.to_thread(tier.get_many, KEYS[:4], soon())):
            with pytest.raises(TierRejected, match="WRONGTYPE"):
                await call

    async def test_a_user_who_may_not_read(
        self, tier: RedisTier, server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        server.expect("ACL", "SETUSER", "writer", "on", ">pw", "~*", "+set", "+ping")
        poor = open_tier(server.url.replace("//", "//writer:pw@"))
        found = await asyncio.gather(*start(poor, *KEYS[:4]), return_exceptions=True)
        assert [type(error) for error in found] == [TierRejected] * 4
        with pytest.raises(TierRejected, match="lacks a permission"):
            await poor.aget_many(KEYS[:4], soon())


class TestTrouble:
    async def test_a_connection_is_cut_in_mid_batch(self, tier: RedisTier, proxy: Proxy) -> None:
        for key in KEYS:
            await tier.aset(key, key.encode() * 10_000, 60_000, soon())
        seen = 0

        def some(data: bytes) -> bytes | None:
            nonlocal seen
            seen += len(data)
            return data if seen < 400_000 else None

        proxy.on_reply = some
        found = await asyncio.gather(*start(tier, *KEYS), return_exceptions=True)
        errors = [one for one in found if isinstance(one, BaseException)]
        assert {type(error) for error in errors} == {TierUnavailable}
        # What came before the cut was delivered.
        assert found[0] == b"k0" * 10_000
        assert 0 < len(errors) < len(KEYS)
        assert len({id(error) for error in errors}) == len(errors)
        assert all(error.__cause__ is not None for error in errors)
        proxy.on_reply = lambda data: data
        assert await asyncio.gather(*start(tier, *KEYS)) == [key.encode() * 10_000 for key in KEYS]

    async def test_a_server_is_killed_in_mid_batch(self, open_tier: Callable[..., RedisTier]) -> None:
        with RedisServer() as server, Proxy(server.port) as proxy:
            tier = open_tier(proxy.url)
            await tier.aset("k1", b"x", 60_000, soon())
            held, tasks = await held_up(tier, proxy, *KEYS[1:])
            many = asyncio.create_task(tier.aget_many(KEYS, soon()))
            server.kill()
            proxy.cut()
            held.release.set()
            found = await asyncio.gather(*tasks, many, return_exceptions=True)
            assert {type(one) for one in found} == {TierUnavailable}
            server.start()
            proxy.on_reply = lambda data: data
            assert await asyncio.gather(*start(tier, *KEYS)) == [None] * 32

    async def test_nobody_answers(self, silent: str, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(silent)
        found = await asyncio.gather(*start(tier, *KEYS, deadline=shortly()), return_exceptions=True)
        assert {type(one) for one in found} == {TierUnavailable}
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aget_many(KEYS, shortly())
        await asyncio.sleep(0)
        assert not tier._wire.reads()._tasks

    async def test_a_fault_of_the_client_library(self, tier: RedisTier, monkeypatch: pytest.MonkeyPatch) -> None:
        async def broken(*_: object) -> None:
            raise LookupError("broken")

        with monkeypatch.context() as patch:
            patch.setattr("tiercache.tiers.redis_pipelines.Pipeline.arun", broken)
            found = await asyncio.gather(*start(tier, *KEYS[:4]), return_exceptions=True)
        assert found[0] == VALUES[0]  # it went alone
        for error in found[1:]:
            assert isinstance(error, TierUnavailable)
            assert isinstance(error.__cause__, LookupError)
        assert await asyncio.gather(*start(tier, *KEYS)) == VALUES

    async def test_somebody_cancels_every_task(self, tier: RedisTier, proxy: Proxy) -> None:
        """As some servers do on shutdown: nobody may wait for ever for a batch that will never go."""
        held, tasks = await held_up(tier, proxy, "k1")
        later = asyncio.ensure_future(asyncio.shield(tier._wire.reads()._join("tc:shop:k2", soon()).future))
        for _ in range(3):
            for task in tier._wire.reads()._tasks:
                task.cancel()
            await asyncio.sleep(0)
        proxy.on_reply = lambda data: data
        held.release.set()
        found = await asyncio.wait_for(asyncio.gather(*tasks, later, return_exceptions=True), 20)
        assert found[0] == VALUES[0]
        assert isinstance(found[1], TierUnavailable)
        assert "broken off" in str(found[1])
        assert await asyncio.gather(*start(tier, *KEYS)) == VALUES

    def test_a_loop_ends_in_mid_batch(self, server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        with Proxy(server.port) as proxy:
            tier = open_tier(proxy.url)
            tier.set("k1", b"x", 60_000, soon())
            proxy.on_reply = held = Held()

            async def leave() -> None:
                start(tier, *KEYS)
                await asyncio.to_thread(held.arrived.wait, 20)

            asyncio.run(leave())
            gc.collect()
            let_go(proxy, held)

            async def read() -> list[bytes | None]:
                return await asyncio.gather(*start(tier, *KEYS[:4]))

            assert asyncio.run(read())[1] == b"x"
            # The loops that have ended are not kept.
            assert len(tier._wire._reads._by_loop) == 1

    def test_loops_of_many_threads(self, server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(server.url)
        for key in KEYS:
            tier.set(key, key.encode(), 60_000, soon())
        ready = threading.Barrier(4)

        async def read() -> None:
            for _ in range(20):
                assert await asyncio.gather(*start(tier, *KEYS)) == [key.encode() for key in KEYS]

        def thread() -> None:
            ready.wait(20)
            asyncio.run(read())

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for one in [threads.submit(thread) for _ in range(4)]:
                one.result()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    async def test_a_fork_in_mid_batch(self, tier: RedisTier, proxy: Proxy) -> None:
        held, tasks = await held_up(tier, proxy, "k1", "k2")

        def child() -> None:
            tier.reset_after_fork()
            gc.collect()
            asyncio._set_running_loop(None)
            with suppress(TierUnavailable):
                asyncio.run(tier.aget_many(KEYS, shortly()))

        in_child(child)
        let_go(proxy, held)
        # The child has taken nothing of it.
        assert await asyncio.gather(*tasks) == VALUES[:3]

    async def test_close_in_mid_batch(self, tier: RedisTier, proxy: Proxy) -> None:
        held, tasks = await held_up(tier, proxy, "k1", "k2")
        tier.close()
        let_go(proxy, held)
        assert await asyncio.gather(*tasks) == VALUES[:3]
        assert await asyncio.gather(*start(tier, *KEYS)) == VALUES


class TestInACluster:
    async def test_a_pipeline_for_each_node(self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(cluster.url)
        for key in KEYS:
            await tier.aset(key, key.encode(), 60_000, soon())
        await tier.aclose()
        assert await tier.aget_many(KEYS, soon()) == [key.encode() for key in KEYS]
        masters = {cluster.master_of(key_slot(f"tc:shop:{key}".encode())).port for key in KEYS}
        assert len(tier._wire.loops[asyncio.get_running_loop()]._all) == len(masters) == 3

    async def test_keys_of_slots_that_move(self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(cluster.url)
        for key in KEYS:
            await tier.aset(key, key.encode(), 60_000, soon())
        expected = [key.encode() for key in KEYS]
        slot = key_slot(b"tc:shop:k1")
        source = cluster.master_of(slot)
        target = next(server for server in cluster.masters if server is not source)
        cluster.begin_move(slot, target)
        stages: list[Callable[[], object]] = [
            lambda: None,
            lambda: cluster.move_keys(slot, source, target),
            lambda: cluster.end_move(slot, source, target),
        ]
        for stage in stages:
            stage()
            assert await asyncio.gather(*start(tier, *KEYS)) == expected
            assert await tier.aget_many(KEYS, soon()) == expected
            assert tier.get_many(KEYS, soon()) == expected

    async def test_reads_while_slots_move(self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(cluster.url)
        for key in KEYS:
            await tier.aset(key, key.encode(), 60_000, soon())
        expected = [key.encode() for key in KEYS]

        def move() -> None:
            for key in KEYS[:6]:
                slot = key_slot(f"tc:shop:{key}".encode())
                cluster.move(slot, next(one for one in cluster.masters if one is not cluster.master_of(slot)))

        moving = asyncio.create_task(asyncio.to_thread(move))
        rounds = 0
        while not moving.done():
            assert await asyncio.gather(*start(tier, *KEYS)) == expected
            assert await asyncio.to_thread(tier.get_many, KEYS, soon()) == expected
            rounds += 1
        await moving
        assert rounds > 1
