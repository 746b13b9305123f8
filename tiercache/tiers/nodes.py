"""One item of L1 and its place in the queue by which L1 evicts."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any


class Node:
    """One item and its place: in a ring, whose root is a node without an item."""

    __slots__ = ("due", "keep_until", "key", "newer", "older", "on_trial", "size", "value", "visited")

    newer: Node
    older: Node

    def __init__(self, key: Hashable, value: Any, size: int, keep_until: float) -> None:
        self.key = key
        self.value = value
        self.size = size
        self.keep_until = keep_until
        self.due = math.inf
        """When the heap will look at it, never after `keep_until`; infinity: the heap has no slot for it."""
        self.visited = False
        self.on_trial = False

    def __lt__(self, other: Node) -> bool:
        return False  # Two slots of the heap with one time: either may come first.
