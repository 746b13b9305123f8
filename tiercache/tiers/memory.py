"""L1: the store inside the process. Bounded in bytes, evicted by SIEVE, and read without a lock.

SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU", NSDI 2024) keeps entries in the order in
which they came and a hand that walks from the oldest to the newest. A hit only sets a flag on the entry; the hand
spares an entry whose flag is set, and clears it. Nothing moves on a hit, which is why a hit needs no lock.

What is past its keep time goes first: room is made from it, and only then from what could still be served.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from typing import Any, Final

from cachetools import Cache
from msgspec import Struct

from tiercache.core.messages import StoredResponse

_MISSING: Final = object()
# Slots of the heap that nothing needs any more are tolerated up to this many beyond one for each item.
_SLACK = 64


class _Node:
    """One item and its place in the queue."""

    __slots__ = ("due", "keep_until", "key", "newer", "older", "size", "value", "visited")

    newer: _Node
    older: _Node

    def __init__(self, key: Hashable, value: Any, size: int, keep_until: float) -> None:
        self.key = key
        self.value = value
        self.size = size
        self.keep_until = keep_until
        self.due = math.inf
        """When the heap will look at it, never after `keep_until`; infinity: the heap has no slot for it."""
        self.visited = False

    def __lt__(self, other: _Node) -> bool:
        return False  # Two slots of the heap with one time: either may come first.


_FLOAT = sys.getsizeof(1.5)
_INT = sys.getsizeof(2**40)
_SLOT = 8
_BYTES = sys.getsizeof(b"")
_TEXT = sys.getsizeof("a") - 1
_PAIR = sys.getsizeof((b"", b"")) + _SLOT

# In the store: the node with its two numbers, its slot in the dict (which is between a third and two thirds full), its
# slot in the heap (a pair), and a quarter of a slot more for those that have become superfluous.
_PER_ITEM = sys.getsizeof(_Node(None, None, 0, 0.0)) + _INT + _FLOAT + 64 + _PAIR * 5 // 4
# A field: name, value and pair as stored, and its place in the rendered list, which takes over some of the pairs and
# makes others anew: counted as half of them.
_PER_FIELD = 2 * sys.getsizeof(b"") + _PAIR + _PAIR // 2
# What a hit adds to the fields of the app: the list, and `Age`, `Cache-Status` and what L0 is told.
_RENDERED = sys.getsizeof([]) + 2 * (_PER_FIELD + 32)
# The numbers of an entry and of its response, and the tuples of tags and fields.
_PER_RESPONSE = 8 * _FLOAT + 5 * _INT + 2 * sys.getsizeof(()) + _RENDERED


def _bytes_of(value: Any) -> int:
    """`value` and what it holds, for the few kinds of value that keys and markers are made of."""
    held: Any = ()
    if isinstance(value, (tuple, list)):
        # Keys are flat but for a part or two, and this is done once for every entry.
        size = sys.getsizeof(value)
        for part in value:
            size += _bytes_of(part) if isinstance(part, (tuple, list, dict)) else sys.getsizeof(part)
        return size
    if isinstance(value, dict):
        held = chain(value, value.values())
    elif isinstance(value, Struct):
        held = [getattr(value, name) for name in value.__struct_fields__]
    return sys.getsizeof(value) + sum(map(_bytes_of, held))


def size_of(key: Hashable, value: Any, encoded: int = 0) -> int:
    """The bytes that storing `value` under `key` takes.

    `encoded` is the length of the response as it lay in L2, where it comes from there: all its texts are counted then.

    Of an L1 entry, which is whatever has a `response` (and then an `edge`): the response to the last field, and the
    rendered header fields although they appear with the first hit only. Of a marker: what it holds, as far as tuples,
    dicts and Structs go.

    All is counted that may be its own, although names of fields and tags are at times shared between entries. What
    belongs to the route is not counted, nor what the allocator rounds up.
    """
    response = getattr(value, "response", None)
    if not isinstance(response, StoredResponse):
        return _PER_ITEM + _bytes_of(key) + _bytes_of(value)
    # The parts of the key once more as the bytes of the whole key, which every response carries: their lengths need
    # not be asked for one by one.
    parts = len(key) if isinstance(key, tuple) else 1
    size = _PER_ITEM + sys.getsizeof(key) + parts * _BYTES + len(response.key)
    size += sys.getsizeof(value) + sys.getsizeof(response) + _PER_RESPONSE
    edge = value.edge
    if encoded:
        size += sys.getsizeof(edge) + encoded + 4 * _BYTES + len(edge.fixed) * (_SLOT + _PER_FIELD)
        return size + (_SLOT + _TEXT) * len(response.tags)
    size += sys.getsizeof(edge) + sys.getsizeof(edge.fixed) + sys.getsizeof(edge.directives)
    size += sys.getsizeof(response.body) + sys.getsizeof(response.key) + sys.getsizeof(response.epoch)
    size += (_SLOT + _TEXT) * len(response.tags) + len("".join(response.tags))
    for name, text in response.fields:
        size += _PER_FIELD + len(name) + len(text)
    for extra in (response.reason, response.etag, response.last_modified, response.vary, response.declared):
        if extra:
            size += _bytes_of(extra)
    return size


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
        self.timer = timer
        self.evictions = self.expirations = self.rejected = 0
        # cachetools keeps values and sizes in dicts of its own, behind private names, and its reads go through two
        # Python calls. Here one dict of nodes takes their place, so every method that touches them is replaced below.
        self._reset()

    def _reset(self) -> None:
        # Reentrant: freeing a value, or a collection that happens to run meanwhile, may run code that comes back here.
        self._lock = threading.RLock()
        self._nodes: dict[Hashable, _Node] = {}
        self._used = 0
        # The queue is a ring: root.newer is the oldest item, root.older the newest, and the hand moves to the newer.
        self._root = self._hand = root = _Node(None, None, 0, math.inf)
        root.newer = root.older = root
        self._heap: list[tuple[float, _Node]] = []

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
            if size > self.maxsize:
                self.rejected += 1
                self.discard(key)
                return False
            node = self._nodes.get(key)
            while self._used + size - (node.size if node is not None else 0) > self.maxsize:
                self.popitem()
                node = self._nodes.get(key)  # It may have been this one that went.
            if node is None:
                node = _Node(key, value, size, keep_until)
                root = self._root
                node.newer, node.older = root, root.older
                root.older.newer = node
                root.older = node
                self._nodes[key] = node
                self._used += size
            else:
                previous = node.value
                self._used += size - node.size
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
            self._used = 0
            self._hand = root = self._root
            root.newer = root.older = root
        for node in nodes:  # Neighbours refer to each other: untied, they are freed now and not by the collector.
            node.key = node.value = None
            del node.newer, node.older

    def reset_after_fork(self) -> None:
        """For the child of a fork: another thread of the parent may have held the lock, and be gone with it.

        What it was changing is then half changed, so the child begins empty; else it keeps everything.
        """
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._reset()

    def popitem(self) -> tuple[Hashable, Any]:
        """Removes and returns an item that is past its keep time, or else the one that SIEVE chooses.

        Raises `KeyError` when empty.
        """
        with self._lock:
            node = self._expired()
            if node is not None:
                self.expirations += 1
            else:
                node = self._victim()
                self.evictions += 1
            return node.key, self._remove(node)

    def _expired(self) -> _Node | None:
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

    def _victim(self) -> _Node:
        if not self._nodes:
            raise KeyError(f"{type(self).__name__} is empty")
        root = self._root
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

    def _remove(self, node: _Node) -> Any:
        if self._hand is node:
            self._hand = node.newer
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
