"""An open-loop HTTP client: requests leave when they are due, whether or not the ones before have been answered.

A latency is counted from when the request was *due*. A client that waits for one answer before it sends the next asks
less of a server the slower that is, and so leaves out of its percentiles the waiting of all whom it did not send
(coordinated omission). Raw streams, since a client that is slower than the server measures itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

LATE_START = 0.05
"""Seconds from the moment that a plan is handed in to its first request."""


class Planned(NamedTuple):
    """One request: when it is due, in seconds from the start; the worker; the path."""

    due: float
    worker: int
    path: str


class Action(NamedTuple):
    """Something that happens to the surroundings at that time; it may block, and is run beside the load."""

    due: float
    act: Callable[[], object]


class Sample(NamedTuple):
    """One request as the client saw it. `status` is 0 where no whole answer came in time."""

    due: float
    latency: float
    status: int


class _Connection(asyncio.Protocol):
    """One connection that carries one exchange at a time."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[int] | None = None
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._buffer.clear()
        self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._waiting is None or self._waiting.done():
            return
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        length = fields.get(b"content-length")
        if length is None:
            self._fail("an answer without Content-Length")
        elif len(self._buffer) >= end + 4 + int(length):
            if fields.get(b"connection", b"").lower() == b"close":
                self.usable = False
            self._waiting.set_result(int(lines[0].split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection was closed")

    def _fail(self, why: str) -> None:
        self.usable = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(why))

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()


class Client:
    """Connections to the workers on these ports. One that waits is used again, and a new one is made if there is none.

    Args:
        patience: seconds after which a request counts as failed.
    """

    def __init__(self, ports: Sequence[int], patience: float = 10.0) -> None:
        self.ports = ports
        self._patience = patience
        self._idle: list[list[_Connection]] = [[] for _ in ports]

    async def connect(self, each: int) -> None:
        """Have at least this many connections to each worker, so that a burst does not measure the handshakes."""
        for worker, idle in enumerate(self._idle):
            while len(idle) < each:
                idle.append(await self._open(worker))

    async def _open(self, worker: int) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self.ports[worker])
        return connection

    async def get(self, worker: int, path: str, due: float | None = None) -> Sample:
        """Ask now; the latency counts from `due` (monotonic seconds; None: from now)."""
        due = time.monotonic() if due is None else due
        status = 0
        try:
            async with asyncio.timeout(self._patience):
                status = await self._exchange(worker, path)
        except (OSError, TimeoutError):
            pass
        return Sample(due, time.monotonic() - due, status)

    async def _exchange(self, worker: int, path: str) -> int:
        idle = self._idle[worker]
        while idle and not idle[-1].usable:
            idle.pop()
        connection = idle.pop() if idle else await self._open(worker)
        answered = False
        try:
            status = await connection.ask(b"GET %b HTTP/1.1\r\nHost: load\r\n\r\n" % path.encode())
            answered = True
        finally:
            if answered and connection.usable:
                idle.append(connection)
            else:
                connection.close()
        return status

    async def run(self, plan: Sequence[Planned], actions: Sequence[Action] = ()) -> tuple[float, list[Sample]]:
        """Send each request of a plan (in the order of time) when it is due.

        Returns:
            the moment that the plan began (monotonic seconds), and the samples, in the order of the plan.
        """
        start = time.monotonic() + LATE_START
        acting = [asyncio.create_task(_act(start, action)) for action in actions]
        asked: list[asyncio.Task[Sample]] = []
        for planned in plan:
            due = start + planned.due
            if (ahead := due - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            asked.append(asyncio.create_task(self.get(planned.worker, planned.path, due)))
        samples = await _all(asked)
        await _all(acting)
        return start, samples

    def close(self) -> None:
        for idle in self._idle:
            for connection in idle:
                connection.close()
            idle.clear()


async def _all(tasks: Sequence[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*tasks))


async def _act(start: float, action: Action) -> None:
    await asyncio.sleep(start + action.due - time.monotonic())
    await asyncio.to_thread(action.act)
