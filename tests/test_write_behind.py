"""Write-behind as its users see it: a real Redis that keeps a log, two processes, workers."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.servers import RedisServer
from tiercache import ConfigError, PurgeError, QueueFull, TierCache, TierRejected, TierUnavailable
from tiercache.core.queued_values import name_of
from tiercache.core.write_batch import WriteBatch
from tiercache.core.write_queue import Durability
from tiercache.engine.queue_terms import QueueTerms, objection
from tiercache.errors import DataError
from tiercache.testing import isolated
from tiercache.write_behind import WriteBehind

PATIENCE = 20.0
CALM = {"l2_budget": "10s", "l2_slow": "10s", "purge_timeout": "10s"}
"""A busy machine is nothing that these tests are about."""


class Database:
    """Rows by key, and what was done to them."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}
        self.loads: list[Any] = []
        self.batches: list[list[tuple[Any, Any]]] = []
        self.fail: Exception | None = None

    def load(self, key: Any) -> Any:
        self.loads.append(key)
        return self.rows.get(key)

    async def aload(self, key: Any) -> Any:
        return self.load(key)

    def load_many(self, keys: Sequence[Any]) -> dict[Any, Any]:
        self.loads.append(tuple(keys))
        return {key: self.rows[key] for key in keys if key in self.rows}

    def write(self, batch: WriteBatch[Any, Any]) -> None:
        if self.fail is not None:
            raise self.fail
        self.batches.append([(one.key, one.value) for one in batch])
        for one in batch:
            if one.removed:
                self.rows.pop(one.key, None)
            else:
                self.rows[one.key] = one.value


@pytest.fixture(scope="module")
def log() -> Iterator[RedisServer]:
    with RedisServer(appendonly="yes", appendfsync="everysec") as server:
        yield server


@pytest.fixture
def url(log: RedisServer) -> str:
    assert log.ask("FLUSHALL") == "+OK"
    return log.url


@pytest.fixture
def make(url: str) -> Iterator[Callable[..., TierCache]]:
    """Caches of different processes, as far as the fleet can tell."""
    made: list[TierCache] = []

    def cache(where: str = url, **settings: Any) -> TierCache:
        made.append(TierCache(where, namespace="shop", **{**CALM, **settings}))
        return made[-1]

    yield cache
    for one in made:
        one.close()


def store_of(cache: TierCache, database: Database, **settings: Any) -> WriteBehind[Any, Any]:
    given = {"ttl": "10m", "partitions": 4, **settings}
    return cache.write_behind("stock", load=database.load, write=database.write, **given)


@contextmanager
def working(cache: TierCache) -> Iterator[None]:
    worker = cache.worker(interval="5ms", owned="1s")
    worker.start()
    try:
        yield
    finally:
        worker.stop(PATIENCE)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def test_a_write_is_seen_at_once_and_written_later(make: Callable[..., TierCache]) -> None:
    database = Database()
    database.rows["tea"] = 1
    here, there = make(), make()
    writer, reader = store_of(here, database), store_of(there, database)
    assert reader.get("tea") == writer.get("tea") == 1
    writer.set("tea", 2)
    assert writer.get("tea") == 2
    # As fast as the word of the purge: within the staleness bound.
    until(lambda: reader.get("tea") == 2)
    assert database.rows == {"tea": 1}
    assert writer.state()[:3] == (1, 1, 0)
    with working(here):
        until(lambda: database.rows == {"tea": 2})
        until(lambda: writer.state()[:3] == (0, 0, 0))
    assert reader.get("tea") == 2
    third = store_of(make(), database)
    assert third.get("tea") == 2


def test_readers_find_what_is_queued_though_every_tier_is_empty(make: Callable[..., TierCache]) -> None:
    database = Database()
    cache = make()
    store = store_of(cache, database)
    store.set("tea", 2)
    cache.purge(everything=True)
    assert store_of(make(), database).get("tea") == 2
    assert database.loads == []


def test_what_was_written_meanwhile_is_read_from_the_database(make: Callable[..., TierCache]) -> None:
    database = Database()
    cache = make()
    store = store_of(cache, database)
    store.set("tea", 2)
    with working(cache):
        until(lambda: store.state().jobs == 0)
    cache.purge(everything=True)
    assert store.get("tea") == 2
    assert database.loads == ["tea"]


def test_many_quick_writes_of_a_key_are_one(make: Callable[..., TierCache]) -> None:
    database = Database()
    cache = make()
    store = store_of(cache, database)
    for number in range(20):
        store.set("tea", number)
        store.set("pot", -number)
    with working(cache):
        until(lambda: store.state().jobs == 0)
    assert sorted(write for batch in database.batches for write in batch) == [("pot", -19), ("tea", 19)]


def test_a_removal_is_a_write(make: Callable[..., TierCache]) -> None:
    database = Database()
    database.rows["tea"] = 1
    cache = make()
    store = store_of(cache, database)
    assert store.get("tea") == 1
    store.delete("tea")
    assert store.get("tea") is None
    assert database.rows == {"tea": 1}
    with working(cache):
        until(lambda: database.rows == {})
    cache.purge(everything=True)
    assert store.get("tea") is None


def test_keys_and_values_come_to_the_database_as_they_were_given(make: Callable[..., TierCache]) -> None:
    database = Database()
    cache = make()
    store = store_of(cache, database)
    given = {("tea", 1): {"cents": [1, 2]}, 7: "seven", b"\xff": b"\x00", "none": None}
    for key, value in given.items():
        store.set(key, value)
    with working(cache):
        until(lambda: store.state().jobs == 0)
    assert database.rows == given


def test_counting_loses_nothing(make: Callable[..., TierCache]) -> None:
    """Four processes of two threads each add, while workers write and the tiers are emptied."""
    database = Database()
    database.rows["views"] = 100
    caches = [make() for _ in range(4)]
    stores = [store_of(cache, database) for cache in caches]

    def count(store: WriteBehind[Any, Any]) -> None:
        for _ in range(25):
            store.add("views")

    with working(caches[0]), working(caches[1]):
        threads = [threading.Thread(target=count, args=(store,)) for store in stores for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: stores[0].state().jobs == 0)
    assert database.rows == {"views": 300}
    assert stores[0].get("views") == 300
    assert stores[1].add("views", -300) == 0


@pytest.mark.parametrize("form", ["sync", "async"])
def test_the_sum_is_told_though_the_first_answer_was_lost(
    make: Callable[..., TierCache], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The number was queued, written and removed from the queue before it was sent once more."""
    database = Database()
    database.rows["views"] = 100
    cache = make()
    store = store_of(cache, database, aload=database.aload)
    tier: Any = cache._engine.shared
    asked = tier.add

    def losing(place: Any, write: Any, *args: Any) -> Any:
        added = asked(place, write, *args)
        if added.receipt is None:
            return added
        with working(cache):
            until(lambda: store.state().jobs == 0)
        return asked(place, write, *args)

    async def alosing(*args: Any) -> Any:
        return losing(*args)

    monkeypatch.setattr(tier, "add", losing)
    monkeypatch.setattr(tier, "aadd", alosing)

    async def adding() -> int:
        try:
            return await store.aadd("views", 5)
        finally:
            await cache.aclose()

    assert (store.add("views", 5) if form == "sync" else asyncio.run(adding())) == 105
    assert database.rows == {"views": 105}


def test_a_worker_that_was_forked_is_another_one(make: Callable[..., TierCache]) -> None:
    """As under gunicorn with preload_app: of the threads of the parent the child has none, and its token is not its
    own."""
    store_of(cache := make(), Database())
    worker = cache.worker(owned="1s")
    with pytest.raises(ConfigError, match="start"):
        worker.stop(1)
    worker.start()
    with pytest.raises(ConfigError, match="runs already"):
        worker.start()
    token = worker._token
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            worker.start()
            own = worker._token != token and len(worker._threads) == 2 and worker.running
            os.write(writing, b"y" if own else b"n")
        finally:
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 1)
    os.close(reading)
    os.waitpid(child, 0)
    worker.stop(PATIENCE)
    assert said == b"y"


def test_a_worker_starts_again_after_it_has_stopped(make: Callable[..., TierCache]) -> None:
    database = Database()
    store = store_of(cache := make(), database)
    worker = cache.worker(interval="5ms", owned="1s")
    for number in (1, 2):
        worker.start()
        store.set("tea", number)
        until(lambda number=number: database.rows == {"tea": number})  # type: ignore[misc]
        assert worker.stop(PATIENCE)
        assert not worker.running


def test_what_is_no_number_is_not_added_to(make: Callable[..., TierCache]) -> None:
    database = Database()
    database.rows["name"] = "tea"
    store = store_of(make(), database)
    with pytest.raises(TypeError, match="cannot be added to"):
        store.add("name")
    store.set("name", "pot")
    with pytest.raises(TierRejected, match="no number"):
        store.add("name")
    with pytest.raises(DataError, match="whole number"):
        store.add("views", 1.5)  # type: ignore[arg-type]
    assert store.add("new") == 1
    assert store.get("name") == "pot"


def test_several_keys_are_looked_for_together(make: Callable[..., TierCache]) -> None:
    database = Database()
    database.rows.update({key: f"old {key}" for key in "abcd"})
    cache = make()
    store = cache.write_behind(
        "stock", load_many=database.load_many, load=database.load, write=database.write, ttl="10m"
    )
    store.set("b", "new b")
    store.delete("c")
    cache.purge(everything=True)
    assert store.get_many("abcde") == {"a": "old a", "b": "new b", "c": None, "d": "old d", "e": None}
    assert database.loads == [("a", "d", "e")]


def test_a_full_queue_is_waited_for_and_then_an_error(make: Callable[..., TierCache]) -> None:
    database = Database()
    database.rows["tea"] = 0
    cache = make()
    store = store_of(cache, database, partitions=1, max_queued=2, full_wait="50ms")
    store.set("a", 1)
    store.set("b", 1)
    with pytest.raises(QueueFull, match=r"2 writes.*full_wait=0.05"):
        store.set("tea", 1)
    with pytest.raises(QueueFull):
        store.add("tea")
    assert store.get("tea") == 0
    patient = store_of(make(), database, partitions=1, max_queued=2, full_wait="20s")
    with working(cache):
        patient.set("tea", 2)
        until(lambda: database.rows == {"a": 1, "b": 1, "tea": 2})


def test_what_the_database_refuses_is_kept_aside_and_replayed(make: Callable[..., TierCache]) -> None:
    database = Database()
    database.rows["tea"] = 1
    cache, other = make(), make()
    store, reader = store_of(cache, database, attempts=1), store_of(other, database)
    database.fail = ValueError("no such product")
    store.set("tea", 2)
    assert reader.get("tea") == 2
    with working(cache):
        until(lambda: store.state().letters == 1)
        # What readers were given is taken back.
        until(lambda: reader.get("tea") == 1)
        ((place, letter),) = store.letters()
        assert "no such product" in letter.error
        database.fail = None
        assert store.replay(place, letter) == "done"
        assert store.letters() == []
        until(lambda: database.rows == {"tea": 2})
        until(lambda: reader.get("tea") == 2)
        assert store.replay(place, letter) == "gone"
        assert not store.drop(place, letter)


async def test_from_an_event_loop(make: Callable[..., TierCache]) -> None:
    database = Database()

    async def load(key: Any) -> Any:
        return database.load(key)

    async def write(batch: WriteBatch[Any, Any]) -> None:
        database.write(batch)

    cache = make()
    store = cache.write_behind("stock", load=load, write=write, ttl="10m")
    await store.aset("tea", 1)
    assert await store.aget("tea") == 1
    assert await store.aadd("views", 2) == 2
    assert await store.aadd("views", 2) == 4
    await store.adelete("tea")
    await cache.apurge(everything=True)
    assert await store.aget("tea") is None
    assert await store.aget_many(["views", "none"]) == {"views": 4, "none": None}
    with pytest.raises(DataError, match="aset"):
        store.set("tea", 1)
    worker = cache.worker(interval="5ms")
    worker.start()
    async with asyncio.timeout(PATIENCE):
        while database.rows != {"views": 4}:
            await asyncio.sleep(0.005)
    await asyncio.to_thread(worker.stop, PATIENCE)
    await cache.aclose()


def test_a_redis_that_is_away_takes_no_write(make: Callable[..., TierCache], url: str) -> None:
    database = Database()
    database.rows["tea"] = 1
    away = make("redis://127.0.0.1:1/0", l2_budget="50ms", purge_timeout="100ms")
    store = store_of(away, database)
    with pytest.raises(TierUnavailable):
        store.set("tea", 2)
    # What the database has may be old: it is handed out, and asked for again.
    assert store.get("tea") == 1
    assert store.get("tea") == 1
    assert database.loads == ["tea", "tea"]
    strong = away.write_behind(
        "other", load=database.load, write=database.write, ttl="10m", consistency="strong"
    )
    with pytest.raises(TierUnavailable):
        strong.get("tea")


def test_a_redis_that_keeps_nothing_is_refused_unless_that_is_meant(one_redis: RedisServer) -> None:
    assert one_redis.ask("FLUSHALL") == "+OK"
    cache = TierCache(one_redis.url, namespace="shop", **CALM)  # type: ignore[arg-type]
    database = Database()
    try:
        store = store_of(cache, database)
        with pytest.raises(ConfigError, match=r"durability: 'disk'.*appendonly yes"):
            store.set("tea", 1)
        with pytest.raises(ConfigError, match="appendonly"):
            cache.worker()
        accepting = cache.write_behind(
            "other", load=database.load, write=database.write, ttl="10m", durability="memory"
        )
        accepting.set("tea", 1)
        assert accepting.get("tea") == 1
    finally:
        cache.close()


TERMS = QueueTerms(1, 1, 1, 1, 1.0, "disk", False)


@pytest.mark.parametrize(
    ("said", "terms", "expected"),
    [
        (Durability(0, "allkeys-lru", True, "everysec"), TERMS, ""),
        (Durability(100, "noeviction", True, "everysec"), TERMS, ""),
        (Durability(100, "allkeys-lru", True, "everysec"), TERMS, "drops acknowledged writes"),
        (Durability(100, "volatile-ttl", True, "everysec"), TERMS, "drops acknowledged writes"),
        (Durability(100, "allkeys-lru", True, "everysec"), TERMS._replace(evicting=True), ""),
        (Durability(0, "noeviction", False, None), TERMS, "appendonly yes"),
        (Durability(0, "noeviction", False, None), TERMS._replace(durability="memory"), ""),
        (Durability(0, "noeviction", True, "everysec"), TERMS._replace(durability="always"), "second or two"),
        (Durability(0, "noeviction", True, "no"), TERMS._replace(durability="always"), "half minute"),
        (Durability(0, "noeviction", True, "always"), TERMS._replace(durability="always"), ""),
        (Durability(None, None, None, None), TERMS, ""),
    ],
)
def test_what_may_be_lost_is_said(said: Durability, terms: QueueTerms, expected: str) -> None:
    assert expected in objection(said, terms)
    assert bool(objection(said, terms)) == bool(expected)


def test_the_number_of_partitions_is_that_of_the_queue(make: Callable[..., TierCache]) -> None:
    database = Database()
    store_of(make(), database, partitions=4).set("tea", 1)
    with pytest.raises(ConfigError, match=r"partitions: 8 .*4"):
        store_of(make(), database, partitions=8).set("tea", 1)


async def test_who_reads_with_another_number_of_partitions_is_told(make: Callable[..., TierCache]) -> None:
    """It would look into the wrong queue, and give out, and store for all, what the database had before."""
    database = Database()
    loaders: dict[str, Any] = {"load_many": database.load_many, "aload": database.aload}

    async def aload_many(keys: Sequence[Any]) -> Any:
        return database.load_many(keys)

    await asyncio.to_thread(store_of(make(), database, partitions=4).set_many, {"tea": 1, "pot": 2})
    wrong = store_of(cache := make(), database, partitions=8, aload_many=aload_many, **loaders)
    with pytest.raises(ConfigError, match=r"partitions: 8 .*4"):
        await asyncio.to_thread(wrong.get, "tea")
    with pytest.raises(ConfigError, match=r"partitions: 8 .*4"):
        await asyncio.to_thread(wrong.get_many, ["tea", "pot"])
    with pytest.raises(ConfigError, match=r"partitions: 8 .*4"):
        await wrong.aget("tea")
    with pytest.raises(ConfigError, match=r"partitions: 8 .*4"):
        await wrong.aget_many(["tea", "pot"])
    await cache.aclose()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"partitions": 0}, "partitions"),
        ({"durability": "fsync"}, "durability"),
        ({"full_wait": "soon"}, "full_wait"),
        ({"partition": 3}, "partition"),
        ({"write": None}, "write"),
        ({"load": None}, "load"),
        ({"ttl": None}, "ttl"),
        ({"consistency": "session"}, "consistency"),
    ],
)
def test_settings_that_cannot_work(make: Callable[..., TierCache], settings: dict[str, Any], named: str) -> None:
    database = Database()
    with pytest.raises(ConfigError, match=named):
        make().write_behind("stock", **{"load": database.load, "write": database.write, "ttl": "1m", **settings})


def test_a_queue_needs_a_redis_and_a_plain_name(make: Callable[..., TierCache]) -> None:
    database = Database()
    with pytest.raises(ConfigError, match="Redis"):
        store_of(TierCache(), database)
    with pytest.raises(ConfigError, match="letters"):
        make().write_behind("a:{b}", load=database.load, write=database.write, ttl="1m")
    with pytest.raises(ConfigError, match="worker"):
        make().worker()


def test_what_cannot_be_stored_is_refused_before_anything_is_written(make: Callable[..., TierCache]) -> None:
    database = Database()
    store = store_of(make(), database)
    with pytest.raises(DataError, match="stock"):
        store.set("tea", object())
    with pytest.raises(ConfigError, match="key"):
        store.set(["tea"], 1)
    assert store.state().jobs == 0


def test_a_purge_that_is_not_confirmed_is_told_and_the_write_stands(
    make: Callable[..., TierCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database()
    cache = make()
    store = store_of(cache, database)
    store.set("tea", 1)

    def refuse(*_: Any, **__: Any) -> Any:
        raise TierUnavailable("away")

    monkeypatch.setattr(cache._engine.shared, "purge", refuse)
    with pytest.raises(PurgeError):
        store.set("tea", 2)
    monkeypatch.undo()
    assert store.get("tea") == 2
    with working(cache):
        until(lambda: database.rows == {"tea": 2})


def test_many_are_queued_at_once(make: Callable[..., TierCache]) -> None:
    database = Database()
    cache, other = make(), make()
    store, reader = store_of(cache, database), store_of(other, database)
    database.rows.update(dict.fromkeys(range(1500), "old"))
    assert reader.get(7) == "old"
    store.set_many({number: f"new {number}" for number in range(1500)})
    assert store.state().jobs == 1500
    until(lambda: reader.get(7) == "new 7")
    assert store.get(1499) == "new 1499"
    store.set_many({})
    with working(cache):
        until(lambda: store.state().jobs == 0)
    assert database.rows == {number: f"new {number}" for number in range(1500)}
    assert cache.stats()["data"]["stock"]["writes"] == 1500


async def test_many_are_queued_at_once_from_an_event_loop(make: Callable[..., TierCache]) -> None:
    database = Database()
    cache = make()
    store = store_of(cache, database)
    await store.aset_many({number: f"new {number}" for number in range(30)})
    assert (await asyncio.to_thread(store.state))[:3] == (30, 30, 0)
    with pytest.raises(DataError, match="aset_many"):
        store.set_many({1: "blocks the loop"})
    await cache.aclose()


def test_of_many_that_do_not_all_fit_those_that_do_are_seen(make: Callable[..., TierCache]) -> None:
    database = Database()
    cache = make()
    store = store_of(cache, database, max_queued=3, full_wait="0s")
    database.rows.update(dict.fromkeys(range(40), "old"))
    assert set(store.get_many(range(40)).values()) == {"old"}
    with pytest.raises(QueueFull):
        store.set_many(dict.fromkeys(sorted(range(40), key=lambda key: store._queue.place(name_of(key))), "new"))
    assert store.state().pending == 0
    few = [key for key in range(40) if store._queue.place(name_of(key)).partition == 0][:3]
    many = [key for key in range(40) if store._queue.place(name_of(key)).partition == 1]
    with pytest.raises(QueueFull):
        store.set_many(dict.fromkeys([*few, *many], "new"))
    queued = store.state().pending
    assert queued == 3
    # Whatever was taken is what readers are given.
    assert list(store.get_many(range(40)).values()).count("new") == queued


def test_what_a_test_writes_gets_to_no_queue_but_its_own(make: Callable[..., TierCache], url: str) -> None:
    database = Database()
    database.rows["tea"] = 1
    cache = make()
    store = store_of(cache, database)
    with isolated():
        assert store.get("tea") == 1
        with pytest.raises(TierUnavailable, match=r"isolated\(url=\.\.\.\)"):
            store.set("tea", 2)
        with pytest.raises(TierUnavailable, match="store 'stock'"):
            cache.worker()
    with isolated(url=url):
        store.set("tea", 3)
        assert store.get("tea") == 3
        with working(cache):
            until(lambda: database.rows["tea"] == 3)
        store.set("tea", 4)
    # What is left in the queue of a test goes with it.
    assert store.get("tea") == 3
    store.set("tea", 5)
    with working(cache):
        until(lambda: database.rows["tea"] == 5)
    assert [one for batch in database.batches for one in batch] == [("tea", 3), ("tea", 5)]
