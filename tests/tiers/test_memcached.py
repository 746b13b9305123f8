"""MemcachedValues against real servers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.servers import Proxy
from tests.tiers.redis_help import Held, in_child, shortly, soon
from tests.tiers.values_contract import KEYS, ValuesContract
from tiercache.errors import ConfigError, TierError, TierRejected, TierTooLarge, TierUnavailable
from tiercache.tiers.memcached import MOST, MemcachedValues
from tiercache.tiers.memcached_connections import Ask
from tiercache.tiers.memcached_urls import parse_url
from tools.memcached_server import MemcachedServer, available

pytestmark = pytest.mark.skipif(available() is None, reason="no memcached: `make servers` unpacks one")

TRICKY = [
    b"",
    b"x",
    bytes(range(256)),
    b"END\r\n",
    b"x\r\nEND\r\n",
    b"VALUE tc:shop:a 0 1\r\nx\r\nEND\r\n" * 9_000,
    b"x" * 65_536,
    b"\r\n" * 200_000,
    b"x" * 1_000_000,
]
"""Values that look like answers, and large ones."""


@pytest.fixture(scope="module")
def servers() -> Iterator[list[MemcachedServer]]:
    with MemcachedServer() as one, MemcachedServer() as two, MemcachedServer() as three:
        yield [one, two, three]


@pytest.fixture(params=["one", "several"])
def url(request: pytest.FixtureRequest, servers: list[MemcachedServer]) -> str:
    for server in servers:
        assert server.ask("flush_all") == "OK"
    return servers[0].url if request.param == "one" else f"memcached://{','.join(one.where for one in servers)}"


@pytest.fixture
def open_values() -> Iterator[Callable[..., MemcachedValues]]:
    opened: list[MemcachedValues] = []

    def make(url: str, namespace: str = "shop", **options: int) -> MemcachedValues:
        opened.append(MemcachedValues(url, namespace, **options))
        return opened[-1]

    yield make
    for values in opened:
        values.close()


@pytest.fixture
def tier(url: str, open_values: Callable[..., MemcachedValues]) -> MemcachedValues:
    return open_values(url)


@pytest.fixture
def open_small(url: str, open_values: Callable[..., MemcachedValues]) -> Callable[[int], MemcachedValues]:
    return lambda size: open_values(url, pool_size=size)


class TestContract(ValuesContract):
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    async def test_a_fork(self, tier: MemcachedValues) -> None:
        for key in KEYS:
            tier.set(key, b"x", 60_000, soon())
            assert await tier.aget(key, soon()) == b"x"
        before = len(tier._pools.threads._all)

        def child() -> None:
            tier.reset_after_fork()
            gc.collect()
            asyncio._set_running_loop(None)
            assert tier.get_many(KEYS, soon()) == [b"x"] * len(KEYS)
            assert asyncio.run(tier.aget(KEYS[1], soon())) == b"x"

        in_child(child)
        # The parent's connections are as they were.
        assert [tier.get(key, soon()) for key in KEYS] == [b"x"] * len(KEYS)
        assert await asyncio.gather(*(tier.aget(key, soon()) for key in KEYS)) == [b"x"] * len(KEYS)
        assert len(tier._pools.threads._all) == before


class TestValues:
    @pytest.mark.parametrize("value", TRICKY, ids=range(len(TRICKY)))
    async def test_what_is_set_is_got(self, tier: MemcachedValues, value: bytes) -> None:
        tier.set("a", value, 60_000, soon())
        assert tier.get("a", soon()) == value
        assert await tier.aget("a", soon()) == value
        assert await tier.aget_many(["b", "a"], soon()) == [None, value]
        await tier.aset("b", value, 60_000, soon())
        assert tier.get_many(["b", "a"], soon()) == [value, value]

    @pytest.mark.parametrize("value", TRICKY[:6], ids=range(6))
    async def test_answers_that_come_in_pieces(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues], value: bytes
    ) -> None:
        """As networks cut them: at every byte around the end of the value."""
        value = value[-200:]
        with _Drip(servers[0].port) as drip:
            tier = open_values(f"memcached://127.0.0.1:{drip.port}")
            tier.set("a", value, 60_000, soon())
            # Each piece is one byte, so that every place is one where a piece ends.
            assert await tier.aget("a", soon()) == value
            assert tier.get("a", soon()) == value
            assert await tier.aget_many(["a", "none"], soon()) == [value, None]

    @pytest.mark.parametrize(
        "key", ["a b", "a\r\nflush_all", "ü", "\ud800", "x" * 300, "\x00", "a\tb", "x" * 242, "x" * 241, ""]
    )
    async def test_any_key(self, tier: MemcachedValues, key: str) -> None:
        tier.set(key, b"1", 60_000, soon())
        assert tier.get(key, soon()) == await tier.aget(key, soon()) == b"1"
        assert tier.get_many([key, "other"], soon()) == await tier.aget_many([key, "other"], soon()) == [b"1", None]
        await tier.adelete(key, soon())
        assert tier.get(key, soon()) is None

    def test_keys_that_memcached_takes_are_kept_as_they_are(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        tier = open_values(servers[0].url)
        tier.set(KEYS[0], b"1", 60_000, soon())
        assert servers[0].ask(f"get tc:shop:{KEYS[0]}") == f"VALUE tc:shop:{KEYS[0]} 0 1"
        assert re.fullmatch(r"tc:shop:#[0-9a-f]{64}", tier._name("a b"))

    def test_namespaces_are_apart(
        self, tier: MemcachedValues, url: str, open_values: Callable[..., MemcachedValues]
    ) -> None:
        open_values(url, "other").set("a", b"theirs", 60_000, soon())
        assert tier.get("a", soon()) is None

    @pytest.mark.parametrize("ttl_ms", [0, 1, 999, 60_000, 31 * 86_400_000, 400 * 86_400_000])
    def test_lifetimes(self, tier: MemcachedValues, ttl_ms: int) -> None:
        """Longer ones than a month would be taken for a moment in 1970."""
        tier.set("a", b"x", ttl_ms, soon())
        assert ttl_ms < 1_000 or tier.get("a", soon()) == b"x"

    @pytest.mark.parametrize(
        ("ttl_ms", "seconds"), [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (30 * 86_400_000, 30 * 86_400)]
    )
    def test_seconds_upwards(self, monkeypatch: pytest.MonkeyPatch, ttl_ms: int, seconds: int) -> None:
        from tiercache.tiers import memcached

        assert memcached._expiry(ttl_ms) == seconds
        monkeypatch.setattr(memcached.time, "time", lambda: 1_000.9)
        assert memcached._expiry(31 * 86_400_000) == 1_000 + 31 * 86_400

    async def test_a_value_that_is_too_large(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        with Proxy(servers[0].port) as proxy:
            tier = open_values(f"memcached://127.0.0.1:{proxy.port}")
            tier.set("a", b"old", 60_000, soon())
            await tier.aset("b", b"old", 60_000, soon())
            for value in (b"x" * 1_048_577, b"x" * 5_000_000):
                with pytest.raises(TierTooLarge, match="-I"):
                    tier.set("a", value, 60_000, soon())
                with pytest.raises(TierTooLarge, match="-I"):
                    await tier.aset("b", value, 60_000, soon())
            # Neither the new one nor the old one.
            assert tier.get("a", soon()) is await tier.aget("b", soon()) is None
            ((stream,),) = tier._pools.loops[asyncio.get_running_loop()]._idle.values()
            assert stream.quiet()

    async def test_more_keys_than_one_request_takes(self, tier: MemcachedValues) -> None:
        asked = [f"k{i}" for i in range(3 * MOST)]
        for key in asked[::7]:
            tier.set(key, key.encode(), 60_000, soon())
        expected = [key.encode() if key in asked[::7] else None for key in asked]
        assert tier.get_many(asked, soon()) == await tier.aget_many(asked, soon()) == expected


class TestReadsTogether:
    """Of one event loop; how they stand in line is tried with Redis, by the same code."""

    async def test_those_that_are_under_way_at_once_are_one_request(
        self, tier: MemcachedValues, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for key in KEYS:
            await tier.aset(key, key.encode(), 60_000, soon())
        asked: list[int] = []
        aexecute = tier._pools.aexecute

        async def counting(deadline: float, ask: Ask) -> object:
            asked.append(len(ask.errand.keys))  # type: ignore[union-attr]
            return await aexecute(deadline, ask)

        monkeypatch.setattr(tier._pools, "aexecute", counting)
        wanted = [*KEYS, *KEYS, "nothing"]
        found = await asyncio.gather(*[tier.aget(key, soon()) for key in wanted])
        assert found == [*[key.encode() for key in KEYS] * 2, None]
        # The first by itself, and one or two for each server that has some of the others.
        assert len(asked) <= 1 + 2 * len(tier._addresses)
        assert sum(asked) < len(wanted), "what several ask for is fetched once"

    async def test_one_server_that_is_gone_fails_those_of_its_own(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        tier = open_values(f"memcached://127.0.0.1:{servers[0].port},127.0.0.1:{port}")
        home = f"127.0.0.1:{servers[0].port}"
        keys = [f"k{number}" for number in range(40)]
        mine = [key for key in keys if tier.home(tier._name(key)) == home]
        for key in mine:
            await tier.aset(key, b"x", 60_000, soon())
        found = await asyncio.gather(*[tier.aget(key, soon()) for key in keys], return_exceptions=True)
        for key, value in zip(keys, found, strict=True):
            assert value == b"x" if key in mine else isinstance(value, TierUnavailable)
        assert 0 < len(mine) < 40

    async def test_each_has_its_own_deadline(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        with Proxy(servers[0].port) as proxy:
            tier = open_values(f"memcached://127.0.0.1:{proxy.port}")
            for key in KEYS:
                await tier.aset(key, b"x", 60_000, soon())
            proxy.on_reply = held = Held()
            patient = [asyncio.create_task(tier.aget(key, soon())) for key in KEYS]
            with pytest.raises(TierUnavailable, match="did not answer in time"):
                await tier.aget(KEYS[0], shortly())
            proxy.on_reply = lambda data: data
            held.release.set()
            assert await asyncio.gather(*patient) == [b"x"] * len(KEYS)


class TestSeveralServers:
    def test_all_of_them_are_used_and_each_key_has_one(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        tier = open_values(f"memcached://{','.join(one.where for one in servers)}")
        other = open_values(f"memcached://{','.join(one.where for one in reversed(servers))}")
        homes = {key: tier._place(tier._name(key)).where for key in (f"k{i}" for i in range(3_000))}
        # Whoever names them in another order asks the same one.
        assert {key: other._place(other._name(key)).where for key in homes} == homes
        for server in servers:
            assert 850 < list(homes.values()).count(server.where) < 1_150
        fewer = open_values(f"memcached://{servers[0].where},{servers[1].where}")
        stayed = {key for key in homes if fewer._place(fewer._name(key)).where == homes[key]}
        # Only the keys of the one that is gone have another home.
        assert stayed == {key for key in homes if homes[key] != servers[2].where}

    async def test_one_is_gone(self, open_values: Callable[..., MemcachedValues]) -> None:
        with MemcachedServer() as one, MemcachedServer() as two:
            tier = open_values(f"memcached://{one.where},{two.where}")
            for key in KEYS:
                tier.set(key, b"x", 60_000, soon())
            mine = [key for key in KEYS if tier._place(tier._name(key)).where == one.where]
            theirs = [key for key in KEYS if key not in mine]
            assert mine
            assert theirs
            one.kill()
            for key in mine[:2]:
                with pytest.raises(TierUnavailable, match="cannot be reached"):
                    tier.get(key, soon())
                with pytest.raises(TierUnavailable, match="cannot be reached"):
                    await tier.aget(key, soon())
            assert await tier.aget_many(theirs, soon()) == [b"x"] * len(theirs)
            with pytest.raises(TierUnavailable):
                await tier.aget_many(KEYS, soon())
            one.start()
            assert tier.get_many(mine, soon()) == [None] * len(mine)
            assert await tier.aget_many(theirs, soon()) == [b"x"] * len(theirs)

    async def test_a_mute_one_is_left_alone_until_it_answers(self, open_values: Callable[..., MemcachedValues]) -> None:
        with MemcachedServer() as one, MemcachedServer() as two:
            tier = open_values(f"memcached://{one.where},{two.where}")
            tier.probe(soon())
            key = next(key for key in KEYS if tier._place(tier._name(key)).where == one.where)
            other = next(key for key in KEYS if tier._place(tier._name(key)).where == two.where)
            one.pause()
            try:
                with pytest.raises(TierUnavailable, match="in time"):
                    tier.get(key, shortly())
                # Once is nothing: this process may have stood still. Half of them is no reason to leave all alone.
                tier.probe(shortly())
                with pytest.raises(TierUnavailable, match="in time"):
                    tier.get(key, shortly())
                tier.probe(shortly())
                for call in (lambda: tier.get(key, soon()), lambda: tier.get_many([other, key], soon())):
                    with pytest.raises(TierUnavailable, match="left alone"):
                        call()
                with pytest.raises(TierUnavailable, match="left alone"):
                    await tier.aset(key, b"x", 60_000, soon())
                assert await tier.aget(other, soon()) is None
                two.kill()
                with pytest.raises(TierUnavailable):
                    tier.probe(shortly())
            finally:
                one.resume()
            tier.probe(soon())
            assert tier.get(key, soon()) is None


    def test_a_process_that_is_busy_itself_says_nothing_of_the_server(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        tier = open_values(servers[0].url, pool_size=1)
        tier.probe(soon())
        slots = tier._pools.threads._slots
        slots.acquire()
        for _ in range(3):
            tier.probe(shortly())
        slots.release()
        assert tier.get("none", soon()) is None

    def test_one_that_is_refused_is_left_alone_at_once(self, open_values: Callable[..., MemcachedValues]) -> None:
        with MemcachedServer() as server:
            tier = open_values(server.url)
            tier.probe(soon())
            server.kill()
            with pytest.raises(TierUnavailable, match="cannot be reached"):
                tier.probe(soon())
            with pytest.raises(TierUnavailable, match="left alone"):
                tier.get("a", soon())
            server.start()
            tier.probe(soon())
            assert tier.get("a", soon()) is None


class TestTrouble:
    async def test_nobody_answers(self, silent: str, open_values: Callable[..., MemcachedValues]) -> None:
        tier = open_values(silent.replace("redis", "memcached").removesuffix("/0"))
        for call in (lambda: tier.get("a", shortly()), lambda: tier.set("a", b"x" * 9_000_000, 1, shortly())):
            with pytest.raises(TierUnavailable, match="in time"):
                call()
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aget("a", shortly())
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aset("a", b"x" * 9_000_000, 1, shortly())

    async def test_nobody_listens(self, open_values: Callable[..., MemcachedValues]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        tier = open_values(f"memcached://127.0.0.1:{port}")
        with pytest.raises(TierUnavailable, match=f"127.0.0.1:{port} cannot be reached: .*refused"):
            tier.get("a", soon())
        with pytest.raises(TierUnavailable, match=f"127.0.0.1:{port} cannot be reached: .*(refused|failed)"):
            await tier.aget("a", soon())

    async def test_a_name_that_there_is_not(self, open_values: Callable[..., MemcachedValues]) -> None:
        tier = open_values("memcached://nowhere.invalid")
        with pytest.raises(TierUnavailable, match=r"nowhere\.invalid"):
            tier.get("a", soon())
        with pytest.raises(TierUnavailable, match=r"nowhere\.invalid"):
            await tier.aget("a", soon())

    async def test_a_reply_that_comes_too_late_is_nobodys(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        with Proxy(servers[0].port) as proxy:
            tier = open_values(f"memcached://127.0.0.1:{proxy.port}")
            tier.set("a", b"first", 60_000, soon())
            await tier.aset("b", b"second", 60_000, soon())
            proxy.on_reply = held = Held()
            with pytest.raises(TierUnavailable, match="in time"):
                tier.get("a", shortly())
            with pytest.raises(TierUnavailable, match="in time"):
                await tier.aget("a", shortly())
            proxy.on_reply = lambda data: data
            held.release.set()
            assert tier.get("b", soon()) == await tier.aget("b", soon()) == b"second"

    async def test_a_cancelled_read_leaves_nothing_to_the_next_one(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        with Proxy(servers[0].port) as proxy:
            tier = open_values(f"memcached://127.0.0.1:{proxy.port}")
            tier.set("a", b"first", 60_000, soon())
            await tier.aset("b", b"second", 60_000, soon())
            proxy.on_reply = held = Held()
            task = asyncio.create_task(tier.aget("a", soon()))
            await asyncio.to_thread(held.arrived.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            proxy.on_reply = lambda data: data
            held.release.set()
            for _ in range(3):
                assert await tier.aget("b", soon()) == b"second"

    async def test_connections_that_died_are_not_tried_first(self, open_values: Callable[..., MemcachedValues]) -> None:
        with MemcachedServer() as server:
            tier = open_values(server.url)
            assert tier.get("a", soon()) is await tier.aget("a", soon()) is None
            server.kill()
            server.start()
            ((stream,),) = tier._pools.loops[asyncio.get_running_loop()]._idle.values()
            while stream.quiet():  # the loop has to hear of it
                await asyncio.sleep(0.001)
            assert tier.get("a", soon()) is await tier.aget("a", soon()) is None

    async def test_a_connection_that_was_told_something_unasked(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        with Proxy(servers[0].port) as proxy:
            tier = open_values(f"memcached://127.0.0.1:{proxy.port}")
            tier.set("a", b"mine", 60_000, soon())
            await tier.aget("a", soon())
            proxy.say(b"VALUE tc:shop:a 0 6\r\ntheirs\r\nEND\r\n")
            await asyncio.sleep(0.05)
            assert tier.get("a", soon()) == await tier.aget("a", soon()) == b"mine"
            assert proxy.accepted == 4

    @pytest.mark.parametrize(
        "said",
        [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"-ERR unknown command\r\n",
            b"SERVER_ERROR boom\r\n",
            b"VALUE x\r\nEND\r\n",
        ],
    )
    async def test_no_memcached_at_all(self, said: bytes, open_values: Callable[..., MemcachedValues]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer() -> None:
                for _ in range(2):
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(1000)
                        peer.sendall(said)
                        peer.recv(1000)

            thread = threading.Thread(target=answer)
            thread.start()
            tier = open_values(f"memcached://127.0.0.1:{listener.getsockname()[1]}")
            with pytest.raises(TierRejected, match="answered"):
                tier.get("a", soon())
            with pytest.raises(TierRejected, match="answered"):
                await tier.aget("a", soon())
            await asyncio.to_thread(thread.join, 20)

    async def test_all_connections_are_busy(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        with Proxy(servers[0].port) as proxy, concurrent.futures.ThreadPoolExecutor(1) as threads:
            tier = open_values(f"memcached://127.0.0.1:{proxy.port}", pool_size=1)
            proxy.on_reply = held = Held()
            first = threads.submit(tier.get, "none", soon())
            task = asyncio.create_task(tier.aget("none", soon()))
            await asyncio.to_thread(held.arrived.wait, 20)
            with pytest.raises(TierUnavailable, match=r"all 1 connections to Memcached at .* are busy"):
                await asyncio.to_thread(tier.get, "none", shortly())
            with pytest.raises(TierUnavailable, match=r"all 1 connections to Memcached at .* are busy"):
                await tier.aget("none", shortly())
            held.release.set()
            assert first.result() is await task is None

    def test_a_loop_that_ends_in_the_middle(
        self, servers: list[MemcachedServer], open_values: Callable[..., MemcachedValues]
    ) -> None:
        with Proxy(servers[0].port) as proxy:
            tier = open_values(f"memcached://127.0.0.1:{proxy.port}")
            proxy.on_reply = held = Held()

            async def leave() -> None:
                tasks = [asyncio.create_task(tier.aget(key, soon())) for key in KEYS[:4]]
                await asyncio.to_thread(held.arrived.wait, 20)
                assert not any(task.done() for task in tasks)

            asyncio.run(leave())
            gc.collect()
            held.release.set()
            assert asyncio.run(tier.aget("none", soon())) is None
            assert len(tier._pools.loops) == 1


class TestTls:
    async def test_it_is_spoken(self, tmp_path: Path, open_values: Callable[..., MemcachedValues]) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            str(tmp_path / "server.pem")
        )
        own = tmp_path / "server.pem"
        with MemcachedServer("-Z", "-o", f"ssl_chain_cert={own},ssl_key={own}") as server:
            url = f"memcacheds://localhost:{server.port}"
            tier = open_values(f"{url}?ssl_ca_certs={tmp_path}/ca.pem")
            tier.set("a", b"x" * 300_000, 60_000, soon())
            assert tier.get("a", soon()) == await tier.aget("a", soon()) == b"x" * 300_000
            # Nobody vouches for it.
            stranger = open_values(url)
            with pytest.raises(TierUnavailable, match=r"(?i)certificate"):
                stranger.get("a", soon())
            with pytest.raises(TierUnavailable, match=r"(?i)certificate"):
                await stranger.aget("a", soon())
            plain = open_values(f"memcached://localhost:{server.port}")
            with pytest.raises(TierError):
                plain.get("a", shortly())
            await tier.aclose()


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "places"),
        [
            ("memcached://a", ["a:11211"]),
            ("memcached://a:1,b,c:3/", ["a:1", "b:11211", "c:3"]),
            ("MEMCACHED://A:1,a:1", ["a:1"]),
            ("memcached://[::1]:5", ["::1:5"]),
            ("memcacheds://a?ssl_check_hostname=false", ["a:11211"]),
        ],
    )
    def test_what_is_read(self, url: str, places: list[str]) -> None:
        assert [address.where for address in parse_url(url)] == places

    @pytest.mark.parametrize(
        "url",
        [
            "memcached://",
            "memcached://a,,b",
            "memcached://a:0",
            "memcached://a:99999",
            "memcached://a:b",
            "memcached://a/0",
            "memcached://user:secret@a",
            "memcached://a?timeout=5",
            "memcached://a?ssl_ca_certs=x",
            "memcacheds://a?timeout=5",
            "memcacheds://a?ssl_ca_certs=/nowhere/ca.pem",
        ],
    )
    def test_what_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigError, match="memcached://host") as caught:
            parse_url(url)
        assert "secret" not in str(caught.value)


class _Drip:
    """A server in front of a Memcached that passes its answers on byte by byte."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(2)]

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            while request := client.recv(65_536):
                server.sendall(request)
                # Everything that it says to one request of these tests comes at once.
                time.sleep(0.02)
                for byte in server.recv(65_536):
                    client.sendall(bytes([byte]))
                    time.sleep(0.0002)

    def __enter__(self) -> _Drip:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
