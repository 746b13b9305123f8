"""What the tests of the Redis tier share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tiercache.core.records import SyncRequest
from tiercache.errors import TierError

T = TypeVar("T")

NOTHING = SyncRequest("", 0, 0.0)


def soon() -> float:
    """A deadline that a test reaches only when something hangs."""
    return time.monotonic() + 20


def until_answered(call: Callable[[float], T]) -> T:
    """Try until it is answered, each time with half a second, as one does while servers change places."""
    end = soon() + 20
    while True:
        try:
            return call(time.monotonic() + 0.5)
        except TierError:
            if time.monotonic() > end:
                raise
        time.sleep(0.02)


def shortly() -> float:
    """A deadline that the test means to pass."""
    return time.monotonic() + 0.1


def in_child(run: Callable[[], None]) -> None:
    """Run it in a forked child, which ends without the parent's clean-up."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run()
            code = 0
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Held:
    """A proxy's reply, held back until the test lets it go."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.release = threading.Event()

    def __call__(self, data: bytes) -> bytes:
        self.arrived.set()
        self.release.wait(30)
        return data
