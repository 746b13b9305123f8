"""Bounded pools that wait: one for all threads, one for each event loop, each for all the servers of a tier.

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
from typing import Any, Protocol

from tiercache.errors import TierError, TierUnavailable


class Place(Protocol):
    """A server."""

    @property
    def where(self) -> str:
        """The server, for messages and to tell it from others: no password."""


class Connection(Protocol):
    """A connection of a thread. Used by one at a time."""

    @property
    def address(self) -> Any: ...

    def quiet(self) -> bool:
        """Whether it can be used again: the peer neither closed it nor sent anything unasked."""

    def drop(self) -> None:
        """Close it. In a forked child this closes the child's copy only, without a word to the server."""


class LoopConnection(Connection, Protocol):
    """A connection of an event loop."""

    def abandon(self) -> tuple[Any, int]:
        """In a forked child: give it up without touching the loop. What is to be kept alive, and its descriptor."""


class Errand(Protocol):
    """What is to be done at a server."""

    @property
    def address(self) -> Any: ...

    def run(self, connection: Any, deadline: float) -> Any: ...

    async def arun(self, connection: Any) -> Any: ...


class Servers(Protocol):
    """Which servers there are, as far as is known."""

    def keeps(self, where: str) -> bool:
        """Whether idle connections to that server are worth keeping."""

    @property
    def version(self) -> int:
        """Rises whenever `keeps` may answer otherwise than before."""


class Dialect(Protocol):
    """What a pool asks of the kind of server that it is for."""

    name: str
    foreign: tuple[type[BaseException], ...]
    """What an errand may raise that is not ours."""

    def connect(self, address: Any) -> Any:
        """A connection that connects when first used."""

    def aconnect(self, address: Any) -> Any:
        """The same for the running event loop."""

    def harmless(self, error: BaseException) -> bool:
        """Whether it is a complete answer, after which the connection is as good as before."""

    def translate(self, error: BaseException, address: Any) -> TierError: ...


class ThreadPool:
    """Connections for any number of threads; `size` bounds those to all servers together."""

    def __init__(self, servers: Servers, size: int, dialect: Dialect) -> None:
        self._servers = servers
        self._size = size
        self._dialect = dialect
        self._slots = threading.Semaphore(size)
        self._idle: dict[str, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._making = threading.Lock()
        self._version = servers.version
        self._closed = False

    def execute(self, deadline: float, errand: Errand) -> Any:
        """Raises `TierError` at the deadline (`time.monotonic()`) at the latest."""
        left = deadline - monotonic()
        dialect, address = self._dialect, errand.address
        if left <= 0:
            raise TierUnavailable(f"no time was left to ask {dialect.name}")
        slots = self._slots
        if not slots.acquire(timeout=left):
            raise TierUnavailable(f"all {self._size} connections to {dialect.name} at {address.where} are busy")
        try:
            connection = self._take(address)
            try:
                reply = errand.run(connection, deadline)
            except dialect.foreign as error:
                if dialect.harmless(error):
                    self._give_back(connection)
                else:
                    self._drop(connection)
                raise
            except BaseException:
                self._drop(connection)
                raise
            self._give_back(connection)
            return reply
        except dialect.foreign as error:
            raise dialect.translate(error, address) from error
        finally:
            slots.release()

    def _take(self, address: Place) -> Connection:
        if self._version != self._servers.version:
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
            made: Connection = self._dialect.connect(address)
            self._all.add(made)
        return made

    def _pop_any(self) -> Connection | None:
        for idle in list(self._idle.values()):
            try:
                return idle.pop()
            except IndexError:
                pass
        return None

    def _prune(self) -> None:
        """Close what is idle at servers that are none of ours any more."""
        self._version = self._servers.version
        for where in list(self._idle):
            if not self._servers.keeps(where):
                idle = self._idle[where]
                while idle:
                    try:
                        self._drop(idle.pop())
                    except IndexError:
                        break

    def _give_back(self, connection: Connection) -> None:
        self._idle.setdefault(connection.address.where, []).append(connection)
        if self._closed:
            self.close()

    def _drop(self, connection: Connection) -> None:
        self._all.discard(connection)
        connection.drop()

    def close(self) -> None:
        """Close the idle ones now, the others when their operation ends."""
        self._closed = True
        while (connection := self._pop_any()) is not None:
            self._drop(connection)

    def forget(self) -> None:
        """In a forked child: close its copies of the sockets."""
        for connection in self._all:
            connection.drop()


class LoopPool:
    """Connections for the tasks of one event loop; `size` bounds those to all servers together."""

    def __init__(self, servers: Servers, size: int, dialect: Dialect) -> None:
        self._servers = servers
        self._size = size
        self._dialect = dialect
        self._slots = asyncio.Semaphore(size)
        self._idle: dict[str, list[LoopConnection]] = {}
        self._all: set[LoopConnection] = set()
        self._version = servers.version
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

    async def execute(self, deadline: float, errand: Errand) -> Any:
        """Raises `TierError` at the deadline (`time.monotonic()`) at the latest."""
        left = deadline - monotonic()
        dialect = self._dialect
        if left <= 0:
            raise TierUnavailable(f"no time was left to ask {dialect.name}")
        slots = self._slots
        waiting = True
        try:
            async with asyncio.timeout(left):
                await slots.acquire()
                waiting = False
                try:
                    return await self._run(errand)
                finally:
                    slots.release()
        except dialect.foreign as error:
            address = errand.address
            if waiting:
                busy = f"all {self._size} connections to {dialect.name} at {address.where} are busy"
                raise TierUnavailable(busy) from None
            raise dialect.translate(error, address) from error

    async def _run(self, errand: Errand) -> Any:
        connection = self._take(errand.address)
        try:
            reply = await errand.arun(connection)
        except self._dialect.foreign as error:
            if self._dialect.harmless(error):
                self._give_back(connection)
            else:
                self._drop(connection)
            raise
        except BaseException:
            self._drop(connection)
            raise
        self._give_back(connection)
        return reply

    def _take(self, address: Place) -> LoopConnection:
        if self._version != self._servers.version:
            self._prune()
        idle = self._idle.get(address.where)
        while idle:
            connection = idle.pop()
            if connection.quiet():
                return connection
            self._drop(connection)
        while len(self._all) >= self._size and (other := self._pop_any()) is not None:
            self._drop(other)
        made: LoopConnection = self._dialect.aconnect(address)
        self._all.add(made)
        return made

    def _pop_any(self) -> LoopConnection | None:
        return next((idle.pop() for idle in self._idle.values() if idle), None)

    def _prune(self) -> None:
        """Cut off what is idle at servers that are none of ours any more."""
        self._version = self._servers.version
        for where, idle in self._idle.items():
            while idle and not self._servers.keeps(where):
                self._drop(idle.pop())

    def _give_back(self, connection: LoopConnection) -> None:
        if self._closed:
            self._drop(connection)
        else:
            self._idle.setdefault(connection.address.where, []).append(connection)

    def _drop(self, connection: LoopConnection) -> None:
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


class Pools:
    """Those of one tier. A forked child makes its own, with locks of its own."""

    def __init__(self, servers: Servers, size: int, dialect: Dialect) -> None:
        self._servers = servers
        self._size = size
        self._dialect = dialect
        self.threads = ThreadPool(servers, size, dialect)
        self.loops: dict[asyncio.AbstractEventLoop, LoopPool] = {}
        # Reentrant: a collection that happens to run meanwhile may end what was left under way, which asks once more.
        self.lock = threading.RLock()

    def execute(self, deadline: float, errand: Errand) -> Any:
        """Raises `TierError` at the deadline (`time.monotonic()`) at the latest."""
        return self.threads.execute(deadline, errand)

    async def aexecute(self, deadline: float, errand: Errand) -> Any:
        """`execute` for the running event loop."""
        pool = self.loops.get(asyncio.get_running_loop()) or await self.new_pool()
        return await pool.execute(deadline, errand)

    async def new_pool(self) -> LoopPool:
        """For the running event loop, which has none yet."""
        loop = asyncio.get_running_loop()
        with self.lock:
            for other in [other for other in self.loops if other.is_closed()]:
                del self.loops[other]
            pool = self.loops[loop] = LoopPool(self._servers, self._size, self._dialect)
        await pool.bind()
        return pool

    def close(self) -> None:
        """Close what is idle now and the rest when its operation ends. Whoever comes after that connects anew."""
        with self.lock:
            threads, loops = self.threads, self.loops
            self.threads = ThreadPool(self._servers, self._size, self._dialect)
            self.loops = {}
        threads.close()
        for loop, pool in loops.items():
            try:
                loop.call_soon_threadsafe(pool.drop_all)
            except RuntimeError:  # the loop is closed, and closed the pool when it ended
                pass

    async def aclose(self) -> None:
        """`close` for the connections of the running event loop alone, which are closed on return."""
        with self.lock:
            pool = self.loops.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    def forget(self) -> None:
        """In a forked child: let go of the parent's connections, and say nothing to the server."""
        self.threads.forget()
        for pool in self.loops.values():
            pool.forget()
