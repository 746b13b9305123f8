"""What tests of several processes share: waiting for what must come, a process that hears nothing, a clock to turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.parity.faces import GUARD, Face, Response
from tiercache import PurgeReceipt
from tiercache.errors import TierUnavailable


def eventually(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to that")


class Deaf:
    """A subscription to which nothing comes."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def wait(self, timeout: float) -> None:
        if self._closed.wait(timeout):
            raise TierUnavailable("the subscription is closed")

    def close(self) -> None:
        self._closed.set()


def silence(face: Face) -> Face:
    """Have this process hear nothing of the bus. Before its first request; it goes on syncing."""
    shared: Any = face.cache._engine.shared
    deaf = Deaf()
    shared.listen = lambda deadline=None: deaf
    close = shared.close

    def end() -> None:
        deaf.close()
        close()

    shared.close = end
    face.cache.start()
    eventually(face.cache._engine.trusted)
    return face


def attach(face: Face) -> Face:
    """Have it listen, and know what there is to know."""
    face.cache.start()
    eventually(face.cache._engine.trusted)
    return face


def halt(face: Face) -> None:
    """End its listener as if the process had been stopped: nobody is told, and what it trusts it trusts on."""
    lifecycle = face.cache._lifecycle
    thread = lifecycle._end()
    assert thread is not None
    shared: Any = face.cache._engine.shared
    shared.close()
    thread.join(GUARD)
    lifecycle.ensure_running = lambda: None  # type: ignore[method-assign]


def turn(face: Face, seconds: float) -> None:
    """Turn the clock of a process with a shared tier, which syncs before it trusts again. L2 has a clock of its own."""
    engine = face.cache._engine
    plain = engine.clock
    engine.clock = lambda: plain() + seconds
    eventually(engine.trusted)


def purge(face: Face, **named: Any) -> PurgeReceipt:
    """As code of this face's kind would."""
    if face.kind == "asgi":
        receipt: PurgeReceipt = face.run(face.cache.apurge(**named))  # type: ignore[attr-defined]
        return receipt
    return face.cache.purge(**named)


def lifetime(response: Response) -> int:
    """Seconds that `Cache-Status` says the answer is fresh for; negative where it is stale."""
    (value,) = [part for part in response.all("cache-status")[-1].split("; ") if part.startswith("ttl=")]
    return int(value.removeprefix("ttl="))
