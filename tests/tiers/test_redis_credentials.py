"""Credential providers: asked at each new connection, within the deadline, and never a reason to fail."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider

from tests.servers import RedisServer
from tests.tiers.redis_help import NOTHING, shortly, soon
from tiercache.errors import ConfigError, TierRejected, TierUnavailable
from tiercache.tiers.redis import RedisTier
from tools.redis_topologies import ClusterSetup, SentinelSetup

RULES = ("resetkeys", "~tc:*", "resetchannels", "&tc:*", "-@all", "+@all")


class Tokens:
    """A provider whose token a test changes."""

    def __init__(self, token: str = "first", user: str = "app") -> None:
        self.token = token
        self.user = user
        self.asked = 0

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        return self.user, self.token


@pytest.fixture
def server(new_redis: Callable[..., RedisServer]) -> RedisServer:
    """One that only `app` may use, with the password `first`."""
    server = new_redis(requirepass="default's")
    server.expect("ACL", "SETUSER", "app", "on", ">first", *RULES)
    return server


@pytest.fixture
def url(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{server.port}"


class TestProvider:
    async def test_it_is_asked_at_each_new_connection(
        self, server: RedisServer, url: str, open_tier: Callable[..., RedisTier]
    ) -> None:
        tokens = Tokens()
        tier = open_tier(url, credentials=tokens)
        for _ in range(3):
            assert tier.get("a", soon()) is None
        assert tokens.asked == 1
        for _ in range(3):
            assert await tier.aget("a", soon()) is None
        assert tokens.asked == 2
        subscription = tier.listen(soon())
        assert tokens.asked == 3
        server.expect("ACL", "SETUSER", "app", "resetpass", ">second")
        tokens.token = "second"
        # As ElastiCache does after twelve hours.
        with redis.Redis(port=server.port, password="default's") as client:
            client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub")
        with pytest.raises(TierUnavailable):
            subscription.wait(20)
        ((stream,),) = tier._wire.loops[asyncio.get_running_loop()]._idle.values()
        while stream.quiet():
            await asyncio.sleep(0.001)
        assert tier.get("a", soon()) is await tier.aget("a", soon()) is None
        tier.listen(soon())
        assert tokens.asked == 6

    async def test_a_token_that_has_expired(self, url: str, open_tier: Callable[..., RedisTier]) -> None:
        tokens = Tokens("expired-s3cret")
        tier = open_tier(url, credentials=tokens)
        for call in (lambda: tier.get("a", soon()), lambda: asyncio.run(tier.aget("a", soon()))):
            with pytest.raises(TierRejected, match="refused the user or password") as caught:
                await asyncio.to_thread(call)
            assert "s3cret" not in repr(caught.value) + repr(caught.value.__cause__)
        tokens.token = "first"
        assert tier.get("a", soon()) is await tier.aget("a", soon()) is None

    async def test_one_that_fails(self, url: str, open_tier: Callable[..., RedisTier]) -> None:
        class Failing(Tokens):
            def get_credentials(self) -> tuple[str, str]:
                if self.token == "first":
                    return super().get_credentials()
                raise KeyError("no instance profile")

        tokens = Failing("none")
        tier = open_tier(url, credentials=tokens)
        match = "the credential provider failed: KeyError: 'no instance profile'"
        with pytest.raises(TierUnavailable, match=match):
            tier.get("a", soon())
        with pytest.raises(TierUnavailable, match=match):
            await tier.aget("a", soon())
        with pytest.raises(TierUnavailable, match=match):
            tier.listen(soon())
        tokens.token = "first"
        assert tier.get("a", soon()) is await tier.aget("a", soon()) is None

    @pytest.mark.parametrize("answer", [None, "first", (), ("a", "b", "c"), ("app", b"hunter2"), ("app", None)])
    def test_one_that_answers_nonsense(self, answer: Any, url: str, open_tier: Callable[..., RedisTier]) -> None:
        tokens = Tokens()
        tokens.get_credentials = lambda: answer  # type: ignore[method-assign]
        with pytest.raises(TierUnavailable, match="the credential provider failed: TypeError") as caught:
            open_tier(url, credentials=tokens).get("a", soon())
        assert "hunter2" not in str(caught.value)

    async def test_one_that_hangs_holds_nobody_and_is_asked_once(
        self, url: str, open_tier: Callable[..., RedisTier]
    ) -> None:
        release = threading.Event()

        class Hanging(Tokens):
            def get_credentials(self) -> tuple[str, str]:
                answer = super().get_credentials()
                release.wait(30)
                return answer

        tokens = Hanging()
        tier = open_tier(url, credentials=tokens)
        try:
            with pytest.raises(TierUnavailable, match="the credential provider did not answer in time"):
                await asyncio.to_thread(tier.get, "a", shortly())
            with pytest.raises(TierUnavailable, match="in time"):
                await tier.aget("a", shortly())
            assert tokens.asked == 1
            with concurrent.futures.ThreadPoolExecutor(4) as threads:
                waiting = [threads.submit(tier.get, "a", soon()) for _ in range(4)]
                tasks = [asyncio.create_task(tier.aget("a", soon())) for _ in range(4)]
                await asyncio.sleep(0)
                release.set()
                assert [one.result() for one in waiting] + await asyncio.gather(*tasks) == [None] * 8
        finally:
            release.set()

    async def test_the_asynchronous_way_where_there_is_one(self, url: str, open_tier: Callable[..., RedisTier]) -> None:
        class Both(Tokens):
            loops: list[Any]

            async def get_credentials_async(self) -> tuple[str, str]:
                self.loops.append(asyncio.get_running_loop())
                return self.user, self.token

        tokens = Both()
        tokens.loops = []
        tier = open_tier(url, credentials=tokens)
        assert await tier.aget("a", soon()) is None
        assert tokens.loops == [asyncio.get_running_loop()]
        assert tokens.asked == 0
        assert await asyncio.to_thread(tier.get, "a", soon()) is None
        assert tokens.asked == 1

    async def test_those_of_redis_py_fit(self, url: str, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(url, credentials=UsernamePasswordCredentialProvider("app", "first"))
        assert tier.get("a", soon()) is await tier.aget("a", soon()) is None
        tier = open_tier(url, credentials=UsernamePasswordCredentialProvider(password="default's"))
        assert tier.get("a", soon()) is await tier.aget("a", soon()) is None

    async def test_a_blocking_one_does_not_block_the_loop(self, url: str, open_tier: Callable[..., RedisTier]) -> None:
        released = threading.Event()

        class Blocking(CredentialProvider):
            """Has the base class's `get_credentials_async`, which calls this one."""

            def get_credentials(self) -> tuple[str, str]:
                assert released.wait(20)
                return "app", "first"

        tier = open_tier(url, credentials=Blocking())
        asking = asyncio.create_task(tier.aget("a", soon()))
        await asyncio.sleep(0.01)
        # Reached only because the loop goes on.
        released.set()
        assert await asking is None

    def test_what_is_no_provider(self) -> None:
        with pytest.raises(ConfigError, match="get_credentials"):
            RedisTier("redis://localhost", "shop", credentials="token")  # type: ignore[arg-type]

    @pytest.mark.parametrize("url", ["redis://:pw@localhost", "redis://u@localhost", "redis://localhost?password=pw"])
    def test_not_beside_a_password(self, url: str) -> None:
        with pytest.raises(ConfigError, match="beside a provider"):
            RedisTier(url, "shop", credentials=Tokens())


class TestTopologies:
    async def test_the_servers_but_not_their_sentinels(
        self, sentinels: SentinelSetup, open_tier: Callable[..., RedisTier]
    ) -> None:
        for server in sentinels.nodes:
            if server.running:
                server.expect("ACL", "SETUSER", "iam", "on", ">first", *RULES)
        tier = open_tier(sentinels.url, credentials=Tokens(user="iam"))
        tier.set("a", b"x", 60_000, soon())
        assert await tier.aget("a", soon()) == b"x"
        tier.listen(soon())

    async def test_each_node_of_a_cluster(self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]) -> None:
        for server in cluster.servers:
            server.expect("ACL", "SETUSER", "iam", "on", ">first", *RULES)
        tokens = Tokens(user="iam")
        tier = open_tier(cluster.url, credentials=tokens)
        for i in range(40):
            tier.set(str(i), b"x", 60_000, soon())
            assert await tier.aget(str(i), soon()) == b"x"
        tier.sync(NOTHING, "p", soon())
        tier.listen(soon())
        # Three masters for the thread and for the loop, and the subscription.
        assert tokens.asked >= 7
