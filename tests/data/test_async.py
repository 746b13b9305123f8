"""Stores in async code: tasks that wait together, that are cancelled, and that are batched by the turn of a loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tiercache
from tests.data.stores import turnable
from tiercache import DataError, LoadTimeout, TierCache


class Origin:
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.cancelled = 0

    async def load(self, key: Any) -> Any:
        self.calls.append(key)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return f"{key} v{len(self.calls)}"


@pytest.fixture
async def origin() -> Origin:
    return Origin()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(5_000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came to that")


async def test_one_loads_for_all_tasks(origin: Origin) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60)
    assert await asyncio.gather(*[store.aget("a") for _ in range(9)]) == ["a v1"] * 9
    assert await store.aget("a") == "a v1"
    assert origin.calls == ["a"]


async def test_what_l1_has_does_not_suspend(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60)
    aside = cache.aside("a", ttl=60)
    memo = cache.memoize("m:{key}", ttl=60)(origin.load)
    await store.aget("a")
    await aside.aset("a", 1)
    await memo("a")
    for coroutine in (store.aget("a"), aside.aget("a"), aside.aget_or_load("a", origin.load), memo("a")):
        with pytest.raises(StopIteration):
            coroutine.send(None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("leader", [True, False])
async def test_who_is_cancelled_takes_nothing_from_the_others(origin: Origin, leader: bool) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60)
    origin.gate.clear()
    tasks = [asyncio.create_task(store.aget("a")) for _ in range(3)]
    await turns()
    tasks[0 if leader else 1].cancel()
    await turns()
    origin.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 1
    assert results.count("a v1") == 2
    assert origin.calls == ["a"]


async def test_a_load_that_nobody_waits_for_any_more_is_cancelled(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60)
    origin.gate.clear()
    task = asyncio.create_task(store.aget("a"))
    await turns()
    task.cancel()
    await turns()
    assert task.cancelled()
    assert origin.cancelled == 1
    assert len(cache._engine.flights) == 0
    assert cache._engine.limits.behind == 0
    origin.gate.set()
    assert await store.aget("a") == "a v2"


async def test_who_is_cancelled_at_once_leaves_no_flight(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60)
    for moments in range(6):
        task = asyncio.create_task(store.aget("a"))
        await turns(moments)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.adelete("a")
    await turns()
    assert len(cache._engine.flights) == cache._engine.limits.behind == 0


async def test_each_raises_its_own_error(origin: Origin) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60)
    origin.error = LookupError("gone")
    errors = await asyncio.gather(*[store.aget("a") for _ in range(4)], return_exceptions=True)
    assert {type(error) for error in errors} == {LookupError}
    assert len({id(error) for error in errors}) == 4


async def test_stale_while_loaded_anew(origin: Origin) -> None:
    cache, hands = turnable()
    store = cache.read_through("s", load=origin.load, ttl=60, stale_while_revalidate=60)
    await store.aget("a")
    hands.turn(61)
    origin.gate.clear()
    assert [await store.aget("a") for _ in range(3)] == ["a v1"] * 3
    await until(lambda: len(origin.calls) == 2)
    origin.gate.set()
    await turns()
    assert await store.aget("a") == "a v2"
    assert cache._engine.limits.refreshing == 0


async def test_a_slow_load_is_stored_all_the_same(origin: Origin) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60, fill_timeout="20ms")
    origin.gate.clear()
    with pytest.raises(LoadTimeout):
        await store.aget("a")
    origin.gate.set()
    await turns()
    assert await store.aget("a") == "a v1"


async def test_the_gets_of_one_turn_are_one_batch() -> None:
    batches: list[list[Any]] = []

    async def load_many(keys: Any) -> dict[Any, Any]:
        batches.append(list(keys))
        await asyncio.sleep(0)
        return {key: LookupError(key) if key == 3 else key * 2 for key in keys if key != 4}

    cache = TierCache()
    store = cache.read_through("s", load_many=load_many, ttl=60, max_batch=4)
    results = await asyncio.gather(*[store.aget(key) for key in (1, 2, 3, 4, 5, 1)], return_exceptions=True)
    assert batches == [[1, 2, 3, 4], [5]]
    assert [str(result) for result in results] == ["2", "4", "3", "None", "10", "2"]
    assert isinstance(results[2], LookupError)
    assert await store.aget_many([5, 4, 6]) == {5: 10, 4: None, 6: 12}
    assert batches[2:] == [[6]]
    await asyncio.gather(store.aget(7), store.aget_many([8, 7]))
    assert sorted(map(sorted, batches[3:])) in ([[7], [8]], [[7, 8]])


async def test_a_cancelled_get_leaves_its_batch_whole() -> None:
    gate = asyncio.Event()
    batches: list[list[Any]] = []

    async def load_many(keys: Any) -> dict[Any, Any]:
        batches.append(list(keys))
        await gate.wait()
        return {key: key for key in keys}

    store = TierCache().read_through("s", load_many=load_many, ttl=60)
    tasks = [asyncio.create_task(store.aget(key)) for key in (1, 2, 3)]
    await turns()
    tasks[0].cancel()
    await turns()
    gate.set()
    assert (await asyncio.gather(*tasks, return_exceptions=True))[1:] == [2, 3]
    assert await store.aget(1) == 1
    assert batches == [[1, 2, 3]]


async def test_a_batch_reports_to_each_view_what_it_was_made_with() -> None:
    """The batch is carried out in the context of whoever came first."""

    async def load_many(keys: Any) -> dict[Any, Any]:
        return {key: key for key in keys}

    cache = TierCache()
    inner = cache.read_through("inner", load_many=load_many, ttl=60, tags=["i:{key}"])

    async def outer(key: int) -> Any:
        return [await inner.aget(key)]

    calls: list[int] = []

    async def counted(key: int) -> Any:
        calls.append(key)
        return await outer(key)

    wholes = cache.read_through("outer", load=counted, ttl=60)
    await asyncio.gather(wholes.aget(1), wholes.aget(2))
    await cache.apurge(tags=["i:2"])
    await asyncio.gather(wholes.aget(1), wholes.aget(2))
    assert calls == [1, 2, 2]


async def test_loads_within_loads_that_wait_for_their_own_end() -> None:
    cache = TierCache()

    async def load(key: str) -> Any:
        return await asyncio.create_task(store.aget("a"))

    async def load_many(keys: Any) -> dict[Any, Any]:
        return {key: await many.aget("b") for key in keys}

    store = cache.read_through("s", load=load, ttl=60)
    many = cache.read_through("m", load_many=load_many, ttl=60)
    with pytest.raises(DataError, match="itself"):
        await store.aget("a")
    with pytest.raises(DataError, match="itself"):
        await many.aget("b")
    with pytest.raises(DataError, match="itself"):
        await asyncio.gather(many.aget("a"), many.aget("b"))


async def test_what_would_block_the_loop_or_cannot_run_says_what_to_do(origin: Origin) -> None:
    cache = TierCache()
    both = cache.read_through("both", load=len, aload=origin.load, ttl=60)
    sync, other = cache.read_through("sync", load=len, ttl=60), cache.read_through("async", load=origin.load, ttl=60)
    aside = cache.aside("aside", ttl=60)
    written = cache.write_through("w", load=len, write=lambda key, value: None, ttl=60)
    refused: list[Callable[[], object]] = [
        lambda: both.get("a"), lambda: sync.get("a"), lambda: other.get("a"), lambda: both.get_many(["a"]),
        lambda: aside.get("a"), lambda: aside.get_or_load("a", len), lambda: aside.set("a", 1),
        lambda: aside.delete("a"), lambda: aside.clear(), lambda: written.set("a", 1), lambda: aside.get_many(["a"]),
    ]  # fmt: skip
    for call in refused:
        with pytest.raises(DataError, match="await "):
            call()
    coroutines: list[Awaitable[object]] = [sync.aget("a"), sync.aget_many(["a"]), written.aset("a", 1)]
    for coroutine in coroutines:
        with pytest.raises(DataError):
            await coroutine
    await both.aget("a")
    assert both.get("a") == "a v1"
    result: list[object] = []

    def outside() -> None:
        with pytest.raises(DataError, match="its loader is async"):
            other.get("a")
        result.append(sync.get("abc"))

    thread = threading.Thread(target=outside)
    thread.start()
    thread.join()
    assert result == [3]


def test_a_sync_loader_that_gives_an_awaitable_is_told_of() -> None:
    async def load(key: str) -> int:
        return 1

    store = TierCache().read_through("s", load=lambda key: load(key), ttl=60)
    with pytest.raises(DataError, match="awaitable"):
        store.get("a")


def test_a_store_serves_one_loop_after_another() -> None:
    async def load_many(keys: Any) -> dict[Any, Any]:
        return {key: key for key in keys}

    store = TierCache().read_through("s", load_many=load_many, ttl=60)

    async def both(first: int) -> list[Any]:
        return await asyncio.gather(store.aget(first), store.aget(first + 1))

    assert asyncio.run(both(1)) == [1, 2]
    assert asyncio.run(both(2)) == [2, 3]


async def test_threads_and_tasks_wait_for_each_other(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=lambda key: "thread", aload=origin.load, ttl=60)
    origin.gate.clear()
    task = asyncio.create_task(store.aget("a"))
    await turns()
    other = asyncio.create_task(asyncio.to_thread(store.get, "a"))
    await until(lambda: sum(one.followers for one in cache._engine.flights._by_key.values()) == 1)
    origin.gate.set()
    assert await task == await other == "a v1"


# -- writes ------------------------------------------------------------------------------------------------------------


async def test_an_async_write_goes_through() -> None:
    cache, rows = TierCache(), {"a": 1}

    async def load(key: str) -> int | None:
        return rows.get(key)

    async def write(key: str, value: int | None) -> None:
        rows[key] = value or 0

    async def remove(key: str) -> None:
        del rows[key]

    store = cache.write_through("s", load=load, write=write, remove=remove, ttl=60)
    assert await store.aget("a") == 1
    await store.aset("a", 2)
    assert (rows, await store.aget("a"), cache.stats()["data"]["s"]["loads"]) == ({"a": 2}, 2, 1)
    await store.adelete("a")
    assert await store.aget("a") is None


@pytest.mark.parametrize("timed_out", [True, False])
async def test_a_write_that_is_cut_off_invalidates(timed_out: bool) -> None:
    cache, rows = TierCache(), {"a": 1}

    async def load(key: str) -> int:
        return rows[key]

    async def write(key: str, value: int) -> None:
        rows[key] = value
        await asyncio.Event().wait()

    store = cache.write_through("s", load=load, write=write, ttl=60)
    assert await store.aget("a") == 1
    if timed_out:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await store.aset("a", 2)
    else:
        task = asyncio.create_task(store.aset("a", 2))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await store.aget("a") == 2


async def test_clear_and_aside_in_async_code(origin: Origin) -> None:
    store = TierCache().aside("s", ttl=60)
    await store.aset("a", {"x": 1})
    assert await store.aget("a") == {"x": 1}
    assert await store.aget("b", 7) == 7
    assert await store.aget_or_load("b", origin.load) == "b v1"
    assert await store.aget_many(["c", "b", "a"]) == {"b": "b v1", "a": {"x": 1}}
    await store.aclear()
    assert await store.aget_many(["a", "b"]) == {}


async def test_tags_and_lifetimes_are_said_in_async_loaders() -> None:
    cache, hands = turnable()
    calls: list[str] = []

    async def load(key: str) -> str:
        calls.append(key)
        await asyncio.create_task(say())
        return key

    async def say() -> None:
        tiercache.ttl(5)
        tiercache.tag("x")

    store = cache.read_through("s", load=load, ttl=60)
    await store.aget("a")
    await cache.apurge(tags=["x"])
    await store.aget("a")
    await store.aget("a")
    hands.turn(6)
    await store.aget("a")
    assert calls == ["a"] * 3


async def test_the_type_is_what_is_awaited_of_a_loader() -> None:
    def aload(key: str) -> Awaitable[tuple[str, int]]:
        async def load() -> tuple[str, int]:
            return key, 1

        return load()

    cache = TierCache()
    store = cache.read_through("s", load=lambda key: (key, 1), aload=aload, ttl=60, type=tuple[str, int])
    inferred = cache.read_through("t", load=None, aload=aload, ttl=60)  # type: ignore[call-overload]
    for one in (store, inferred):
        assert await one.aget("a") == await one.aget("a") == ("a", 1)
    assert cache.stats()["data"]["t"]["stored"] == 1
