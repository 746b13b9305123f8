"""What users do with a store, in one process: look, load, wait together, be served stale, write, forget."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tiercache
from tests.data.stores import GUARD, Origin, in_thread, turnable
from tests.parity.waiting import eventually
from tiercache import ConfigError, DataError, LoadRefused, LoadTimeout, TierCache
from tiercache.core.stores import Get
from tiercache.engine import batching
from tiercache.engine.batching import Loads
from tiercache.engine.loading import Loading
from tiercache.testing import isolated


@pytest.fixture
def origin() -> Origin:
    return Origin()


def followers(cache: TierCache, count: int) -> None:
    """Wait until that many wait for loads."""
    eventually(lambda: sum(one.followers for one in cache._engine.flights._by_key.values()) == count)


def test_it_loads_once_and_again_when_it_has_expired(origin: Origin) -> None:
    cache, hands = turnable()
    store = cache.read_through("s", load=origin.load, ttl="10m")
    assert [store.get("a"), store.get("a"), store.get("b")] == ["a v1", "a v1", "b v2"]
    hands.turn(599)
    assert store.get("a") == "a v1"
    hands.turn(2)
    assert store.get("a") == "a v3"


def test_one_loads_for_all_who_ask_meanwhile(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60)
    origin.gate.clear()
    results = [in_thread(lambda: store.get("a")) for _ in range(5)]
    followers(cache, 4)
    origin.gate.set()
    assert {result() for result in results} == {"a v1"}
    assert origin.calls == ["a"]
    assert cache.stats()["data"]["s"]["collapsed"] == 4


def test_what_the_loader_raises_each_of_them_raises_for_itself(origin: Origin) -> None:
    class Gone(Exception):
        def __init__(self, what: str, *, code: int) -> None:
            super().__init__(what)
            self.code = code

    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60)
    origin.gate.clear()
    origin.error = LookupError("gone", 7)
    origin.error.add_note("said by the database")
    results = [in_thread(lambda: store.get("a")) for _ in range(4)]
    followers(cache, 3)
    origin.gate.set()
    errors = []
    for result in results:
        with pytest.raises(LookupError) as caught:
            result()
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 4
    assert {error.args for error in errors} == {("gone", 7)}
    assert all(error.__notes__ == ["said by the database"] for error in errors)
    assert origin.calls == ["a"]
    origin.error = Gone("x", code=5)
    with pytest.raises(Gone) as raised:
        store.get("a")
    assert raised.value is origin.error
    origin.error = None
    assert store.get("a") == "a v3"


@pytest.mark.parametrize("error", [StopIteration(5), KeyError("a"), TimeoutError("slow"), GeneratorExit()])
def test_no_error_is_turned_into_another(origin: Origin, error: BaseException) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60)
    origin.error = error
    with pytest.raises(type(error)) as caught:
        store.get("a")
    assert caught.value is error


def test_an_error_that_cannot_be_copied_is_shared() -> None:
    from tiercache.engine.sources import own_copy

    class Stubborn(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} {two}")

    stubborn, plain, system = Stubborn(1, 2), ValueError("a", 1), OSError(2, "no file", "name")
    assert own_copy(stubborn) is stubborn
    assert own_copy(plain) is not plain
    assert own_copy(plain).args == ("a", 1)
    made = own_copy(system)
    assert isinstance(made, FileNotFoundError)
    assert (made.errno, made.filename) == (2, "name")


def test_none_is_kept_like_any_value_or_shorter_or_not_at_all(origin: Origin) -> None:
    cache, hands = turnable()
    origin.rows["a"] = None
    stores = {
        ttl: cache.read_through(f"s{ttl}", load=origin.load, ttl=60, **({} if ttl is None else {"none_ttl": ttl}))
        for ttl in (None, 5, 0)
    }
    for store in stores.values():
        assert store.get("a") is store.get("a") is None
    assert len(origin.calls) == 1 + 1 + 2
    hands.turn(6)
    assert stores[None].get("a") is stores[5].get("a") is None
    assert len(origin.calls) == 5
    assert cache.stats()["data"]["s0"]["refused"] == {"none": 2}


def test_none_that_is_not_kept_is_still_loaded_once_for_all_who_wait(origin: Origin) -> None:
    cache = TierCache()
    origin.rows["a"] = None
    store = cache.read_through("s", load=origin.load, ttl=60, none_ttl=0)
    origin.gate.clear()
    results = [in_thread(lambda: store.get("a")) for _ in range(4)]
    followers(cache, 3)
    origin.gate.set()
    assert {result() for result in results} == {None}
    assert origin.calls == ["a"]


def test_a_loader_says_how_long_with_which_tags_and_whether_at_all() -> None:
    cache, hands = turnable()
    calls: list[str] = []

    def load(key: str) -> str:
        calls.append(key)
        if key == "short":
            tiercache.ttl("5s")
        if key == "tagged":
            tiercache.tag("sale")
        if key == "secret":
            tiercache.no_store("personal")
        return key

    store = cache.read_through("s", load=load, ttl=60)
    for _ in range(2):
        for key in ("short", "tagged", "secret"):
            assert store.get(key) == key
    assert calls == ["short", "tagged", "secret", "secret"]
    hands.turn(6)
    store.get("short")
    cache.purge(tags=["sale"])
    store.get("tagged")
    store.get("tagged")
    assert calls[4:] == ["short", "tagged"]


def test_a_loader_that_asks_for_its_own_key_is_told_so() -> None:
    cache = TierCache()

    def load(key: str) -> Any:
        return store.get({"a": "a", "b": "c", "c": "b"}[key])

    store = cache.read_through("s", load=load, ttl=60)
    for key in ("a", "b"):
        with pytest.raises(DataError, match=r"asks for .* itself"):
            store.get(key)


def test_a_load_within_a_load_is_fine_and_hands_on_its_tags() -> None:
    cache = TierCache()
    calls: list[str] = []

    def part(key: str) -> str:
        calls.append(key)
        return key

    parts = cache.read_through("parts", load=part, ttl=60, tags=["part:{key}"])
    wholes = cache.read_through("wholes", load=lambda key: [parts.get(key), parts.get("x")], ttl=60)
    assert wholes.get("a") == ["a", "x"]
    cache.purge(tags=["part:x"])
    assert wholes.get("a") == ["a", "x"]
    assert calls == ["a", "x", "x"]
    parts.delete("a")
    wholes.get("a")
    assert calls == ["a", "x", "x", "a"]


def test_stale_is_served_while_it_is_loaded_anew(origin: Origin) -> None:
    cache, hands = turnable()
    store = cache.read_through("s", load=origin.load, ttl=60, stale_while_revalidate=60)
    store.get("a")
    hands.turn(61)
    origin.gate.clear()
    assert [store.get("a") for _ in range(3)] == ["a v1"] * 3
    eventually(lambda: len(origin.calls) == 2)
    origin.gate.set()
    eventually(lambda: store.get("a") == "a v2")
    assert len(origin.calls) == 2
    eventually(lambda: cache._engine.limits.refreshing == cache._engine.limits.behind == 0)
    assert cache.stats()["data"]["s"]["stale"] >= 3


@pytest.mark.parametrize("coalesce", ["process", False])
def test_what_is_soon_to_end_is_loaded_anew_by_one(origin: Origin, coalesce: Any) -> None:
    cache, hands = turnable()
    store = cache.read_through("s", load=origin.load, ttl=60, early_refresh=0.5, coalesce=coalesce)
    store.get("a")
    hands.turn(29)
    assert [store.get("a"), store.get("a")] == ["a v1"] * 2
    hands.turn(2)
    origin.gate.clear()
    assert [store.get("a") for _ in range(3)] == ["a v1"] * 3
    eventually(lambda: len(origin.calls) == 2)
    origin.gate.set()
    eventually(lambda: store.get("a") == "a v2")
    assert origin.calls == ["a", "a"]
    aside = cache.aside("aside", ttl=60, early_refresh=0.5)
    aside.set("a", 1)
    hands.turn(31)
    assert aside.get("a") == 1


def test_stale_is_served_in_place_of_an_error_and_the_database_left_alone(origin: Origin) -> None:
    cache, hands = turnable()
    store = cache.read_through("s", load=origin.load, ttl=60, stale_if_error=600, retry_after_error=10)
    store.get("a")
    hands.turn(61)
    origin.error = RuntimeError("down")
    assert [store.get("a"), store.get("a")] == ["a v1", "a v1"]
    assert len(origin.calls) == 2
    hands.turn(11)
    assert store.get("a") == "a v1"
    assert len(origin.calls) == 3
    hands.turn(600)
    with pytest.raises(RuntimeError, match="down"):
        store.get("a")


def test_a_purge_leaves_nothing_to_hide_an_error_behind(origin: Origin) -> None:
    cache, hands = turnable()
    store = cache.read_through("s", load=origin.load, ttl=60, stale_if_error=600)
    store.get("a")
    hands.turn(61)
    store.delete("a")
    origin.error = RuntimeError("down")
    with pytest.raises(RuntimeError, match="down"):
        store.get("a")


def test_a_slow_load_is_not_waited_for_and_stored_all_the_same(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60, fill_timeout="20ms")
    origin.gate.clear()
    with pytest.raises(LoadTimeout, match=r"fill_timeout=0\.02") as caught:
        store.get("a")
    assert isinstance(caught.value, TimeoutError)
    origin.gate.set()
    eventually(lambda: store.get("a") == "a v1")
    assert origin.calls == ["a"]


def test_a_slow_load_has_what_is_stale_in_its_place(origin: Origin) -> None:
    cache, hands = turnable()
    store = cache.read_through("s", load=origin.load, ttl=60, stale_if_error=600, serve_stale_after="20ms")
    store.get("a")
    hands.turn(61)
    origin.gate.clear()
    assert store.get("a") == "a v1"
    origin.gate.set()
    eventually(lambda: store.get("a") == "a v2")


def test_what_a_load_behind_raises_is_raised_by_who_waits(origin: Origin) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60, fill_timeout="20s")
    origin.error = LookupError("gone")
    with pytest.raises(LookupError, match="gone"):
        store.get("a")


def test_no_more_loads_at_once_than_allowed(origin: Origin) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60, max_fills=1)
    origin.gate.clear()
    result = in_thread(lambda: store.get("a"))
    eventually(lambda: bool(origin.calls))
    with pytest.raises(LoadRefused, match="max_fills=1"):
        store.get("b")
    origin.gate.set()
    assert result() == "a v1"
    assert store.get("b") == "b v2"


def test_a_purge_during_a_load_kills_what_it_makes(origin: Origin) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60)
    origin.gate.clear()
    result = in_thread(lambda: store.get("a"))
    eventually(lambda: bool(origin.calls))
    store.delete("a")
    origin.gate.set()
    assert result() == "a v1"
    assert store.get("a") == "a v2"


def test_what_cannot_be_stored_is_given_and_counted(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60)
    given = origin.rows["a"] = (1, object())
    assert store.get("a") is store.get("a") is given
    assert cache.stats()["data"]["s"]["refused"] == {"value": 2}
    assert cache.stats()["swallowed"]["value not kept"] == 2
    with pytest.raises(DataError, match="store 'b'"):
        cache.aside("b", ttl=60).set("a", object())


def test_a_value_that_is_too_large_is_given_and_not_kept(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60, max_body="1KiB")
    origin.rows["a"] = "x" * 2_000
    assert store.get("a") == store.get("a") == "x" * 2_000
    assert cache.stats()["data"]["s"]["refused"] == {"too-large": 2}


def test_nobody_changes_a_value_for_others(origin: Origin) -> None:
    store = TierCache().read_through("s", load=origin.load, ttl=60)
    given = origin.rows["a"] = {"list": [1]}
    first = store.get("a")
    first["list"].append(2)
    given["list"].append(3)
    second = store.get("a")
    second["list"].append(4)
    assert store.get("a") == {"list": [1]}


def test_followers_do_not_share_what_can_be_changed(origin: Origin) -> None:
    cache = TierCache()
    store = cache.read_through("s", load=origin.load, ttl=60)
    origin.rows["a"] = {"list": [1]}
    origin.gate.clear()
    results = [in_thread(lambda: store.get("a")) for _ in range(4)]
    followers(cache, 3)
    origin.gate.set()
    values = [result() for result in results]
    assert len({id(value) for value in values}) == len({id(value["list"]) for value in values}) == 4


# -- cache-aside -------------------------------------------------------------------------------------------------------


def test_aside_looks_and_takes() -> None:
    cache, hands = turnable()
    store = cache.aside("s", ttl=60, tags=["t:{key}"])
    assert store.get("a") is None
    assert store.get("a", "nothing") == "nothing"
    store.set("a", [1])
    store.set("b", None)
    assert store.get("a", "nothing") == [1]
    assert store.get("b", "nothing") is None
    assert store.get_many(["c", "b", "a"]) == {"b": None, "a": [1]}
    assert list(store.get_many(["a", "b"])) == ["a", "b"]
    store.set("a", [2], ttl=5, tags=["more"])
    assert store.get("a") == [2]
    hands.turn(6)
    assert store.get("a") is None
    assert store.get("b", "nothing") is None
    for tags in (["more"], ["t:a"]):
        store.set("a", [3], tags=["more"])
        cache.purge(tags=tags)
        assert store.get("a") is None


def test_aside_loads_by_what_is_given_with_the_call(origin: Origin) -> None:
    store = TierCache().aside("s", ttl=60)
    assert store.get_or_load("a", origin.load) == "a v1"
    assert store.get_or_load("a", origin.load) == store.get("a") == "a v1"
    store.delete("a")
    assert store.get("a") is None


def test_clear_is_about_one_store_alone(origin: Origin) -> None:
    cache = TierCache()
    one, other = cache.aside("one", ttl=60), cache.aside("other", ttl=60)
    for store in (one, other):
        store.set("a", 1)
        store.set("b", 2)
    one.clear()
    assert one.get_many(["a", "b"]) == {}
    assert other.get_many(["a", "b"]) == {"a": 1, "b": 2}


def test_set_and_delete_purge_what_the_store_names() -> None:
    cache = TierCache()
    lists = cache.aside("lists", ttl=60, tags=["catalog"])
    store = cache.aside("s", ttl=60, invalidates=["catalog"])
    for change in (lambda: store.set("a", 1), lambda: store.delete("a")):
        lists.set("all", [1])
        change()
        assert lists.get("all") is None


@pytest.mark.parametrize("tags", [[""], [7]])
def test_tags_of_a_value_are_texts(tags: Any) -> None:
    with pytest.raises(ConfigError, match="tags"):
        TierCache().aside("s", ttl=60).set("a", 1, tags=tags)


def test_a_name_is_given_once() -> None:
    cache = TierCache()
    cache.aside("s", ttl=60)
    with pytest.raises(ConfigError, match="'s'"):
        cache.read_through("s", load=len, ttl=60)


def test_a_store_that_could_not_be_made_leaves_its_name_free() -> None:
    cache = TierCache()
    with pytest.raises(ConfigError):
        cache.aside("s", ttl="soon")
    cache.aside("s", ttl=60)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "load"),
        ({"load": 7}, "load"),
        ({"load": len, "none_ttl": "x"}, "none_ttl"),
        ({"load": len, "max_batch": 0}, "max_batch"),
        ({"load": len, "version": 1.5}, "version"),
        ({"load": len, "codec": 7}, "codec"),
        ({"load": len, "uncertain": [7]}, "uncertain"),
        ({"load": len, "type": list | dict}, "type"),
        ({"load": len, "compress_above": 0}, "compress_above"),
        ({"load": len, "query": "ignore"}, "query"),
    ],
)
def test_what_cannot_work_is_refused(settings: Any, said: str) -> None:
    if settings.get("type"):
        settings["type"] = int | float | list[int] | tuple[int, ...]
    with pytest.raises(ConfigError, match=f"store 's': {said}"):
        TierCache().read_through("s", ttl=60, **settings)


def test_switched_off_it_loads_each_time_and_keeps_nothing(origin: Origin) -> None:
    cache = TierCache(enabled=False)
    store = cache.read_through("s", load=origin.load, ttl=60)
    aside = cache.aside("a", ttl=60)
    assert [store.get("a"), store.get("a")] == ["a v1", "a v2"]
    aside.set("a", 1)
    assert aside.get("a") is None
    assert store.get_many(["a"]) == {"a": "a v3"}


# -- write-through -----------------------------------------------------------------------------------------------------


def test_a_write_is_in_the_database_and_in_the_store() -> None:
    cache, rows, loads = TierCache(), {"a": 1}, []

    def load(key: str) -> int | None:
        loads.append(key)
        return rows.get(key)

    store = cache.write_through("s", load=load, write=rows.__setitem__, remove=rows.pop, ttl=60)
    assert store.get("a") == 1
    store.set("a", 2)
    assert (rows, store.get("a"), loads) == ({"a": 2}, 2, ["a"])
    store.delete("a")
    assert (rows, store.get("a"), loads) == ({}, None, ["a", "a"])


@pytest.mark.parametrize(
    ("error", "known"),
    [(ValueError("no"), True), (TimeoutError(), False), (ConnectionResetError(), False), (KeyError("odd"), False)],
)
def test_a_write_that_fails_leaves_the_tiers_unless_it_may_have_been_made(error: Exception, known: bool) -> None:
    cache, loads = TierCache(), []

    def write(key: str, value: int) -> None:
        raise error

    def load(key: str) -> int:
        loads.append(key)
        return len(loads)

    store = cache.write_through(
        "s", load=load, write=write, remove=lambda key: write(key, 0), ttl=60, uncertain=[KeyError]
    )
    for change in (lambda: store.set("a", 9), lambda: store.delete("a")):
        before = store.get("a")
        with pytest.raises(type(error)) as caught:
            change()
        assert caught.value is error
        assert store.get("a") == (before if known else before + 1)


def test_a_write_whose_value_cannot_be_kept_is_made_and_invalidates() -> None:
    cache, rows = TierCache(), {"a": 1}
    store = cache.write_through("s", load=rows.get, write=rows.__setitem__, ttl=60, type=int | str)
    store.get("a")
    store.set("a", (1, 2))  # type: ignore[arg-type]
    assert store.get("a") == (1, 2)
    assert cache.stats()["data"]["s"]["refused"]["value"] == 2


def test_a_function_for_tags_that_fails_leaves_the_write_made() -> None:
    cache, rows = TierCache(), {"a": 1}

    def tags(key: str, value: int) -> str:
        raise RuntimeError("no tags")

    store = cache.write_through("s", load=rows.get, write=rows.__setitem__, ttl=60, tags=tags)
    store.set("a", 2)
    assert store.get("a") == rows["a"] == 2
    assert cache.stats()["data"]["s"]["stored"] == 0


@pytest.mark.parametrize(("tag", "soft"), [("color", False), ("color", True), ("other", False)])
def test_a_purge_of_any_tag_of_the_value_during_the_write_keeps_it_out(tag: str, soft: bool) -> None:
    cache, loads = TierCache(), []

    def write(key: str, value: int) -> None:
        cache.purge(tags=[tag], soft=soft)

    store = cache.write_through("s", load=loads.append, write=write, ttl=60, tags=["color"])
    store.set("a", 1)
    assert store.get("a") == (None if tag == "color" else 1)
    assert loads == (["a"] if tag == "color" else [])


def test_what_is_missing_for_a_write_is_said() -> None:
    store = TierCache().write_through("s", load=len, write=lambda key, value: None, ttl=60)
    with pytest.raises(DataError, match="remove="):
        store.delete("a")


# -- threads and batches -----------------------------------------------------------------------------------------------


def test_threads_that_come_during_a_call_go_with_the_next() -> None:
    cache, batches, gate = TierCache(), [], threading.Event()

    def load_many(keys: Any) -> dict[str, str]:
        batches.append(list(keys))
        assert gate.wait(GUARD)
        return {key: key.upper() for key in keys if key != "none"}

    store = cache.read_through("s", load_many=load_many, ttl=60, max_batch=3)
    first = in_thread(lambda: store.get("a"))
    eventually(lambda: batches == [["a"]])
    keys = ["b", "c", "none", "d", "e"]
    others = [in_thread(lambda key=key: store.get(key)) for key in keys]  # type: ignore[misc]
    eventually(lambda: len(store._source.crowd._line.waiting) == 5)
    gate.set()
    assert first() == "A"
    assert [other() for other in others] == ["B", "C", None, "D", "E"]
    assert sorted(map(len, batches)) == [1, 2, 3]
    assert sorted(key for batch in batches for key in batch) == ["a", "b", "c", "d", "e", "none"]


def test_get_many_loads_what_is_missing_in_batches_and_keeps_the_order() -> None:
    cache, batches = TierCache(), []

    def load_many(keys: Any) -> dict[int, int]:
        batches.append(list(keys))
        return {key: key * 2 for key in reversed(keys) if key != 4}

    store = cache.read_through("s", load_many=load_many, ttl=60, max_batch=2)
    assert store.get(2) == 4
    assert list(store.get_many([5, 4, 3, 2, 5]).items()) == [(5, 10), (4, None), (3, 6), (2, 4)]
    assert batches == [[2], [5, 4], [3]]
    assert store.get_many([4, 5]) == {4: None, 5: 10}
    assert len(batches) == 3


def test_an_error_of_one_key_is_its_own() -> None:
    cache, batches = TierCache(), []

    def load_many(keys: Any) -> dict[int, Any]:
        batches.append(list(keys))
        return {key: LookupError(key) if key == 2 else key for key in keys}

    store = cache.read_through("s", load_many=load_many, ttl=60)
    with pytest.raises(LookupError, match="2"):
        store.get_many([1, 2, 3])
    assert store.get_many([1, 3]) == {1: 1, 3: 3}
    assert batches == [[1, 2, 3]]


@pytest.mark.parametrize("given", [None, [1], 7])
def test_load_many_gives_a_mapping(given: Any) -> None:
    store = TierCache().read_through("s", load_many=lambda keys: given, ttl=60)
    with pytest.raises(DataError, match="no mapping"):
        store.get(1)


def test_what_load_many_raises_all_of_its_keys_raise() -> None:
    def load_many(keys: Any) -> dict[int, int]:
        raise LookupError("down")

    store = TierCache().read_through("s", load_many=load_many, ttl=60)
    with pytest.raises(LookupError, match="down"):
        store.get_many([1, 2])


def test_a_batch_within_a_batch_of_the_same_store_does_not_wait_for_itself() -> None:
    cache = TierCache()

    def load_many(keys: Any) -> dict[int, Any]:
        return {key: key if key > 10 else store.get(key + 10) for key in keys}

    store = cache.read_through("s", load_many=load_many, ttl=60)
    assert store.get(1) == 11
    assert store.get_many([2, 3]) == {2: 12, 3: 13}


def test_what_load_many_says_holds_for_all_of_its_keys() -> None:
    cache, batches = TierCache(), []

    def load_many(keys: Any) -> dict[int, int]:
        batches.append(list(keys))
        tiercache.tag("sale")
        return {key: key for key in keys}

    store = cache.read_through("s", load_many=load_many, ttl=60)
    store.get_many([1, 2])
    cache.purge(tags=["sale"])
    store.get_many([1, 2])
    assert batches == [[1, 2], [1, 2]]


def test_a_forked_crowd_begins_anew() -> None:
    """What the parent's threads were at is not there in the child."""
    cache = TierCache()
    store = cache.read_through("s", load_many=lambda keys: {key: key for key in keys}, ttl=60)
    store._source.crowd._line.busy = True
    cache._engine.after_fork()
    assert store.get(1) == 1


def test_threads_that_begin_a_crowd_anew_at_once_stand_in_one_line(monkeypatch: Any) -> None:
    """Else one of them could wait in a line that nobody serves."""
    cache = TierCache()
    store = cache.read_through("s", load_many=lambda keys: {key: key for key in keys}, ttl=60)
    made: list[object] = []
    second = threading.Event()

    class Line(batching._Line):
        def __init__(self, flights: Any) -> None:
            made.append(self)
            if len(made) == 1:
                assert second.wait(10), "nobody else has come"
            super().__init__(flights)

    class Lock:
        """Of the engine; tells of the second who comes."""

        def __init__(self) -> None:
            self.comers = itertools.count(1)
            self.lock = threading.Lock()

        def __enter__(self) -> None:
            if next(self.comers) == 2:
                second.set()
            self.lock.acquire()

        def __exit__(self, *error: object) -> None:
            self.lock.release()

    cache._engine.after_fork()
    monkeypatch.setattr(batching, "_Line", Line)
    crowd = store._source.crowd
    monkeypatch.setattr(cache._engine, "lock", Lock())
    with ThreadPoolExecutor(2) as pool:
        lines = [task.result() for task in [pool.submit(crowd._line_of, cache._engine) for _ in range(2)]]
    assert lines == [crowd._line] * 2
    assert made == [crowd._line]


def test_a_store_of_an_engine_that_begins_anew_waits_for_nobody_of_before() -> None:
    cache = TierCache()
    store = cache.read_through("s", load_many=lambda keys: {key: key for key in keys}, ttl=60)
    store._source.crowd._line.busy = True
    with isolated():
        assert store.get(1) == 1
        assert store._source.crowd._line.flights is cache._engine.flights


def test_what_else_a_write_purges_does_not_keep_its_value_out() -> None:
    """Other keys purge it all the time."""
    cache, loads = TierCache(), []

    def write(key: str, value: int) -> None:
        cache.purge(tags=["catalog"])

    store = cache.write_through("s", load=loads.append, write=write, ttl=60, invalidates=["catalog"])
    store.set("a", 1)
    assert store.get("a") == 1
    assert loads == []


def test_invalidate_leaves_the_database_alone() -> None:
    cache, rows = TierCache(), {"a": 1}
    store = cache.write_through("s", load=rows.get, write=rows.__setitem__, remove=rows.pop, ttl=60)
    assert store.get("a") == 1
    rows["a"] = 2
    store.invalidate("a")
    assert store.get("a") == rows["a"] == 2


def test_two_of_one_key_in_a_batch_do_not_share_what_can_be_changed() -> None:
    """They may meet there where what the first flight brought was not for the second."""
    cache = TierCache()
    store = cache.read_through("s", load_many=lambda keys: {key: {"list": [key]} for key in keys}, ttl=60)
    loadings = [Loading(store._engine, Get(store._rule, 1, store._key(1)), store._source) for _ in range(3)]
    for one in loadings:
        one.begin()
    values = Loads(loadings).run()
    assert values == [{"list": [1]}] * 3
    assert len({id(value["list"]) for value in values}) == 3
