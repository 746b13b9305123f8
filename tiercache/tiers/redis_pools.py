"""Bounded pools that wait: one for all threads, one for each event loop, each for all the servers of a topology.

A connection goes back into its pool only after a complete reply. Whatever else ends an operation (an error, the
deadline, a cancelled task, an exception thrown into a thread) may have left a reply on the way, which the next
operation would take for its own; so the connection is dropped.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Any

from redis.exceptions import ResponseError

from tiercache.errors import TierUnavailable
from tiercache.tiers.redis_connections import (
    Address,
    AsyncConnection,
    BoundedConnection,
    Resolver,
    make_async_connection,
    make_connection,
)
from tiercache.tiers.redis_errors import FOREIGN, spoils_connection, translate
from tiercache.tiers.redis_pipelines import Pipeline
from tiercache.tiers.redis_topology import Ask, Topology

_ASKING = ("ASKING",)


class ThreadPool:
    """Connections for any number of threads; `size` bounds those to all servers together."""

    def __init__(self, topology: Topology, size: int, resolver: Resolver) -> None:
        self._topology = topology
        self._size = size
        self._resolver = resolver
        self._slots = threading.Semaphore(size)
        self._idle: dict[str, list[BoundedConnection]] = {}
        self._all: set[BoundedConnection] = set()
        self._making = threading.Lock()
        self._version = topology.version
        self._closed = False

    def execute(self, deadline: float, ask: Ask) -> Any:
        """One command and its reply. Raises `TierError` at the deadline (`time.monotonic()`) at the latest."""
        left = deadline - monotonic()
        if left <= 0:
            raise TierUnavailable("no time was left to ask Redis")
        address = ask.address
        slots = self._slots
        if not slots.acquire(timeout=left):
            raise TierUnavailable(f"all {self._size} connections to Redis at {address.where} are busy")
        try:
            connection = self._take(address)
            try:
                if ask.asking:
                    connection.exchange(_ASKING, deadline)
                command = ask.command
                if isinstance(command, Pipeline):
                    command.run(connection, deadline)
                    reply = None
                else:
                    reply = connection.exchange(command, deadline)
            except ResponseError as error:
                if spoils_connection(error):
                    self._drop(connection)
                else:
                    self._give_back(connection)
                raise
            except BaseException:
                self._drop(connection)
                raise
            self._give_back(connection)
            return reply
        except FOREIGN as error:
            raise translate(error, address.where, address.permissions) from error
        finally:
            slots.release()

    def _take(self, address: Address) -> BoundedConnection:
        if self._version != self._topology.version:
            self._prune()
        idle = self._idle.get(address.where)
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.quiet():
                return connection
            self._drop(connection)
        with self._making:
            # Whoever is here holds a slot, so that of as many connections at least one is idle, at another server.
            while len(self._all) >= self._size and (other := self._pop_any()) is not None:
                self._drop(other)
            connection = make_connection(address, self._resolver)
            self._all.add(connection)
        return connection

    def _pop_any(self) -> BoundedConnection | None:
        for idle in list(self._idle.values()):
            try:
                return idle.pop()
            except IndexError:
                pass
        return None

    def _prune(self) -> None:
        """Close what is idle at servers that are none of ours any more."""
        self._version = self._topology.version
        for where in list(self._idle):
            if not self._topology.keeps(where):
                idle = self._idle[where]
                while idle:
                    try:
                        self._drop(idle.pop())
                    except IndexError:
                        break

    def _give_back(self, connection: BoundedConnection) -> None:
        self._idle.setdefault(connection.address.where, []).append(connection)
        if self._closed:
            self.close()

    def _drop(self, connection: BoundedConnection) -> None:
        self._all.discard(connection)
        connection.drop()

    def close(self) -> None:
        """Close the idle ones now, the others when their operation ends."""
        self._closed = True
        while (connection := self._pop_any()) is not None:
            self._drop(connection)

    def forget(self) -> None:
        """In a forked child: close its copies of the sockets; redis-py shuts nothing down in a process not its own."""
        for connection in self._all:
            connection.drop()


class LoopPool:
    """Connections for the tasks of one event loop; `size` bounds those to all servers together."""

    def __init__(self, topology: Topology, size: int) -> None:
        self._topology = topology
        self._size = size
        self._slots = asyncio.Semaphore(size)
        self._idle: dict[str, list[AsyncConnection]] = {}
        self._all: set[AsyncConnection] = set()
        self._version = topology.version
        self._closed = False
        self._end: AsyncGenerator[None] | None = None

    async def bind(self) -> None:
        """Have the loop close this pool when it ends.

        `asyncio.run` and its like close the asynchronous generators that were begun in the loop, and that is the
        only moment after the last task at which a transport can still be closed properly.
        """
        self._end = self._until_the_loop_ends()
        await anext(self._end)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self.drop_all()
            # The transports close their sockets in the next round of the loop.
            await asyncio.sleep(0)

    async def execute(self, deadline: float, ask: Ask) -> Any:
        """One command and its reply. Raises `TierError` at the deadline (`time.monotonic()`) at the latest."""
        left = deadline - monotonic()
        if left <= 0:
            raise TierUnavailable("no time was left to ask Redis")
        slots = self._slots
        waiting = True
        try:
            async with asyncio.timeout(left):
                await slots.acquire()
                waiting = False
                try:
                    return await self._run(ask)
                finally:
                    slots.release()
        except FOREIGN as error:
            address = ask.address
            if waiting:
                raise TierUnavailable(f"all {self._size} connections to Redis at {address.where} are busy") from None
            raise translate(error, address.where, address.permissions) from error

    async def _run(self, ask: Ask) -> Any:
        connection = self._take(ask.address)
        try:
            if ask.asking:
                await connection.exchange(_ASKING)
            command = ask.command
            if isinstance(command, Pipeline):
                await command.arun(connection)
                reply = None
            else:
                reply = await connection.exchange(command)
        except ResponseError as error:
            if spoils_connection(error):
                self._drop(connection)
            else:
                self._give_back(connection)
            raise
        except BaseException:
            self._drop(connection)
            raise
        self._give_back(connection)
        return reply

    def _take(self, address: Address) -> AsyncConnection:
        if self._version != self._topology.version:
            self._prune()
        idle = self._idle.get(address.where)
        while idle:
            connection = idle.pop()
            if connection.quiet():
                return connection
            self._drop(connection)
        while len(self._all) >= self._size and (other := self._pop_any()) is not None:
            self._drop(other)
        connection = make_async_connection(address)
        self._all.add(connection)
        return connection

    def _pop_any(self) -> AsyncConnection | None:
        return next((idle.pop() for idle in self._idle.values() if idle), None)

    def _prune(self) -> None:
        """Cut off what is idle at servers that are none of ours any more."""
        self._version = self._topology.version
        for where, idle in self._idle.items():
            while idle and not self._topology.keeps(where):
                self._drop(idle.pop())

    def _give_back(self, connection: AsyncConnection) -> None:
        if self._closed:
            self._drop(connection)
        else:
            self._idle.setdefault(connection.address.where, []).append(connection)

    def _drop(self, connection: AsyncConnection) -> None:
        self._all.discard(connection)
        connection.drop()

    def drop_all(self) -> None:
        """Cut the idle ones off now, the others when their operation ends. Only in the loop's own thread."""
        self._closed = True
        while (connection := self._pop_any()) is not None:
            self._drop(connection)

    async def aclose(self) -> None:
        """Close the idle ones, and let the loop finish with them."""
        if self._end is not None:
            await self._end.aclose()
        self.drop_all()

    def forget(self) -> None:
        """In a forked child: let go of the sockets, and leave the loop alone.

        The child's copy of the loop polls through the same epoll instance as the parent's, so closing a transport
        would take the parent's connection out of it. Each descriptor becomes one of /dev/null instead, and the
        objects are kept, so that no finalizer closes them either.
        """
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            for connection in self._all:
                writer, descriptor = connection.abandon()
                if descriptor >= 0:
                    os.dup2(nowhere, descriptor, inheritable=False)
                _abandoned.append(writer)
        finally:
            os.close(nowhere)
        _abandoned.append(self)


_abandoned: list[Any] = []
