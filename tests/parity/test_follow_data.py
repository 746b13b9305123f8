"""Pages are purged with the data that they were made with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tiercache
from tests.clock import Hands
from tests.data.stores import in_thread
from tests.parity.conftest import Pair, World
from tests.parity.faces import Asked, Face, Origin, Reply
from tests.parity.waiting import eventually
from tiercache import TierCache
from tiercache.engine.fill import current_fill

RULES: dict[str, dict[str, Any]] = {"/p/{id}": {"ttl": "10m"}, "/alone/{id}": {"ttl": "10m", "follow_data": False}}


class Shop:
    """A page shows a product, which it reads through the cache."""

    def __init__(self) -> None:
        self.rows: dict[str, str | None] = {"1": "Teapot", "2": "Cup"}
        self.loads: list[str] = []
        self.product: Any = None
        self.error: Exception | None = None
        self.origin = Origin(self.answer)

    def sells(self, face: Face, **settings: Any) -> None:
        wanted: Any = {"ttl": "1h", "tags": ["product:{key}"], **settings}
        self.product = face.cache.memoize("product:{key}", **wanted)(self.load)

    def load(self, key: str) -> str | None:
        self.loads.append(key)
        if self.error is not None:
            raise self.error
        return self.rows.get(key)

    def answer(self, asked: Asked) -> Reply:
        return Reply(str(self.product(asked.path.rsplit("/", 1)[1])).encode())


@pytest.fixture
def shop() -> Shop:
    return Shop()


def opened(world: World, shop: Shop, **settings: Any) -> tuple[Face, Hands]:
    face, hands = world.turnable(shop.origin, rules=RULES)
    shop.sells(face, **settings)
    return face, hands


@pytest.mark.parametrize("how", ["key", "tag", "store"])
def test_a_purge_of_the_value_reaches_the_page(world: World, shop: Shop, how: str) -> None:
    face, _ = opened(world, shop)
    for page in ("/p/1", "/p/2"):
        assert [face.get(page).hit, face.get(page).hit] == [False, True]
    shop.rows["1"] = "Kettle"
    if how == "key":
        shop.product.invalidate("1")
    elif how == "tag":
        face.cache.purge(tags=["product:1"])
    else:
        shop.product.clear()
    assert face.get("/p/1").body == b"Kettle"
    assert face.get("/p/2").hit is (how != "store")


def test_a_page_made_with_a_value_that_was_already_there_is_reached_too(world: World, shop: Shop) -> None:
    face, _ = opened(world, shop)
    shop.product("1")
    face.get("/p/1")
    assert face.get("/p/1").hit
    assert shop.loads == ["1"]
    shop.product.invalidate("1")
    assert not face.get("/p/1").hit


def test_a_page_that_says_there_is_none_is_purged_when_there_is(world: World, shop: Shop) -> None:
    face, _ = opened(world, shop)
    for none_ttl in (None, 0):
        memo = face.cache.memoize(f"m{none_ttl}:{{key}}", ttl=60, none_ttl=none_ttl, tags=["s:{key}"])(shop.load)
        shop.product = memo
        assert face.get(f"/p/9{none_ttl}").body == b"None"
        assert face.get(f"/p/9{none_ttl}").hit
        face.cache.purge(tags=[f"s:9{none_ttl}"])
        assert not face.get(f"/p/9{none_ttl}").hit


def test_it_can_be_switched_off_by_rule_and_by_store(world: World, shop: Shop) -> None:
    face, _ = opened(world, shop)
    face.get("/alone/1")
    shop.product.invalidate("1")
    assert face.get("/alone/1").hit
    shop.product = face.cache.memoize("quiet:{key}", ttl=60, follow_data=False)(shop.load)
    face.get("/p/1")
    shop.product.invalidate("1")
    assert face.get("/p/1").hit


def test_an_old_value_does_not_make_a_page_that_cannot_be_stored(world: World, shop: Shop) -> None:
    """The page's own path was purged after the value had been loaded."""
    face, _ = opened(world, shop)
    shop.product("1")
    face.get("/p/1")
    face.get("/p/1", method="POST")
    assert not face.get("/p/1").hit
    assert face.get("/p/1").hit
    assert shop.loads == ["1"]


def test_what_is_purged_while_the_page_is_made_keeps_it_out(world: World, shop: Shop) -> None:
    face, _ = opened(world, shop)

    def answer(asked: Asked) -> Reply:
        body = shop.product("1").encode()
        if len(shop.loads) == 1:
            shop.rows["1"] = "Kettle"
            in_thread(lambda: shop.product.invalidate("1"))()
        return Reply(body)

    shop.origin.answer = answer
    assert face.get("/p/1").body == b"Teapot"
    assert face.get("/p/1").body == b"Kettle"
    assert face.get("/p/1").hit


def test_a_page_made_with_a_stale_value_is_as_stale(world: World, shop: Shop) -> None:
    rules = {"/p/{id}": {"ttl": "10m"}, "/swr/{id}": {"ttl": "10m", "stale_while_revalidate": "10m"}}
    face, hands = world.turnable(shop.origin, rules=rules)
    shop.sells(face, ttl=60, stale_if_error="1h", retry_after_error=0)
    shop.product("1")
    hands.turn(61)
    shop.error = RuntimeError("down")
    first = face.get("/p/1")
    assert (first.body, first.header("cache-control")) == (b"Teapot", "no-store")
    calls = shop.origin.calls
    assert not face.get("/p/1").hit
    assert shop.origin.calls == calls + 1
    face.get("/swr/1")
    shop.error = None
    shop.rows["1"] = "Kettle"
    answer = face.get("/swr/1")
    assert (answer.hit, answer.body) == (True, b"Teapot")
    eventually(lambda: face.get("/swr/1").body == b"Kettle")


@pytest.mark.parametrize("carried", [True, False])
def test_a_pool_of_threads_has_to_be_told(world: World, shop: Shop, carried: bool) -> None:
    face, _ = opened(world, shop)
    with ThreadPoolExecutor(1) as plain:
        pool = tiercache.Carrying(plain) if carried else plain

        def answer(asked: Asked) -> Reply:
            return Reply(pool.submit(shop.product, "1").result().encode())

        shop.origin.answer = answer
        face.get("/p/1")
        shop.product.invalidate("1")
        assert face.get("/p/1").hit is not carried
        # What was carried is not left behind in the thread.
        assert pool.submit(lambda: current_fill()).result() is None


def test_a_function_can_be_carried_to_several_threads_at_once(world: World, shop: Shop) -> None:
    face, _ = opened(world, shop)

    def answer(asked: Asked) -> Reply:
        barrier = threading.Barrier(2)

        def show(key: str) -> str:
            barrier.wait(20)
            return str(shop.product(key))

        with ThreadPoolExecutor(2) as pool:
            return Reply(" ".join(pool.map(tiercache.carry(show), "12")).encode())

    shop.origin.answer = answer
    for key in "12":
        face.get("/p/1")
        assert face.get("/p/1").hit
        shop.product.invalidate(key)
        assert not face.get("/p/1").hit


def test_what_is_read_after_the_response_has_begun_counts(world: World, shop: Shop) -> None:
    face, _ = opened(world, shop)

    class Late(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield b"It is a "
            yield shop.product("1").encode()

    shop.origin.answer = lambda asked: Reply(Late([b"x"]))
    assert face.get("/p/1").body == b"It is a Teapot"
    assert face.get("/p/1").hit
    shop.product.invalidate("1")
    assert not face.get("/p/1").hit


def test_a_validated_page_keeps_the_tags_of_its_data(world: World, shop: Shop) -> None:
    face, hands = opened(world, shop)

    def answer(asked: Asked) -> Reply:
        headers = (("Content-Type", "text/plain"), ("ETag", '"1"'))
        if asked.fields.get("if-none-match") == '"1"':
            return Reply(b"", headers[1:], 304, "Not Modified")
        return Reply(shop.product("1").encode(), headers)

    shop.origin.answer = answer
    face.get("/p/1")
    hands.turn(601)
    assert face.get("/p/1").body == b"Teapot"
    assert face.get("/p/1").hit
    shop.product.invalidate("1")
    assert not face.get("/p/1").hit


def test_nested_values_reach_the_page(world: World, shop: Shop) -> None:
    face, _ = opened(world, shop)
    shop.rows["2"] = "Cup"
    inner = shop.product

    @face.cache.memoize("both:{key}", ttl=60)
    def both(key: str) -> str:
        return f"{inner(key)} {inner('2')}"

    shop.product = both
    assert face.get("/p/1").body == b"Teapot Cup"
    assert face.get("/p/1").hit
    inner.invalidate("2")
    shop.rows["2"] = "Mug"
    assert face.get("/p/1").body == b"Teapot Mug"


def test_what_a_loader_will_not_have_stored_keeps_the_page_out(world: World, shop: Shop) -> None:
    face, _ = opened(world, shop)

    def load(key: str) -> str:
        tiercache.no_store("personal")
        return key

    shop.product = face.cache.memoize("personal:{key}", ttl=60)(load)
    assert [face.get("/p/1").hit, face.get("/p/1").hit] == [False, False]


def test_a_value_that_could_not_be_kept_keeps_the_page_out(world: World, shop: Shop) -> None:
    """Nobody could purge it."""
    face, _ = opened(world, shop)
    shop.product = face.cache.memoize("odd:{key}", ttl=60)(lambda key: (key, object()))
    assert face.get("/p/1").status == 200
    assert not face.get("/p/1").hit
    assert face.cache.stats()["refused"]["data"] == 2


def test_it_holds_for_what_lies_in_the_shared_tier(pair: Pair, shop: Shop) -> None:
    fill, read = pair(shop.origin, rules=RULES)
    shop.sells(fill)
    fill.get("/p/1")
    assert read.get("/p/1").hit
    shop.rows["1"] = "Kettle"
    shop.product.invalidate("1")
    eventually(lambda: read.get("/p/1").body == b"Kettle")


def test_a_value_from_the_shared_tier_hands_on_its_tags(world: World, shop: Shop, redis_url: str) -> None:
    one = world.face(shop.origin, redis_url, rules=RULES)
    shop.sells(one)
    shop.product("1")
    other = world.face(shop.origin, redis_url, rules=RULES)
    shop.sells(other)
    other.get("/p/1")
    assert shop.loads == ["1"]
    assert other.get("/p/1").hit
    one.cache.purge(tags=["product:1"])
    eventually(lambda: not other.get("/p/1").hit)


def test_data_of_a_cache_of_another_namespace_is_like_any_other(world: World, shop: Shop) -> None:
    """No purge there could reach the page."""
    face, _ = opened(world, shop)
    other = TierCache()
    shop.product = other.memoize("product:{key}", ttl=60)(shop.load)
    assert [face.get("/p/1").hit, face.get("/p/1").hit] == [False, True]


def test_data_of_another_cache_of_the_namespace_is_followed(world: World, shop: Shop, redis_url: str) -> None:
    face = world.face(shop.origin, redis_url, rules=RULES)
    other = world.face(shop.origin, redis_url, rules=RULES)
    shop.sells(other)
    shop.product("1")
    assert [face.get("/p/1").hit, face.get("/p/1").hit] == [False, True]
    shop.rows["1"] = "Kettle"
    in_thread(lambda: face.cache.purge(tags=["product:1"]))()
    eventually(lambda: face.get("/p/1").body == b"Kettle")
