"""Things to be done a little later, by one thread that lives while there are any: purges to be repeated."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count


class Settling:
    """Runs each job once, when its time has come or when `finish` is called. A job must not raise."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self._thread: threading.Thread | None = None
        self._busy = False

    def later(self, seconds: float, job: Callable[[], None]) -> None:
        """Run `job` once these seconds have passed. Raises `RuntimeError` where no thread can be started: the job is
        kept, for the thread of a later one or for `finish`."""
        with self._change:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._serial), job))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="tiercache-settling", daemon=True)
                thread.start()
                self._thread = thread
            else:
                self._change.notify_all()

    @property
    def pending(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._due) or self._busy

    def finish(self, seconds: float) -> int:
        """Run now what is left, for some seconds at most, and return when all have run: the process is about to end,
        and early is better than never. How many have not been run.
        """
        until = time.monotonic() + seconds
        with self._change:
            due, self._due = sorted(self._due), []
            self._change.notify_all()
        while due and time.monotonic() < until:
            due.pop(0)[2]()
        with self._change:
            self._change.wait_for(lambda: not self._busy, max(0.0, until - time.monotonic()))
        return len(due)

    def drop(self) -> None:
        """Do nothing of what is left."""
        with self._change:
            self._due = []
            self._change.notify_all()

    def _run(self) -> None:
        while True:
            with self._change:
                while self._due and (wait := self._due[0][0] - time.monotonic()) > 0:
                    self._change.wait(wait)
                if not self._due:
                    self._thread = None
                    return
                _, _, job = heapq.heappop(self._due)
                self._busy = True
            try:
                job()
            finally:
                with self._change:
                    self._busy = False
                    self._change.notify_all()
