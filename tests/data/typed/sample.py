"""What a type checker makes of stores: read by mypy, never run. A comment says what it must reveal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import reveal_type

from tiercache import TierCache


@dataclass
class Product:
    id: int


cache = TierCache()


def load(id: int) -> Product:
    return Product(id)


async def aload(id: int) -> Product | None:
    return None


def load_many(ids: Sequence[int]) -> Mapping[int, Product]:
    return {}


async def aload_many(ids: Sequence[str]) -> dict[str, int]:
    return {}


def write(id: int, value: Product) -> None: ...


async def awrite(id: int, value: Product | None) -> int:
    return 1


aside = cache.aside("a", ttl=1, type=Product)
reveal_type(aside.get(1))  # Product | None
reveal_type(aside.get(1, "none"))  # Product | str
reveal_type(aside.get_or_load(1, load))  # Product
reveal_type(aside.get_many([1]))  # dict[Any, Product]
reveal_type(cache.aside("b", ttl=1).get("x"))  # Any | None

through = cache.read_through("c", load=load, ttl=1)
reveal_type(through.get(1))  # Product
reveal_type(through.get_many([1]))  # dict[int, Product]
through.get("1")  # error: arg-type
through.aget("1")  # error: arg-type unused-coroutine

reveal_type(cache.read_through("d", load=aload, ttl=1))  # ReadThrough[int, Product | None]
reveal_type(cache.read_through("e", load_many=load_many, ttl=1).get(1))  # Product | None
reveal_type(cache.read_through("f", load_many=aload_many, ttl=1))  # ReadThrough[str, int | None]
reveal_type(cache.read_through("g", load=load, load_many=load_many, ttl=1).get(1))  # Product
cache.read_through("h", load=load, tll=1)  # error: call-overload

written = cache.write_through("i", load=load, write=write, ttl=1)
reveal_type(written)  # WriteThrough[int, Product]
written.set(1, Product(1))
written.set(1, "x")  # error: arg-type
reveal_type(cache.write_through("j", load=aload, write=awrite, ttl=1))  # WriteThrough[int, Product | None]


@cache.memoize("k:{id}", ttl=1)
def kept(id: int, *, deep: bool = False) -> list[Product]:
    return []


@cache.memoize("l:{id}", ttl=1)
async def akept(id: int) -> Product:
    return Product(id)


class Shop:
    @cache.memoize("m:{id}", shared=True, ttl=1)
    def price(self, id: int) -> float:
        return 1.0


reveal_type(kept(1, deep=True))  # list[Product]
kept("1")  # error: arg-type
kept(1, dep=True)  # error: call-arg
kept.invalidate(1)
kept.invalidate("1")  # error: arg-type
reveal_type(kept.key(1))  # tuple[Any, ...]
reveal_type([akept(1)])  # list[Coroutine[Any, Any, Product]]
reveal_type(Shop().price(1))  # float
Shop().price("1")  # error: arg-type
Shop.price.invalidate(Shop(), 1)
