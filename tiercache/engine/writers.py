"""Workers of write-behind stores: they take jobs from the queues and have them written to the database.

A partition has one owner at a time, who writes its jobs in their order; a batch is acknowledged after it was written,
so that each job is written at least once. An owner who stands still loses its partition, and finds out when it
acknowledges; what it has written by then is written again by the next one.

When a batch fails, the error says whose fault that is. If the database is away, the same batch is tried again for as
long as it takes, and producers wait once the queue is full. Else one of the writes is to blame: they are written one
by one, and what fails again and again is kept aside as a letter, for a person to look at. Where the error does not say
it, the database counts as away, until it has failed for long and taken what lies in other partitions each time between.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from tiercache.core.write_queue import Job, Place, Receipt
from tiercache.engine import flows
from tiercache.engine.effects import drive
from tiercache.engine.engine import Engine
from tiercache.engine.ports import WriteQueue
from tiercache.engine.refusals import Verdict, verdict
from tiercache.errors import ConfigError, LostPartition, TierError

OWNED = 5.0
"""Seconds for which a partition is owned; its owner says three times within that it is still there."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
"""Seconds between attempts to write to a database that is away."""


class Sink(Protocol):
    """What a write-behind store is to its workers."""

    name: str
    partitions: int
    batch: int
    """Most jobs that are written at once."""
    attempts: int
    """Times that the database may refuse a write before it is kept aside."""

    def write(self, place: Place, jobs: Sequence[Job], fence: int) -> None:
        """Have the database take all of these, or raise. Only the last one of a key counts."""

    def finish(self) -> None:
        """The thread that wrote writes no more."""

    def members(self, job: Job) -> Sequence[str]:
        """What is to be invalidated when a write is given up: readers have been given its value."""


class _Partition:
    """What one worker knows of a partition that it owns."""

    __slots__ = ("alone", "attempts", "fence", "pause", "retry_at", "taken")

    def __init__(self, fence: int) -> None:
        self.fence = fence
        self.pause = 0.0
        self.retry_at = 0.0
        self.alone: Receipt | None = None
        """Up to this one, jobs are written one by one."""
        self.attempts = 0
        """How often the oldest job has been refused."""
        self.taken = 0
        """How many batches of the store the database had taken when it last failed here."""


class Worker:
    """One worker, in threads of its own: one writes, the other keeps what it owns.

    Args:
        engine: of the cache whose stores these are.
        queue: where the jobs lie.
        sinks: the stores.
        interval: seconds to wait where there is nothing to do; what comes meanwhile is written together.
        owned: seconds until another worker takes over from one that has died.
    """

    def __init__(
        self,
        engine: Engine,
        queue: WriteQueue,
        sinks: Sequence[Sink],
        *,
        interval: float = 0.05,
        owned: float = OWNED,
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._sinks = {sink.name: sink for sink in sinks}
        self._taken = dict.fromkeys(self._sinks, 0)
        """Batches of each store that the database has taken."""
        self._interval = interval
        self._owned_for = owned
        self._begin()
        self.written = 0
        """Jobs that the database has taken."""
        self.buried = 0

    def _begin(self) -> None:
        self._token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._owned: dict[Place, _Partition] = {}
        self._leaving: set[Place] = set()
        """What another worker is to have: only between two batches, so that the two never write at once."""
        self._fences: dict[Place, int] = {}
        """Fencing tokens that the database knows and refused ours for."""
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._until = 0.0
        self._drained = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin. Returns at once; partitions are taken as they become free. After a fork, and after `stop`, it begins
        as another worker: with the token of the one that there was, both would own the same partitions.

        Raises:
            ConfigError: it runs in this process.
        """
        if self.running:
            raise ConfigError("worker", "start()", "to be called once: it runs already in this process")
        self._begin()
        for run in (self._keep, self._write):
            thread = threading.Thread(target=run, name=f"tiercache-worker-{run.__name__.strip('_')}", daemon=True)
            self._threads.append(thread)
            thread.start()

    @property
    def running(self) -> bool:
        """Whether it works in this process: not before `start`, nor in the child of a fork."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self, drain: float) -> bool:
        """Write what there is, for `drain` seconds at most, and let go of what is owned. Whether nothing was left of
        that.

        Raises:
            ConfigError: it was not started.
        """
        if not self._threads:
            raise ConfigError("worker", "stop()", "start() before it")
        self._until = time.monotonic() + drain
        self._draining.set()
        writer = self._threads[1]
        # A write that hangs in the database cannot be ended from here.
        writer.join(drain + self._owned_for)
        self._stopped.set()
        self._threads[0].join(self._owned_for)
        return self._drained

    # -- keeping what is owned ---------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._stopped.is_set():
            for sink in self._sinks.values():
                try:
                    self._share(sink)
                except TierError as error:
                    self._engine.complaints.swallow("write-behind queue", error)
                except Exception as error:  # a keeper that dies loses every partition, and nobody would say why
                    self._engine.complaints.swallow("write-behind worker", f"{type(error).__name__}: {error}")
            self._stopped.wait(self._owned_for / 3)
        for place in list(self._owned):
            self._let_go(place)
        for sink in self._sinks.values():
            try:
                self._queue.depart(sink.name, self._token, self._deadline())
            except Exception:  # it is missed soon enough
                continue

    def _share(self, sink: Sink) -> None:
        """Own every so-many-th partition, as many as there are workers; the lease of each guards what two agree on
        differently for a moment."""
        ttl_ms = int(self._owned_for * 1000)
        workers = self._queue.attend(sink.name, self._token, ttl_ms, self._deadline())
        rank, of = workers.index(self._token), len(workers)
        for partition in range(sink.partitions):
            place = Place(sink.name, partition)
            mine = partition % of == rank
            if place not in self._owned and (not mine or self._draining.is_set()):
                continue
            with self._lock:
                if mine:
                    self._leaving.discard(place)
                elif place in self._owned:
                    self._leaving.add(place)
            above = self._fences.get(place, 0)
            fence = self._queue.take(place, self._token, ttl_ms, self._deadline(), above=above)
            with self._lock:
                if fence is None:
                    self._owned.pop(place, None)
                elif place not in self._owned or self._owned[place].fence != fence:
                    self._owned[place] = _Partition(fence)

    def _lose(self, place: Place) -> None:
        with self._lock:
            self._owned.pop(place, None)
            self._leaving.discard(place)

    def _let_go(self, place: Place) -> None:
        self._lose(place)
        try:
            self._queue.give(place, self._token, self._deadline())
        except Exception:  # it ends by itself
            return

    # -- writing -----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            self._take_turns()
        finally:
            self._stopped.set()
            for sink in self._sinks.values():
                sink.finish()

    def _take_turns(self) -> None:
        while not self._stopped.is_set():
            draining = self._draining.is_set()
            busy = waiting = False
            with self._lock:
                owned = list(self._owned.items())
            for place, partition in owned:
                if place in self._leaving:
                    self._let_go(place)
                    continue
                if partition.retry_at > time.monotonic():
                    waiting = True
                    continue
                try:
                    if self._turn(place, partition):
                        busy = True
                    elif draining:
                        self._let_go(place)
                except TierError as error:
                    self._engine.complaints.swallow("write-behind queue", error)
                    self._pause(partition)
                except Exception as error:  # as above: somebody has to go on
                    self._engine.complaints.swallow("write-behind worker", f"{type(error).__name__}: {error}")
                    self._pause(partition)
            if draining and not (busy or waiting or self._owned):
                self._drained = True
                break
            if draining and time.monotonic() >= self._until:
                break
            if not busy:
                self._stopped.wait(self._interval)

    def _turn(self, place: Place, partition: _Partition) -> bool:
        """Write the oldest jobs of a partition; whether there were any."""
        sink = self._sinks[place.store]
        jobs = self._queue.jobs(place, sink.batch if partition.alone is None else 1, self._deadline())
        if not jobs:
            return False
        alone, first = partition.alone, jobs[0].receipt
        if alone is not None and (first.history != alone.history or first.number > alone.number):
            partition.alone = None
        try:
            sink.write(place, jobs, partition.fence)
            self._taken[sink.name] += 1
        except LostPartition as error:
            # By now another one owns it; or the queue has forgotten that there was one.
            self._fences[place] = error.fence
            self._lose(place)
            return True
        except Exception as error:
            self._failed(place, partition, jobs, error)
            return True
        if not self._queue.ack(place, self._token, jobs, self._deadline()):
            self._lose(place)
            return True
        partition.pause = partition.retry_at = partition.attempts = 0
        self.written += len(jobs)
        self._engine.complaints.settle("write-behind: database away", "it takes writes again")
        return True

    def _failed(self, place: Place, partition: _Partition, jobs: Sequence[Job], error: Exception) -> None:
        problem = f"{place.store}: {type(error).__name__}: {error}"
        said = verdict(error)
        if said is Verdict.AWAY or (said is Verdict.UNCLEAR and not self._takes_others(place, partition)):
            self._engine.complaints.swallow("write-behind: database away", problem)
            self._pause(partition)
            return
        if len(jobs) > 1:
            partition.alone = jobs[-1].receipt
            return
        partition.attempts += 1
        sink, job = self._sinks[place.store], jobs[0]
        self._engine.complaints.swallow("write-behind: write refused", problem)
        if partition.attempts < sink.attempts:
            self._pause(partition)
            return
        if not self._queue.bury(place, self._token, job, problem, partition.attempts, self._deadline()):
            self._lose(place)
            return
        partition.pause = partition.retry_at = partition.attempts = 0
        self.buried += 1
        # What readers were given is not to be. Queued where the ledger does not confirm it.
        drive(flows.invalidate_quietly(self._engine, sink.members(job)))

    def _takes_others(self, place: Place, partition: _Partition) -> bool:
        """Whether the database has worked since it last failed here, which it has for as long as anything is waited
        for: a lock, or a server that hands over, are over by then."""
        before, partition.taken = partition.taken, self._taken[place.store]
        return partition.pause >= LONGEST_PAUSE and partition.taken > before

    def _pause(self, partition: _Partition) -> None:
        partition.pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, partition.pause * 2))
        partition.retry_at = time.monotonic() + partition.pause * random.uniform(0.5, 1.0)

    def _deadline(self) -> float:
        return time.monotonic() + self._engine.settings.purge_timeout
