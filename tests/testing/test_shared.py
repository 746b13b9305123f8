"""The shared tier in memory and Redis: the same questions have the same answers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import RedisServer
from tiercache.core.records import BATCH, Message, Stamp, SyncPage, SyncRequest, Wake
from tiercache.testing.clock import Clock
from tiercache.testing.shared import MemorySharedTier
from tiercache.tiers.redis import RedisTier

MINUTE = 60_000
MEMBERS = ("h:t:a", "s:t:a", "h:t:b", "b:p:/shop/", "s:*", "h:p:/é")


def soon() -> float:
    return time.monotonic() + 20


class Both:
    """Asks both, and compares all but the names of epochs and the times."""

    def __init__(self, server: RedisServer) -> None:
        self.real = RedisTier(server.url, "shop")
        self.bus = self.real.listen(soon())
        self.memory = MemorySharedTier("memory", Clock())
        self.told: list[Message | Wake] = []
        self.memory.followers.append(self.told.append)
        self.epoch = self.real.sync(SyncRequest("", 0, 0.0), "first", soon()).epoch
        self.memory.sync(SyncRequest("", 0, 0.0), "first", soon(), 1.0)

    def close(self) -> None:
        self.bus.close()
        self.real.close()

    def same(self, real: Any, memory: Any) -> None:
        assert real == (memory._replace(epoch=self.epoch) if isinstance(memory, (Message, SyncPage)) else memory)

    def heard(self, count: int) -> None:
        told, self.told[:] = list(self.told), []
        assert len(told) == count
        for message in told:
            self.same(self.bus.wait(20), message)

    def purge(self, members: list[str], everything: bool, ack: bool) -> None:
        real = self.real.purge(members, everything, soon(), Stamp(self.epoch, 0), ack=ack)
        memory = self.memory.purge(members, everything, soon(), Stamp("memory", 0), ack=ack)
        assert len(real) == len(memory)
        for left, right in zip(real, memory, strict=True):
            self.same(left, right)
        self.heard(len(memory))

    def sync(self, seen: int, known: bool, fleet: bool) -> None:
        def request(epoch: str) -> SyncRequest:
            return SyncRequest(epoch if known else "strange", seen, 0.0, seen)

        real = self.real.sync(request(self.epoch), "p", soon(), 1.5, fleet=fleet)
        memory = self.memory.sync(request("memory"), "p", soon(), 1.5, fleet=fleet)
        assert {row.process_id: row.number for row in real.rows or ()} == {
            row.process_id: row.number for row in memory.rows or ()
        }
        pages = [
            page._replace(records=tuple(sorted(page.records)), time=0.0, since=0.0, rows=None)
            for page in (real, memory)
        ]
        self.same(*pages)


@pytest.fixture
def both(one_redis: RedisServer) -> Iterator[Both]:
    assert one_redis.ask("FLUSHALL") == "+OK"
    both = Both(one_redis)
    yield both
    both.close()


@pytest.mark.parametrize("seed", range(5))
def test_the_ledger(both: Both, seed: int) -> None:
    rng = random.Random(seed)
    head = 0
    for _ in range(60):
        if rng.random() < 0.5:
            everything = rng.random() < 0.1
            both.purge([] if everything else rng.sample(MEMBERS, rng.choice((1, 2, 3))), everything, rng.random() < 0.5)
            head += 1
        else:
            both.sync(rng.randint(0, head), rng.random() < 0.9, rng.random() < 0.5)
    assert head > 10


def test_more_members_than_a_number_carries(both: Both) -> None:
    both.purge([f"h:t:{number}" for number in range(BATCH + 5)], False, True)
    both.sync(0, True, True)


def test_who_has_left_has_no_row(both: Both) -> None:
    both.sync(0, True, True)
    for tier in (both.real, both.memory):
        tier.leave("p", soon())  # type: ignore[attr-defined]
        page: Any = tier.sync(SyncRequest("", 0, 0.0), "q", soon(), 1.0, fleet=True)  # type: ignore[attr-defined]
        assert {row.process_id for row in page.rows} == {"first", "q"}


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("waited_for", [True, False])
def test_leases(both: Both, made: bool, waited_for: bool) -> None:
    tiers: list[Any] = [both.real, both.memory]
    for tier in tiers:
        assert tier.acquire("page", "mine", MINUTE, soon())
        assert tier.renew("page", "mine", MINUTE, soon())
        assert not tier.renew("page", "theirs", MINUTE, soon())
        assert not tier.renew("another", "mine", MINUTE, soon())
        if waited_for:
            assert not tier.acquire("page", "theirs", MINUTE, soon())
        tier.release("page", "theirs", made, soon())
        assert not both.told
        tier.release("page", "mine", made, soon())
    both.heard(1 if waited_for else 0)
    for tier in tiers:
        assert tier.acquire("page", "theirs", MINUTE, soon())


async def test_values(both: Both) -> None:
    tiers: list[Any] = [both.real, both.memory]
    for tier in tiers:
        assert tier.get("a", soon()) is None
        tier.set("a", b"1", MINUTE, soon())
        await tier.aset("b", b"2", MINUTE, soon())
        assert await tier.aget("a", soon()) == tier.get("a", soon()) == b"1"
        wanted = [b"2", None, b"1"]
        assert tier.get_many(["b", "c", "a"], soon()) == await tier.aget_many(["b", "c", "a"], soon()) == wanted
    await both.real.aclose()


def test_values_and_leases_end_by_the_clock() -> None:
    clock = Clock()
    tier = MemorySharedTier("memory", clock)
    tier.set("a", b"1", 1_000, 0.0)
    assert tier.acquire("page", "mine", 1_000, 0.0)
    clock.advance("999ms")
    assert tier.get("a", 0.0) == b"1"
    assert not tier.acquire("page", "theirs", 1_000, 0.0)
    clock.advance("1ms")
    assert tier.get("a", 0.0) is None
    assert not tier.renew("page", "mine", 1_000, 0.0)
    assert tier.acquire("page", "theirs", 1_000, 0.0)
