"""Caches for the tests of data: with a clock that the test turns, or with a shared tier that has time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.clock import Hands
from tiercache import TierCache

PATIENT: dict[str, Any] = {"l2_budget": "20s", "l2_slow": "20s", "purge_timeout": "20s", "staleness_bound": "600s"}
GUARD = 20.0
"""Seconds: never waited for unless something is wrong."""


def turnable(**settings: Any) -> tuple[TierCache, Hands]:
    cache = TierCache(**settings)
    return cache, Hands(cache)


class Origin:
    """A database that counts who asks it, and can be made to wait and to fail."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}
        self.calls: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None

    def load(self, key: Any) -> Any:
        self.calls.append(key)
        assert self.gate.wait(GUARD)
        if self.error is not None:
            raise self.error
        return self.rows.get(key, f"{key} v{len(self.calls)}")


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start it; calling what this returns gives its result, or raises its error."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Any:
        thread.join(GUARD)
        assert outcome, "it hangs"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return result
