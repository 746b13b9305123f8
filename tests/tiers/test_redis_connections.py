"""URLs, deadlines, and networks that misbehave."""

from __future__ import annotations

import asyncio
import importlib.metadata
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import MovedError, OutOfMemoryError

from tests.servers import Proxy, RedisServer
from tests.tiers.redis_help import NOTHING, Held, shortly, soon
from tiercache.errors import ConfigError, TierUnavailable
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis_connections import BoundedConnection, make_async_connection, make_connection
from tiercache.tiers.redis_errors import OF_A_CLUSTER
from tiercache.tiers.redis_urls import parse_url
from tiercache.tiers.sockets import Resolver


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
            "rediss://localhost?ssl_ca_certs=/nowhere/ca.pem",
            "unix://",
            "unix://relative",
            "redis://" + "x" * 64,
            "redis://a,b",
            "redis+sentinel://localhost",
            "redis+sentinel://localhost/",
            "redis+sentinel://localhost/my shop",
            "redis+sentinel://localhost/shop/zero",
            "redis+sentinel://localhost/shop/0/1",
            "redis+sentinel://localhost:0/shop",
            "redis+sentinel://localhost,[::1/shop",
            "redis+sentinel://localhost/shop?sentinel=x",
            "redis+cluster://localhost/1",
            "redis+cluster://localhost?db=1",
            "redis+cluster://localhost:port,localhost",
            "redis+cluster://localhost?sentinel_password=x",
            "redis+nothing://localhost",
            "unix+cluster:///tmp/s",
            "valkeyss://localhost",
            None,
            7,
        ],
    )
    def test_a_url_that_cannot_work(self, url: Any) -> None:
        with pytest.raises(ConfigError) as caught:
            RedisTier(url, "shop")
        assert caught.value.setting == "url"

    @pytest.mark.parametrize(
        "url",
        [
            "redis://u:hunter2@localhost:x",
            "redis://:hun@ter2@localhost/x",
            "redis://h?password=hunter2&x=1",
            "redis+sentinel://h/shop?sentinel_password=hunter2&x=1",
            "redis+cluster://:hunter2@h,i/1",
        ],
    )
    def test_a_refused_url_does_not_show_its_password(self, url: str) -> None:
        with pytest.raises(ConfigError) as caught:
            RedisTier(url, "shop")
        assert "ter2" not in str(caught.value) + repr(caught.value.value)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://",
            "redis://localhost",
            "rediss://u:p@h:1/2",
            "redis://[::1]:6379/",
            "unix:///tmp/s?db=1",
            "valkey://localhost",
            "valkeys://localhost?ssl_check_hostname=false",
            "redis+sentinel://u:p@a,b:1,[::1]:2/shop/3?sentinel_username=v&sentinel_password=q",
            "valkeys+sentinel://a/shop?ssl_cert_reqs=none",
            "redis+cluster://u:p@a,b:1/0?client_name=x",
            "rediss+cluster://[::1]",
            "VALKEY+cluster://a",
        ],
    )
    def test_a_url_that_may_work_connects_to_nothing_yet(self, url: str) -> None:
        RedisTier(url, "shop").close()

    @pytest.mark.parametrize("namespace", ["", "a b", "a{b}", "a:b", "a\n", None])
    def test_a_namespace_that_cannot_work(self, namespace: Any) -> None:
        with pytest.raises(ConfigError, match="namespace"):
            RedisTier("redis://localhost", namespace)

    def test_a_connection_reads_no_file_to_say_who_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is made on the event loop of an app, which stands still meanwhile."""

        def read(name: str) -> str:
            raise AssertionError(f"the version of {name} was looked up once more")

        monkeypatch.setattr(importlib.metadata, "version", read)
        target = parse_url("redis+sentinel://a,b/shop?sentinel_password=x")
        for address in (*target.seeds, target.address.at("localhost", 1)):
            make_async_connection(address)
            made: Any = make_connection(address, Resolver())
            assert getattr(made, "driver_info", made) is not None

    def test_errors_of_a_cluster_are_told_apart_with_an_older_redis_py_as_well(self) -> None:
        """Before 6.0 its parsers did so only within its own client for Clusters."""
        address = parse_url("redis+cluster://localhost").seeds[0]
        made: tuple[Any, ...] = (make_connection(address, Resolver()), make_async_connection(address))
        for connection in made:
            newer = type(connection._parser)
            words = {word: kind for word, kind in newer.EXCEPTION_CLASSES.items() if word not in OF_A_CLUSTER}
            connection.set_parser(type("Older", (newer,), {"EXCEPTION_CLASSES": words}))
            moved = connection._parser.parse_error("MOVED 3999 127.0.0.1:6381")
            assert (type(moved), moved.slot_id, moved.port) == (MovedError, 3999, 6381)
            assert {type(connection._parser.parse_error(f"{word} 1 h:1")) for word in OF_A_CLUSTER} == {
                *OF_A_CLUSTER.values()
            }
            assert type(connection._parser.parse_error("OOM command not allowed")) is OutOfMemoryError

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
            assert tier.get("a", soon()) is None
            assert await tier.aget("a", soon()) is None
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
            ((connection,),) = tier._wire.threads._idle.values()
            ((stream,),) = tier._wire.loops[asyncio.get_running_loop()]._idle.values()
            while connection.quiet() or stream.quiet():
                await asyncio.sleep(0.001)
            assert tier.get("a", soon()) is None
            assert await tier.aget("a", soon()) is None

    def test_an_exception_thrown_into_a_thread_leaves_nothing_behind(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tier = open_tier(redis_server.url, pool_size=1)
        tier.set("a", b"old", 60_000, soon())
        tier.set("b", b"new", 60_000, soon())

        def interrupt(*args: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            # Between the question and its answer, where redis-py itself clears nothing up.
            patch.setattr(BoundedConnection, "read_response", interrupt)
            with pytest.raises(KeyboardInterrupt):
                tier.get("a", soon())
        # Even if the answer is not there yet when the next question is asked.
        monkeypatch.setattr(BoundedConnection, "quiet", lambda self: self._sock is not None)
        assert tier.get("b", soon()) == b"new"
