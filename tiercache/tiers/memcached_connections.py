"""Connections to a Memcached: pymemcache's for threads and memcachio's for event loops, made to keep a deadline.

A connection does one thing at a time and goes back into its pool only after a complete answer, as those to Redis do.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple, Protocol

from memcachio import TCPConnection
from memcachio.commands import Command, DeleteCommand, GetCommand, SetCommand, VersionCommand
from memcachio.errors import MemcachedError, MemcachioConnectionError, NotEnoughData
from memcachio.types import MemcachedItem, SingleMemcachedInstanceEndpoint
from pymemcache import Client, MemcacheError, MemcacheUnexpectedCloseError

from tiercache.errors import TierError, TierRejected, TierTooLarge, TierUnavailable
from tiercache.tiers.memcached_urls import Address
from tiercache.tiers.sockets import BoundedSocket, Moment, Resolver, dial, known

FOREIGN: tuple[type[BaseException], ...] = (MemcacheError, MemcachedError, OSError, ValueError)
"""What an operation may raise that is not ours; the built-in `TimeoutError` is an `OSError`."""
_FULL = ("out of memory", "too large")
"""What a server says when it cannot take a value. The answer is complete, and the value has been read away."""
_PIECE = 65_536
_LINE = 512
"""Bytes in which a line of an answer has its end: a key has 250 at most."""


class Errand(Protocol):
    """What is to be done on a connection of either kind."""

    def run(self, client: Client) -> Any: ...

    def command(self) -> Command[Any]: ...

    def result(self, answer: Any) -> Any: ...


class Ask(NamedTuple):
    """Something to be done at a server: the errand of a pool."""

    address: Address
    errand: Errand

    def run(self, connection: Connection, deadline: float) -> Any:
        return connection.run(self.errand, deadline)

    async def arun(self, connection: LoopConnection) -> Any:
        return self.errand.result(await connection.exchange(self.errand.command()))


class Get(NamedTuple):
    """Values by key, those that there are; no key twice."""

    keys: Sequence[str]

    def run(self, client: Client) -> dict[str, bytes]:
        found: dict[str, bytes] = client.get_many(self.keys)
        return found

    def command(self) -> Command[Any]:
        return _Fetch(*self.keys)

    def result(self, answer: dict[bytes, MemcachedItem[bytes]]) -> dict[str, bytes]:
        return {key.decode(): item.value for key, item in answer.items()}


class Set(NamedTuple):
    key: str
    value: bytes
    expiry: int

    def run(self, client: Client) -> bool:
        return bool(client.set(self.key, self.value, self.expiry, noreply=False))

    def command(self) -> Command[Any]:
        return SetCommand(self.key, self.value, expiry=self.expiry)

    def result(self, answer: bool) -> bool:
        return answer


class Delete(NamedTuple):
    key: str

    def run(self, client: Client) -> bool:
        return bool(client.delete(self.key, noreply=False))

    def command(self) -> Command[Any]:
        return DeleteCommand(self.key)

    def result(self, answer: bool) -> bool:
        return answer


class Version(NamedTuple):
    """The cheapest of questions."""

    def run(self, client: Client) -> bool:
        return bool(client.version())

    def command(self) -> Command[Any]:
        return VersionCommand()

    def result(self, answer: Any) -> bool:
        return bool(answer)


class _Fetch(GetCommand[bytes]):
    """memcachio begins to read at each piece that arrives, and is lost when one ends right behind a value."""

    def parse(self, data: BytesIO, endpoint: SingleMemcachedInstanceEndpoint) -> dict[bytes, MemcachedItem[bytes]]:
        if not _complete(data):
            raise NotEnoughData(0)
        try:
            return super().parse(data, endpoint)
        except (ValueError, IndexError) as error:
            raise MemcachedError(f"not an answer of Memcached: {error}") from error


def _complete(data: BytesIO) -> bool:
    """Whether all values of an answer are there, and what ends it."""
    at = data.tell()
    with data.getbuffer() as whole:
        while (end := bytes(whole[at : at + _LINE]).find(b"\r\n")) >= 0:
            words = bytes(whole[at : at + end]).split()
            if len(words) < 4 or words[0] != b"VALUE" or not words[3].isdigit():
                return True
            at += end + int(words[3]) + 4
        return len(whole) - at >= _LINE


class _Sockets:
    """What pymemcache takes for the module `socket`: its sockets keep the deadline of a connection."""

    def __init__(self, address: Address, resolver: Resolver, moment: Moment) -> None:
        self.address, self.resolver, self.moment = address, resolver, moment

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def getaddrinfo(self, host: str, port: int, *kinds: int) -> list[Any]:
        """Nothing is looked up yet: only the first address would be tried."""
        return [(socket.AF_UNSPEC, socket.SOCK_STREAM, 0, "", (host, port))]

    def socket(self, *kinds: int) -> _Socket:
        return _Socket(self)


class _Socket:
    """A socket that is there once it is connected."""

    def __init__(self, sockets: _Sockets) -> None:
        self._sockets = sockets
        self._bounded: BoundedSocket | None = None

    def setsockopt(self, *option: int) -> None:
        """Does nothing: `dial` sets what is wanted."""

    def settimeout(self, seconds: float | None) -> None:
        """Does nothing: the deadline rules."""

    def connect(self, where: object) -> None:
        address, moment = self._sockets.address, self._sockets.moment
        sock = dial(address.host, address.port, self._sockets.resolver, moment)
        if address.tls is not None:
            try:
                sock = address.tls.context().wrap_socket(sock, server_hostname=address.host)
            except BaseException:
                sock.close()
                raise
            known(sock)
        self._bounded = BoundedSocket(sock, moment)

    def sendall(self, data: bytes) -> None:
        assert self._bounded is not None
        self._bounded.sendall(data)

    def recv(self, size: int) -> bytes:
        """More than is asked for, where there is more: pymemcache takes it, and would fetch 4 KiB at a time."""
        assert self._bounded is not None
        return self._bounded.recv(max(size, _PIECE))

    def quiet(self) -> bool:
        return self._bounded is not None and self._bounded.quiet()

    def close(self) -> None:
        if self._bounded is not None:
            self._bounded.close()


class Connection:
    """A connection of a thread; connects when first used."""

    def __init__(self, address: Address, resolver: Resolver) -> None:
        self.address = address
        self._moment = Moment()
        sockets: Any = _Sockets(address, resolver, self._moment)
        self._client: Any = Client((address.host, address.port), socket_module=sockets, default_noreply=False)

    def run(self, errand: Errand, deadline: float) -> Any:
        self._moment.at = deadline
        return errand.run(self._client)

    def quiet(self) -> bool:
        sock = self._client.sock
        return sock is not None and sock.quiet()

    def drop(self) -> None:
        """Close it. In a forked child this closes the child's copy only, without a word to the server."""
        self._client.close()


class LoopConnection(TCPConnection):
    """A connection of an event loop; connects when first used. The deadline is the caller's `asyncio.timeout`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._wire: asyncio.Transport | None = None
        self._asked = False
        self._unasked = False
        super().__init__(
            (address.host, address.port),
            connect_timeout=None,
            read_timeout=None,
            socket_nodelay=True,
            ssl_context=address.tls.context() if address.tls is not None else None,
        )

    def connection_made(self, transport: Any) -> None:
        self._wire = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._asked:
            self._unasked = True
        super().data_received(data)

    async def exchange(self, command: Command[Any]) -> Any:
        if not self.connected:
            await self.connect()
        self._asked = True
        try:
            self.create_request(command)
            return await command.response
        finally:
            self._asked = False

    def quiet(self) -> bool:
        """Whether the peer neither closed it nor sent anything unasked: else it must not be used again."""
        wire = self._wire
        return self.connected and not self._unasked and wire is not None and not wire.is_closing()

    def drop(self) -> None:
        """Cut it off. Closing in good order would wait for a stopped server to take what is still to be written."""
        if self._wire is not None:
            self._wire.abort()
        self.close()

    def abandon(self) -> tuple[Any, int]:
        """In a forked child: give it up without touching the loop, which shares its epoll with the parent."""
        wire, self._wire = self._wire, None
        sock = wire.get_extra_info("socket") if wire is not None else None
        return (self, wire), sock.fileno() if sock is not None else -1


class Dialect:
    """What the pools ask."""

    name = "Memcached"
    foreign = FOREIGN

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def connect(self, address: Address) -> Connection:
        return Connection(address, self._resolver)

    def aconnect(self, address: Address) -> LoopConnection:
        return LoopConnection(address)

    def harmless(self, error: BaseException) -> bool:
        # pymemcache itself hangs up whatever the error is.
        return isinstance(error, MemcachedError) and any(word in str(error) for word in _FULL)

    def translate(self, error: BaseException, address: Address) -> TierError:
        return translate(error, address.where)


def translate(error: BaseException, where: str) -> TierError:
    """The `TierError` for an error of a client library or the system."""
    if isinstance(error, MemcachioConnectionError) and isinstance(error.__cause__, OSError):
        error = error.__cause__  # It says what has happened.
    said = error.args[0] if error.args else ""
    text = said.decode("ascii", "replace") if isinstance(said, bytes) else str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return TierUnavailable(f"Memcached at {where} did not answer in time ({text})")
    if isinstance(error, OSError | MemcacheUnexpectedCloseError):
        return TierUnavailable(f"Memcached at {where} cannot be reached: {text}")
    if "too large" in text:
        return TierTooLarge(f"a value is larger than what Memcached at {where} takes (its option -I): {text}")
    return TierRejected(f"Memcached at {where} answered: {text}")
