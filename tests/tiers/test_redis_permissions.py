"""The permissions that the documentation asks for: enough for all that the tier does, and not one too many."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

import pytest
from redis.crc import key_slot

from tests.servers import Binary, RedisServer
from tests.tiers.redis_help import NOTHING, soon
from tiercache.core.records import Stamp
from tiercache.errors import TierError
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis_errors import PERMISSIONS
from tools.redis_topologies import ClusterSetup, SentinelSetup

pytestmark = pytest.mark.every_server

PATIENCE = 0.5


class Place:
    """A set-up, and how a user gets its permissions there."""

    def __init__(self, kind: str, url: str, servers: list[RedisServer], ledger: Callable[[], RedisServer]) -> None:
        self.kind = kind
        self.url = url.replace("://", "://poor:pw@")
        self.servers = servers
        self.ledger = ledger
        """The server that has the ledger."""
        self.before_7 = servers[0].binary.major < 7
        self.rules = PERMISSIONS[kind].split()
        if kind == "cluster" and self.before_7:
            self.rules = [rule for rule in self.rules if rule not in ("+spublish", "+ssubscribe")]

    @property
    def spare(self) -> set[str]:
        """What only older servers need."""
        return set() if self.before_7 else {"+zrem"}

    def grant(self, rules: list[str]) -> None:
        for server in self.servers:
            server.expect("ACL", "SETUSER", "poor", "reset", "resetchannels", "on", ">pw", *rules)

    def on_its_way(self, key: str) -> None:
        """Nothing, but on a Cluster: a slot that is being moved, so that a node sends us to another one."""


class ClusterPlace(Place):
    def __init__(self, cluster: ClusterSetup) -> None:
        super().__init__("cluster", cluster.url, cluster.servers, lambda: cluster.master_of(key_slot(b"{shop}")))
        self._cluster = cluster
        self._moving: tuple[RedisServer, ...] = ()

    def on_its_way(self, key: str) -> None:
        slot = key_slot(key.encode())
        source = self._cluster.master_of(slot)
        target = next(server for server in self._cluster.masters if server is not source)
        self._cluster.begin_move(slot, target)
        self._moving = (source, target)

    def stay(self) -> None:
        for server in self._moving:
            server.expect("CLUSTER", "SETSLOT", str(key_slot(b"tc:shop:a")), "STABLE")
        self._moving = ()


@pytest.fixture(params=["server", "sentinel", "cluster"])
def place(request: pytest.FixtureRequest, redis_binary: Binary) -> Place:
    if request.param == "cluster":
        return ClusterPlace(request.getfixturevalue("cluster"))
    if request.param == "sentinel":
        sentinels: SentinelSetup = request.getfixturevalue("sentinels")
        return Place("sentinel", sentinels.url, sentinels.nodes, lambda: sentinels.primary)
    server: RedisServer = request.getfixturevalue("redis_server")
    return Place("server", server.url, [server], lambda: server)


def exercise(place: Place) -> None:
    """All that a tier does, once."""
    tier = RedisTier(place.url, "shop", ledger_limit=2)
    place.ledger().expect("FLUSHALL")
    place.ledger().expect("SCRIPT", "FLUSH")
    place.ledger().ask_all("HSET", "tc:{shop}:members", "gone", "1 - 0 1")
    try:
        tier.set("a", b"x", 60_000, soon())
        assert tier.get("a", soon()) == b"x"
        assert asyncio.run(tier.aget("a", soon())) == b"x"
        assert tier.get_many(["a", "b"], soon()) == asyncio.run(tier.aget_many(["a", "b"], soon())) == [b"x", None]
        tier.delete("a", soon())
        place.on_its_way("tc:shop:a")
        assert tier.get("a", soon()) is None
        subscription = tier.listen(soon())
        sent = [*tier.purge(["h:a", "h:b", "h:c"], False, soon()), *tier.purge([], True, soon(), ack=True)]
        assert [subscription.wait(PATIENCE) for _ in sent] == [message._replace(previous=()) for message in sent]
        subscription._ask(soon())
        end = soon()
        while subscription._asked:
            assert subscription.wait(0.001) is None
            assert time.monotonic() < end
        tier.purge([f"h:{i}" for i in range(5)], False, soon(), Stamp("another", 1))
        page = tier.sync(NOTHING, "p", soon(), fleet=True)
        assert page.rows is not None
        # The one that has gone long ago is swept out.
        assert [row.process_id for row in page.rows] == ["p"]
        tier.leave("p", soon())
        # Another one each time: what an attempt without a permission has left lies on any of the nodes.
        name = secrets.token_hex(8)
        assert tier.acquire(name, "mine", 60_000, soon())
        assert not tier.acquire(name, "theirs", 60_000, soon())
        assert tier.renew(name, "mine", 60_000, soon())
        tier.release(name, "mine", True, soon())
        assert tier.guarded
    finally:
        tier.close()
        if isinstance(place, ClusterPlace):
            place.stay()


class TestPermissions:
    def test_they_are_enough(self, place: Place) -> None:
        place.grant(place.rules)
        exercise(place)

    def test_each_one_is_needed(self, place: Place) -> None:
        needless = []
        for rule in place.rules:
            place.grant([other for other in place.rules if other != rule])
            try:
                exercise(place)
            except (TierError, AssertionError):
                continue
            needless.append(rule)
        assert set(needless) == place.spare
