"""Stores of several processes over one Redis: values cross over, and so do purges, leases and failures."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from tests.data.stores import PATIENT, Origin, in_thread
from tests.parity.waiting import eventually
from tests.servers import RedisServer
from tiercache import PurgeUnconfirmed, TierCache
from tiercache.core.codec import decode, encode
from tiercache.core.values import StoredValue
from tiercache.engine.effects import Fetch, FetchMany


@dataclass(frozen=True)
class Product:
    id: int
    name: str


class CountingCodec:
    """JSON of a kind, and how often it was read."""

    name = "counting"

    def __init__(self) -> None:
        self.decoded = 0

    def encode(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def decode(self, data: bytes) -> Any:
        self.decoded += 1
        return json.loads(data)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def make(server: RedisServer) -> Iterator[Callable[..., TierCache]]:
    assert server.ask("FLUSHALL") == "+OK"
    caches: list[TierCache] = []

    def build(**settings: Any) -> TierCache:
        caches.append(TierCache(server.url, namespace="data", **{**PATIENT, **settings}))
        return caches[-1]

    yield build
    for cache in caches:
        cache.close()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as connection:
        yield connection


def values(client: redis.Redis) -> dict[bytes, StoredValue]:
    found = {}
    for name in client.keys("tc:*"):
        if client.type(name) == b"string":
            value = decode(client.get(name))
            assert isinstance(value, StoredValue)
            found[name] = value
    return found


def test_what_was_read_to_be_checked_is_given_to_one_caller_and_to_no_other(make: Callable[..., TierCache]) -> None:
    one = make().read_through("once", load=lambda key: {"id": key}, ttl=60, codec=CountingCodec())
    one.get(7)
    codec = CountingCodec()
    other = make().read_through("once", load=lambda key: {"id": key}, ttl=60, codec=codec)
    given = other.get(7)
    assert codec.decoded == 1
    given["id"] = "changed"
    later = [other.get(7), other.get(7)]
    assert later == [{"id": 7}, {"id": 7}]
    assert len({id(value) for value in (given, *later)}) == 3


async def test_those_who_wait_for_a_read_have_values_of_their_own(make: Callable[..., TierCache]) -> None:
    async def load(key: int) -> dict[str, int]:
        return {"id": key}

    one, other = (make().read_through("each", aload=load, ttl=60, tiers=tiers) for tiers in (["l1", "l2"], ["l2"]))
    await one.aget(7)
    values = await asyncio.gather(*(other.aget(7) for _ in range(4)))
    assert values == [{"id": 7}] * 4
    assert len({id(value) for value in values}) == 4


def test_what_one_has_loaded_the_others_find(make: Callable[..., TierCache]) -> None:
    origin = Origin()
    origin.rows[7] = Product(7, "Teapot")
    one, other = (make().read_through("s", load=origin.load, ttl=60, type=Product) for _ in range(2))
    assert one.get(7) == other.get(7) == Product(7, "Teapot")
    assert origin.calls == [7]
    assert other.get(7) is other.get(7)
    origin.rows[8] = None
    assert one.get(8) is other.get(8) is None
    assert origin.calls == [7, 8]


@pytest.mark.parametrize("change", ["delete", "clear", "purge", "set"])
def test_a_change_in_one_reaches_the_others(make: Callable[..., TierCache], change: str) -> None:
    rows = {7: "old"}
    caches = [make(), make()]
    one, other = (
        cache.write_through(
            "s", load=rows.get, write=rows.__setitem__, remove=rows.pop, ttl=60, type=str, tags=["p:{key}"]
        )
        for cache in caches
    )
    assert one.get(7) == other.get(7) == "old"
    rows[7] = "new"
    if change == "delete":
        one.delete(7)
        rows[7] = "new"
    elif change == "clear":
        one.clear()
    elif change == "purge":
        caches[0].purge(tags=["p:7"])
    else:
        one.set(7, "new")
    assert one.get(7) == "new"
    eventually(lambda: other.get(7) == "new")


def test_a_written_value_is_there_for_the_others(make: Callable[..., TierCache]) -> None:
    origin = Origin()
    caches = [make(), make()]
    one, other = (
        cache.write_through("s", load=origin.load, write=origin.rows.__setitem__, ttl=60, type=str) for cache in caches
    )
    one.set(7, "new")
    eventually(lambda: caches[1]._engine.ledger.stamp() == caches[0]._engine.ledger.stamp() or other.get(8) is None)
    assert other.get(7) == "new"
    assert 7 not in origin.calls


@pytest.mark.parametrize("settings", [{"type": dict[str, int]}, {"version": 2}, {"type": Product | None}])
def test_a_value_of_another_type_or_version_is_a_miss(make: Callable[..., TierCache], settings: Any) -> None:
    origin = Origin()
    origin.rows[7] = Product(7, "x")
    make().read_through("s", load=origin.load, ttl=60, type=Product).get(7)
    other = make()
    other.read_through("s", load=origin.load, ttl=60, **settings).get(7)
    assert origin.calls == [7, 7]
    assert "unreadable value in L2" not in other.stats()["swallowed"]


def test_one_process_loads_for_the_fleet(make: Callable[..., TierCache]) -> None:
    origin = Origin()
    one, other = (make().read_through("s", load=origin.load, ttl=60, type=str, coalesce="fleet") for _ in range(2))
    one.get("warm")
    other.get("warm")
    origin.gate.clear()
    first = in_thread(lambda: one.get(7))
    eventually(lambda: 7 in origin.calls)
    second = in_thread(lambda: other.get(7))
    eventually(lambda: len(other._engine.wakes._by_name) == 1)
    origin.gate.set()
    assert first() == second() == "7 v2"
    assert origin.calls == ["warm", 7]


def test_an_error_of_the_loader_gives_the_lease_back(make: Callable[..., TierCache]) -> None:
    origin = Origin()
    store = make().read_through("s", load=origin.load, ttl=60, coalesce="fleet")
    origin.error = LookupError("gone")
    for _ in range(2):
        with pytest.raises(LookupError):
            store.get(7)
    assert store._engine.leases == {}


def test_many_are_read_by_one_question(make: Callable[..., TierCache], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    run, arun = FetchMany.run, FetchMany.arun
    monkeypatch.setattr(FetchMany, "run", lambda self: asked.append(len(self.names)) or run(self))
    monkeypatch.setattr(FetchMany, "arun", lambda self: asked.append(len(self.names)) or arun(self))
    monkeypatch.setattr(Fetch, "run", lambda self: pytest.fail("a question of its own"))
    monkeypatch.setattr(Fetch, "arun", lambda self: pytest.fail("a question of its own"))
    batches: list[list[int]] = []

    def load_many(keys: Any) -> dict[int, str]:
        batches.append(list(keys))
        return {key: f"v{key}" for key in keys}

    async def aload_many(keys: Any) -> dict[int, str]:
        return load_many(keys)

    stores = [make().read_through("s", load_many=load_many, aload_many=aload_many, ttl=60, type=str) for _ in range(3)]
    aside = make().aside("s2", ttl=60, type=str)
    assert stores[0].get_many([1, 2, 3]) == {1: "v1", 2: "v2", 3: "v3"}
    assert list(stores[1].get_many([4, 3, 2, 1])) == [4, 3, 2, 1]

    async def together() -> list[Any]:
        try:
            return await asyncio.gather(*[stores[2].aget(key) for key in (1, 2, 5)])
        finally:
            await stores[2]._engine.shared.aclose()  # type: ignore[union-attr]

    assert asyncio.run(together()) == ["v1", "v2", "v5"]
    assert aside.get_many([1, 2]) == {}
    assert asked == [3, 4, 3, 2]
    assert batches == [[1, 2, 3], [4], [5]]


def test_long_values_are_packed_in_redis_and_not_in_the_process(
    make: Callable[..., TierCache], client: redis.Redis
) -> None:
    long, noise = {"text": "tea " * 10_000}, random.Random(1).randbytes(20_000)
    loads: dict[str, Any] = {"long": long, "short": {"text": "tea"}, "noise": noise}
    calls: list[str] = []

    def load(key: str) -> Any:
        calls.append(key)
        return loads[key]

    one, other = (make().read_through("s", load=load, ttl=60, compress_above="1KiB") for _ in range(2))
    for key in loads:
        assert one.get(key) == loads[key]
        assert other.get(key) == loads[key]
    assert calls == list(loads)
    sizes = {len(value.body): value.packed for value in values(client).values()}
    assert sorted(sizes.values())[:2] == [0, 0]
    (packed,) = [(size, of) for size, of in sizes.items() if of]
    assert packed[0] < 1_000 < 40_000 < packed[1]


@pytest.mark.parametrize("claimed", [10, 100_000, 10**12])
def test_a_frame_that_lies_about_its_size_is_a_miss(
    make: Callable[..., TierCache], client: redis.Redis, claimed: int
) -> None:
    from msgspec.structs import replace

    calls: list[str] = []

    def load(key: str) -> str:
        calls.append(key)
        return "tea " * 10_000

    settings: Any = {"ttl": 60, "type": str, "compress_above": "1KiB"}
    make().read_through("s", load=load, **settings).get("a")
    ((name, value),) = values(client).items()
    client.set(name, encode(replace(value, packed=claimed)), px=60_000)
    other = make()
    assert other.read_through("s", load=load, **settings).get("a") == "tea " * 10_000
    assert calls == ["a", "a"]
    assert other.stats()["swallowed"]["unreadable value in L2"] == 1


def test_a_value_that_is_none_of_its_type_is_a_miss(make: Callable[..., TierCache], client: redis.Redis) -> None:
    from msgspec.structs import replace

    origin = Origin()
    origin.rows[7] = Product(7, "x")
    make().read_through("s", load=origin.load, ttl=60, type=Product).get(7)
    ((name, value),) = values(client).items()
    client.set(name, encode(replace(value, body=b"\xa1x")), px=60_000)
    other = make()
    assert other.read_through("s", load=origin.load, ttl=60, type=Product).get(7) == Product(7, "x")
    assert origin.calls == [7, 7]
    assert other.stats()["swallowed"]["unreadable value in L2"] == 1


def test_l1_alone_leaves_nothing_in_redis(make: Callable[..., TierCache], client: redis.Redis) -> None:
    origin = Origin()
    store = make().read_through("s", load=origin.load, ttl=60, tiers=["l1"])
    assert [store.get(7), store.get(7)] == ["7 v1"] * 2
    assert values(client) == {}
    only = make().read_through("t", load=origin.load, ttl=60, tiers=["l2"])
    assert [only.get(7), only.get(7)] == ["7 v2"] * 2
    assert only._engine.stats.data["t"].hits_l2 == 1


def test_strong_reads_know_of_every_purge_that_has_returned(make: Callable[..., TierCache]) -> None:
    rows = {7: "old"}
    one, other = make(), make()
    deaf = other.read_through("s", load=rows.get, ttl=60, consistency="strong", type=str)
    store = one.read_through("s", load=rows.get, ttl=60, consistency="strong", type=str)
    assert deaf.get(7) == store.get(7) == "old"
    for version in range(5):
        rows[7] = f"v{version}"
        store.delete(7)
        assert deaf.get(7) == f"v{version}"


def test_redis_away_a_write_is_made_and_said_to_be_unconfirmed(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    rows = {7: "old"}
    cache = TierCache(server.url, purge_timeout="300ms", staleness_bound="600s", l2_budget="5s")
    try:
        store = cache.write_through("s", load=rows.get, write=rows.__setitem__, ttl=60, type=str)
        aside = cache.aside("a", ttl=60, type=str)
        assert store.get(7) == "old"
        aside.set(7, "old")
        server.stop()
        with pytest.raises(PurgeUnconfirmed):
            store.set(7, "new")
        with pytest.raises(PurgeUnconfirmed):
            aside.delete(7)
        assert rows[7] == store.get(7) == "new"
        assert aside.get(7) is None
        assert len(cache._engine.ledger.pending()) == 1
    finally:
        cache.close()
