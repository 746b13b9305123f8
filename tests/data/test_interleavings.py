"""Two writers and a reader of one key, in every order: the cache is never left behind the database."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.data.interleaving import Steps, orders
from tests.servers import RedisServer
from tests.simulator.plants import Line, Plant, planted
from tiercache import TierCache
from tiercache.core.stores import Get
from tiercache.data import WriteThrough
from tiercache.engine import flows, loading, writing
from tiercache.engine.effects import drive
from tiercache.engine.loading import Loading
from tiercache.engine.writing import Call

PATIENT: dict[str, Any] = {"l2_budget": "20s", "l2_slow": "20s", "purge_timeout": "20s", "staleness_bound": "600s"}


class Shop:
    """A database, and the caches of one process or of several in front of it. Each order has a key of its own."""

    def __init__(self, count: int, url: str | None = None) -> None:
        self.database: dict[int, str] = {}
        self.key = 0
        self.caches = [TierCache(url, namespace="orders", **PATIENT) for _ in range(count)]
        self.stores = [self._store(cache) for cache in self.caches]

    def _store(self, cache: TierCache) -> WriteThrough[int, str | None]:
        return cache.write_through(
            "names", load=self.database.get, write=self.database.__setitem__, ttl="10m", type=str, tags=["n:{key}"]
        )

    def _loading(self, process: int) -> Loading:
        store = self.stores[process]
        return Loading(store._engine, Get(store._rule, self.key, store._key(self.key)), store._source)

    def writer(self, process: int, value: str) -> Steps:
        call = Call(self.database.__setitem__, None, self.key, value)
        return Steps(writing.change(self._loading(process), call, value, keeps=True))

    def reader(self, process: int) -> Steps:
        return Steps(loading.read(self._loading(process)))

    def listener(self) -> Steps:
        return Steps(self._hearing())

    def _hearing(self) -> Generator[Any, Any, None]:
        self.sync()
        return
        yield

    def begin(self) -> None:
        self.key += 1
        self.database[self.key] = "old"

    def sync(self) -> None:
        for cache in self.caches:
            assert drive(flows.sync(cache._engine, time.monotonic() + 30.0)) is not None

    def kept(self) -> list[Any]:
        """What each process would answer with now, from L1 or L2; None where it would load."""
        found = []
        for process in range(len(self.caches)):
            entry = drive(loading.peek(self._loading(process)))
            found.append(None if entry is None else entry.take())
        return found


def in_one_process() -> tuple[int, int]:
    """How many orders there are, and in how many the new value has been kept."""
    shop, count, kept = Shop(1), 0, 0

    def make() -> list[Steps]:
        shop.begin()
        return [shop.writer(0, "first"), shop.writer(0, "second"), shop.reader(0)]

    for order, (first, second, _) in orders(make):
        count += 1
        assert first.result is second.result is None
        (found,) = shop.kept()
        assert found in (None, shop.database[shop.key]), f"{order}: {found!r}, not {shop.database[shop.key]!r}"
        kept += found is not None
    return count, kept


def test_every_order_in_one_process() -> None:
    count, kept = in_one_process()
    assert count > 1_000
    # It has to be of use, too: most of the time nobody comes between.
    assert 0 < kept < count


PLANTS = {
    "it does not ask who has written meanwhile": Plant(
        (Line(writing, "may_keep", "all(before.get(HARD + tag, 0) <= noted.number for tag in tags)", "True"),)
    ),
    "it notes the number after the write": Plant(
        (
            Line(
                writing,
                "change",
                "    if problem is not None or not keeps",
                "    noted = loading.begin().stamp\n    if problem is not None or not keeps",
            ),
        )
    ),
    "it stores under the number that it has noted, and purges before": Plant(
        (
            Line(writing, "may_keep", "all(before.get(HARD + tag, 0) <= noted.number for tag in tags)", "True"),
            Line(writing, "change", "Stamp(messages[-1].epoch, messages[-1].number)", "engine.ledger.stamp()"),
        )
    ),
    "it does not purge": Plant(
        (Line(writing, "written", "flows.invalidate(engine, members,", "flows.invalidate(engine, ['h:t:other'],"),)
    ),
}


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_what_is_planted_is_found(name: str) -> None:
    with planted(PLANTS[name]), pytest.raises(AssertionError, match="not '"):
        in_one_process()


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


def in_two_processes(url: str, *, reader: bool) -> tuple[int, int]:
    """In the end both hear of all that there is, and at some moment before, or, in place of that, one reads. A reader
    in the second process would be the mirror image."""
    shop, count, kept = Shop(2, url), 0, 0
    shop.sync()

    def make() -> list[Steps]:
        shop.begin()
        third = shop.reader(0) if reader else shop.listener()
        return [shop.writer(0, "first"), shop.writer(1, "second"), third]

    try:
        for order, (first, second, *_) in orders(make):
            count += 1
            assert first.result is second.result is None
            shop.sync()
            for found in shop.kept():
                assert found in (None, shop.database[shop.key]), f"{order}: {found!r}, not {shop.database[shop.key]!r}"
                kept += found is not None
    finally:
        for cache in shop.caches:
            cache.close()
    return count, kept


def test_every_order_of_two_writers_in_two_processes(redis_url: str) -> None:
    count, kept = in_two_processes(redis_url, reader=False)
    assert count == 630
    assert 0 < kept < 2 * count


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_every_order_in_two_processes(redis_url: str) -> None:
    count, kept = in_two_processes(redis_url, reader=True)
    assert count > 10_000
    assert 0 < kept < 2 * count


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_what_is_planted_is_found_in_two_processes(redis_url: str, name: str) -> None:
    with planted(PLANTS[name]), pytest.raises(AssertionError, match="not '"):
        in_two_processes(redis_url, reader=False)
