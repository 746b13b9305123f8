"""Write-behind: what a writer puts into the queue, what readers find there, and what workers make of it.

To the flows of data this is a database: what `enqueueing` has is the write, and a load looks into the queue before it
asks the database that lags behind. So invalidation, order and staleness are those of write-through.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from tiercache.core.queued_values import key_from, name_of, partition_of, unqueued
from tiercache.core.stores import StoreRule
from tiercache.core.write_batch import QueuedWrite, WriteBatch
from tiercache.core.write_queue import Job, Pending, Place
from tiercache.engine.capabilities import queue_of
from tiercache.engine.engine import Engine
from tiercache.engine.fill import current_fill
from tiercache.engine.locks import ForkableLock
from tiercache.engine.ports import WriteQueue
from tiercache.engine.queue_terms import QueueTerms, objection
from tiercache.errors import CodecError, ConfigError, TierError, TierUnavailable


class Queue:
    """The queue of one store, as its readers and writers see it."""

    def __init__(self, engine: Engine, rule: StoreRule, terms: QueueTerms) -> None:
        self.engine = engine
        self.rule = rule
        self.terms = terms
        self._lock = ForkableLock()
        self._examined: object = None
        self._settled: object = None

    @property
    def queue(self) -> WriteQueue:
        """Of the shared tier that the engine has now: what a test writes must not get to any other.

        Raises:
            TierUnavailable: the one that it has now keeps no queue.
        """
        queue = queue_of(self.engine)
        if queue is None:
            raise TierUnavailable(f"{self.rule.named}: no Redis keeps its queue here; in tests, isolated(url=...)")
        return queue

    @property
    def examined(self) -> bool:
        """Whether the servers are known to keep what they acknowledge."""
        return self._examined is self.engine.shared

    def forget_examined(self) -> None:
        """Look again before the next write, and the next read."""
        self._examined = self._settled = None

    def place(self, name: str) -> Place:
        """Where the writes of a key are kept in order."""
        return Place(self.rule.name, partition_of(name, self.terms.partitions))

    def name(self, key: object) -> str:
        """The name of a key in the queue. Raises `ConfigError` for what is none."""
        try:
            return name_of(key)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.rule.named}: key", key, str(error)) from error

    def deadline(self) -> float:
        return time.monotonic() + self.engine.settings.purge_timeout

    def examine(self) -> None:
        """Look once, before the first write, whether the servers keep what they acknowledge.

        Raises:
            ConfigError: they do not, and nobody has said that this is meant; or the queue was begun with another number
                of partitions.
            TierError: they do not answer.
        """
        with self._lock:
            if self.examined:
                return
            self.settle()
            rule, terms, shared = self.rule, self.terms, self.engine.shared
            for partition in range(terms.partitions):
                said = self.queue.durability(Place(rule.name, partition), self.deadline())
                complaint = objection(said, terms)
                if complaint:
                    raise ConfigError(f"{rule.named}: durability", terms.durability, complaint)
                if said.policy is None or said.appendonly is None:
                    self.engine.complaints.swallow(
                        "write-behind: durability unknown", f"{rule.named}: INFO of Redis does not tell"
                    )
            self._examined = shared

    @property
    def settled(self) -> bool:
        """Whether the queue is known to have as many partitions as this process looks for keys in: with another number
        it would look in the wrong ones, and take what the database has for the newest."""
        return self._settled is self.engine.shared

    def settle(self) -> None:
        """Look once, before the first read, whether that is so. Raises as `examine` does."""
        if self.settled:
            return
        rule, partitions, shared = self.rule, self.terms.partitions, self.engine.shared
        begun = self.queue.layout(rule.name, partitions, self.deadline())
        if begun != partitions:
            raise ConfigError(
                f"{rule.named}: partitions",
                partitions,
                f"{begun}, with which the queue was begun; to change it, let the workers empty the queue, then "
                f"`tiercache queue MODULE:CACHE {rule.name} --forget-partitions`",
            )
        self._settled = shared

    # -- what a load asks before the database

    def load(self, load: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A loader that finds what the database does not have yet."""

        def newest(key: Any) -> Any:
            name = self.name(key)
            try:
                found = self._pending(self.place(name), [name])[0]
            except TierError as error:
                self._unknown(error)
            else:
                if found is not None:
                    return self._read(key, found.body, load)
            return load(key)

        return newest

    def aload(self, load: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same for event loops."""

        async def newest(key: Any) -> Any:
            name = self.name(key)
            try:
                found = (await self._apending(self.place(name), [name]))[0]
            except TierError as error:
                self._unknown(error)
            else:
                if found is not None:
                    return await self._aread(key, found.body, load)
            return await load(key)

        return newest

    def load_many(self, load_many: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`load` for a loader of several keys."""

        def newest(keys: Sequence[Any]) -> Any:
            found: dict[Any, Any] = {}
            for place, names in self._by_place(keys).items():
                try:
                    pending = self._pending(place, list(names))
                except TierError as error:
                    self._unknown(error)
                else:
                    self._collect(found, names, pending)
            rest = [key for key in keys if key not in found]
            return {**load_many(rest), **found} if rest else found

        return newest

    def aload_many(self, load_many: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same for event loops."""

        async def newest(keys: Sequence[Any]) -> Any:
            found: dict[Any, Any] = {}
            for place, names in self._by_place(keys).items():
                try:
                    pending = await self._apending(place, list(names))
                except TierError as error:
                    self._unknown(error)
                else:
                    self._collect(found, names, pending)
            rest = [key for key in keys if key not in found]
            return {**await load_many(rest), **found} if rest else found

        return newest

    def _pending(self, place: Place, names: list[str]) -> Sequence[Pending | None]:
        if not self.settled:
            self.settle()
        return self.queue.pending(place, names, self.deadline())

    async def _apending(self, place: Place, names: list[str]) -> Sequence[Pending | None]:
        if not self.settled:
            await asyncio.to_thread(self.settle)
        return await self.queue.apending(place, names, self.deadline())

    def _by_place(self, keys: Sequence[Any]) -> dict[Place, dict[str, Any]]:
        places: dict[Place, dict[str, Any]] = {}
        for key in keys:
            name = self.name(key)
            places.setdefault(self.place(name), {})[name] = key
        return places

    def _collect(self, found: dict[Any, Any], names: dict[str, Any], pending: Sequence[Pending | None]) -> None:
        for key, one in zip(names.values(), pending, strict=True):
            if one is None:
                continue
            try:
                found[key] = unqueued(one.body, self.rule.codec)[0]
            except CodecError as error:
                self._unreadable(error)

    def _read(self, key: Any, body: bytes, load: Callable[[Any], Any]) -> Any:
        try:
            return unqueued(body, self.rule.codec)[0]
        except CodecError as error:
            self._unreadable(error)
        return load(key)

    async def _aread(self, key: Any, body: bytes, load: Callable[[Any], Any]) -> Any:
        try:
            return unqueued(body, self.rule.codec)[0]
        except CodecError as error:
            self._unreadable(error)
        return await load(key)

    def _unknown(self, error: TierError) -> None:
        """The queue does not answer: what the database has may be old, and is handed out once, not kept."""
        if self.rule.policy.consistency == "strong":
            raise error
        self.engine.complaints.swallow("write-behind queue", f"{self.rule.named}: {error}")
        _keep_nowhere("the queue of writes does not answer")

    def _unreadable(self, error: CodecError) -> None:
        self.engine.complaints.swallow("write-behind: value of another type", f"{self.rule.named}: {error}")
        _keep_nowhere("what is newest is of another type")


def _keep_nowhere(reason: str) -> None:
    fill = current_fill()
    if fill is not None:
        fill.refusal = fill.refusal or reason


class Drain:
    """Where the queue of a store ends: what a worker hands the jobs to."""

    def __init__(self, queue: Queue, write: Callable[[WriteBatch[Any, Any]], Any]) -> None:
        self.queue = queue
        self.name = queue.rule.name
        self.partitions = queue.terms.partitions
        self.batch = queue.terms.batch
        self.attempts = queue.terms.attempts
        self._write = write

    def write(self, place: Place, jobs: Sequence[Job], fence: int) -> None:
        """Have the app write these, one for each key, or raise what it raises."""
        newest: dict[str, Job] = {}
        marks: dict[str, int] = {}
        for job in jobs:
            newest.pop(job.name, None)
            newest[job.name] = job
            marks[job.receipt.history] = max(marks.get(job.receipt.history, 0), job.receipt.number)
        writes = [self._queued(job) for job in newest.values()]
        self._write(WriteBatch(place, writes, fence=fence, marks=marks))

    def _queued(self, job: Job) -> QueuedWrite[Any, Any]:
        value, removed = unqueued(job.body, self.queue.rule.codec)
        return QueuedWrite(key_from(job.name), value, removed=removed, receipt=job.receipt, at=job.at)

    def finish(self) -> None:
        """This thread writes no more."""
        finish = getattr(self._write, "finish", None)
        if finish is not None:
            finish()

    def members(self, job: Job) -> Sequence[str]:
        """What is to be invalidated when a write is given up."""
        rule = self.queue.rule
        subject = key_from(job.name)
        return rule.changed_by(subject, rule.key_for(subject))
