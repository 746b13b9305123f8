"""Start, fork, stop: the one thread of a process that listens for invalidations and renews trust.

It starts with the first request (or the lifespan of an ASGI app), and again in each child of a fork. Requests never
wait for this thread.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tiercache.engine import flows
from tiercache.engine.effects import Flow, adrive, drive
from tiercache.engine.engine import Engine
from tiercache.engine.listening import listening
from tiercache.engine.settling import Settling

LOOK_EVERY = 0.01
"""Seconds."""
FAREWELL = 0.2
"""Seconds that a process which stops gives the shared tier to take note."""


class Lifecycle:
    """The listener of one engine, and when it runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._settling = Settling()
        self.listens = True
        """Whether a thread follows the shared tier. One that tells its followers by itself needs none."""
        _living.add(self)
        for prepare in _prepares:
            prepare(self)

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def running(self) -> bool:
        return self._thread is not None

    def ensure_running(self) -> None:
        """Start the listener if this process has none; cheap enough for every request that L1 does not answer."""
        if self._thread is None and self._engine.shared is not None and self.listens:
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
                    _end_with_its_job()

    def settle_by(self, settling: Settling) -> None:
        """Have purges repeated by this one from now on; what the one before still has to do is dropped."""
        self._settling.drop()
        self._settling = settling

    def repeat(self, members: Sequence[str], everything: bool, seconds: float) -> None:
        """Invalidate these once more after some seconds."""
        engine = self._engine

        def again() -> None:
            deadline = time.monotonic() + engine.settings.purge_timeout
            try:
                drive(flows.invalidate(engine, members, everything, deadline))
            except Exception as error:
                engine.complaints.swallow("purge not repeated", f"{type(error).__name__}: {error}")

        try:
            self._settling.later(seconds, again)
        except RuntimeError as error:  # no room for a thread: it is made up for when another comes, or at the end
            engine.complaints.swallow("purge not repeated", f"no thread could start: {error}")

    def stop(self) -> None:
        """Let the fills behind answers end, then the listener, and close the connections of this process. The next
        request starts both again.
        """
        if not _in_loop():
            self._engine.limits.drained(self._engine.settings.drain_timeout)
        self._settle()
        thread, shared = self._end(), self._engine.shared
        if shared is not None:
            # Ends the wait on the bus too.
            shared.close()
            if thread is not None and thread is not threading.current_thread():
                thread.join(timeout=2.0)
                drive(self._last_replay())
                if self._leaves(thread):
                    drive(flows.leave(self._engine, time.monotonic() + FAREWELL))
                if not self.running:
                    # What this, or the last sync of the listener, has opened anew.
                    shared.close()

    async def astop(self) -> None:
        """`stop` from an event loop, whose own connections are closed on return."""
        for _ in range(int(self._engine.settings.drain_timeout / LOOK_EVERY)):
            if not self._engine.limits.behind:
                break
            await asyncio.sleep(LOOK_EVERY)
        if self._settling.pending:
            await asyncio.to_thread(self._settle)
        thread, shared = self._end(), self._engine.shared
        if shared is not None:
            await shared.aclose()
            if thread is not None:
                for _ in range(100):
                    if thread.is_alive():
                        await asyncio.sleep(LOOK_EVERY)
                await adrive(self._last_replay())
                if self._leaves(thread):
                    await adrive(flows.leave(self._engine, time.monotonic() + FAREWELL))
                if not self.running:
                    await shared.aclose()

    def _settle(self) -> None:
        left = self._settling.finish(self._engine.settings.purge_timeout)
        if left:
            self._engine.complaints.swallow("purge not repeated", f"no time was left at the end for {left}")

    def _end(self) -> threading.Thread | None:
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        return thread

    def _last_replay(self) -> Flow[None]:
        return flows.replay_at_last(self._engine, time.monotonic() + self._engine.settings.purge_timeout)

    def _leaves(self, thread: threading.Thread) -> bool:
        """Whether the fleet may be told that this process is gone: only if its listener is, and no other has begun."""
        return not (thread.is_alive() or self._thread is not None or self._engine.failing)

    def after_fork(self) -> None:
        """In the child: no thread came along, no lock can be trusted, and the sockets belong to the parent."""
        engine = self._engine
        self._lock = threading.Lock()
        self._thread = None
        self._stopping = threading.Event()
        # What is to be repeated is the parent's to repeat.
        self._settling = Settling()
        engine.after_fork()

    def _run(self, stopping: threading.Event) -> None:
        drive(listening(self._engine, stopping))


def _in_loop() -> bool:
    """Whether this thread runs an event loop, whose own fills could not end while it waits."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_living: weakref.WeakSet[Lifecycle] = weakref.WeakSet()
_prepares: list[Callable[[Lifecycle], None]] = []


@contextmanager
def every_cache(prepare: Callable[[Lifecycle], None]) -> Iterator[None]:
    """Have `prepare` called for each cache of this process: those that there are, and until the end of the block each
    new one before it is used."""
    _prepares.append(prepare)
    try:
        for lifecycle in list(_living):
            prepare(lifecycle)
        yield
    finally:
        _prepares.remove(prepare)


def _at_exit() -> None:
    """A worker that is told to stop leaves the fleet in good order, whether its app thought of it or not."""
    for lifecycle in list(_living):
        if lifecycle.running:
            lifecycle.stop()


atexit.register(_at_exit)


_listed_in = 0
"""The process in whose list of what is left to do this stands."""


def _end_with_its_job() -> None:
    """A forked child of multiprocessing ends without a word to atexit, and asks its own list of what is left to do."""
    global _listed_in
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None and _listed_in != os.getpid():
        _listed_in = os.getpid()
        finalize = importlib.import_module("multiprocessing.util").Finalize
        finalize(None, _at_exit, exitpriority=0)


def _after_fork_in_child() -> None:
    for lifecycle in list(_living):
        lifecycle.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
