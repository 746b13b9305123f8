"""The eviction of L1, and others to hold beside it, in one shape: `ask` says whether it was a hit, else stores."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol, cast

from cachetools import LRUCache

from tiercache.tiers.memory import MemoryTier
from tiercache.tiers.nodes import Node


class Policy(Protocol):
    """A cache of a number of bytes."""

    def ask(self, key: int, size: int) -> bool: ...


class L1:
    """The store of this package, as it is."""

    def __init__(self, capacity: int) -> None:
        self.tier = MemoryTier(capacity, timer=lambda: 0.0)

    def ask(self, key: int, size: int) -> bool:
        if self.tier.lookup(key) is not None:
            return True
        self.tier.store(key, key, size, math.inf)
        return False


class LRU:
    """The least recently used goes first: `cachetools.LRUCache`."""

    def __init__(self, capacity: int) -> None:
        self.cache: LRUCache[int, int] = LRUCache(capacity, getsizeof=lambda size: size)

    def ask(self, key: int, size: int) -> bool:
        if self.cache.get(key) is not None:
            return True
        if size <= self.cache.maxsize:
            self.cache[key] = size
        return False


class Sieve:
    """SIEVE alone (Zhang, Yang, Yue, Vigfusson, Rashmi, NSDI 2024): what L1 would be without a trial."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.used = capacity, 0
        self.nodes: dict[int, Node] = {}
        self.root = self.hand = root = Node(None, None, 0, math.inf)
        root.newer = root.older = root

    def ask(self, key: int, size: int) -> bool:
        found = self.nodes.get(key)
        if found is not None:
            found.visited = True
            return True
        if size > self.capacity:
            return False
        while self.used + size > self.capacity:
            self._evict()
        self.nodes[key] = node = Node(key, None, size, math.inf)
        node.newer, node.older = self.root, self.root.older
        node.older.newer = self.root.older = node
        self.used += size
        return False

    def _evict(self) -> None:
        node = self.hand
        while node is self.root or node.visited:
            node.visited = False
            node = node.newer
        self.hand = node.newer
        node.older.newer, node.newer.older = node.newer, node.older
        self.used -= node.size
        del self.nodes[cast("int", node.key)]


class Segment:
    """Keys with their sizes in an order, and the sum."""

    def __init__(self) -> None:
        self.items: OrderedDict[int, int] = OrderedDict()
        self.used = 0

    def add(self, key: int, size: int) -> None:
        self.items[key] = size
        self.used += size

    def take(self, key: int) -> int:
        size = self.items.pop(key)
        self.used -= size
        return size

    def oldest(self) -> int:
        return next(iter(self.items))


class WTinyLFU:
    """W-TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", ACM TOS 2017).

    A window of 1 % in LRU order; what falls out of it enters the main part (SLRU, 80 % protected) only if it has been
    asked for more often than what would have to go, as Caffeine does it with weights. The counts are exact, halved
    after every ten requests (`memory`) per entry, where the paper has a sketch: what the sketch comes near to at best.
    """

    def __init__(self, capacity: int, memory: int = 10) -> None:
        self.memory = memory
        self.window, self.probation, self.protected = Segment(), Segment(), Segment()
        self.window_size = max(capacity // 100, 1)
        self.main_size = capacity - self.window_size
        self.protected_size = self.main_size * 8 // 10
        self.counts: dict[int, int] = {}
        self.asked = 0

    def ask(self, key: int, size: int) -> bool:
        self._count(key)
        if key in self.window.items:
            self.window.items.move_to_end(key)
            return True
        if key in self.protected.items:
            self.protected.items.move_to_end(key)
            return True
        if key in self.probation.items:
            self.protected.add(key, self.probation.take(key))
            while self.protected.used > self.protected_size:
                oldest = self.protected.oldest()
                self.probation.add(oldest, self.protected.take(oldest))
            return True
        if size <= self.main_size:
            self.window.add(key, size)
        while self.window.used > self.window_size:
            candidate = self.window.oldest()
            self._admit(candidate, self.window.take(candidate))
        return False

    def _count(self, key: int) -> None:
        self.counts[key] = min(self.counts.get(key, 0) + 1, 15)
        self.asked += 1
        entries = len(self.window.items) + len(self.probation.items) + len(self.protected.items)
        if self.asked >= self.memory * max(entries, 100):
            self.asked //= 2
            self.counts = {key: count // 2 for key, count in self.counts.items() if count > 1}

    def _admit(self, key: int, size: int) -> None:
        wanted = self.counts.get(key, 0)
        while self.probation.used + self.protected.used + size > self.main_size:
            segment = self.probation if self.probation.items else self.protected
            victim = segment.oldest()
            if wanted <= self.counts.get(victim, 0):
                return
            segment.take(victim)
        self.probation.add(key, size)


class S3FIFO:
    """S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO Queues are All You Need for Cache Eviction", SOSP 2023).

    A small queue of 10 % filters what is asked for once; a ghost queue of keys, as many as there are entries, lets what
    comes back into the main queue at once.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.main_size = capacity, capacity - capacity // 10
        self.small, self.main = Segment(), Segment()
        self.counts: dict[int, int] = {}
        self.ghost: OrderedDict[int, None] = OrderedDict()

    def ask(self, key: int, size: int) -> bool:
        count = self.counts.get(key)
        if count is not None:
            self.counts[key] = min(count + 1, 3)
            return True
        if size > self.capacity:
            return False
        while self.small.used + self.main.used + size > self.capacity:
            self._evict()
        if key in self.ghost:
            del self.ghost[key]
            self.main.add(key, size)
        else:
            self.small.add(key, size)
        self.counts[key] = 0
        return False

    def _evict(self) -> None:
        while self.main.used <= self.main_size and self.small.items:
            key = self.small.oldest()
            size = self.small.take(key)
            if self.counts[key] > 1:
                self.counts[key] = 0
                self.main.add(key, size)
                continue
            del self.counts[key]
            self.ghost[key] = None
            while len(self.ghost) > len(self.counts):
                self.ghost.popitem(last=False)
            return
        while True:
            key = self.main.oldest()
            if not self.counts[key]:
                break
            self.counts[key] -= 1
            self.main.items.move_to_end(key)
        self.main.take(key)
        del self.counts[key]


POLICIES: Final[dict[str, Callable[[int], Policy]]] = {
    "L1": L1,
    "SIEVE": Sieve,
    "LRU": LRU,
    "W-TinyLFU": WTinyLFU,
    "S3-FIFO": S3FIFO,
}
