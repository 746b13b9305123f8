"""Loads that go on behind their callers: in threads where the loader is sync, in tasks where it is async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

from tiercache.engine.effects import adrive, drive
from tiercache.engine.engine import Engine
from tiercache.engine.loading import Loading, load


class Behind:
    """What goes on behind callers, for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # The event loop keeps only weak references to tasks.
        self._tasks: set[asyncio.Task[Any]] = set()

    def refresh(self, loading: Loading) -> None:
        """Load anew behind a stale value, in a thread, and in a context of its own: no caller's affairs are its own."""
        self._thread(loading, Context(), self._engine.limits.refreshed)

    def ask(self, loading: Loading) -> None:
        """Load behind a caller who may not wait for it to the end, in a thread."""
        self._thread(loading, copy_context(), _nothing)

    def arefresh(self, loading: Loading) -> None:
        """`refresh` in a task."""
        self._task(loading, Context(), self._engine.limits.refreshed)

    def aask(self, loading: Loading) -> None:
        """`ask` in a task."""
        self._task(loading, copy_context(), _nothing)

    def keep(self, work: Coroutine[Any, Any, Any], context: Context | None = None) -> asyncio.Task[Any]:
        """A task that nobody else has to hold on to; `stop` waits for it."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.hold(task)
        return task

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Let a task end although its caller has gone."""
        self._engine.limits.begins_behind(task.get_loop())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._engine.limits.ends_behind(task.get_loop())
        if not task.cancelled() and (error := task.exception()) is not None:
            self._engine.complaints.swallow("load behind", f"{type(error).__name__}: {error}")

    def _task(self, loading: Loading, context: Context, ended: Callable[[], object]) -> None:
        def over(task: asyncio.Task[Any]) -> None:
            # A task that is cancelled before its first step has not even reached the `finally` of its flow.
            loading.forsake()
            ended()

        self.keep(adrive(load(loading)), context).add_done_callback(over)

    def _thread(self, loading: Loading, context: Context, ended: Callable[[], object]) -> None:
        engine = self._engine

        def work() -> None:
            try:
                drive(load(loading))
            except BaseException as error:
                engine.complaints.swallow("load behind", f"{type(error).__name__}: {error}")
            finally:
                ended()
                engine.limits.ends_behind()

        engine.limits.begins_behind()
        try:
            threading.Thread(target=context.run, args=(work,), name="tiercache-load", daemon=True).start()
        except RuntimeError as error:  # no room for another, or the interpreter is ending
            drive(loading.close())
            ended()
            engine.limits.ends_behind()
            engine.complaints.swallow("load behind", f"it could not start: {error}")


def _nothing() -> None:
    pass
