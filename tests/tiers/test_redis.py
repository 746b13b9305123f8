"""RedisTier against real servers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import pytest
import redis

from tests.servers import Proxy, RedisServer
from tests.tiers.redis_help import NOTHING, soon
from tiercache.errors import TierError, TierRejected
from tiercache.tiers.redis import RedisTier

pytestmark = pytest.mark.every_server


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

        tier.get("a", soon())
        before = calls()
        tier.get("a", soon())
        tier.get("a", soon())
        after = calls()
        asked = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
        assert asked.pop("cmdstat_info", 0) == 1
        assert asked == {"cmdstat_get": 2}


class TestRejections:
    """Answers that need somebody to change something; each says what."""

    async def check(self, tier: RedisTier, match: str, *, values: bool = True) -> None:
        calls: list[Callable[[], object]] = [
            lambda: tier.sync(NOTHING, "p", soon()),
            lambda: tier.purge(["h:a"], False, soon()),
        ]
        if values:
            calls += [lambda: tier.get("a", soon()), lambda: tier.listen(soon())]
            calls += [lambda: tier.set("a", b"x" * 5_000_000, 1_000, soon())]
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
            with pytest.raises(TierRejected, match="Redis protocol; it looks like an HTTP server"):
                tier.get("a", soon())
            with pytest.raises(TierRejected, match="it looks like an HTTP server"):
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
