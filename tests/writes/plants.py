"""Bugs that the run has to find, each made by `WRITES_PLANT` in every process of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from tiercache.core.write_queue import Errand, Job, Place, Receipt, Write
from tiercache.engine import queueing, writers
from tiercache.errors import TierError
from tiercache.tiers import redis

PLANT = os.environ.get("WRITES_PLANT", "")
PLANTS = {
    "no-guard": "the database takes a batch again that it has, and from who was replaced",
    "early-word": "a write is acknowledged before Redis has taken it",
    "early-ack": "jobs are removed from the queue before they are written",
    "blind-readers": "readers do not look into the queue",
    "pending-for-ever": "what the database has stays in front of it",
}


def plant() -> None:
    """Change the code of this process, if a bug is asked for. The guard is left out in `shop`."""
    if PLANT == "early-word":
        _early_word()
    elif PLANT == "early-ack":
        _early_ack()
    elif PLANT == "blind-readers":
        queueing.Queue.load = lambda self, load: load  # type: ignore[method-assign]
    elif PLANT == "pending-for-ever":
        _pending_for_ever()


def _early_word() -> None:
    put = redis.RedisTier.put

    def putting(self: Any, place: Place, writes: Sequence[Write], limit: int, deadline: float) -> Any:
        def later() -> None:
            time.sleep(0.3)
            with contextlib.suppress(TierError):
                put(self, place, writes, limit, deadline)

        threading.Thread(target=later, daemon=True).start()
        return [Receipt("", 0)] * len(writes)

    def submitting(self: Any, errands: Sequence[Errand], limit: int, deadline: float) -> list[Any]:
        return [
            self.add(one.place, one.sum, limit, None, deadline)
            if one.sum is not None
            else putting(self, one.place, one.writes, limit, deadline)
            for one in errands
        ]

    redis.RedisTier.put = putting  # type: ignore[method-assign]
    redis.RedisTier.submit = submitting  # type: ignore[method-assign]


class _Early:
    """A queue that gives jobs away for good."""

    def __init__(self, queue: Any, token: str) -> None:
        self._queue, self._token = queue, token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def jobs(self, place: Place, count: int, deadline: float) -> list[Job]:
        found: list[Job] = self._queue.jobs(place, count, deadline)
        self._queue.ack(place, self._token, found, deadline)
        return found


def _early_ack() -> None:
    made = writers.Worker.__init__

    def making(self: Any, *args: Any, **more: Any) -> None:
        made(self, *args, **more)
        self._queue = _Early(self._queue, self._token)

    writers.Worker.__init__ = making  # type: ignore[method-assign]


def _pending_for_ever() -> None:
    pending = redis.RedisTier.pending
    seen: dict[str, Any] = {}

    def asking(self: Any, place: Place, names: Sequence[str], deadline: float) -> Any:
        found = pending(self, place, names, deadline)
        seen.update({name: one for name, one in zip(names, found, strict=True) if one is not None})
        return [one or seen.get(name) for name, one in zip(names, found, strict=True)]

    redis.RedisTier.pending = asking  # type: ignore[method-assign]
