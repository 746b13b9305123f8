"""The reads of one event loop, put together: the layers of a client cost more than its server, and a batch pays them
once.

Reads of one turn of the loop go out together, and those that come while a batch is under way go with the next one. Each
keeps its own deadline; who leaves early, for that or because it is cancelled, neither ends nor delays the others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from functools import partial
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from tiercache.errors import TierError, TierUnavailable
from tiercache.tiers.redis_pipelines import LONGEST, Pipeline, by_server, reads_of

if TYPE_CHECKING:
    from tiercache.tiers.redis_calls import Command
    from tiercache.tiers.redis_pipelines import Homes

PATIENCE = 0.001
"""Seconds that a read waits for the batches before it at most. Then it goes on another connection: theirs may be busy
with large values, or in trouble."""
BYTES = 512 * 1024
"""What one batch is to bring, about: a value waits for those before it."""
LARGE = 64 * 1024
"""Bytes from which on values come side by side, each on a connection of its own: there is nothing to be gained."""
USUAL = 8 * 1024
"""Bytes of a value before any has been seen."""
_RISE, _FALL = 1 / 4, 1 / 8
"""How far one more value moves what is taken for usual: small batches only cost time, and large ones that of others."""

_key = attrgetter("key")


class Wire(Protocol):
    """How a read gets to its server."""

    @property
    def topology(self) -> Homes: ...

    async def awalk(self, deadline: float, key: str, command: Any) -> Any:
        """Carry out `("GET", key)`, and bring the value; or a `Batch`, which is told of each value."""


class Read:
    """One value that somebody waits for."""

    __slots__ = ("batch", "deadline", "future", "key")

    def __init__(self, key: str, deadline: float, future: asyncio.Future[bytes | None], batch: Batch) -> None:
        self.key, self.deadline, self.future, self.batch = key, deadline, future, batch

    def fail(self, error: TierError) -> None:
        if not self.future.done():
            # One for each: whoever catches an error writes its own traceback into it.
            own = type(error)(*error.args)
            own.__cause__ = error.__cause__
            self.future.set_exception(own)
            self.future.exception()  # Whoever waited may be gone by now; that is nothing to tell the log.


class Batch(Pipeline):
    """The reads of several callers in one pipeline."""

    def __init__(self, owner: Reads, reads: list[Read]) -> None:
        self.reads = reads
        for read in reads:
            read.batch = self
        self.alone: list[Read] = []
        """Those that the server refused: it may mean something else for each of them."""
        self.task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._owner = owner
        self._asked_for: list[Read] = []

    @property
    def open(self) -> list[Read]:
        return [read for read in self.reads if not read.future.done()]

    def begin(self) -> Sequence[Command]:
        self.alone = []
        self._asked_for = self.open
        return reads_of([read.key for read in self._asked_for])

    def answer(self, position: int, value: bytes | None) -> None:
        future = self._asked_for[position].future
        if not future.done():
            future.set_result(value)
        if value is not None:
            self._owner.learn(len(value))

    def refuse(self, position: int) -> None:
        self.alone.append(self._asked_for[position])

    def leave(self) -> None:
        """One of those who waited has gone. Nobody needs the connection any more when all have."""
        if self.task is not None and not self.open:
            self.task.cancel()

    def watch(self, loop: asyncio.AbstractEventLoop) -> float:
        """Have each go whose time is up before that of all the others; returns when the last one's is."""
        deadlines = {read.deadline for read in self.reads}
        last = max(deadlines)
        first = min(deadlines)
        if first < last:
            self._timer = loop.call_later(first - monotonic(), self._expire, loop)
        return last

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        for read in self.open:
            if read.deadline <= now:
                read.fail(TierUnavailable(f"{self._owner.where} did not answer in time"))
        left = self.open
        if left:
            self._timer = loop.call_later(min(read.deadline for read in left) - now, self._expire, loop)
        else:
            self.leave()

    def unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Reads:
    """Everything runs in the thread of the loop. `deadline` is a moment on `time.monotonic()`."""

    def __init__(self, wire: Wire, where: str) -> None:
        self.where = where
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._next = Batch(self, [])
        self._usual: float = USUAL
        self._timer: asyncio.TimerHandle | None = None
        self._alone = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: str, deadline: float) -> bytes | None:
        """The value, or None where there is none. Raises `TierError`."""
        if (not self._tasks and not self._alone) or self._usual >= LARGE:
            return await self._get_alone(key, deadline)
        read = self._join(key, deadline)
        try:
            return await read.future
        except asyncio.CancelledError:
            read.batch.leave()
            raise

    async def _get_alone(self, key: str, deadline: float) -> bytes | None:
        """In the caller's own task: one of the loop's for it would cost half as much as Redis."""
        self._alone += 1
        try:
            value: bytes | None = await self._wire.awalk(deadline, key, ("GET", key))
        finally:
            self._alone -= 1
        if value is not None:
            self.learn(len(value))
        return value

    async def get_many(self, keys: Sequence[str], deadline: float) -> dict[str, bytes | None]:
        """Several for one caller, who gets all of them or an error."""
        if len(keys) == 1:
            return {keys[0]: await self.get(keys[0], deadline)}
        reads = {key: self._join(key, deadline) for key in keys}
        try:
            return {key: await read.future for key, read in reads.items()}
        except BaseException:
            for read in reads.values():
                read.future.cancel()
                read.batch.leave()
            raise

    def learn(self, size: int) -> None:
        """A value of so many bytes has come."""
        self._usual += (size - self._usual) * (_RISE if size > self._usual else _FALL)

    @property
    def _most(self) -> int:
        """Reads in one batch."""
        return max(1, min(LONGEST, int(BYTES / self._usual)))

    def _join(self, key: str, deadline: float) -> Read:
        batch = self._next
        read = Read(key, deadline, self._loop.create_future(), batch)
        batch.reads.append(read)
        if batch.task is None:
            if not self._tasks or len(batch.reads) >= self._most:
                self._start()
            elif self._timer is None:
                self._timer = self._loop.call_later(PATIENCE, self._start)
        return read

    def _start(self) -> None:
        """Send off those who wait, with all that join them before this turn of the loop is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._go(self._next, self._send(self._next))

    def _go(self, batch: Batch, work: Coroutine[Any, Any, None]) -> None:
        batch.task = task = self._loop.create_task(work)
        self._tasks.add(task)  # The loop itself holds them weakly.
        # Here and not in the work, which does not even begin where its task is cancelled at once.
        task.add_done_callback(partial(self._ended, batch))

    def _ended(self, batch: Batch, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._next is batch:
            self._next = Batch(self, [])
        why = None if task.cancelled() else task.exception()
        for read in batch.reads:
            if read.batch is batch and not read.future.done():
                reason = "" if why is None else f": {why!r}"
                error = TierUnavailable(f"the reading from {self.where} was broken off{reason}")
                error.__cause__ = why
                read.fail(error)
        if self._next.reads and self._next.task is None:
            self._start()

    async def _send(self, batch: Batch) -> None:
        self._next = Batch(self, [])
        groups, unknown = by_server(self._wire.topology, batch.open, _key, self._most)
        batch.reads = groups[0] if groups else []
        for group in groups[1:]:
            other = Batch(self, group)
            self._go(other, self._carry(other))
        for read in unknown:
            self._go_alone(read)
        if groups:
            await self._carry(batch)

    async def _carry(self, batch: Batch) -> None:
        try:
            await self._wire.awalk(batch.watch(self._loop), batch.reads[0].key, batch)
        except TierError as error:
            for read in batch.reads:
                read.fail(error)
        finally:
            batch.unwatch()
        for read in batch.alone:
            if not read.future.done():
                self._go_alone(read)

    def _go_alone(self, read: Read) -> None:
        batch = Batch(self, [read])
        self._go(batch, self._carry_alone(read))

    async def _carry_alone(self, read: Read) -> None:
        try:
            value = await self._wire.awalk(read.deadline, read.key, ("GET", read.key))
        except TierError as error:
            read.fail(error)
        else:
            if not read.future.done():
                read.future.set_result(value)


class LoopReads:
    """Those of each event loop; `where` is the server or servers, for messages."""

    def __init__(self, wire: Wire, where: str) -> None:
        self._wire, self._where = wire, where
        self._by_loop: dict[asyncio.AbstractEventLoop, Reads] = {}
        self._lock = threading.Lock()

    def here(self) -> Reads:
        """Those of the running event loop."""
        loop = asyncio.get_running_loop()
        return self._by_loop.get(loop) or self._begun(loop)

    def _begun(self, loop: asyncio.AbstractEventLoop) -> Reads:
        with self._lock:
            for other in [other for other in self._by_loop if other.is_closed()]:
                del self._by_loop[other]
            reads = self._by_loop[loop] = Reads(self._wire, self._where)
        return reads
