"""A lock for what takes long, such as asking a server: a fork may well come while it is held."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType


class ForkableLock:
    """A lock that is free in the child of a fork, where the thread that held it is not."""

    def __init__(self) -> None:
        self.after_fork()
        _living.add(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


_living: weakref.WeakSet[ForkableLock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_living):
        lock.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
