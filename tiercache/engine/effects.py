"""What a flow may ask of the world, and the two drivers that answer.

A flow is a generator: it yields an effect where it needs the world and is sent back what the effect brought, or has
the error of it thrown in, whatever that is: a `finally` of the flow runs at once and not when the flow is collected.
So the order of events is written once, and threads and event loops both drive it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeVar

import tiercache.engine.flights as flights
import tiercache.engine.tracing as tracing
from tiercache.core.records import Message, Stamp, SyncPage, SyncRequest, Wake
from tiercache.engine.ports import SharedStore, Subscription

R = TypeVar("R")


class Effect(Protocol):
    """One request to the world, answerable from a thread and from a task."""

    def run(self) -> Any: ...

    async def arun(self) -> Any: ...


class Blocking(Protocol):
    """One request to the world that only a thread may make."""

    def run(self) -> Any: ...


Flow = Generator[Effect, Any, R]
ThreadFlow = Generator[Blocking, Any, R]


def drive(flow: ThreadFlow[R]) -> R:
    """Run a flow in this thread."""
    trace = tracing.current.get()
    if trace is not None:
        flow = trace.watch(flow)
    try:
        effect = next(flow)
        while True:
            try:
                answer = effect.run()
            except BaseException as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(answer)
    except StopIteration as stop:
        result: R = stop.value
        return result


async def adrive(flow: Flow[R]) -> R:
    """Run a flow in this task; a cancellation is raised inside the flow too."""
    trace = tracing.current.get()
    if trace is not None:
        flow = trace.watch(flow)
    try:
        effect = next(flow)
        while True:
            try:
                answer = await effect.arun()
            except BaseException as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(answer)
    except StopIteration as stop:
        result: R = stop.value
        return result


class Fetch:
    """Read one value of L2."""

    __slots__ = ("deadline", "name", "store")

    def __init__(self, store: SharedStore, name: str, deadline: float) -> None:
        self.store, self.name, self.deadline = store, name, deadline

    def run(self) -> bytes | None:
        return self.store.get(self.name, self.deadline)

    async def arun(self) -> bytes | None:
        return await self.store.aget(self.name, self.deadline)


class FetchMany:
    """Read several values of L2 at once; brings them in the order of their names."""

    __slots__ = ("deadline", "names", "store")

    def __init__(self, store: SharedStore, names: Sequence[str], deadline: float) -> None:
        self.store, self.names, self.deadline = store, names, deadline

    def run(self) -> list[bytes | None]:
        return self.store.get_many(self.names, self.deadline)

    async def arun(self) -> list[bytes | None]:
        return await self.store.aget_many(self.names, self.deadline)


class Keep:
    """Write one value to L2 for `ttl_ms` milliseconds."""

    __slots__ = ("deadline", "name", "store", "ttl_ms", "value")

    def __init__(self, store: SharedStore, name: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        self.store, self.name, self.value, self.ttl_ms, self.deadline = store, name, value, ttl_ms, deadline

    def run(self) -> None:
        self.store.set(self.name, self.value, self.ttl_ms, self.deadline)

    async def arun(self) -> None:
        await self.store.aset(self.name, self.value, self.ttl_ms, self.deadline)


class Invalidate:
    """Write one invalidation into the shared ledger; `seen` is how far this process has read it. With `ack`, whoever
    hears of it is to sync at once."""

    __slots__ = ("ack", "deadline", "everything", "members", "seen", "store")

    def __init__(
        self,
        store: SharedStore,
        members: Sequence[str],
        everything: bool,
        deadline: float,
        seen: Stamp,
        *,
        ack: bool = False,
    ) -> None:
        self.store, self.members, self.everything, self.deadline = store, members, everything, deadline
        self.seen, self.ack = seen, ack

    def run(self) -> list[Message]:
        return self.store.purge(self.members, self.everything, self.deadline, self.seen, ack=self.ack)

    async def arun(self) -> list[Message]:
        return await self.store.apurge(self.members, self.everything, self.deadline, self.seen, ack=self.ack)


class Sync:
    """Ask the shared ledger for what is new, and with `fleet` for the rows of all processes. `bound` is this process's
    staleness bound in seconds."""

    __slots__ = ("bound", "deadline", "fleet", "process_id", "request", "store")

    def __init__(
        self,
        store: SharedStore,
        request: SyncRequest,
        process_id: str,
        deadline: float,
        bound: float,
        *,
        fleet: bool = False,
    ) -> None:
        self.store, self.request, self.process_id, self.deadline = store, request, process_id, deadline
        self.bound, self.fleet = bound, fleet

    def run(self) -> SyncPage:
        return self.store.sync(self.request, self.process_id, self.deadline, self.bound, fleet=self.fleet)

    async def arun(self) -> SyncPage:
        return await self.store.asynchronise(
            self.request, self.process_id, self.deadline, self.bound, fleet=self.fleet
        )


class Probe:
    """Ask where the values lie for a sign of life."""

    __slots__ = ("deadline", "store")

    def __init__(self, store: SharedStore, deadline: float) -> None:
        self.store, self.deadline = store, deadline

    def run(self) -> None:
        self.store.probe(self.deadline)


class Leave:
    """Remove the row of a process that has stopped."""

    __slots__ = ("deadline", "process_id", "store")

    def __init__(self, store: SharedStore, process_id: str, deadline: float) -> None:
        self.store, self.process_id, self.deadline = store, process_id, deadline

    def run(self) -> None:
        self.store.leave(self.process_id, self.deadline)

    async def arun(self) -> None:
        await self.store.aleave(self.process_id, self.deadline)


class Acquire:
    """Take the lease of a name for `ttl_ms` milliseconds, if nobody holds it; brings whether it was taken."""

    __slots__ = ("deadline", "name", "store", "token", "ttl_ms")

    def __init__(self, store: SharedStore, name: str, token: str, ttl_ms: int, deadline: float) -> None:
        self.store, self.name, self.token, self.ttl_ms, self.deadline = store, name, token, ttl_ms, deadline

    def run(self) -> bool:
        return self.store.acquire(self.name, self.token, self.ttl_ms, self.deadline)

    async def arun(self) -> bool:
        return await self.store.aacquire(self.name, self.token, self.ttl_ms, self.deadline)


class Renew(Acquire):
    """Let a lease that is held last `ttl_ms` milliseconds from now."""

    __slots__ = ()

    def run(self) -> bool:
        return self.store.renew(self.name, self.token, self.ttl_ms, self.deadline)

    async def arun(self) -> bool:
        return await self.store.arenew(self.name, self.token, self.ttl_ms, self.deadline)


class Release:
    """Give a lease back, and let those who wait for it know whether there is something in L2 for them."""

    __slots__ = ("deadline", "made", "name", "store", "token")

    def __init__(self, store: SharedStore, name: str, token: str, made: bool, deadline: float) -> None:
        self.store, self.name, self.token, self.made, self.deadline = store, name, token, made, deadline

    def run(self) -> None:
        self.store.release(self.name, self.token, self.made, self.deadline)

    async def arun(self) -> None:
        await self.store.arelease(self.name, self.token, self.made, self.deadline)


class Pause:
    """Let some seconds pass."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run(self) -> None:
        time.sleep(self.seconds)

    async def arun(self) -> None:
        await asyncio.sleep(self.seconds)


class Listen:
    """Subscribe to the bus; brings the confirmed subscription."""

    __slots__ = ("store",)

    def __init__(self, store: SharedStore) -> None:
        self.store = store

    def run(self) -> Subscription:
        return self.store.listen()


class Hear:
    """The next message of a subscription, or None after `timeout` seconds."""

    __slots__ = ("subscription", "timeout")

    def __init__(self, subscription: Subscription, timeout: float) -> None:
        self.subscription, self.timeout = subscription, timeout

    def run(self) -> Message | Wake | None:
        return self.subscription.wait(self.timeout)


class Rest:
    """Let some seconds pass, or fewer if the process stops."""

    __slots__ = ("seconds", "stopping")

    def __init__(self, stopping: threading.Event, seconds: float) -> None:
        self.stopping, self.seconds = stopping, seconds

    def run(self) -> None:
        self.stopping.wait(self.seconds)


class Wait:
    """Wait for a flight to end, until `deadline`; brings its outcome, or `LATE`."""

    __slots__ = ("deadline", "flight")

    def __init__(self, flight: flights.Flight, deadline: float) -> None:
        self.flight, self.deadline = flight, deadline

    def run(self) -> Any:
        done = threading.Event()
        if self.flight.subscribe(done.set) and not done.wait(max(0.0, self.deadline - time.monotonic())):
            self.flight.unsubscribe(done.set)
        return self.flight.outcome or flights.LATE

    async def arun(self) -> Any:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def land() -> None:
            if not done.done():
                done.set_result(None)

        def wake() -> None:
            # The leader may be a thread, or a task of another loop; and this loop may be closed by now.
            try:
                loop.call_soon_threadsafe(land)
            except RuntimeError:
                pass

        if self.flight.subscribe(wake):
            timer = loop.call_later(max(0.0, self.deadline - time.monotonic()), land)
            try:
                await done
            finally:
                timer.cancel()
                self.flight.unsubscribe(wake)
        return self.flight.outcome or flights.LATE
