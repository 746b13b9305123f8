"""The decorator for functions: which call is which, and that a function stays what it was."""

from __future__ import annotations

import asyncio
import functools
import inspect
from dataclasses import dataclass
from typing import Any

import pytest

from tiercache import ConfigError, TierCache


@pytest.fixture
def cache() -> TierCache:
    return TierCache()


def test_a_function_runs_once_for_the_same_arguments_however_they_are_given(cache: TierCache) -> None:
    calls: list[Any] = []

    @cache.memoize("sum:{a}:{b}", ttl=60)
    def add(a: int, b: int = 2, *, note: str = "") -> int:
        calls.append((a, b, note))
        return a + b

    assert [add(1), add(1, 2), add(a=1), add(1, b=2), add(b=2, a=1), add(1, note="x")] == [3] * 6
    assert calls == [(1, 2, "")]
    assert add(1, 3) == 4
    assert len(calls) == 2


@pytest.mark.parametrize("template", ["one:{key}", "two:{key}:{other}"])
def test_arguments_of_another_kind_are_another_call(cache: TierCache, template: str) -> None:
    calls: list[Any] = []

    @cache.memoize(template, ttl=60)
    def load(key: Any, other: int = 0) -> str:
        calls.append(key)
        return repr(key)

    keys: list[Any] = [1, "1", True, 1.0, b"1", None, (1,), ("1",)]
    for key in [*keys, *reversed(keys)]:
        assert load(key) == repr(key)
    assert len(calls) == len(keys)
    with pytest.raises(ConfigError, match="key"):
        load([1])


def test_what_the_template_does_not_name_does_not_count(cache: TierCache) -> None:
    @cache.memoize("x:{id}", ttl=60)
    def load(session: object, id: int) -> int:
        return id

    assert load(object(), 1) == load(object(), 1) == 1
    assert cache.stats()["data"]["x:{id}"]["loads"] == 1


def test_arguments_that_the_function_does_not_take_are_refused_as_they_were(cache: TierCache) -> None:
    @cache.memoize("x:{id}", ttl=60)
    def load(id: int, other: int = 1) -> int:
        return id

    load(1)
    for call in (lambda: load(), lambda: load(1, 2, 3), lambda: load(1, bogus=2), lambda: load(1, id=1)):  # type: ignore[call-arg, misc]
        with pytest.raises(TypeError):
            call()


def test_attributes_and_all_kinds_of_parameters_may_be_named(cache: TierCache) -> None:
    @dataclass
    class User:
        id: int
        tenant: str

    @cache.memoize("u:{user.tenant}:{user.id}:{rest}:{only}", ttl=60)
    def load(user: User, /, *rest: int, only: str = "x", **more: int) -> list[Any]:
        return [user.id, *rest, only]

    assert load(User(1, "a"), 1, 2) == load(User(1, "a"), 1, 2, only="x", ignored=5) == [1, 1, 2, "x"]
    assert load(User(1, "b"), 1, 2) == load(User(1, "a"), 1, 2)
    assert load.key(User(1, "a"), 1, only="y") == ("a", 1, (1,), "y")
    assert cache.stats()["data"]["u:{user.tenant}:{user.id}:{rest}:{only}"]["loads"] == 2


@pytest.mark.parametrize("of", ["self", "cls"])
def test_a_method_whose_template_forgets_its_object_is_refused(cache: TierCache, of: str) -> None:
    """One user's orders would be the next one's."""

    def orders(self: Any, page: int) -> Any:
        return self

    def made(cls: Any, page: int) -> Any:
        return cls

    method = {"self": orders, "cls": made}[of]
    with pytest.raises(ConfigError, match=rf"\{{{of}\.tenant\}}, or shared=True"):
        cache.memoize("orders:{page}", ttl=60)(method)
    shared = cache.memoize("orders:{page}", ttl=60, shared=True)(method)
    assert [shared("alice", 1), shared("bob", 1)] == ["alice", "alice"]
    own = cache.memoize(f"orders:{{{of}}}:{{page}}", ttl=60)(method)
    assert [own("alice", 1), own("bob", 1)] == ["alice", "bob"]


def test_methods_share_what_the_template_lets_them_share(cache: TierCache) -> None:
    calls: list[str] = []

    class Shop:
        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

        @cache.memoize("price:{self.tenant}:{id}", ttl=60)
        def price(self, id: int) -> str:
            calls.append(self.tenant)
            return f"{self.tenant} {id}"

        @classmethod
        @cache.memoize("c:{id}", shared=True, ttl=60)
        def made(cls, id: int) -> str:
            return cls.__name__

        @staticmethod
        @cache.memoize("s:{id}", ttl=60)
        def fixed(id: int) -> int:
            return id

    one, other, same = Shop("a"), Shop("b"), Shop("a")
    assert [one.price(1), other.price(1), same.price(1)] == ["a 1", "b 1", "a 1"]
    assert calls == ["a", "b"]
    Shop.price.invalidate(same, 1)
    assert [one.price(1), other.price(1)] == ["a 1", "b 1"]
    assert calls == ["a", "b", "a"]
    assert (Shop.made(1), Shop.fixed(2), one.fixed(2)) == ("Shop", 2, 2)


def test_helpers_invalidate_one_or_all(cache: TierCache) -> None:
    calls: list[int] = []

    @cache.memoize("x:{id}", ttl=60, tags=["x:{id}"], invalidates=["list:{id}"])
    def load(id: int) -> int:
        calls.append(id)
        return id

    for change in (
        lambda: load.invalidate(1),
        lambda: load.invalidate(id=1),
        lambda: cache.purge(tags=["x:1"]),
        load.clear,
        lambda: asyncio.run(load.ainvalidate(1)),
        lambda: asyncio.run(load.aclear()),
    ):
        load(1)
        before = len(calls)
        load(1)
        assert len(calls) == before
        change()
        load(1)
        assert len(calls) == before + 1


def test_functions_for_tags_see_what_the_template_names(cache: TierCache) -> None:
    seen: list[Any] = []

    def tags(key: Any, value: Any) -> str:
        seen.append((key, value))
        return "t"

    cache.memoize("one:{a}", ttl=60, tags=tags)(lambda a, b: b)(1, 2)
    cache.memoize("two:{a}:{b}", ttl=60, tags=tags)(lambda a, b: b)(1, 2)
    assert seen == [(1, 2), ((1, 2), 2)]


async def test_async_functions_stay_async(cache: TierCache) -> None:
    calls: list[int] = []

    @cache.memoize("x:{id}", ttl=60)
    async def load(id: int) -> dict[str, int]:
        """Load it."""
        calls.append(id)
        await asyncio.sleep(0)
        return {"id": id}

    assert inspect.iscoroutinefunction(load)
    assert await asyncio.gather(load(1), load(id=1), load(1)) == [{"id": 1}] * 3
    assert await load(1) is not await load(1)
    assert calls == [1]
    await load.ainvalidate(1)
    await load(1)
    assert calls == [1, 1]


async def test_a_sync_function_may_be_called_on_a_loop_as_before(cache: TierCache) -> None:
    @cache.memoize("x:{id}", ttl=60)
    def load(id: int) -> int:
        return id

    assert load(1) == load(1) == 1


def test_name_signature_and_documentation_stay(cache: TierCache) -> None:
    def load(id: int, *, deep: bool = False) -> str:
        """Load it."""
        return ""

    kept = cache.memoize("x:{id}", ttl=60)(load)
    assert inspect.signature(kept) == inspect.signature(load)
    assert (kept.__name__, kept.__doc__, kept.__wrapped__) == ("load", "Load it.", load)  # type: ignore[attr-defined]


def test_the_type_is_the_one_that_the_function_says(cache: TierCache) -> None:
    @cache.memoize("x:{id}", ttl=60)
    def pair(id: int) -> tuple[int, str]:
        return id, "a"

    assert pair(1) == pair(1) == (1, "a")
    assert cache.stats()["data"]["x:{id}"]["loads"] == 1


def test_partial_functions_and_objects_are_known_as_sync_or_async(cache: TierCache) -> None:
    class Loads:
        async def __call__(self, key: int) -> int:
            return key

    async def load(extra: int, key: int) -> int:
        return key + extra

    one = cache.read_through("one", load=Loads(), ttl=60)
    two = cache.read_through("two", load=functools.partial(load, 1), ttl=60)
    assert asyncio.run(_both(one, two)) == (5, 6)


async def _both(one: Any, two: Any) -> tuple[int, int]:
    return await one.aget(5), await two.aget(5)


@pytest.mark.parametrize(
    "template", ["", "x:{}", "x:{0}", "x:{nobody}", "x:{id!r}", "x:{id:d}", "x:{id", "x:{other.id}", 7, None]
)
def test_a_template_that_cannot_work_is_refused(cache: TierCache, template: Any) -> None:
    with pytest.raises(ConfigError, match="memoize"):
        cache.memoize(template, ttl=60)(lambda id: id)


def test_a_function_that_yields_is_refused(cache: TierCache) -> None:
    def items(id: int) -> Any:
        yield id

    with pytest.raises(ConfigError, match="yields"):
        cache.memoize("x:{id}", ttl=60)(items)


def test_tags_name_what_the_template_names(cache: TierCache) -> None:
    with pytest.raises(ConfigError, match="tags"):
        cache.memoize("x:{id}", ttl=60, tags=["y:{other}"])(lambda id, other: id)


def test_a_template_is_used_once(cache: TierCache) -> None:
    cache.memoize("x:{id}", ttl=60)(lambda id: id)
    with pytest.raises(ConfigError, match="x:"):
        cache.memoize("x:{id}", ttl=60)(lambda id: id)


def test_a_decorator_without_its_template_is_refused_where_it_stands() -> None:
    cache = TierCache()
    with pytest.raises(ConfigError, match=r"memoize: .*@cache\.memoize"):

        @cache.memoize  # type: ignore[arg-type]
        def one(id: int) -> int:
            return id
