"""Start, fork, stop: the one thread of a process that listens for invalidations and renews trust.

It starts with the first request (or the lifespan of an ASGI app), and again in each child of a fork. It reads the
bus, syncs every third of the staleness bound and at once on a gap, and replays what the shared tier has not
confirmed. While the server is away it tries again with growing, jittered pauses, so that a fleet does not come back
as a herd. Requests never wait for this thread.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref

from tiercache.engine import flows
from tiercache.engine.effects import drive
from tiercache.engine.engine import Engine
from tiercache.engine.ports import Subscription
from tiercache.errors import TierError

SYNCS_PER_BOUND = 3
"""A sync may fail twice before trust runs out."""
LONGEST_PAUSE = 1.0
"""Seconds between attempts to reach a server that is away: recovery is seen within two seconds."""


class Lifecycle:
    """The listener of one engine, and when it runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        _living.add(self)

    @property
    def running(self) -> bool:
        return self._thread is not None

    def ensure_running(self) -> None:
        """Start the listener if this process has none; cheap enough for every request that L1 does not answer."""
        if self._thread is None and self._engine.shared is not None:
            with self._lock:
                if self._thread is None:
                    self._stopping = threading.Event()
                    thread = threading.Thread(
                        target=self._run, args=(self._stopping,), name="tiercache-listener", daemon=True
                    )
                    try:
                        thread.start()
                    except RuntimeError as error:  # no room for another, or the interpreter is ending
                        self._engine.complaints.swallow("listener", f"it could not start: {error}")
                        return
                    self._thread = thread

    def stop(self) -> None:
        """End the listener and close the connections of this process. The next request starts both again."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        shared = self._engine.shared
        if shared is not None:
            # Ends the wait on the bus too.
            shared.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2.0)

    async def astop(self) -> None:
        """`stop` from an event loop, whose own connections are closed on return."""
        with self._lock:
            self._thread = None
            self._stopping.set()
        if self._engine.shared is not None:
            await self._engine.shared.aclose()

    def after_fork(self) -> None:
        """In the child: no thread came along, no lock can be trusted, and the sockets belong to the parent."""
        engine = self._engine
        self._lock = threading.Lock()
        self._thread = None
        self._stopping = threading.Event()
        engine.after_fork()

    def _run(self, stopping: threading.Event) -> None:
        pause = 0.0
        while not stopping.is_set():
            subscription: Subscription | None = None
            try:
                subscription = self._engine.shared.listen()  # type: ignore[union-attr]
                pause = 0.0
                self._follow(subscription, stopping)
            except TierError as error:
                if stopping.is_set():
                    break
                # The bus is only the fast way; as long as syncs are answered, the bound holds without it. One that is
                # not answered says so itself.
                if self._sync():
                    self._engine.complaints.swallow("bus of the shared tier cut off", error)
            except Exception as error:  # a listener that dies leaves its process isolated for good
                self._engine.complaints.swallow("listener", f"{type(error).__name__}: {error}")
            finally:
                if subscription is not None:
                    subscription.close()
            pause = min(LONGEST_PAUSE, max(0.05, pause * 2))
            stopping.wait(min(pause, self._interval()) * random.uniform(0.5, 1.0))

    def _follow(self, subscription: Subscription, stopping: threading.Event) -> None:
        """Apply what is published, and sync, for as long as the subscription lives."""
        engine = self._engine
        interval = self._interval()
        due = 0.0
        while not stopping.is_set():
            now = time.monotonic()
            if now >= due:
                good = self._sync()
                due = now + interval * random.uniform(0.9, 1.0)
                if good:
                    drive(flows.replay(engine, time.monotonic() + engine.settings.purge_timeout))
                continue
            message = subscription.wait(due - now)
            if message is not None and engine.ledger.heard(message):
                due = 0.0

    def _interval(self) -> float:
        return self._engine.settings.staleness_bound / SYNCS_PER_BOUND

    def _sync(self) -> bool:
        # Longer than a sync may take in normal times: attaching to a large ledger takes many pages.
        return drive(flows.sync(self._engine, time.monotonic() + max(2.0, self._engine.settings.staleness_bound)))


_living: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lifecycle in list(_living):
        lifecycle.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
