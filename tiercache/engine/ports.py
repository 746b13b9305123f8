"""What the engine asks of the stores and the wires. The tiers are built to these; the engine imports none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tiercache.core.keys import Key
from tiercache.core.records import Message, Stamp, SyncPage, SyncRequest, Wake
from tiercache.core.user_sessions import Lifetime, Rotation, SessionChanges, StoredSession
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

if TYPE_CHECKING:
    from tiercache.engine.effects import Flow

Clock = Callable[[], float]
"""Seconds that never go back, and that go on while the machine sleeps."""
PurgeWatcher = Callable[[Sequence[str], bool], None]
"""Is told the members of the ledger that are raised, and whether everything is invalidated. Must not raise."""


class LocalStore(Protocol):
    """L1. `lookup` takes no lock and does no I/O; what it returns is shared and must not be changed."""

    @property
    def sessions(self) -> SessionStore:
        """For sessions of users where no shared tier has them."""

    def lookup(self, key: Key) -> Any | None: ...

    def store(self, key: Key, value: Any, size: int, keep_until: float) -> bool: ...

    def discard(self, key: Key) -> bool: ...

    def clear(self) -> None: ...

    def reset_after_fork(self) -> None: ...


class Subscription(Protocol):
    """A subscription that the server has confirmed."""

    def wait(self, timeout: float) -> Message | Wake | None:
        """The next message, or None after `timeout` seconds. Raises `TierUnavailable` when cut off."""

    def close(self) -> None: ...


class SharedStore(Protocol):
    """L2 with the ledger beside it. `deadline` is a moment of `time.monotonic()`; every call may raise `TierError`."""

    @property
    def apart(self) -> bool:
        """Whether the values lie elsewhere than the ledger: a sync that is answered tells nothing of them."""

    @property
    def alone(self) -> bool:
        """Whether the ledger is this process's own, so that no other one hears of its purges."""

    # Further capabilities: None where it has not got them.

    @property
    def queue(self) -> WriteQueue | None: ...

    @property
    def sessions(self) -> SessionStore | None: ...

    def probe(self, deadline: float) -> None:
        """Raises `TierError` where values cannot be reached although syncs are answered."""

    def get(self, key: str, deadline: float) -> bytes | None: ...

    async def aget(self, key: str, deadline: float) -> bytes | None: ...

    def get_many(self, keys: Sequence[str], deadline: float) -> list[bytes | None]: ...

    async def aget_many(self, keys: Sequence[str], deadline: float) -> list[bytes | None]: ...

    def set(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None: ...

    async def aset(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None: ...

    def purge(
        self, members: Sequence[str], everything: bool, deadline: float, seen: Stamp, *, ack: bool = False
    ) -> list[Message]: ...

    async def apurge(
        self, members: Sequence[str], everything: bool, deadline: float, seen: Stamp, *, ack: bool = False
    ) -> list[Message]: ...

    def sync(
        self, request: SyncRequest, process_id: str, deadline: float, bound: float, *, fleet: bool = False
    ) -> SyncPage: ...

    async def asynchronise(
        self, request: SyncRequest, process_id: str, deadline: float, bound: float, *, fleet: bool = False
    ) -> SyncPage: ...

    def acquire(self, name: str, token: str, ttl_ms: int, deadline: float) -> bool: ...

    async def aacquire(self, name: str, token: str, ttl_ms: int, deadline: float) -> bool: ...

    def renew(self, name: str, token: str, ttl_ms: int, deadline: float) -> bool: ...

    async def arenew(self, name: str, token: str, ttl_ms: int, deadline: float) -> bool: ...

    def release(self, name: str, token: str, made: bool, deadline: float) -> None: ...

    async def arelease(self, name: str, token: str, made: bool, deadline: float) -> None: ...

    def leave(self, process_id: str, deadline: float) -> None: ...

    async def aleave(self, process_id: str, deadline: float) -> None: ...

    def listen(self, deadline: float | None = None) -> Subscription: ...

    def reset_after_fork(self) -> None: ...

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class WriteQueue(Protocol):
    """What write-behind stores ask of a shared tier: queues of writes that the database does not have yet.

    `deadline` as for a `SharedStore`. What only the owner of a partition may do returns None or False for another's
    token.
    """

    def put(self, place: Place, writes: Sequence[Write], limit: int, deadline: float) -> list[Receipt] | None: ...

    async def aput(
        self, place: Place, writes: Sequence[Write], limit: int, deadline: float
    ) -> list[Receipt] | None: ...

    def add(self, place: Place, write: Sum, limit: int, base: Base | None, deadline: float) -> Added: ...

    async def aadd(self, place: Place, write: Sum, limit: int, base: Base | None, deadline: float) -> Added: ...

    def submit(self, errands: Sequence[Errand], limit: int, deadline: float) -> list[Any]: ...

    async def asubmit(self, errands: Sequence[Errand], limit: int, deadline: float) -> list[Any]: ...

    def pending(self, place: Place, names: Sequence[str], deadline: float) -> list[Pending | None]: ...

    async def apending(self, place: Place, names: Sequence[str], deadline: float) -> list[Pending | None]: ...

    def attend(self, store: str, token: str, ttl_ms: int, deadline: float) -> list[str]: ...

    def depart(self, store: str, token: str, deadline: float) -> None: ...

    def take(self, place: Place, token: str, ttl_ms: int, deadline: float, *, above: int = 0) -> int | None: ...

    def give(self, place: Place, token: str, deadline: float) -> None: ...

    def jobs(self, place: Place, count: int, deadline: float, *, after: int = 0) -> list[Job]: ...

    def ack(self, place: Place, token: str, jobs: Sequence[Job], deadline: float) -> bool: ...

    def bury(self, place: Place, token: str, job: Job, error: str, attempts: int, deadline: float) -> bool: ...

    def letters(self, place: Place, deadline: float) -> list[Letter]: ...

    def replay(self, place: Place, receipt: Receipt, limit: int, deadline: float, *, force: bool) -> str: ...

    def drop(self, place: Place, receipt: Receipt, deadline: float) -> bool: ...

    def queue_state(self, place: Place, deadline: float) -> QueueState: ...

    def durability(self, place: Place, deadline: float) -> Durability: ...

    def layout(self, store: str, partitions: int, deadline: float) -> int: ...

    def forget_layout(self, store: str, deadline: float) -> None: ...


class SessionStore(Protocol):
    """What sessions of users ask of a shared tier. Each call is a flow, for threads and event loops alike.

    `deadline` as for a `SharedStore`; `token` names the state of a session after a change. What is changed is False
    where there is no such session any more.
    """

    def load(self, session: str, lifetime: Lifetime, deadline: float) -> Flow[StoredSession | None]: ...

    def begin(
        self, session: str, changes: SessionChanges, token: str, lifetime: Lifetime, deadline: float
    ) -> Flow[bool]: ...

    def save(
        self, session: str, changes: SessionChanges, token: str, lifetime: Lifetime, deadline: float
    ) -> Flow[bool]: ...

    def rotate(
        self,
        session: str,
        fresh: str,
        rotation: Rotation,
        token: str,
        lifetime: Lifetime,
        grace: float,
        deadline: float,
    ) -> Flow[bool]: ...

    def drop(self, session: str, deadline: float) -> Flow[None]: ...

    def revoke(self, tag: str, deadline: float) -> Flow[int]: ...
