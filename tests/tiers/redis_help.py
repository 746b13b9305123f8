"""What the tests of the Redis tier share."""

from __future__ import annotations

import threading
import time

from tiercache.core.records import SyncRequest

NOTHING = SyncRequest("", 0, 0.0)


def soon() -> float:
    """A deadline that a test reaches only when something hangs."""
    return time.monotonic() + 20


def shortly() -> float:
    """A deadline that the test means to pass."""
    return time.monotonic() + 0.1


class Held:
    """A proxy's reply, held back until the test lets it go."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.release = threading.Event()

    def __call__(self, data: bytes) -> bytes:
        self.arrived.set()
        self.release.wait(30)
        return data
