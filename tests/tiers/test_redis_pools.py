"""Bounded pools under threads, event loops, closing and forks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable

import pytest
import redis

from tests.servers import Proxy, RedisServer
from tests.tiers.redis_help import Held, in_child, shortly, soon
from tiercache.errors import TierUnavailable
from tiercache.tiers.redis import RedisTier


class TestPools:
    def test_threads_wait_for_a_connection_and_then_fail(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy, concurrent.futures.ThreadPoolExecutor(2) as threads:
            tier = open_tier(proxy.url, pool_size=1)
            tier.set("a", b"x", 60_000, soon())
            proxy.on_reply = held = Held()
            first = threads.submit(tier.get, "a", soon())
            held.arrived.wait(20)
            with pytest.raises(TierUnavailable, match="busy"):
                tier.get("a", shortly())
            second = threads.submit(tier.get, "a", soon())
            proxy.on_reply = lambda data: data
            held.release.set()
            assert (first.result(), second.result()) == (b"x", b"x")
            assert proxy.accepted == 1

    async def test_tasks_wait_for_a_connection_and_then_fail(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url, pool_size=1)
            await tier.aset("a", b"x", 60_000, soon())
            proxy.on_reply = held = Held()
            first = asyncio.create_task(tier.aget("a", soon()))
            await asyncio.to_thread(held.arrived.wait, 20)
            with pytest.raises(TierUnavailable, match="busy"):
                await tier.aget("a", shortly())
            second = asyncio.create_task(tier.aget("a", soon()))
            proxy.on_reply = lambda data: data
            held.release.set()
            assert (await first, await second) == (b"x", b"x")
            assert proxy.accepted == 1

    async def test_no_more_connections_than_allowed(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url, pool_size=3)
            await asyncio.gather(*(tier.aset("a", b"x", 60_000, soon()) for _ in range(50)))
            assert proxy.accepted == 3
            with concurrent.futures.ThreadPoolExecutor(10) as threads:
                list(threads.map(lambda _: tier.get("a", soon()), range(50)))
            assert proxy.accepted <= 6

    async def test_a_restarted_server_is_found_again(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        server = new_redis()
        tier = open_tier(server.url)
        tier.get("a", soon())
        await asyncio.gather(*(tier.aget("a", soon()) for _ in range(3)))
        server.kill()
        with pytest.raises(TierUnavailable):
            tier.get("a", soon())
        with pytest.raises(TierUnavailable):
            await tier.aget("a", soon())
        server.start()
        # The connections that died meanwhile are not tried first.
        assert tier.get("a", soon()) is None
        assert await tier.aget("a", soon()) is None

    async def test_it_goes_on_after_close(self, tier: RedisTier) -> None:
        await tier.aset("a", b"x", 60_000, soon())
        assert tier.get("a", soon()) == b"x"
        subscription = tier.listen(soon())
        await tier.aclose()
        with pytest.raises(TierUnavailable, match="closed"):
            subscription.wait(20)
        assert tier.get("a", soon()) == await tier.aget("a", soon()) == b"x"
        await tier.aclose()

    def test_a_connection_in_use_is_closed_when_it_comes_back(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy, concurrent.futures.ThreadPoolExecutor(1) as threads:
            tier = open_tier(proxy.url)
            tier.get("a", soon())
            proxy.on_reply = held = Held()
            pool = tier._wire.threads
            running = threads.submit(tier.get, "a", soon())
            held.arrived.wait(20)
            tier.close()
            held.release.set()
            assert running.result() is None
            assert not any(pool._idle.values())
            assert not pool._all

    def test_threads_and_loops_at_once(self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(redis_server.url, pool_size=4)

        async def tasks(name: str) -> None:
            async def one(i: int) -> None:
                await tier.aset(f"{name}:{i}", f"{name}:{i}".encode(), 60_000, soon())
                for _ in range(3):
                    assert await tier.aget(f"{name}:{i}", soon()) == f"{name}:{i}".encode()

            await asyncio.gather(*(one(i) for i in range(30)))

        def thread(name: str) -> None:
            for i in range(30):
                tier.set(f"{name}:{i}", f"{name}:{i}".encode(), 60_000, soon())
                assert tier.get(f"{name}:{i}", soon()) == f"{name}:{i}".encode()

        with concurrent.futures.ThreadPoolExecutor(10) as threads:
            running = [threads.submit(asyncio.run, tasks(f"loop{n}")) for n in range(3)]
            running += [threads.submit(thread, f"thread{n}") for n in range(7)]
            for one in running:
                one.result()
        # Each loop closed its connections when it ended.
        assert all(not pool._all for pool in tier._wire.loops.values())

    def test_loops_that_ended_are_forgotten(self, tier: RedisTier) -> None:
        for _ in range(3):
            asyncio.run(tier.aget("a", soon()))
        assert len(tier._wire.loops) == 1

    def test_close_reaches_a_loop_in_another_thread(self, tier: RedisTier) -> None:
        begun, ended = threading.Event(), threading.Event()

        async def main() -> None:
            await tier.aget("a", soon())
            pool = tier._wire.loops[asyncio.get_running_loop()]
            begun.set()
            await asyncio.to_thread(ended.wait, 20)
            assert not pool._all

        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            running = threads.submit(asyncio.run, main())
            begun.wait(20)
            tier.close()
            ended.set()
            running.result()

    @pytest.mark.parametrize("end", ["", "await tier.aclose()", "tier.close()"])
    def test_nothing_is_left_open_at_exit(self, redis_server: RedisServer, end: str) -> None:
        program = f"""
            import asyncio, gc, time
            from tiercache.tiers.redis import RedisTier
            tier = RedisTier({redis_server.url!r}, "shop")
            async def main():
                await asyncio.gather(*(tier.aget("a", time.monotonic() + 20) for _ in range(5)))
                {end or "pass"}
            asyncio.run(main())
            asyncio.run(main())
            tier.get("a", time.monotonic() + 20)
            subscription = tier.listen()
            tier.close()
        """
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
class TestFork:
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_parent_and_child_go_on(self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url)
            tier.set("a", b"x", 60_000, soon())
            subscription = tier.listen(soon())
            before = proxy.accepted

            def child() -> None:
                tier.reset_after_fork()
                gc.collect()
                assert tier.get("a", soon()) == b"x"
                tier.purge(["h:a"], False, soon())

            in_child(child)
            assert proxy.accepted == before + 1
            # The parent's connections are as they were.
            assert tier.get("a", soon()) == b"x"
            message = subscription.wait(20)
            assert message is not None
            assert message.members == ("h:a",)
            assert proxy.accepted == before + 1

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    async def test_a_fork_under_a_running_loop(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url)
            await asyncio.gather(*(tier.aset("a", b"x", 60_000, soon()) for _ in range(3)))
            before = proxy.accepted

            def child() -> None:
                tier.reset_after_fork()
                gc.collect()
                # The child's thread still counts as inside the parent's loop.
                asyncio._set_running_loop(None)
                assert asyncio.run(tier.aget("a", soon())) == b"x"
                gc.collect()

            in_child(child)
            assert proxy.accepted == before + 1
            found = await asyncio.gather(*(tier.aget("a", soon()) for _ in range(3)))
            assert found == [b"x"] * 3
            assert proxy.accepted == before + 1

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_locks_held_at_the_fork_do_not_hold_the_child(self, tier: RedisTier) -> None:
        tier.get("a", soon())
        with tier._lock:
            for _ in range(32):
                tier._wire.threads._slots.acquire()

            def child() -> None:
                tier.reset_after_fork()
                tier.get("a", soon())
                asyncio.run(tier.aget("a", soon()))

            in_child(child)
        for _ in range(32):
            tier._wire.threads._slots.release()

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    async def test_the_child_holds_nothing_of_the_parents(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(redis_server.url + "?client_name=forked")
        tier.get("a", soon())
        await tier.aget("a", soon())
        subscription = tier.listen(soon())
        # What other tests left to the collector is not the child's business.
        gc.collect()
        done, finish = os.pipe()
        ready, go_on = os.pipe()
        pid = os.fork()
        if pid == 0:
            complaints: list[object] = []
            sys.unraisablehook = complaints.append
            warnings.simplefilter("error")
            tier.reset_after_fork()
            gc.collect()
            os.write(go_on, b"!" if complaints else b".")
            os.close(finish)
            os.read(done, 1)
            os._exit(0)
        try:
            assert os.read(ready, 1) == b"."
            subscription.close()
            await tier.aclose()
            # A descriptor left in the child would keep the connection alive at the server.
            with redis.Redis.from_url(redis_server.url) as client:
                end = soon()
                while left := [c["name"] for c in client.client_list() if c["name"] == "forked"]:
                    assert time.monotonic() < end, left
        finally:
            os.close(finish)
            os.waitpid(pid, 0)
            for descriptor in (done, ready, go_on):
                os.close(descriptor)
