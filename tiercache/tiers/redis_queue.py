"""What a Redis tier does with the queues of write-behind stores; how they lie there: `redis_queue_scripts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from tiercache.core.write_queue import (
    Added,
    Base,
    Durability,
    Errand,
    Job,
    Letter,
    Pending,
    Place,
    QueueState,
    Receipt,
    Sum,
    Write,
)
from tiercache.errors import TierError
from tiercache.tiers import redis_queue_scripts as scripts
from tiercache.tiers.redis_calls import Commands, Driver
from tiercache.tiers.redis_pipelines import REFUSED, Several, by_server
from tiercache.tiers.redis_wire import Wire

T = TypeVar("T")


class _Tier(Driver, Protocol):
    """What `QueueCommands` asks of the tier that it belongs to."""

    _wire: Wire


class QueueCommands:
    """The queues of a tier. Each call is over by `deadline`, a moment on `time.monotonic()`, or raises `TierError`.

    `token` names a worker; what only the owner of a partition may do returns None, or False, where another worker has
    taken it over.
    """

    def put(self: _Tier, place: Place, writes: Sequence[Write], limit: int, deadline: float) -> list[Receipt] | None:
        """Queue writes, all or none. None: there would be more than `limit` jobs."""
        keys = scripts.keys_of(self.namespace, place)
        return self._drive(deadline, scripts.put(keys, writes, limit), keys[0])

    async def aput(
        self: _Tier, place: Place, writes: Sequence[Write], limit: int, deadline: float
    ) -> list[Receipt] | None:
        """`put` for the running event loop."""
        keys = scripts.keys_of(self.namespace, place)
        return await self._adrive(deadline, scripts.put(keys, writes, limit), keys[0])

    def add(self: _Tier, place: Place, write: Sum, limit: int, base: Base | None, deadline: float) -> Added:
        """Queue the sum of a number and what is pending, or else the base."""
        keys = scripts.keys_of(self.namespace, place)
        return self._drive(deadline, scripts.add(keys, write, limit, base), keys[0])

    async def aadd(self: _Tier, place: Place, write: Sum, limit: int, base: Base | None, deadline: float) -> Added:
        """`add` for the running event loop."""
        keys = scripts.keys_of(self.namespace, place)
        return await self._adrive(deadline, scripts.add(keys, write, limit, base), keys[0])

    def submit(self: _Tier, errands: Sequence[Errand], limit: int, deadline: float) -> list[Any]:
        """Several at once, in one round trip to each server that has some of them: for each what `put` says, or `add`
        without a base, or the `TierError` that it would raise."""
        keys = [scripts.keys_of(self.namespace, errand.place) for errand in errands]
        replies: list[Any] = [REFUSED] * len(errands)
        for group in _by_server(self, keys):
            flows, pipeline = _begun(errands, keys, group, limit)
            try:
                self._wire.walk(deadline, keys[group[0]][0], pipeline)
            except TierError as error:
                flows, pipeline.replies = [], [error] * len(group)
            _ended(replies, group, flows, pipeline.replies)
        for index in _left(replies):
            try:
                replies[index] = self._drive(deadline, _flow(errands[index], keys[index], limit), keys[index][0])
            except TierError as error:
                replies[index] = error
        return replies

    async def asubmit(self: _Tier, errands: Sequence[Errand], limit: int, deadline: float) -> list[Any]:
        """`submit` for the running event loop."""
        keys = [scripts.keys_of(self.namespace, errand.place) for errand in errands]
        replies: list[Any] = [REFUSED] * len(errands)
        for group in _by_server(self, keys):
            flows, pipeline = _begun(errands, keys, group, limit)
            try:
                await self._wire.awalk(deadline, keys[group[0]][0], pipeline)
            except TierError as error:
                flows, pipeline.replies = [], [error] * len(group)
            _ended(replies, group, flows, pipeline.replies)
        for index in _left(replies):
            try:
                replies[index] = await self._adrive(deadline, _flow(errands[index], keys[index], limit), keys[index][0])
            except TierError as error:
                replies[index] = error
        return replies

    def pending(self: _Tier, place: Place, names: Sequence[str], deadline: float) -> list[Pending | None]:
        """The newest write of each key that the database does not have."""
        keys = scripts.keys_of(self.namespace, place)
        return self._drive(deadline, scripts.pending(keys, names), keys[0])

    async def apending(self: _Tier, place: Place, names: Sequence[str], deadline: float) -> list[Pending | None]:
        """`pending` for the running event loop."""
        keys = scripts.keys_of(self.namespace, place)
        return await self._adrive(deadline, scripts.pending(keys, names), keys[0])

    def layout(self: _Tier, store: str, partitions: int, deadline: float) -> int:
        """The number of partitions that the store was begun with, which is this one if it has just begun."""
        key = scripts.layout_of(self.namespace, store)
        return self._drive(deadline, scripts.layout(key, partitions), key)

    def forget_layout(self: _Tier, store: str, deadline: float) -> None:
        """Let the store be begun anew, with another number of partitions."""
        key = scripts.layout_of(self.namespace, store)
        self._drive(deadline, scripts.forget(key), key)

    # For workers, which are threads

    def attend(self: _Tier, store: str, token: str, ttl_ms: int, deadline: float) -> list[str]:
        """Be one of the workers of a store for `ttl_ms` milliseconds from now; the tokens of all, sorted."""
        key = scripts.workers_of(self.namespace, store)
        return self._drive(deadline, scripts.attend(key, token, ttl_ms), key)

    def depart(self: _Tier, store: str, token: str, deadline: float) -> None:
        """Be none of them any more."""
        key = scripts.workers_of(self.namespace, store)
        self._drive(deadline, scripts.depart(key, token), key)

    def take(self: _Tier, place: Place, token: str, ttl_ms: int, deadline: float, *, above: int = 0) -> int | None:
        """Own a partition for `ttl_ms` milliseconds from now, or go on to. The fencing token, which rises with each
        owner; None while another one owns it. `above`: what the database has seen, where that is known: a server that
        has taken over may have forgotten it."""
        return _at(self, place, deadline, lambda keys: scripts.take(keys, token, ttl_ms, above))

    def give(self: _Tier, place: Place, token: str, deadline: float) -> None:
        """Own it no longer."""
        _at(self, place, deadline, lambda keys: scripts.give(keys, token))

    def jobs(self: _Tier, place: Place, count: int, deadline: float, *, after: int = 0) -> list[Job]:
        """The oldest jobs behind number `after`, in order."""
        return _at(self, place, deadline, lambda keys: scripts.jobs(keys, count, after))

    def ack(self: _Tier, place: Place, token: str, jobs: Sequence[Job], deadline: float) -> bool:
        """The database has these. False: another worker has taken over, and nothing was removed."""
        return _at(self, place, deadline, lambda keys: scripts.ack(keys, token, jobs))

    def bury(self: _Tier, place: Place, token: str, job: Job, error: str, attempts: int, deadline: float) -> bool:
        """The database does not take this one: keep it aside. False: another worker has taken over."""
        return _at(self, place, deadline, lambda keys: scripts.bury(keys, token, job, error, attempts))

    def letters(self: _Tier, place: Place, deadline: float) -> list[Letter]:
        """What has been kept aside, oldest first."""
        return _at(self, place, deadline, scripts.letters)

    def replay(self: _Tier, place: Place, receipt: Receipt, limit: int, deadline: float, *, force: bool) -> str:
        """Queue a letter once more, as the newest write of its key: "done", "full", "gone", or "superseded" where that
        key has been written since and `force` does not say that this is meant."""
        return _at(self, place, deadline, lambda keys: scripts.replay(keys, receipt, limit, force=force))

    def drop(self: _Tier, place: Place, receipt: Receipt, deadline: float) -> bool:
        """Throw a letter away; whether there was one."""
        return _at(self, place, deadline, lambda keys: scripts.drop(keys, receipt))

    def queue_state(self: _Tier, place: Place, deadline: float) -> QueueState:
        """How far the database is behind in a partition."""
        return _at(self, place, deadline, scripts.state)

    def durability(self: _Tier, place: Place, deadline: float) -> Durability:
        """What the server of a partition says of how it keeps what it acknowledges."""
        return _at(self, place, deadline, lambda _: scripts.durability())


def _at(tier: _Tier, place: Place, deadline: float, flow: Callable[[tuple[str, ...]], Commands[T]]) -> T:
    keys = scripts.keys_of(tier.namespace, place)
    return tier._drive(deadline, flow(keys), keys[0])


Keys = Sequence[Sequence[str]]


def _by_server(tier: _Tier, keys: Keys) -> list[list[int]]:
    """Which of them are asked for together. Those that are alone, or whose server is not known, go by themselves."""
    if len(keys) == 1:
        return []
    groups, _ = by_server(tier._wire.topology, range(len(keys)), lambda index: keys[index][0])
    return [group for group in groups if len(group) > 1]


def _begun(
    errands: Sequence[Errand], keys: Keys, group: Sequence[int], limit: int
) -> tuple[list[Commands[Any]], Several]:
    """Flows, and what they ask for first."""
    flows = [_flow(errands[index], keys[index], limit) for index in group]
    return flows, Several([next(flow) for flow in flows])


def _flow(errand: Errand, keys: Sequence[str], limit: int) -> Commands[Any]:
    if errand.sum is not None:
        return scripts.add(keys, errand.sum, limit, None)
    return scripts.put(keys, errand.writes, limit)


def _ended(replies: list[Any], group: Sequence[int], flows: Sequence[Commands[Any]], found: Sequence[Any]) -> None:
    """Note what came of each. What the server would not do, for lack of the script for instance, stays REFUSED: it is
    done once more from the start, by its id."""
    for position, index in enumerate(group):
        replies[index] = found[position]
        if flows and found[position] is not REFUSED:
            try:
                flows[position].send(found[position])
            except StopIteration as end:
                replies[index] = end.value
            except TierError as error:
                replies[index] = error
            else:
                replies[index] = REFUSED


def _left(replies: Sequence[Any]) -> list[int]:
    return [index for index, reply in enumerate(replies) if reply is REFUSED]
