"""A bounded set of things remembered for a while."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from tiercache.core.keys import canonical
from tiercache.engine.ports import Clock

K = TypeVar("K", bound=Hashable)

MEMORABLE = 2_048
"""Bytes of a key that is remembered: clients choose how long they are."""


class Memo(Generic[K]):
    """Keys with an end each. Reading takes no lock; when it is full, the oldest half makes room."""

    def __init__(self, clock: Clock, limit: int = 10_000) -> None:
        self._clock = clock
        self._limit = limit
        self._until: dict[K, float] = {}

    def add(self, key: K, seconds: float) -> None:
        """Remember `key` for so many seconds, unless it is very long."""
        if len(canonical((key,))) > MEMORABLE:
            return
        if len(self._until) >= self._limit:
            newest = list(self._until.items())[self._limit // 2 :]
            self._until = dict(newest)
        self._until[key] = self._clock() + seconds

    def discard(self, key: K) -> None:
        self._until.pop(key, None)

    def __contains__(self, key: K) -> bool:
        # Most are empty, and a key is hashed anew each time.
        until = self._until.get(key) if self._until else None
        return until is not None and self._clock() < until

    def __len__(self) -> int:
        return len(self._until)
