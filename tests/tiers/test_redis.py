"""RedisTier against real servers, and against networks that misbehave."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.servers import Proxy, RedisServer
from tiercache.core.ledger import SyncRequest
from tiercache.errors import ConfigError, TierError, TierRejected, TierUnavailable
from tiercache.tiers.redis import RedisTier

NOTHING = SyncRequest("", 0, 0.0)


def soon() -> float:
    """A deadline that a test reaches only when something hangs."""
    return time.monotonic() + 20


def shortly() -> float:
    """A deadline that the test means to pass."""
    return time.monotonic() + 0.1


@pytest.fixture
def open_tier() -> Iterator[Callable[..., RedisTier]]:
    tiers: list[RedisTier] = []

    def make(url: str, **options: Any) -> RedisTier:
        tiers.append(RedisTier(url, "shop", **options))
        return tiers[-1]

    yield make
    for tier in tiers:
        tier.close()


@pytest.fixture
def tier(redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> RedisTier:
    return open_tier(redis_server.url)


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


class TestValues:
    @pytest.mark.parametrize("value", [b"", b"x", bytes(range(256)), b"x" * 300_000])
    def test_what_is_set_is_got(self, tier: RedisTier, value: bytes) -> None:
        assert tier.get("a", soon()) is None
        tier.set("a", value, 60_000, soon())
        assert tier.get("a", soon()) == value
        tier.delete("a", soon())
        assert tier.get("a", soon()) is None

    @pytest.mark.parametrize("value", [b"", b"x", bytes(range(256)), b"x" * 300_000])
    async def test_the_same_in_an_event_loop(self, tier: RedisTier, value: bytes) -> None:
        assert await tier.aget("a", soon()) is None
        await tier.aset("a", value, 60_000, soon())
        assert await tier.aget("a", soon()) == value
        await tier.adelete("a", soon())
        assert await tier.aget("a", soon()) is None

    async def test_values_end(self, tier: RedisTier, client: redis.Redis) -> None:
        tier.set("a", b"x", 60_000, soon())
        await tier.aset("b", b"x", 60_000, soon())
        for key in ("tc:shop:a", "tc:shop:b"):
            assert 1 <= client.pttl(key) <= 60_000
        tier.set("c", b"x", 0, soon())

    def test_namespaces_are_apart(self, tier: RedisTier, redis_server: RedisServer) -> None:
        other = RedisTier(redis_server.url, "other")
        other.set("a", b"theirs", 60_000, soon())
        assert tier.get("a", soon()) is None
        tier.purge(["h:t:a"], False, soon())
        assert other.sync(NOTHING, "p", soon()).head == 0
        other.close()

    async def test_purge_and_sync_in_an_event_loop(self, tier: RedisTier) -> None:
        messages = await tier.apurge([f"h:{i}" for i in range(1_500)], False, soon())
        assert [m.number for m in messages] == [1, 2]
        page = await tier.asynchronise(NOTHING, "p", soon())
        assert (page.head, len(page.records)) == (2, 1_500)

    def test_a_unix_socket(self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(f"unix://{redis_server.unix_socket}?db=3")
        tier.set("a", b"x", 60_000, soon())
        assert asyncio.run(tier.aget("a", soon())) == b"x"

    def test_the_database_and_name_of_the_url(self, redis_server: RedisServer, client: redis.Redis) -> None:
        tier = RedisTier(redis_server.url.replace("/0", "/5?client_name=front"), "shop")
        tier.set("a", b"x", 60_000, soon())
        assert [(c["db"], c["name"]) for c in client.client_list() if c["name"]] == [("5", "front")]
        assert client.get("tc:shop:a") is None
        tier.close()

    def test_a_hit_is_one_command_and_nothing_else(self, tier: RedisTier, client: redis.Redis) -> None:
        def calls() -> dict[str, int]:
            return {name: row["calls"] for name, row in client.info("commandstats").items()}

        before = calls()
        tier.get("a", soon())
        tier.get("a", soon())
        after = calls()
        asked = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
        assert asked.pop("cmdstat_info", 0) == 1
        assert asked == {"cmdstat_get": 2}


class TestDeadlines:
    async def test_no_time_left_asks_nobody(self, silent: str, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(silent)
        with pytest.raises(TierUnavailable, match="no time"):
            tier.get("a", time.monotonic())
        with pytest.raises(TierUnavailable, match="no time"):
            await tier.aget("a", time.monotonic())

    async def test_a_black_hole(self, silent: str, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(silent)
        for call in (
            lambda: tier.get("a", shortly()),
            lambda: tier.set("a", b"x" * 10_000_000, 1000, shortly()),
            lambda: tier.purge(["h:a"], False, shortly()),
            lambda: tier.sync(NOTHING, "p", shortly()),
            lambda: tier.listen(shortly()),
        ):
            with pytest.raises(TierUnavailable, match="in time") as caught:
                call()
            assert caught.value.__cause__ is not None
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aget("a", shortly())
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aset("a", b"x" * 10_000_000, 1000, shortly())

    async def test_nobody_listens(self, open_tier: Callable[..., RedisTier]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        tier = open_tier(f"redis://127.0.0.1:{port}")
        with pytest.raises(TierUnavailable, match="cannot be reached"):
            tier.get("a", soon())
        with pytest.raises(TierUnavailable, match="cannot be reached"):
            await tier.aget("a", soon())
        with pytest.raises(TierUnavailable, match="cannot be reached"):
            tier.listen(soon())

    async def test_a_name_that_does_not_resolve(self, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier("redis://redis.invalid")
        with pytest.raises(TierUnavailable):
            tier.get("a", soon())
        with pytest.raises(TierUnavailable):
            await tier.aget("a", soon())

    def test_a_lookup_that_hangs_does_not_hold_the_caller(
        self, open_tier: Callable[..., RedisTier], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release = threading.Event()
        lookups = []
        real = socket.getaddrinfo

        def hang(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            if host != "slow.example":
                return real(host, port, *args, **options)
            if socket.AI_NUMERICHOST in args:
                raise socket.gaierror
            lookups.append(host)
            release.wait(30)
            raise socket.gaierror

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        tier = open_tier("redis://slow.example")
        try:
            for _ in range(3):
                with pytest.raises(TierUnavailable, match="in time"):
                    tier.get("a", shortly())
            assert lookups == ["slow.example"]
        finally:
            release.set()

    async def test_dripping_bytes_buy_no_time(self, open_tier: Callable[..., RedisTier]) -> None:
        ended = threading.Event()
        served = []

        def drip(listener: socket.socket) -> None:
            while not ended.is_set():
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    served.append(peer)
                    try:
                        peer.sendall(b"$1000000\r\n")
                        while not ended.wait(0.01):
                            peer.sendall(b"x")
                    except OSError:
                        pass

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=drip, args=(listener,))
            thread.start()
            tier = open_tier(f"redis://127.0.0.1:{listener.getsockname()[1]}")
            # Were each byte to renew the time, these would end only when the test is given up.
            with pytest.raises(TierUnavailable, match="in time"):
                tier.get("a", shortly())
            with pytest.raises(TierUnavailable, match="in time"):
                await tier.aget("a", shortly())
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
        assert len(served) == 2

    async def test_a_server_that_is_stopped(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        server = new_redis()
        tier = open_tier(server.url)
        tier.set("a", b"sync", 60_000, soon())
        await tier.aset("b", b"async", 60_000, soon())
        server.pause()
        with pytest.raises(TierUnavailable, match="in time"):
            tier.get("a", shortly())
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aget("b", shortly())
        server.resume()
        # The answers to the two that were given up come now; nobody may take them for his own.
        assert tier.get("b", soon()) == b"async"
        assert await tier.aget("a", soon()) == b"sync"

    async def test_a_reply_that_breaks_off(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url)
            tier.set("a", b"x" * 1_000, 60_000, soon())
            await tier.aget("a", soon())
            halves: list[bytes | None] = []

            def half(data: bytes) -> bytes | None:
                halves.append(data)
                return data[:500]

            proxy.on_reply = half
            with pytest.raises(TierUnavailable, match="in time"):
                tier.get("a", shortly())
            with pytest.raises(TierUnavailable, match="in time"):
                await tier.aget("a", shortly())
            proxy.on_reply = lambda data: None
            with pytest.raises(TierUnavailable, match="cannot be reached"):
                tier.get("a", soon())
            with pytest.raises(TierUnavailable, match="cannot be reached"):
                await tier.aget("a", soon())
            proxy.on_reply = lambda data: data
            assert tier.get("a", soon()) == b"x" * 1_000
            assert await tier.aget("a", soon()) == b"x" * 1_000
            assert len(halves) == 2


class Held:
    """A proxy's reply, held back until the test lets it go."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.release = threading.Event()

    def __call__(self, data: bytes) -> bytes:
        self.arrived.set()
        self.release.wait(30)
        return data


class TestNoReplyForAnother:
    async def test_a_cancelled_task_leaves_nothing_behind(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url, pool_size=1)
            await tier.aset("a", b"old", 60_000, soon())
            await tier.aset("b", b"new", 60_000, soon())
            proxy.on_reply = held = Held()
            task = asyncio.create_task(tier.aget("a", soon()))
            await asyncio.to_thread(held.arrived.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            proxy.on_reply = lambda data: data
            held.release.set()
            assert await tier.aget("b", soon()) == b"new"
            assert proxy.accepted == 2

    def test_a_thread_that_ran_out_of_time_leaves_nothing_behind(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url, pool_size=1)
            tier.set("a", b"old", 60_000, soon())
            tier.set("b", b"new", 60_000, soon())
            proxy.on_reply = held = Held()
            with pytest.raises(TierUnavailable):
                tier.get("a", shortly())
            proxy.on_reply = lambda data: data
            held.release.set()
            assert tier.get("b", soon()) == b"new"
            assert proxy.accepted == 2

    async def test_a_connection_that_says_something_unasked_is_not_used(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url)
            proxy.on_reply = lambda data: data + b"$3\r\nold\r\n"
            assert tier.get("a", soon()) is None
            assert await tier.aget("a", soon()) is None
            proxy.on_reply = lambda data: data
            assert tier.get("a", soon()) is None
            assert await tier.aget("a", soon()) is None

    async def test_the_same_when_it_comes_later(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        with Proxy(redis_server.port) as proxy:
            tier = open_tier(proxy.url)
            assert tier.get("a", soon()) is None
            assert await tier.aget("a", soon()) is None
            proxy.say(b"$3\r\nold\r\n")
            (connection,) = tier._threads._idle
            (stream,) = tier._loops[asyncio.get_running_loop()]._idle
            while connection.quiet() or stream.quiet():
                await asyncio.sleep(0.001)
            assert tier.get("a", soon()) is None
            assert await tier.aget("a", soon()) is None


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
            await asyncio.gather(*(tier.aget("a", soon()) for _ in range(50)))
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
            pool = tier._threads
            running = threads.submit(tier.get, "a", soon())
            held.arrived.wait(20)
            tier.close()
            held.release.set()
            assert running.result() is None
            assert not pool._idle
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
        assert all(not pool._all for pool in tier._loops.values())

    def test_loops_that_ended_are_forgotten(self, tier: RedisTier) -> None:
        for _ in range(3):
            asyncio.run(tier.aget("a", soon()))
        assert len(tier._loops) == 1

    def test_close_reaches_a_loop_in_another_thread(self, tier: RedisTier) -> None:
        begun, ended = threading.Event(), threading.Event()

        async def main() -> None:
            await tier.aget("a", soon())
            pool = tier._loops[asyncio.get_running_loop()]
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
            [sys.executable, "-X", "dev", "-W", "always", "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestRejections:
    """Answers that need somebody to change something; each says what."""

    async def check(self, tier: RedisTier, match: str, *, values: bool = True) -> None:
        calls: list[Callable[[], object]] = [
            lambda: tier.sync(NOTHING, "p", soon()),
            lambda: tier.purge(["h:a"], False, soon()),
        ]
        if values:
            calls += [lambda: tier.get("a", soon()), lambda: tier.listen(soon())]
        for call in calls:
            with pytest.raises(TierRejected, match=match) as caught:
                call()
            assert isinstance(caught.value.__cause__, redis.RedisError)
        with pytest.raises(TierRejected, match=match):
            await tier.apurge(["h:a"], False, soon())

    async def test_a_missing_password(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        server = new_redis(requirepass="secret")
        await self.check(open_tier(f"redis://127.0.0.1:{server.port}"), "asks for a password")

    async def test_a_wrong_password(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        server = new_redis(requirepass="secret")
        await self.check(open_tier(server.url.replace("secret", "guess")), "refused the user or password")
        await self.check(open_tier(server.url.replace(":secret", "nobody:guess")), "refused the user or password")

    async def test_the_right_password(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        server = new_redis(requirepass="s:e/c@r et")
        tier = open_tier(f"redis://default:s%3Ae%2Fc%40r%20et@127.0.0.1:{server.port}/2")
        tier.set("a", b"x", 60_000, soon())
        assert await tier.aget("a", soon()) == b"x"
        tier.listen(soon())

    async def test_no_scripting(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(new_redis(rename_command=[("EVAL", ""), ("EVALSHA", "")]).url)
        await self.check(tier, "scripting", values=False)
        # Values alone would work, and the connections are still good.
        tier.set("a", b"x", 60_000, soon())
        assert await tier.aget("a", soon()) == b"x"

    async def test_a_user_without_the_permissions(
        self, redis_server: RedisServer, client: redis.Redis, open_tier: Callable[..., RedisTier]
    ) -> None:
        client.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "resetkeys", "resetchannels", "+ping")
        await self.check(open_tier(redis_server.url.replace("//", "//poor:pw@")), "lacks a permission.*evalsha")
        client.execute_command("ACL", "SETUSER", "poor", "~*", "allchannels", "+eval", "+evalsha")
        tier = open_tier(redis_server.url.replace("//", "//poor:pw@"))
        await self.check(tier, "lacks a permission.*zadd", values=False)

    async def test_the_permissions_named_are_enough(
        self, redis_server: RedisServer, client: redis.Redis, open_tier: Callable[..., RedisTier]
    ) -> None:
        client.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "resetkeys", "resetchannels", "-@all")
        tier = open_tier(redis_server.url.replace("//", "//poor:pw@"), ledger_limit=2)
        with pytest.raises(TierRejected) as caught:
            tier.get("a", soon())
        rules = str(caught.value).split("needs: ")[1].split()
        client.execute_command("ACL", "SETUSER", "poor", *rules)
        tier.set("a", b"x", 60_000, soon())
        assert await tier.aget("a", soon()) == b"x"
        tier.delete("a", soon())
        subscription = tier.listen(soon())
        client.hset("tc:{shop}:members", "gone", "1 - 0")
        for _ in range(3):
            tier.purge(["h:a", "h:b", "h:c"], False, soon())
            tier.purge([], True, soon())
        assert subscription.wait(20) is not None
        assert tier.sync(NOTHING, "p", soon()).head == 6
        assert tier.guarded

    async def test_a_full_server(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(new_redis(maxmemory=1, maxmemory_policy="noeviction").url)
        with pytest.raises(TierRejected, match="maxmemory"):
            tier.set("a", b"x", 1000, soon())
        with pytest.raises(TierRejected, match="maxmemory"):
            await tier.aset("a", b"x", 1000, soon())

    async def test_a_replica_and_the_connections_to_it(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        primary = new_redis()
        with Proxy(new_redis(replicaof=("127.0.0.1", primary.port)).port) as proxy:
            tier = open_tier(proxy.url)
            for count in (1, 2):
                with pytest.raises(TierRejected, match="replica"):
                    tier.set("a", b"x", 1000, soon())
                # A name may lead to the new primary by now, so the next one connects anew.
                assert proxy.accepted == count
            with pytest.raises(TierRejected, match="replica"):
                await tier.aset("a", b"x", 1000, soon())

    async def test_no_redis_at_all(self, open_tier: Callable[..., RedisTier]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer() -> None:
                for _ in range(2):
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(1000)
                        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            tier = open_tier(f"redis://127.0.0.1:{listener.getsockname()[1]}")
            with pytest.raises(TierRejected, match="Redis protocol"):
                tier.get("a", soon())
            with pytest.raises(TierRejected, match="Redis protocol"):
                await tier.aget("a", soon())
            thread.join()

    def test_the_password_is_in_no_message(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(new_redis(requirepass="secret").url.replace("secret", "hunter2"))
        with pytest.raises(TierError) as caught:
            tier.get("a", soon())
        error: BaseException | None = caught.value
        while error is not None:
            assert "hunter2" not in repr(error)
            error = error.__cause__
        assert "hunter2" not in tier.where


class TestConfiguration:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "localhost:6379",
            "http://localhost",
            "memcached://localhost",
            "redis:/localhost",
            "redis://localhost:port",
            "redis://localhost:0",
            "redis://localhost:70000",
            "redis://localhost/zero",
            "redis://localhost/0/1",
            "redis://[::1",
            "redis://localhost?db=x",
            "redis://localhost?socket_timeout=5",
            "redis://localhost?retry_on_timeout=yes",
            "redis://localhost?ssl_ca_certs=/x",
            "rediss://localhost?ssl_nonsense=1",
            "rediss://localhost?ssl_cert_reqs=maybe",
            "unix://",
            "unix://relative",
            "redis://" + "x" * 64,
            None,
            7,
        ],
    )
    def test_a_url_that_cannot_work(self, url: Any) -> None:
        with pytest.raises(ConfigError) as caught:
            RedisTier(url, "shop")
        assert caught.value.setting == "url"

    @pytest.mark.parametrize(
        "url", ["redis://u:hunter2@localhost:x", "redis://:hun@ter2@localhost/x", "redis://h?password=hunter2&x=1"]
    )
    def test_a_refused_url_does_not_show_its_password(self, url: str) -> None:
        with pytest.raises(ConfigError) as caught:
            RedisTier(url, "shop")
        assert "ter2" not in str(caught.value) + repr(caught.value.value)

    @pytest.mark.parametrize(
        "url", ["redis://", "redis://localhost", "rediss://u:p@h:1/2", "redis://[::1]:6379/", "unix:///tmp/s?db=1"]
    )
    def test_a_url_that_may_work_connects_to_nothing_yet(self, url: str) -> None:
        RedisTier(url, "shop").close()

    @pytest.mark.parametrize("namespace", ["", "a b", "a{b}", "a:b", "a\n", None])
    def test_a_namespace_that_cannot_work(self, namespace: Any) -> None:
        with pytest.raises(ConfigError, match="namespace"):
            RedisTier("redis://localhost", namespace)

    @pytest.mark.parametrize(
        "options",
        [
            {"pool_size": 0},
            {"pool_size": 1.5},
            {"pool_size": True},
            {"page": -1},
            {"ledger_limit": 0},
            {"heartbeat": 0},
            {"heartbeat": float("nan")},
            {"listen_timeout": "1s"},
        ],
    )
    def test_numbers_that_cannot_work(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=next(iter(options))):
            RedisTier("redis://localhost", "shop", **options)


class TestSubscription:
    def test_it_hears_from_the_moment_it_is_there(self, tier: RedisTier, client: redis.Redis) -> None:
        for _ in range(20):
            subscription = tier.listen(soon())
            assert client.publish("tc:{shop}:bus", b"") == 1
            subscription.close()
            while client.pubsub_numsub("tc:{shop}:bus")[0][1]:
                pass

    def test_nothing_is_said(self, tier: RedisTier) -> None:
        subscription = tier.listen()
        assert subscription.wait(0) is None
        assert subscription.wait(0.01) is None

    def test_many_at_once_keep_their_order(self, tier: RedisTier) -> None:
        subscription = tier.listen()
        sent = tier.purge([f"h:{i}" for i in range(3_500)], False, soon())
        assert [subscription.wait(20) for _ in range(4)] == sent

    def test_a_message_in_pieces(self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        rest: list[bytes] = []

        def half(data: bytes) -> bytes:
            rest.append(data[20:])
            return data[:20]

        with Proxy(redis_server.port) as proxy:
            subscription = open_tier(proxy.url).listen(soon())
            proxy.on_reply = half
            (sent,) = open_tier(redis_server.url).purge(["h:a"], False, soon())
            while not rest:
                assert subscription.wait(0.01) is None
            proxy.on_reply = lambda data: rest[0] + data
            # Anything that the server says next carries the rest along.
            subscription._ask(soon())
            assert subscription.wait(20) == sent
            subscription.close()

    def test_something_else_on_the_bus(self, tier: RedisTier, client: redis.Redis) -> None:
        subscription = tier.listen()
        client.publish("tc:{shop}:bus", "hello")
        with pytest.raises(TierRejected):
            subscription.wait(20)
        (sent,) = tier.purge(["h:a"], False, soon())
        assert subscription.wait(20) == sent

    def test_being_cut_off(self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        with Proxy(redis_server.port) as proxy:
            subscription = open_tier(proxy.url).listen(soon())
            proxy.cut()
            with pytest.raises(TierUnavailable):
                subscription.wait(20)
            with pytest.raises(TierUnavailable):
                subscription.wait(20)

    def test_a_killed_server(self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]) -> None:
        server = new_redis()
        subscription = open_tier(server.url).listen(soon())
        server.kill()
        with pytest.raises(TierUnavailable):
            subscription.wait(20)

    def test_a_silent_peer_is_asked_and_then_given_up(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        server = new_redis()
        subscription = open_tier(server.url, heartbeat=0.2).listen(soon())
        assert subscription.wait(1.5) is None
        server.pause()
        with pytest.raises(TierUnavailable, match="sign of life"):
            subscription.wait(20)
        server.resume()

    def test_closing_wakes_the_one_who_waits(self, tier: RedisTier) -> None:
        subscription = tier.listen()
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(subscription.wait, 40)
            while not subscription._wire._sock._sock.gettimeout():
                pass
            subscription.close()
            with pytest.raises(TierUnavailable):
                waiting.result()
        subscription.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
class TestFork:
    @staticmethod
    def in_child(run: Callable[[], None]) -> None:
        """Run it in a forked child, which ends without the parent's clean-up."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run()
                code = 0
            except BaseException as error:
                os.write(2, repr(error).encode())
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

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

            self.in_child(child)
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

            self.in_child(child)
            assert proxy.accepted == before + 1
            found = await asyncio.gather(*(tier.aget("a", soon()) for _ in range(3)))
            assert found == [b"x"] * 3
            assert proxy.accepted == before + 1

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_locks_held_at_the_fork_do_not_hold_the_child(self, tier: RedisTier) -> None:
        tier.get("a", soon())
        with tier._lock:
            for _ in range(32):
                tier._threads._slots.acquire()

            def child() -> None:
                tier.reset_after_fork()
                tier.get("a", soon())
                asyncio.run(tier.aget("a", soon()))

            self.in_child(child)
        for _ in range(32):
            tier._threads._slots.release()
