"""Write-behind: `set` returns once Redis has the write, and workers take it to the database."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

from tiercache.core.kinds import DURATION, FLAG, one_of, whole
from tiercache.core.policy_settings import Duration
from tiercache.core.queued_values import REMOVAL, key_from, queued
from tiercache.core.stores import StoreSettings
from tiercache.core.validation import Setting, qualified
from tiercache.core.values import body_of
from tiercache.core.write_batch import WriteBatch
from tiercache.core.write_queue import Letter, Place, QueueState
from tiercache.data import ReadThrough
from tiercache.data_store import K, V, Wiring, raised
from tiercache.engine import flows, writing
from tiercache.engine.capabilities import lacking
from tiercache.engine.convoys import Convoy
from tiercache.engine.effects import Flow, adrive, drive
from tiercache.engine.engine import Engine
from tiercache.engine.enqueueing import Enqueue, EnqueueMany, EnqueueSum
from tiercache.engine.queue_terms import QueueTerms
from tiercache.engine.queueing import Drain, Queue
from tiercache.engine.sources import Source
from tiercache.engine.writers import Worker
from tiercache.errors import ConfigError, DataError, PurgeUnconfirmed, TierError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
QUEUE: Final = MappingProxyType(
    {
        row.name: row
        for row in (
            Setting(
                "partitions",
                whole(1, 1024),
                16,
                "Parts of the queue, each written by one worker at a time; the same in every process.",
            ),
            Setting(
                "max_queued", whole(1, 100_000_000), 100_000, "Most writes of one partition that wait for the database."
            ),
            Setting("write_batch", whole(1, 10_000), 500, "Most writes that are handed to `write` at once."),
            Setting(
                "attempts", whole(1, 1_000), 5, "Times that the database may refuse a write before it is kept aside."
            ),
            Setting(
                "full_wait", DURATION, "5s", "Longest that a writer waits for room in a full queue, in seconds."
            ),
            Setting(
                "durability",
                one_of("disk", "always", "memory"),
                "disk",
                "What Redis has to keep: a log of all commands on disk; one that is on disk before it acknowledges "
                "(appendfsync always); or nothing beyond its own life.",
            ),
            Setting("evicting", FLAG, False, "Whether a Redis that drops what it holds when memory is full will do."),
        )
    }
)
"""The settings of a queue, beside those of stores."""


class QueueSettings(StoreSettings, total=False):
    """The settings of a write-behind store, as a type checker sees them."""

    partitions: int
    max_queued: int
    write_batch: int
    attempts: int
    full_wait: Duration
    durability: Literal["disk", "always", "memory"]
    evicting: bool


def queue_terms(name: object, settings: Mapping[str, Any], engine: Engine) -> tuple[QueueTerms, Any]:
    """The settings of the queue, and the rest of what was given."""
    where = f"store {name!r}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError("store", name, "a name of 1 to 64 letters, digits and . _ - for a write-behind store")
    # By the settings: an isolated test may put another tier in its place, which has no queue.
    if engine.settings.url is None or engine.settings.apart:
        raise lacking(engine, f"{where}: url of its cache", "that of a Redis, which keeps the queue")
    rest = dict(settings)
    held = {one: row.kind(qualified(where, one), rest.pop(one, row.default)) for one, row in QUEUE.items()}
    terms = QueueTerms(
        held["partitions"],
        held["max_queued"],
        held["write_batch"],
        held["attempts"],
        held["full_wait"],
        held["durability"],
        held["evicting"],
    )
    return terms, rest


def worker_for(engine: Engine, stores: Sequence[WriteBehind[Any, Any]], interval: float, owned: float) -> Worker:
    """One worker for these stores, once it is known that their writes are kept."""
    for store in stores:
        store._queue.examine()
    drains = [store._drain for store in stores]
    return Worker(engine, stores[0]._queue.queue, drains, interval=interval, owned=owned)


class WriteBehind(ReadThrough[K, V]):
    """Write-behind: a write is acknowledged when it lies in Redis, in the order of its key, and readers in every
    process see it at once; a worker writes it to the database.

    An acknowledged write is not lost while Redis keeps what it acknowledges. It may reach the database more than once,
    and only the newest of several quick ones of a key may.
    """

    def __init__(
        self, wiring: Wiring, source: Source, terms: QueueTerms, write: Callable[[WriteBatch[Any, Any]], Any]
    ) -> None:
        super().__init__(wiring, source)
        self._queue = queue = Queue(wiring.engine, self._rule, terms)
        self._drain = Drain(queue, write)
        self._convoy = Convoy(queue)
        self._base_load, self._base_aload = source.load, source.aload
        # Redis may have taken a write that it did not acknowledge.
        self._rule.uncertain = (*self._rule.uncertain, TierError)
        for name in ("load", "aload", "load_many", "aload_many"):
            own = getattr(source, name)
            if own is not None:
                setattr(source, name, getattr(queue, name)(own))

    def set(self, key: K, value: V, *, ttl: Duration | None = None, tags: Iterable[str] = ()) -> None:
        """Queue a value for the database, in place of whatever any process has under the key.

        Raises:
            QueueFull: the database is too far behind, and for `full_wait` there was no room: the write is not taken.
            TierError: Redis has not acknowledged it. It may have taken it all the same.
            PurgeUnconfirmed: it is queued, and out of date values are barred here, but the shared tier has not
                confirmed that for the rest of the fleet, where it is repeated.
            DataError: a value that cannot be stored; or called on a running event loop: `await aset(...)` there.
            ConfigError: at the first write, where Redis does not keep what it acknowledges.
        """
        self._off_loop("set")
        more: dict[str, Any] = {"ttl": ttl, "tags": tags}
        call = Enqueue(self._queue, self._queue.name(key), self._body(value))
        raised(drive(self._writing(key, call, value, keeps=True, **more)))

    async def aset(self, key: K, value: V, *, ttl: Duration | None = None, tags: Iterable[str] = ()) -> None:
        """`set` for async code."""
        more: dict[str, Any] = {"ttl": ttl, "tags": tags}
        call = Enqueue(self._queue, self._queue.name(key), self._body(value))
        raised(await adrive(self._writing(key, call, value, keeps=True, **more)))

    def set_many(self, values: Mapping[K, V]) -> None:
        """Queue many values: one round trip for each partition that has some, and one purge for each 1,000. Far cheaper
        than one by one.

        Raises:
            QueueFull, TierError: some of them may have been taken.
            Exception: as for `set`.
        """
        self._off_loop("set_many")
        raised(drive(self._changing(values)))

    async def aset_many(self, values: Mapping[K, V]) -> None:
        """`set_many` for async code."""
        raised(await adrive(self._changing(values)))

    def _changing(self, values: Mapping[K, V]) -> Flow[BaseException | None]:
        members: dict[str, None] = {}
        bodies = {}
        for key, value in values.items():
            bodies[self._queue.name(key)] = self._body(value)
            members.update(dict.fromkeys(self._rule.changed_by(key, self._key(key))))
        self._wiring.lifecycle.ensure_running()
        call = EnqueueMany(self._queue, bodies)
        _, error = yield from writing.written(
            self._engine, list(members), call, lambda error: call.begun or isinstance(error, self._rule.uncertain)
        )
        if error is None or isinstance(error, PurgeUnconfirmed):
            self._counts.writes += len(values)
        return error

    def delete(self, key: K) -> None:
        """Queue the removal of a key. Errors are as for `set`."""
        self._off_loop("delete")
        raised(drive(self._writing(key, Enqueue(self._queue, self._queue.name(key), REMOVAL))))

    async def adelete(self, key: K) -> None:
        """`delete` for async code."""
        raised(await adrive(self._writing(key, Enqueue(self._queue, self._queue.name(key), REMOVAL))))

    def add(self, key: K, number: int = 1) -> int:
        """Add to a whole number, and queue what it comes to: to what is queued, or else to what the database has
        (`load`; None counts as 0). No addition is lost or counted twice. Returns the sum.

        Raises:
            TypeError: the store has no whole number there.
            TierRejected: what is queued there is none, or the sum would be beyond 2**53 - 1.
            Exception: as for `set`, and whatever `load` raises.
        """
        self._off_loop("add")
        call = self._sum(key, number)
        raised(drive(self._writing(key, call)))
        return call.total

    async def aadd(self, key: K, number: int = 1) -> int:
        """`add` for async code and an async loader."""
        call = self._sum(key, number)
        raised(await adrive(self._writing(key, call)))
        return call.total

    def _writing(
        self, key: K, call: Enqueue | EnqueueSum, value: Any = None, **more: Any
    ) -> Flow[BaseException | None]:
        # Not to L2: other processes find it in the queue.
        return self._change(key, self._key(key), value, call, shares=False, write=self._convoy.written, **more)

    def _sum(self, key: K, number: int) -> EnqueueSum:
        if type(number) is not int:
            raise DataError(f"{self._rule.named}: {number!r} is no whole number to add")
        return EnqueueSum(self._queue, key, self._queue.name(key), number, self._base_load, self._base_aload)

    def _body(self, value: V) -> bytes:
        codec = self._rule.codec
        try:
            return queued(value, body_of(value, codec), codec)
        except Exception as error:
            raise DataError(f"{self._rule.named}: {error}") from error

    # -- for those who look after it -----------------------------------------------------------------------------------

    def state(self) -> QueueState:
        """How far the database is behind, over all partitions. Raises `TierError`."""
        states = [self._queue.queue.queue_state(place, self._queue.deadline()) for place in self._places()]
        oldest = [one.oldest for one in states if one.oldest is not None]
        return QueueState(
            sum(one.jobs for one in states),
            sum(one.pending for one in states),
            sum(one.letters for one in states),
            min(oldest) if oldest else None,
        )

    def letters(self) -> list[tuple[Place, Letter]]:
        """The writes that the database did not take, by partition, oldest first. Raises `TierError`."""
        found = []
        for place in self._places():
            found += [(place, letter) for letter in self._queue.queue.letters(place, self._queue.deadline())]
        return found

    def replay(self, place: Place, letter: Letter, *, force: bool = False) -> str:
        """Queue a letter once more, as the newest write of its key: "done", "full", "gone" where somebody else has, or
        "superseded" where its key has been written since and `force` does not say that this is meant."""
        said = self._queue.queue.replay(
            place, letter.receipt, self._queue.terms.most, self._queue.deadline(), force=force
        )
        if said == "done":
            self._invalidate(letter)
        return said

    def drop(self, place: Place, letter: Letter) -> bool:
        """Throw a letter away; whether there was one."""
        return self._queue.queue.drop(place, letter.receipt, self._queue.deadline())

    def forget_partitions(self) -> bool:
        """Let the next writer say how many partitions there are. False: the queue is not empty. To be called while
        nobody writes. Raises `TierError`."""
        queue = self._queue
        begun = queue.queue.layout(self.name, queue.terms.partitions, queue.deadline())
        for partition in range(begun):
            state = queue.queue.queue_state(Place(self.name, partition), queue.deadline())
            if state.jobs or state.letters:
                return False
        queue.queue.forget_layout(self.name, queue.deadline())
        queue.forget_examined()
        return True

    def _invalidate(self, letter: Letter) -> None:
        subject = key_from(letter.name)
        drive(flows.invalidate_quietly(self._engine, self._rule.changed_by(subject, self._key(subject))))

    def _places(self) -> list[Place]:
        return [Place(self.name, partition) for partition in range(self._queue.terms.partitions)]


class Awaited:
    """An async function that writes, for the thread of a worker: on one event loop for as long as that works."""

    def __init__(self, write: Callable[[WriteBatch[Any, Any]], Awaitable[object]]) -> None:
        self._write = write
        self._local = threading.local()

    def __call__(self, batch: WriteBatch[Any, Any]) -> None:
        if not hasattr(self._local, "runner"):
            self._local.runner = asyncio.Runner()
        self._local.runner.run(self._call(batch))

    async def _call(self, batch: WriteBatch[Any, Any]) -> None:
        await self._write(batch)

    def finish(self) -> None:
        """This thread writes no more."""
        runner = self._local.__dict__.pop("runner", None)
        if runner is not None:
            runner.close()
