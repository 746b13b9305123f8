"""Connections to a Redis: redis-py's own, made to keep a deadline.

redis-py gives every read its own timeout, so that a server which sends a byte now and then holds the caller for as
long as it likes. Here a connection carries the moment at which the operation must be over, and every step of it
(resolving, connecting, TLS, writing, each read) gets what is left.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import cache
from time import monotonic
from typing import Any, NamedTuple

import redis.asyncio.connection as aio
import redis.connection as sio
from hiredis import pack_command
from redis.exceptions import ReadOnlyError

from tiercache.tiers.redis_credentials import Login
from tiercache.tiers.redis_errors import OF_A_CLUSTER, PERMISSIONS
from tiercache.tiers.sockets import BoundedSocket, Moment, Resolver, dial, known

_TLS_KEPT = 300.0
_STREAM_LIMIT = 256 * 1024


class Tls:
    """One TLS context for the connections of some minutes: making one reads every certificate that the system trusts.

    A new one is made after that, since certificates are renewed while a process runs.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._context: ssl.SSLContext | None = None
        self._until = 0.0

    def context(self) -> ssl.SSLContext:
        """Raises `OSError` (as `ssl.SSLError` is one) for files that are missing or no certificates."""
        now = monotonic()
        if self._context is None or now >= self._until:
            self._context = aio.SSLConnection(**self._options).ssl_context.get()
            self._until = now + _TLS_KEPT
        return self._context


class Address(NamedTuple):
    """How one server is reached."""

    scheme: str
    where: str
    """The server, for messages and to tell it from others: host and port or path, no password."""
    options: dict[str, Any]
    """For redis-py's connections."""
    permissions: str = PERMISSIONS["server"]
    """What the user must be allowed there, for messages."""
    primary: bool = False
    """Whether each new connection makes sure that the server is a primary."""
    tls: Tls | None = None
    login: Login | None = None
    """Where each new connection gets user and password; None: from the options."""

    def at(self, host: str, port: int) -> Address:
        """The same for another server."""
        return self._replace(where=f"{host}:{port}", options={**self.options, "host": host, "port": port})


def _greeting(connection: BoundedConnection | AsyncConnection, login: tuple[str, ...] | None) -> list[tuple[Any, ...]]:
    """What a new connection sends, all at once. redis-py's own would add two rounds to name itself."""
    commands: list[tuple[Any, ...]] = []
    if login is None and (connection.username or connection.password):
        login = (*((connection.username,) if connection.username else ()), connection.password or "")
    if login is not None:
        commands.append(("AUTH", *login))
    if connection.client_name:
        commands.append(("CLIENT", "SETNAME", connection.client_name))
    if connection.db:
        commands.append(("SELECT", connection.db))
    if connection.address.primary:
        commands.append(("ROLE",))
    # A server that wants a password refuses a long command half-way and hangs up, and the hanging up may overtake the
    # reason. To a short question it gives the reason.
    return commands or [("PING",)]


def _check_role(address: Address, reply: Any) -> None:
    """Sentinels may name a server that is no primary yet, or no longer; only the server itself knows."""
    if address.primary and reply[0] not in (b"master", "master"):
        raise ReadOnlyError("READONLY its role is that of a replica")


def _unread(parser: Any) -> bool:
    """Whether the parser has bytes past the last reply: they came unasked, and the next reader would believe them."""
    reader = getattr(parser, "_reader", None)
    if reader is not None:  # hiredis
        return bool(reader.has_data())
    buffer: Any = getattr(parser, "_buffer", None)
    return bool(buffer.unread_bytes() if hasattr(buffer, "unread_bytes") else buffer)


@cache
def _knowing(parser: Any) -> Any:
    """That parser of redis-py, able to tell the errors of a Cluster apart: before 6.0 only the one of redis-py's own
    client for Clusters was, and what stands beside an application is often older (Celery asks for that)."""
    known = parser.EXCEPTION_CLASSES
    if OF_A_CLUSTER.keys() <= known.keys():
        return parser
    return type(parser.__name__, (parser,), {"EXCEPTION_CLASSES": {**known, **OF_A_CLUSTER}})


class BoundedConnection(sio.AbstractConnection):
    """What the three kinds have in common; `moment.at` is set before each operation."""

    def __init__(self, *, address: Address, resolver: Resolver) -> None:
        self.address = address
        self.moment = Moment()
        self.resolver = resolver
        super().__init__(**address.options)

    def _connect(self) -> Any:
        sock = super()._connect()  # type: ignore[safe-super, no-untyped-call]
        known(sock)  # TLS has made another one of it
        return BoundedSocket(sock, self.moment)

    def set_parser(self, parser_class: Any) -> None:
        super().set_parser(_knowing(parser_class))  # type: ignore[no-untyped-call]

    def on_connect(self) -> None:
        self.on_connect_check_health()

    def on_connect_check_health(self, check_health: bool = True) -> None:
        wire: Any = self
        wire._parser.on_connect(self)
        login = self.address.login
        commands = _greeting(self, None if login is None else login.ask(self.moment.left()))
        wire.send_packed_command(wire.pack_commands(commands), check_health=False)
        reply: Any = None
        for _ in commands:
            reply = wire.read_response()
        _check_role(self.address, reply)

    def exchange(self, command: tuple[Any, ...], deadline: float) -> Any:
        """Send a command, connecting if need be, and read its reply, all before `deadline`."""
        wire: Any = self
        self.moment.at = deadline
        wire.send_packed_command(wire.pack_command(*command), check_health=False)
        return wire.read_response()

    def drop(self) -> None:
        """Close it. In a forked child this closes the child's copy only, without a word to the server."""
        wire: Any = self
        wire.disconnect()

    def quiet(self) -> bool:
        sock: Any = self._sock
        return sock is not None and not _unread(self._parser) and sock.quiet()


class _Dialled(sio.Connection):
    moment: Moment
    resolver: Resolver

    def _connect(self) -> socket.socket:
        return dial(self.host, self.port, self.resolver, self.moment)


class _Local(sio.UnixDomainSocketConnection):
    moment: Moment

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        known(sock)
        try:
            sock.settimeout(self.moment.left())
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        return sock


class TcpConnection(BoundedConnection, _Dialled):
    """redis://"""


class TlsConnection(BoundedConnection, sio.SSLConnection, _Dialled):
    """rediss://"""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        assert self.address.tls is not None
        return self.address.tls.context().wrap_socket(sock, server_hostname=self.host)


class UnixConnection(BoundedConnection, _Local):
    """unix://"""


class AsyncConnection(aio.AbstractConnection):
    """What the three kinds have in common. The deadline is the caller's `asyncio.timeout_at`."""

    def __init__(self, *, address: Address) -> None:
        self.address = address
        super().__init__(**address.options)

    def set_parser(self, parser_class: Any) -> None:
        super().set_parser(_knowing(parser_class))

    async def on_connect(self) -> None:
        await self.on_connect_check_health()

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        self._parser.on_connect(self)  # type: ignore[no-untyped-call]
        login = self.address.login
        commands = _greeting(self, None if login is None else await login.aask())
        await self.send_packed_command(self.pack_commands(commands), check_health=False)
        reply: Any = None
        for _ in commands:
            reply = await self.read_response()
        _check_role(self.address, reply)

    async def disconnect(self, *args: Any, **options: Any) -> None:
        self.drop()

    async def exchange(self, command: tuple[Any, ...]) -> Any:
        """Send a command, connecting if need be, and read its reply."""
        # Packed in C: redis-py itself does so for threads, but not for event loops.
        await self.send_packed_command([pack_command(command)], check_health=False)
        return await self.read_response()

    def drop(self) -> None:
        """Cut it off. Closing in good order would wait for a stopped server to take what is still to be written."""
        writer, self._reader, self._writer = self._writer, None, None
        self._parser.on_disconnect()  # type: ignore[no-untyped-call]
        if writer is not None:
            writer.transport.abort()

    def quiet(self) -> bool:
        """Whether the peer neither closed it nor sent anything unasked: else it must not be used again."""
        reader, writer = self._reader, self._writer
        if reader is None or writer is None or writer.transport.is_closing():
            return False
        # `at_eof()` alone overlooks a farewell that was sent before the end.
        stream: Any = reader
        return not (reader.at_eof() or stream._buffer or _unread(self._parser))

    def abandon(self) -> tuple[asyncio.StreamWriter | None, int]:
        """In a forked child: give up the streams without touching the loop, which shares its epoll with the parent."""
        writer, self._reader, self._writer = self._writer, None, None
        sock = writer.get_extra_info("socket") if writer is not None else None
        return writer, sock.fileno() if sock is not None else -1


class AsyncTcpConnection(AsyncConnection, aio.Connection):
    """redis://"""

    def _connection_arguments(self) -> Any:
        # A stream stops reading at twice its limit; 64 KiB, the default, make it stop all the time.
        return {**super()._connection_arguments(), "limit": _STREAM_LIMIT}


class AsyncTlsConnection(AsyncTcpConnection, aio.SSLConnection):
    """rediss://"""

    def __init__(self, *, address: Address) -> None:
        super().__init__(address=address)
        assert address.tls is not None
        self.ssl_context.context = address.tls.context()


class AsyncUnixConnection(AsyncConnection, aio.UnixDomainSocketConnection):
    """unix://"""


def make_connection(address: Address, resolver: Resolver) -> BoundedConnection:
    """A connection that connects when first used."""
    kind: Any = {"redis": TcpConnection, "rediss": TlsConnection, "unix": UnixConnection}[address.scheme]
    connection: BoundedConnection = kind(address=address, resolver=resolver)
    return connection


def make_async_connection(address: Address) -> AsyncConnection:
    """The same for the running event loop."""
    kind: Any = {"redis": AsyncTcpConnection, "rediss": AsyncTlsConnection, "unix": AsyncUnixConnection}[address.scheme]
    connection: AsyncConnection = kind(address=address)
    return connection
