"""Write-behind: writes on their way into the queue; to the flow of a change, the write to the database."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from tiercache.core.write_queue import Base, Errand, Place, Sum, Write
from tiercache.engine.queue_terms import pauses, whole_number
from tiercache.engine.queueing import Queue

TOGETHER = 500
"""Most writes of one script: it keeps the server from everything else."""


class EnqueueMany:
    """Put writes into the queue; to the flow of a change, the write to the database."""

    __slots__ = ("_queue", "_together", "before_a_pause", "begun")

    def __init__(self, queue: Queue, bodies: Mapping[str, bytes]) -> None:
        self._queue = queue
        places: dict[Place, list[Write]] = {}
        for name, body in bodies.items():
            places.setdefault(queue.place(name), []).append(Write(secrets.token_hex(8), name, body))
        self._together = [
            (place, writes[first : first + TOGETHER])
            for place, writes in places.items()
            for first in range(0, len(writes), TOGETHER)
        ]
        self.begun = False
        """Whether some of them may have been taken."""
        self.before_a_pause: Callable[[], None] = _nothing
        """Called before it waits for more than an answer of Redis."""

    def run(self) -> None:
        queue = self._queue
        if not queue.examined:
            queue.examine()
        for place, writes in self._together:
            for pause in pauses(queue.rule.named, queue.terms):
                if self._put(queue.queue.put(place, writes, queue.terms.most, queue.deadline())):
                    break
                self.before_a_pause()
                time.sleep(pause)

    async def arun(self) -> None:
        queue = self._queue
        if not queue.examined:
            await asyncio.to_thread(queue.examine)
        for place, writes in self._together:
            for pause in pauses(queue.rule.named, queue.terms):
                if self._put(await queue.queue.aput(place, writes, queue.terms.most, queue.deadline())):
                    break
                self.before_a_pause()
                await asyncio.sleep(pause)

    def _put(self, receipts: object) -> bool:
        if receipts is None:
            return False
        self.begun = True
        return True


class Enqueue(EnqueueMany):
    """The same for a single one."""

    __slots__ = ("name",)

    def __init__(self, queue: Queue, name: str, body: bytes) -> None:
        super().__init__(queue, {name: body})
        self.name = name

    @property
    def errand(self) -> Errand:
        """What it comes to where it goes together with others."""
        ((place, writes),) = self._together
        return Errand(place, tuple(writes))

    def took(self, reply: Any) -> bool:
        """Whether it is done with what Redis has said to that; else it has to go by itself."""
        return reply is not None


class EnqueueSum:
    """Add to the number under a key: to what is pending, or else to what the database has."""

    __slots__ = (
        "_aload",
        "_cleared",
        "_load",
        "_place",
        "_queue",
        "_subject",
        "_write",
        "before_a_pause",
        "name",
        "total",
    )

    def __init__(self, queue: Queue, subject: Any, name: str, number: int, load: Any, aload: Any) -> None:
        self._queue, self._subject, self.name = queue, subject, name
        self._write, self._place = Sum(secrets.token_hex(8), name, number), queue.place(name)
        self._load, self._aload = load, aload
        self._cleared: str | None = None
        """What Redis has said of it by now: the sum in the database is needed."""
        self.before_a_pause: Callable[[], None] = _nothing
        """As for `EnqueueMany`."""
        self.total = 0
        """What it has come to."""

    @property
    def errand(self) -> Errand:
        """What it comes to where it goes together with others."""
        return Errand(self._place, sum=self._write)

    def took(self, reply: Any) -> bool:
        """Whether it is done with what Redis has said to that; else it has to go by itself."""
        self._cleared = reply.cleared
        if reply.full or reply.cleared is not None or reply.total is None:
            return False
        self.total = reply.total
        return True

    def run(self) -> None:
        queue = self._queue
        if not queue.examined:
            queue.examine()
        write, place = self._write, self._place
        base = None if self._cleared is None else Base(self._told(), self._cleared)
        for pause in pauses(queue.rule.named, queue.terms):
            added = queue.queue.add(place, write, queue.terms.most, base, queue.deadline())
            while added.cleared is not None:
                self.before_a_pause()
                base = Base(self._told(), added.cleared)
                added = queue.queue.add(place, write, queue.terms.most, base, queue.deadline())
            if not added.full:
                self.total = self._told() if added.total is None else added.total
                return
            self.before_a_pause()
            time.sleep(pause)

    async def arun(self) -> None:
        queue = self._queue
        if not queue.examined:
            await asyncio.to_thread(queue.examine)
        write, place = self._write, self._place
        base = None if self._cleared is None else Base(await self._atold(), self._cleared)
        for pause in pauses(queue.rule.named, queue.terms):
            added = await queue.queue.aadd(place, write, queue.terms.most, base, queue.deadline())
            while added.cleared is not None:
                self.before_a_pause()
                base = Base(await self._atold(), added.cleared)
                added = await queue.queue.aadd(place, write, queue.terms.most, base, queue.deadline())
            if not added.full:
                self.total = await self._atold() if added.total is None else added.total
                return
            self.before_a_pause()
            await asyncio.sleep(pause)

    def _told(self) -> int:
        return whole_number(self._queue.rule.named, self._load(self._subject))

    async def _atold(self) -> int:
        return whole_number(self._queue.rule.named, await self._aload(self._subject))


def _nothing() -> None:
    pass
