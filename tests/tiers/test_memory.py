from __future__ import annotations

import copy
import gc
import math
import os
import random
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Hashable, Iterator
from typing import Any

import cachetools
import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tiercache.core.codec import decode, encode
from tiercache.core.edge_headers import edge_for
from tiercache.core.entries import Entry
from tiercache.core.keys import canonical
from tiercache.core.messages import StoredResponse
from tiercache.core.values import Held, MsgspecCodec, StoredValue, body_of
from tiercache.engine.events import Stats
from tiercache.engine.serving import Presenter
from tiercache.tiers.memory import MemoryTier, mark_of, size_of
from tiercache.wsgi_fills import native, status_line

FOREVER = math.inf
LIMIT = 60
"""Of the store that is held to the reference: room for a few items on trial, and for a dozen in all."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def order_of_eviction(tier: MemoryTier) -> list[Hashable]:
    return [tier.popitem()[0] for _ in range(len(tier))]


class Reference:
    """A small queue before SIEVE, as in the papers, over plain lists, oldest first, in bytes and with keep times; no
    regard to speed."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.trial: list[str] = []
        self.queue: list[str] = []
        self.items: dict[str, tuple[object, int, float]] = {}
        self.visited: set[str] = set()
        self.hand: str | None = None
        self.marks: dict[int, int] = {}

    def used(self) -> int:
        return sum(size for _, size, _ in self.items.values())

    def lookup(self, key: str) -> object:
        if key not in self.items:
            return None
        self.visited.add(key)
        return self.items[key][0]

    def enter(self, key: str) -> None:
        slot, mark = mark_of(key, 64)
        (self.queue if self.marks.get(slot) == mark else self.trial).append(key)

    def remove(self, key: str) -> None:
        if key in self.trial:
            self.trial.remove(key)
        else:
            if self.hand == key:
                position = self.queue.index(key) + 1
                self.hand = self.queue[position] if position < len(self.queue) else None
            self.queue.remove(key)
        self.visited.discard(key)
        del self.items[key]

    def mark(self, key: str) -> None:
        slot, mark = mark_of(key, 64)
        self.marks[slot] = mark

    def victim(self) -> str:
        while self.trial and (not self.queue or sum(self.items[key][1] for key in self.trial) > self.maxsize // 20):
            if self.trial[0] not in self.visited:
                return self.trial[0]
            self.visited.discard(self.trial[0])
            self.queue.append(self.trial.pop(0))
        position = self.queue.index(self.hand) if self.hand is not None else 0
        while self.queue[position] in self.visited:
            self.visited.discard(self.queue[position])
            position = (position + 1) % len(self.queue)
        self.hand = self.queue[position]
        return self.hand

    def expired(self, now: float) -> set[str]:
        return {key for key, (_, _, keep_until) in self.items.items() if keep_until <= now}


class AgainstReference(RuleBasedStateMachine):
    """Which of several expired items goes first is left open; everything else must be as in the reference."""

    keys = st.sampled_from("abcdefghijkl")
    sizes = st.sampled_from([0, 1, 3, 5, 8, 12, 20])
    lifetimes = st.sampled_from([1.0, 2.0, 5.0, 100.0, FOREVER])

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.dropped: list[str] = []
        dropped = self.dropped

        class Watched(MemoryTier):
            def popitem(self) -> tuple[Hashable, Any]:
                item = super().popitem()
                dropped.append(str(item[0]))
                return item

        self.tier = Watched(LIMIT, timer=self.clock)
        self.model = Reference(LIMIT)
        self.counted = {"evictions": 0, "expirations": 0, "rejected": 0}

    def drop_like_the_tier(self, chosen: str) -> None:
        expired = self.model.expired(self.clock.now)
        if expired:
            assert chosen in expired
            self.counted["expirations"] += 1
        else:
            assert chosen == self.model.victim()
            self.counted["evictions"] += 1
        self.model.mark(chosen)
        self.model.remove(chosen)

    @rule(key=keys, size=sizes, lifetime=lifetimes)
    def store(self, key: str, size: int, lifetime: float) -> None:
        value = object()
        keep_until = self.clock.now + lifetime
        assert self.tier.store(key, value, size, keep_until)
        while self.model.used() + size - (self.model.items[key][1] if key in self.model.items else 0) > LIMIT:
            self.drop_like_the_tier(self.dropped.pop(0))
        if key not in self.model.items:
            self.model.enter(key)
        self.model.items[key] = value, size, keep_until
        assert not self.dropped

    @rule(key=keys)
    def store_too_large(self, key: str) -> None:
        assert not self.tier.store(key, object(), LIMIT + 1, FOREVER)
        if key in self.model.items:
            self.model.remove(key)
        self.counted["rejected"] += 1

    @rule(key=keys)
    def look_up(self, key: str) -> None:
        assert self.tier.lookup(key) is self.model.lookup(key)

    @rule(key=keys)
    def look_up_as_mapping(self, key: str) -> None:
        assert self.tier.get(key) is self.model.lookup(key)

    @rule(key=keys)
    def discard(self, key: str) -> None:
        assert self.tier.discard(key) == (key in self.model.items)
        if key in self.model.items:
            self.model.remove(key)

    @rule(key=keys)
    def pop(self, key: str) -> None:
        expected = self.model.items[key][0] if key in self.model.items else None
        assert self.tier.pop(key, None) is expected
        if key in self.model.items:
            self.model.remove(key)

    @rule()
    def popitem(self) -> None:
        if self.model.items:
            self.tier.popitem()
            self.drop_like_the_tier(self.dropped.pop())

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def clear(self) -> None:
        self.tier.clear()
        marks = self.model.marks
        self.model.__init__(LIMIT)  # type: ignore[misc]
        self.model.marks = marks

    @invariant()
    def accounts_agree(self) -> None:
        tier, model = self.tier, self.model
        assert list(tier) == list(model.items)
        assert tier.currsize == model.used() <= tier.maxsize
        assert len(tier) == len(model.items)
        assert {name: getattr(tier, name) for name in self.counted} == self.counted


TestAgainstReference = AgainstReference.TestCase
TestAgainstReference.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("seed", range(4))
def test_a_long_run_goes_as_the_reference(seed: int) -> None:
    """Mostly lookups and stores of what is often too much, which short random runs seldom come to."""
    rng = random.Random(seed)
    run = AgainstReference()
    for turn in range(1500):
        key = rng.choice("abcdefghijklmnopqrstuvwxyz")
        if rng.random() < 0.6:
            run.look_up(key=rng.choice("abcdefgh"))
        elif turn % 50 == 49:
            run.discard(key=key)
        else:
            run.store(key=key, size=rng.choice([1, 3, 5, 8]), lifetime=rng.choice([100.0, FOREVER]))
        run.accounts_agree()
    assert run.tier.evictions > 100
    assert any(not node.on_trial for node in run.tier._nodes.values())


def test_a_hit_spares_an_entry_once() -> None:
    tier = MemoryTier(3)
    for key in "abc":
        tier.store(key, key.upper(), 1, FOREVER)
    assert tier.lookup("a") == "A"
    assert tier.lookup("nothing") is None
    tier.store("d", "D", 1, FOREVER)
    assert list(tier) == ["a", "c", "d"]
    assert order_of_eviction(tier) == ["c", "d", "a"]


def test_replacing_keeps_the_flag_and_the_place() -> None:
    tier = MemoryTier(3)
    for key in "abc":
        tier.store(key, 1, 1, FOREVER)
    tier.lookup("a")
    tier.store("a", 2, 1, FOREVER)
    tier.store("b", 2, 1, FOREVER)
    assert order_of_eviction(tier) == ["b", "c", "a"]


def test_a_replacement_that_grows_may_itself_be_what_is_evicted() -> None:
    tier = MemoryTier(4)
    for key in "ab":
        tier.store(key, 1, 2, FOREVER)
    tier.store("a", 2, 3, FOREVER)
    assert (list(tier), tier.currsize, tier.evictions) == (["a"], 3, 2)
    assert tier.lookup("a") == 2


def test_a_scan_does_not_push_out_what_is_used() -> None:
    """A thousand pages asked for once each, between requests for a hot set that fills half the store."""
    hot = [f"hot{i}" for i in range(50)]
    tier, lru = MemoryTier(100), cachetools.LRUCache[str, int](100)
    for key in hot * 2:
        if tier.lookup(key) is None:
            tier.store(key, 1, 1, FOREVER)
        lru[key] = lru.get(key, 1)
    for number in range(1000):
        tier.store(f"scan{number}", 1, 1, FOREVER)
        lru[f"scan{number}"] = 1
        if number % 20 == 0:
            tier.lookup(hot[number // 20])
    assert sum(key in tier for key in hot) >= 45
    assert not any(key in lru for key in hot)


def test_what_is_past_its_keep_time_goes_first() -> None:
    clock = Clock()
    tier = MemoryTier(5, timer=clock)
    for key, keep_until in [("live1", 100.0), ("dead1", 10.0), ("live2", FOREVER), ("dead2", 20.0), ("dead3", 15.0)]:
        tier.store(key, key, 1, keep_until)
        tier.lookup(key)
    clock.now = 20.0
    for number in range(3):
        tier.store(f"new{number}", 1, 1, 100.0)
        assert (tier.expirations, tier.evictions) == (number + 1, 0)
    assert list(tier) == ["live1", "live2", "new0", "new1", "new2"]
    tier.store("more", 1, 1, 100.0)
    assert (tier.expirations, tier.evictions) == (3, 1)


@pytest.mark.parametrize("first", [5.0, 50.0, FOREVER])
@pytest.mark.parametrize("second", [5.0, 50.0, FOREVER])
@pytest.mark.parametrize("third", [5.0, 50.0, FOREVER])
def test_the_last_keep_time_is_the_one_that_counts(first: float, second: float, third: float) -> None:
    clock = Clock()
    tier = MemoryTier(2, timer=clock)
    tier.store("older", 1, 1, FOREVER)
    for keep_until in (first, second, third):
        tier.store("a", 1, 1, keep_until)
    for clock.now, other in ((10.0, "b"), (60.0, "c")):
        gone = third <= clock.now
        tier.lookup("a")  # SIEVE would spare it.
        before = tier.expirations
        tier.store(other, 1, 1, FOREVER)
        assert tier.expirations - before == int(gone)
        assert ("a" in tier) != gone
        if gone:
            break


def test_bookkeeping_stays_bounded_when_the_same_keys_are_filled_for_ever() -> None:
    clock = Clock()
    tier = MemoryTier(1000, timer=clock)
    longest = 0
    for turn in range(20_000):
        clock.now += 0.25
        key, later = turn % 50, clock.now + 1000 - turn % 7 * 100
        if turn % 3 == 0:
            tier.discard(key)
        tier.store(key, turn, 20, later)
        longest = max(longest, len(tier._heap))
    assert longest < 200
    for key in list(tier):
        tier.discard(key)
    assert len(tier._heap) < 100


def test_what_is_removed_is_freed_at_once() -> None:
    class Value:
        pass

    tier = MemoryTier(10)
    gc.disable()  # Freed by reference counts alone, or a busy store would wait for the collector with its bodies.
    try:
        watched = []
        for number in range(40):
            value = Value()
            watched.append(weakref.ref(value))
            tier.store(number % 25, value, 1, 1e9)
            del value
        assert sum(ref() is not None for ref in watched) == len(tier) == 10
        tier.store(next(iter(tier)), None, 1, 1e9)
        tier.discard(next(iter(tier)))
        tier.popitem()
        assert sum(ref() is not None for ref in watched) == len(tier) == 8
        tier.clear()
        assert not any(ref() is not None for ref in watched)
    finally:
        gc.enable()


def test_a_finaliser_may_come_back_into_the_store() -> None:
    tier = MemoryTier(6)

    class Value:
        def __del__(self) -> None:
            tier.discard("a")
            tier.store("from finaliser", 1, 1, FOREVER)

    for key in "abcd":
        tier.store(key, Value(), 1, 1e9)
    tier.store("a", 1, 2, FOREVER)  # Frees the value whose finaliser discards "a" and stores.
    assert tier.currsize == sum(node.size for node in tier._nodes.values())
    tier.clear()
    for key in "uvwxyz":
        tier.store(key, 1, 1, FOREVER)
    assert tier.currsize == len(tier) == 6
    assert sorted(map(str, order_of_eviction(tier))) == list("uvwxyz")


def test_an_item_that_can_never_fit_is_counted_and_takes_its_predecessor_away() -> None:
    tier = MemoryTier(10)
    tier.store("other", 1, 5, FOREVER)
    tier.store("key", "old", 5, FOREVER)
    assert not tier.store("key", "new", 11, FOREVER)
    assert (tier.rejected, tier.evictions, tier.lookup("key"), list(tier)) == (1, 0, None, ["other"])
    assert tier.store("key", "new", 10, FOREVER)
    assert list(tier) == ["key"]


@pytest.mark.parametrize(("size", "keep_until"), [(-1, 1.0), (1, math.nan)])
def test_what_would_break_the_account_is_refused(size: int, keep_until: float) -> None:
    tier = MemoryTier(10)
    with pytest.raises(ValueError, match="size"):
        tier.store("key", 1, size, keep_until)
    assert (len(tier), tier.currsize) == (0, 0)


def test_a_flood_passes_through_a_twentieth() -> None:
    tier = MemoryTier(1000)
    for number in range(1000):
        tier.store(("page", number), 1, 1, FOREVER)
    for number in range(1000):
        tier.lookup(("page", number))
    tier.store(("new", 0), 1, 1, FOREVER)  # All were asked for again: one of them had to go.
    for number in range(1, 5000):
        tier.store(("new", number), 1, 1, FOREVER)
    # Those that had to go until the flood had its twentieth and room for the next page, and no more.
    assert sum(("page", number) in tier for number in range(1000)) == 949


@pytest.mark.parametrize("expired", [False, True])
def test_what_comes_back_has_passed_its_trial(expired: bool) -> None:
    clock = Clock()
    tier = MemoryTier(100, timer=clock)
    tier.store("back", 1, 1, 10.0)
    clock.now = 20.0 if expired else 0.0
    assert tier.popitem()[0] == "back"
    assert (tier.expirations, tier.evictions) == (int(expired), int(not expired))
    for key in ("first", "back", "second"):
        tier.store(key, 1, 33, FOREVER)
    assert order_of_eviction(tier) == ["first", "second", "back"]


def test_what_was_discarded_is_tried_like_anything_new() -> None:
    tier = MemoryTier(100)
    tier.store("other", 1, 1, FOREVER)
    tier.popitem()  # There are marks from here on.
    tier.store("purged", 1, 1, FOREVER)
    assert tier.discard("purged")
    for key in ("purged", "second"):
        tier.store(key, 1, 50, FOREVER)
    tier.lookup("second")
    assert order_of_eviction(tier) == ["purged", "second"]


def test_marks_tell_keys_apart_and_stay_small() -> None:
    marks = {mark_of(number, 64) for number in range(2000)}
    assert len(marks) == 2000
    assert {slot for slot, _ in marks} == set(range(64))
    assert all(0 < mark < 2**32 for _, mark in marks)
    tier = MemoryTier(64 * 2**20)
    tier.store("a", 1, 1, FOREVER)
    assert tier._marks is None  # Nothing is set aside before something had to go.
    tier.popitem()
    assert tier._marks is not None
    assert sys.getsizeof(tier._marks) < tier.maxsize * 0.005


# -- as a cachetools.Cache ---------------------------------------------------------------------------------------------


def plain(maxsize: int) -> MemoryTier:
    return MemoryTier(maxsize, getsizeof=len)


def test_it_is_a_cachetools_cache() -> None:
    tier = plain(10)
    assert isinstance(tier, cachetools.Cache)
    tier["a"] = "aaaa"
    tier["b"] = "bbbb"
    assert (tier["a"], tier.get("b"), tier.get("c"), tier.get("c", 1)) == ("aaaa", "bbbb", None, 1)
    assert (len(tier), tier.currsize, tier.maxsize) == (2, 8, 10)
    assert ("a" in tier, "c" in tier, list(tier), sorted(tier.values())) == (True, False, ["a", "b"], ["aaaa", "bbbb"])
    assert dict(tier.items()) == {"a": "aaaa", "b": "bbbb"}
    tier["a"] = "a"
    assert tier.currsize == 5
    del tier["a"]
    with pytest.raises(KeyError):
        del tier["a"]
    with pytest.raises(KeyError):
        tier["a"]
    assert tier.currsize == 4
    assert tier.setdefault("b", "x") == "bbbb"
    assert tier.setdefault("c", "ccc") == "ccc"
    assert tier.currsize == 7
    assert tier.pop("c") == "ccc"
    assert tier.pop("c", "none") == "none"
    with pytest.raises(KeyError):
        tier.pop("c")
    tier.update({"d": "dd", "e": "ee"})
    assert tier.currsize == 8
    assert "currsize=8" in repr(tier)
    tier.clear()
    assert (len(tier), tier.currsize, list(tier)) == (0, 0, [])
    with pytest.raises(KeyError, match="empty"):
        tier.popitem()


def test_a_value_too_large_raises_as_in_cachetools_and_changes_nothing() -> None:
    tier = plain(4)
    tier["a"] = "aaaa"
    with pytest.raises(ValueError, match="too large"):
        tier["a"] = "aaaaa"
    assert (tier["a"], tier.currsize, tier.rejected) == ("aaaa", 4, 1)


def test_without_a_size_function_values_are_weighed() -> None:
    tier = MemoryTier(10_000)
    tier["a"] = b"x" * 1000
    assert 1000 < tier.currsize < 2000
    with pytest.raises(ValueError, match="too large"):
        tier["b"] = b"x" * 10_000


def test_cached_takes_it() -> None:
    calls: list[int] = []

    @cachetools.cached(MemoryTier(2, getsizeof=lambda value: 1))
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert [double(n) for n in (1, 2, 1, 3, 1, 2)] == [2, 4, 2, 6, 2, 4]
    assert calls == [1, 2, 3, 2]


def test_nothing_of_cachetools_that_touches_its_own_dicts_is_inherited() -> None:
    """A release of cachetools that adds a method over its private dicts, which stay empty here, must be noticed."""
    inherited = {
        name
        for name, value in vars(cachetools.Cache).items()
        if (callable(value) or isinstance(value, property | staticmethod)) and name not in vars(MemoryTier)
    }
    assert inherited <= {"maxsize", "__missing__", "__class_getitem__", "_Cache__marker"}


def test_subclasses_may_override_missing_and_hear_of_evictions() -> None:
    class Squares(MemoryTier):
        def __missing__(self, key: Any) -> Any:
            self[key] = key * key
            return key * key

        def popitem(self) -> tuple[Hashable, Any]:
            item = super().popitem()
            heard.append(item)
            return item

    heard: list[tuple[Hashable, Any]] = []
    tier = Squares(2, getsizeof=lambda value: 1)
    assert [tier[2], tier[3], tier[2], tier[4]] == [4, 9, 4, 16]
    assert heard == [(3, 9)]


def test_it_is_not_copied_nor_serialised() -> None:
    for attempt in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="shared"):
            attempt(MemoryTier(1))


# -- threads and forks -------------------------------------------------------------------------------------------------


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("frequent_switches")
def test_readers_and_writers_at_once() -> None:
    tier = MemoryTier(500, getsizeof=lambda value: 3)
    keys = [("shop", b"/p/%d" % number) for number in range(200)]
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def read(seed: int) -> None:
        for turn in range(20_000):
            key = keys[(turn * 7 + seed) % 200]
            value = tier.lookup(key)
            assert value is None or value[0] == key
            assert tier.currsize <= tier.maxsize

    def write(seed: int) -> None:
        for turn in range(4_000):
            key = keys[(turn * 13 + seed * 5) % 200]
            tier.store(key, (key, turn), 1 + (turn + seed) % 9, turn % 11 - 5 + tier.timer())

    def delete(seed: int) -> None:
        for turn in range(4_000):
            key = keys[(turn * 11 + seed * 3) % 200]
            if turn % 500 == 499:
                tier.clear()
            elif turn % 3 == 0:
                tier.pop(key, None)
            elif turn % 3 == 1:
                tier.discard(key)
            else:
                tier[key] = (key, turn)
                list(tier)

    def run(work: Any, seed: int) -> None:
        start.wait()
        try:
            work(seed)
        except BaseException as error:
            errors.append(error)

    work = [read, read, read, write, write, write, delete, delete]
    threads = [threading.Thread(target=run, args=(job, seed)) for seed, job in enumerate(work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_whole(tier)


def assert_whole(tier: MemoryTier) -> None:
    """The dict, the rings and the account tell the same story, forwards and backwards."""
    rings = []
    for root in (tier._trial, tier._root):
        ring, node = [], root.newer
        while node is not root:
            assert node.newer.older is node
            ring.append(node)
            node = node.newer
        rings.append(ring)
    assert [node.on_trial for ring in rings for node in ring] == [True] * len(rings[0]) + [False] * len(rings[1])
    assert sum(node.size for node in rings[0]) == tier._on_trial
    assert tier._hand is tier._root or tier._hand in rings[1]
    forwards = rings[0] + rings[1]
    assert {id(node) for node in forwards} == {id(node) for node in tier._nodes.values()}
    assert len(forwards) == len(tier)
    assert all(tier._nodes[node.key] is node for node in forwards)
    assert sum(node.size for node in forwards) == tier.currsize <= tier.maxsize
    order_of_eviction(tier)
    assert (len(tier), tier.currsize) == (0, 0)


def test_the_hand_stops_even_if_readers_flag_everything_behind_it() -> None:
    tier = MemoryTier(3)
    for key in "abc":
        tier.store(key, 1, 1, FOREVER)

    class Busy(type(tier._root)):  # type: ignore[misc]
        visited = property(lambda self: True, lambda self, value: None)
        __slots__ = ()

    for node in tier._nodes.values():
        node.__class__ = Busy
    tier.store("d", 1, 1, FOREVER)
    assert len(tier) == 3
    assert "d" in tier


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_fork_can_write_whoever_held_the_lock(held: bool) -> None:
    tier = MemoryTier(10)
    tier.store("a", 1, 1, FOREVER)
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with tier._lock:
            taken.set()
            release.wait()

    thread = threading.Thread(target=hold)
    if held:
        thread.start()
        taken.wait()
    child = os.fork()
    if child == 0:
        tier.reset_after_fork()
        right = list(tier) == ([] if held else ["a"])
        right = right and tier._lock.acquire(blocking=False) and tier.store("b", 1, 1, FOREVER)
        os._exit(0 if right and tier.lookup("b") == 1 else 1)
    _, status = os.waitpid(child, 0)
    release.set()
    if held:
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert tier.lookup("a") == 1


# -- the account -------------------------------------------------------------------------------------------------------


def held(number: int, body: int, fields: int, tags: int, *, reason: bytes = b"") -> tuple[Hashable, Entry]:
    """One entry as it is after it was read from L2 and served once: nothing of it is shared with another."""
    host, path = b"www.example%d.org" % number, b"/p/%d" % number
    key = (("shop", ""), "https", host, path, path.decode(), "", b"q=%d" % number)
    response = StoredResponse(
        key=canonical(key),
        epoch=f"epoch-{number:010}",
        number=1_000 + number,
        tags=tuple([f"t:product:{number}:{n}" for n in range(tags)]),
        status=200,
        reason=reason,
        fields=tuple([(b"x-field-%d-%d" % (n, number), b"value %d of entry %d" % (n, number)) for n in range(fields)]),
        created=number + 0.1,
        fresh_until=number + 600.2,
        keep_until=number + 600.3,
        cost=number + 0.4,
        etag=b'W/"%032d"' % number,
        body=b"%d" % number + bytes(body),
    )
    stored = decode(encode(response))
    assert isinstance(stored, StoredResponse)
    edge = edge_for(stored.fields, browser_ttl=None, cdn_ttl=60.0, lifetime=600.0, app_decides=False, lacks_date=True)
    entry = Entry(stored, edge, offset=0.5, isolated_ttl=10.0, mark=-1, began=number + 0.8)
    entry.checked = 10_000 + number
    age = 1_000 + number
    pairs = Presenter(Stats(), age=True, cache_status=True).hit_fields(entry, age, number + 0.9)
    entry.wire = (age, (status_line(200, reason), native(pairs)) if reason else pairs)
    return key, entry


@pytest.mark.parametrize(
    ("body", "fields", "tags", "count"),
    [
        (200, 3, 1, 300), (200, 30, 1, 100), (200, 3, 30, 100), (200, 30, 30, 100),
        (2_000, 3, 1, 300), (2_000, 30, 30, 100), (20_000, 3, 1, 100), (20_000, 30, 30, 100), (200_000, 30, 1, 40),
        (900_000, 3, 1, 20),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reason", [b"", b"OK"], ids=["asgi", "wsgi"])
@pytest.mark.parametrize("from_l2", [False, True])
def test_the_account_is_within_a_tenth_of_what_python_allocates(
    body: int, count: int, fields: int, tags: int, reason: bytes, from_l2: bool
) -> None:
    tier = MemoryTier(10**9)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1_000, 1_000 + count):
            key, entry = held(number, body, fields, tags, reason=reason)
            encoded = len(encode(entry.response)) if from_l2 else 0
            tier.store(key, entry, size_of(key, entry, encoded), entry.keep_until)
        del key, entry
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(tier) == count
    assert 0.9 < tier.currsize / used < 1.1, f"{tier.currsize} counted, {used} allocated"


class Marker(msgspec.Struct):
    key: bytes
    names: tuple[bytes, ...]


def test_markers_are_weighed_with_what_they_hold() -> None:
    short, long = Marker(b"k", (b"accept",)), Marker(b"k", (b"accept", b"x" * 1000))
    assert 1000 < size_of(("k",), long) - size_of(("k",), short) < 1100
    assert 1000 < size_of(("k", b"x" * 1000), short) - size_of(("k",), short) < 1100
    assert 100 < size_of("k", None) < 200 < size_of("k", 1)


def test_every_part_of_a_response_counts() -> None:
    key, entry = held(1, 0, 1, 1)
    bare = size_of(key, entry)
    more: dict[str, Any] = {
        "body": b"x" * 1000,
        "key": b"x" * 1000,
        "tags": ("t" * 1000,),
        "fields": ((b"x" * 500, b"x" * 500),),
        "vary": ((b"accept", b"x" * 1000),),
        "declared": {"note": "x" * 1000},
        "reason": b"x" * 1000,
        "etag": b"x" * 1000,
        "last_modified": b"x" * 1000,
    }
    for name, value in more.items():
        changed = copy.copy(entry)
        changed.response = msgspec.structs.replace(entry.response, **{name: value})
        assert size_of(key, changed) - bare > 800, name


def value_held(number: int, size: int, tags: int, *, whole: bool) -> tuple[Hashable, Held]:
    """One value as L1 keeps it: nothing of it is shared with another."""
    text = f"{number}" + "x" * size
    value: Any = (number * 1_000_003, text) if whole else {"id": number * 1_000_003, "text": text}
    codec = MsgspecCodec(tuple[int, str] if whole else dict[str, Any])
    key = ("('data', 'shop', '', 'products', '', 'x')", number * 1_000_003)
    stored = StoredValue(
        key=b"",
        epoch="epoch",
        number=1_000 + number,
        tags=tuple([f"t:product:{number}:{n}" for n in range(tags)]),
        created=number + 0.1,
        fresh_until=number + 600.2,
        keep_until=number + 600.3,
        cost=number + 0.4,
    )
    entry = Held(stored, body_of(value, codec), codec, offset=0.5, isolated_ttl=10.0, mark=-1, began=number + 0.8)
    entry.checked = 10_000 + number
    return key, entry


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("size", "tags", "count"), [(10, 3, 400), (200, 3, 300), (2_000, 30, 200), (50_000, 3, 40)])
def test_the_account_of_values_is_near_what_python_allocates(size: int, tags: int, count: int, whole: bool) -> None:
    tier = MemoryTier(10**9)
    value_held(0, size, tags, whole=whole)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1, count + 1):
            key, entry = value_held(number, size, tags, whole=whole)
            tier.store(key, entry, size_of(key, entry), FOREVER)
        del key, entry
        gc.collect()
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # What is small counts a little more than it takes: never less, so that the bound holds.
    assert 0.9 < tier.currsize / allocated < 1.2
