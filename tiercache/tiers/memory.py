"""L1: the store inside the process. Bounded in bytes, read without a lock, and hard to flood.

Two queues in the order in which entries came. What is new is on trial, in one of a twentieth of the store; what was
asked for again by the time it comes to its end moves to the main queue, and the rest goes, so that a flood of pages
that nobody asks for twice passes through that twentieth (the small queue of S3-FIFO: Yang, Zhang, Qiu, Yue, Rashmi,
"FIFO Queues are All You Need for Cache Eviction", SOSP 2023). Of what went, a mark of four bytes remains for a while: a
page that comes back then has been asked for twice, and skips the trial.

The main queue is evicted by SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU", NSDI 2024): a hand
walks from the oldest to the newest, spares an entry whose flag is set, and clears it. In both queues a hit only sets a
flag on the entry. Nothing moves on a hit, which is why a hit needs no lock.

What is past its keep time goes first: room is made from it, and only then from what could still be served.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections.abc import Callable, Hashable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Final

from cachetools import Cache

from tiercache.tiers.memory_sessions import MemorySessions
from tiercache.tiers.nodes import Node
from tiercache.tiers.sizes import size_of

__all__ = ["MemoryTier", "size_of"]

_MISSING: Final = object()
# Slots of the heap that nothing needs any more are tolerated up to this many beyond one for each item.
_SLACK = 64
# The part of the bytes that entries on trial may keep once there is no room left: one in so many.
_TRIAL = 20
# One mark of what was evicted for so many bytes of the store, several for each entry, and 0.4 % of it in all.
_BYTES_PER_MARK = 1024


def mark_of(key: Hashable, slots: int) -> tuple[int, int]:
    """Which slot remembers that `key` was evicted, and by which number. Wrong for another key once in 2**31."""
    # Within a tuple, since integers are their own hashes: their slots, and their marks even more, would be the same.
    mixed = hash((key,))
    return mixed % slots, mixed >> 32 & 0xFFFFFFFF | 1


def _marked(key: Hashable, marks: array[int]) -> bool:
    slot, mark = mark_of(key, len(marks))
    return marks[slot] == mark


class MemoryTier(Cache[Hashable, Any]):
    """A store of at most `maxsize` bytes, shared by the threads or tasks of one process.

    The engine uses `lookup`, `store` and `discard`, which know sizes and keep times. The rest is the surface of
    `cachetools.Cache`, with the same account behind it: `currsize` is the sum of the sizes of what is stored and never
    exceeds `maxsize`; `popitem` may be overridden to hear of what is dropped. Reading neither looks at the time nor
    drops anything: whoever reads checks the keep time of what is found.

    `timer` gives seconds on the clock of all `keep_until`. `getsizeof` is for values that are set by `cache[key] = …`;
    by default as by `size_of`, without the key.

    Every method may be called from any thread. Writers take one lock; `lookup`, `in` and `len` take none. Iteration
    runs over the keys as they were when it began. Values must not be None.
    """

    evictions: int
    """Items dropped while they could still have been served, to make room or by `popitem`."""
    expirations: int
    """Items dropped past their keep time, to make room or by `popitem`."""
    rejected: int
    """Items not stored because they alone exceed `maxsize`."""

    def __init__(
        self,
        maxsize: int,
        timer: Callable[[], float] = time.monotonic,
        getsizeof: Callable[[Any], int] | None = None,
    ) -> None:
        super().__init__(maxsize, getsizeof)
        # Beside `maxsize`, which is a property there: this is read several times for every store.
        self._limit = maxsize
        self._trial_limit = maxsize // _TRIAL
        self.timer = timer
        self.evictions = self.expirations = self.rejected = 0
        # cachetools keeps values and sizes in dicts of its own, behind private names, and its reads go through two
        # Python calls. Here one dict of nodes takes their place, so every method that touches them is replaced below.
        self._reset()
        self.sessions = MemorySessions(timer=timer)
        """Those of users, which have bytes of their own."""

    def _reset(self) -> None:
        # Reentrant: freeing a value, or a collection that happens to run meanwhile, may run code that comes back here.
        self._lock = threading.RLock()
        self._nodes: dict[Hashable, Node] = {}
        self._used = 0
        # The queues are rings: root.newer is the oldest item, root.older the newest, and the hand moves to the newer.
        self._root = self._hand = root = Node(None, None, 0, math.inf)
        root.newer = root.older = root
        self._trial = trial = Node(None, None, 0, math.inf)
        trial.newer = trial.older = trial
        self._on_trial = 0
        self._marks: array[int] | None = None
        self._heap: list[tuple[float, Node]] = []

    def lookup(self, key: Hashable) -> Any:
        """The value under `key`, or None. The hot path: one dict read and one flag.

        A writer may take the node away between the two steps: the flag then falls on a node that nobody will look at
        again, and the value is either the one that was there or None.
        """
        node = self._nodes.get(key)
        if node is None:
            return None
        node.visited = True
        return node.value

    def store(self, key: Hashable, value: Any, size: int, keep_until: float) -> bool:
        """Stores `value`, counted as `size` bytes, to be dropped first once `timer()` has reached `keep_until`.

        A value that replaces another keeps its place and its flag. Returns False, and holds nothing under `key`, where
        the item alone exceeds `maxsize`: what was there before has been superseded all the same.
        """
        if size < 0 or keep_until != keep_until:
            raise ValueError(f"size {size}, keep_until {keep_until}")
        previous = None  # Keeps what is replaced alive until the lock is free: freeing it may run code, or take long.
        with self._lock:
            limit = self._limit
            if size > limit:
                self.rejected += 1
                self.discard(key)
                return False
            node = self._nodes.get(key)
            while self._used + size - (node.size if node is not None else 0) > limit:
                self.popitem()
                node = self._nodes.get(key)  # It may have been this one that went.
            if node is None:
                node = Node(key, value, size, keep_until)
                marks = self._marks
                if marks is not None and _marked(key, marks):
                    root = self._root
                else:
                    root = self._trial
                    node.on_trial = True
                    self._on_trial += size
                node.newer, node.older = root, root.older
                root.older.newer = node
                root.older = node
                self._nodes[key] = node
                self._used += size
            else:
                previous = node.value
                self._used += size - node.size
                if node.on_trial:
                    self._on_trial += size - node.size
                node.value, node.size, node.keep_until = value, size, keep_until
            # A later keep time, the usual case when a key is filled again, leaves the old slot: it is put off when due.
            if keep_until < node.due:
                node.due = keep_until
                heappush(self._heap, (keep_until, node))
                self._tidy()
        del previous
        return True

    def discard(self, key: Hashable) -> bool:
        """Removes what is under `key`; whether there was anything."""
        with self._lock:
            node = self._nodes.get(key)
            if node is None:
                return False
            value = self._remove(node)
        del value
        return True

    def clear(self) -> None:
        with self._lock:
            nodes = list(self._nodes.values())
            self._nodes.clear()
            self._heap.clear()
            self._used = self._on_trial = 0
            self._hand = root = self._root
            root.newer = root.older = root
            trial = self._trial
            trial.newer = trial.older = trial
        for node in nodes:  # Neighbours refer to each other: untied, they are freed now and not by the collector.
            node.key = node.value = None
            del node.newer, node.older

    def reset_after_fork(self) -> None:
        """For the child of a fork: another thread of the parent may have held the lock, and be gone with it.

        What it was changing is then half changed, so the child begins empty; else it keeps everything.
        """
        self.sessions.reset_after_fork()
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._reset()

    def popitem(self) -> tuple[Hashable, Any]:
        """Removes and returns an item that is past its keep time, else one that failed its trial, else SIEVE's choice.

        Raises `KeyError` when empty.
        """
        with self._lock:
            node = self._expired()
            if node is not None:
                self.expirations += 1
            else:
                node = self._victim()
                self.evictions += 1
            # What has expired too: what was hot is then filled again, and need not be tried once more.
            marks = self._marks
            if marks is None:
                marks = self._marks = array("I", bytes(4 * max(int(self._limit) // _BYTES_PER_MARK, 64)))
            key = node.key
            slot, mark = mark_of(key, len(marks))
            marks[slot] = mark
            return key, self._remove(node)

    def _expired(self) -> Node | None:
        heap = self._heap
        if not heap or heap[0][0] > (now := self.timer()):
            return None
        while heap and heap[0][0] <= now:
            due, node = heap[0]
            if due != node.due:  # Removed since, or given another slot.
                heappop(heap)
            elif node.keep_until <= now:
                heappop(heap)
                return node
            else:
                node.due = node.keep_until
                heapreplace(heap, (node.due, node))
        return None

    def _victim(self) -> Node:
        if not self._nodes:
            raise KeyError(f"{type(self).__name__} is empty")
        root, trial = self._root, self._trial
        while (node := trial.newer) is not trial and (self._on_trial > self._trial_limit or root.newer is root):
            if not node.visited:
                return node
            node.visited = node.on_trial = False
            self._on_trial -= node.size
            trial.newer, node.newer.older = node.newer, trial
            node.newer, node.older = root, root.older
            root.older.newer = node
            root.older = node
        node = self._hand
        # Readers set flags while the hand moves. One round is enough to have cleared every flag, so after one the hand
        # takes what it stands on: busy readers cannot keep it going round.
        for _ in range(len(self._nodes) + 1):
            if node is root:
                node = root.newer
            if not node.visited:
                break
            node.visited = False
            node = node.newer
        if node is root:
            node = root.newer
        self._hand = node
        return node

    def _remove(self, node: Node) -> Any:
        if self._hand is node:
            self._hand = node.newer
        if node.on_trial:
            self._on_trial -= node.size
        node.older.newer, node.newer.older = node.newer, node.older
        del node.newer, node.older
        del self._nodes[node.key]
        self._used -= node.size
        # The heap may keep the node until its slot comes up; it must not keep the body.
        value, node.value = node.value, None
        node.key = None
        node.due = math.nan  # Equal to no slot.
        self._tidy()
        return value

    def _tidy(self) -> None:
        """Bounds the heap: rebuilding it costs as much as the operations that have left the superfluous slots."""
        heap = self._heap
        if len(heap) > len(self._nodes) * 3 // 2 + _SLACK:
            heap.clear()
            for node in self._nodes.values():
                node.due = node.keep_until
                if node.due < math.inf:
                    heap.append((node.due, node))
            heapify(heap)

    # What follows is the surface of `cachetools.Cache`.

    def __getitem__(self, key: Hashable) -> Any:
        with self._lock:  # Unlike `lookup` this must tell an item that goes at this moment from a value.
            node = self._nodes.get(key)
            if node is not None:
                node.visited = True
                return node.value
        return self.__missing__(key)

    def __setitem__(self, key: Hashable, value: Any) -> None:
        """As `store`, by `getsizeof(value)` and the value's `keep_until` if it has one, except that an item larger
        than `maxsize` raises `ValueError` and leaves what was there, as in every cachetools store."""
        size = self.getsizeof(value)
        if size > self.maxsize:
            with self._lock:
                self.rejected += 1
            raise ValueError("value too large")
        self.store(key, value, size, getattr(value, "keep_until", math.inf))

    def __delitem__(self, key: Hashable) -> None:
        if not self.discard(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self._nodes

    def __iter__(self) -> Iterator[Hashable]:
        with self._lock:
            return iter(list(self._nodes))

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} items, maxsize={self.maxsize}, currsize={self.currsize})"

    def __copy__(self) -> MemoryTier:
        raise TypeError(f"{type(self).__name__} is shared by threads and cannot be copied")

    __reduce__ = __copy__  # type: ignore[assignment]

    def get(self, key: Hashable, default: Any = None) -> Any:
        with self._lock:
            return self[key] if key in self._nodes else default

    def pop(self, key: Hashable, default: Any = _MISSING) -> Any:
        with self._lock:
            node = self._nodes.get(key)
            if node is not None:
                return self._remove(node)
        if default is _MISSING:
            raise KeyError(key)
        return default

    def setdefault(self, key: Hashable, default: Any = None) -> Any:
        with self._lock:
            if key not in self._nodes:
                self[key] = default
            return self[key]

    @property
    def currsize(self) -> int:
        """Bytes in use."""
        return self._used

    @staticmethod
    def getsizeof(value: Any) -> int:
        return size_of((), value)
