"""What the engine asks of the stores and the wires. The tiers are built to these; the engine imports none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tiercache.core.keys import Key
from tiercache.core.records import Message, Stamp, SyncPage, SyncRequest, Wake

Clock = Callable[[], float]
"""Seconds that never go back, and that go on while the machine sleeps."""
PurgeWatcher = Callable[[Sequence[str], bool], None]
"""Is told the members of the ledger that are raised, and whether everything is invalidated. Must not raise."""


class LocalStore(Protocol):
    """L1. `lookup` takes no lock and does no I/O; what it returns is shared and must not be changed."""

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

    def get(self, key: str, deadline: float) -> bytes | None: ...

    async def aget(self, key: str, deadline: float) -> bytes | None: ...

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
