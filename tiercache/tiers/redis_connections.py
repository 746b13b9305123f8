"""Connections to one Redis: redis-py's own, made to keep a deadline.

redis-py gives every read its own timeout, so that a server which sends a byte now and then holds the caller for as
long as it likes. Here a connection carries the moment at which the operation must be over, and every step of it
(resolving, connecting, TLS, writing, each read) gets what is left.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import threading
import weakref
from concurrent.futures import Future
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import redis.asyncio.connection as aio
import redis.connection as sio

from tiercache.errors import ConfigError

_ACCEPTED = "redis://[[user]:password@]host[:port][/db], rediss://... (TLS) or unix://[[user]:password@]/path[?db=N]"
_PARAMETERS = {"db", "client_name", "username", "password"}
_READ_SIZE = 65_536


class Address(NamedTuple):
    """A parsed URL."""

    scheme: str
    where: str
    """The server, for messages: no password."""
    options: dict[str, Any]
    """For redis-py's connections."""


def parse_url(url: str, setting: str = "url") -> Address:
    """Read a Redis URL. Raises `ConfigError` for anything that could only fail later, with the password hidden."""
    given: object = url

    def refuse(why: str) -> ConfigError:
        shown = re.sub(r"(//[^:/@]*:).*@|(password=)[^&]*", r"\1\2***", given) if isinstance(given, str) else given
        return ConfigError(setting, shown, f"{_ACCEPTED} ({why})")

    if not isinstance(given, str) or "://" not in given:
        raise refuse("not a URL")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise refuse("host or port is wrong") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise refuse(f"unknown scheme {parts.scheme!r}")
    if parts.scheme == "unix":
        if not parts.path.startswith("/") or parts.hostname:
            raise refuse("unix:// needs an absolute path")
    elif not re.fullmatch(r"/?|/\d+", parts.path):
        raise refuse("the path must be the number of a database")
    elif port == 0:
        raise refuse("port 0")
    query = parse_qs(parts.query, keep_blank_values=True)
    for name, values in query.items():
        if name not in _PARAMETERS and not (parts.scheme == "rediss" and name.startswith("ssl_")):
            raise refuse(f"unknown parameter {name!r}; timeouts and pool size are settings of tiercache")
        if name == "db" and not values[0].isdigit():
            raise refuse("db must be the number of a database")
    try:
        options: dict[str, Any] = sio.parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise refuse(str(error)) from None
    options.pop("connection_class", None)
    where = options["path"] if parts.scheme == "unix" else f"{options.get('host', 'localhost')}:{port or 6379}"
    options |= {
        # The older reply format: replies come as plain values, and no HELLO is needed to agree on it.
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "socket_read_size": _READ_SIZE,
    }
    address = Address(parts.scheme, where, options)
    try:
        make_connection(address, Resolver())
        make_async_connection(address)
    except Exception as error:
        raise refuse(str(error)) from error
    return address


class Moment:
    """When the operation in hand must be over, on `time.monotonic()`; shared by a connection and its socket."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = 0.0

    def left(self) -> float:
        """Seconds that remain. Raises `TimeoutError` when there are none: a socket timeout of 0 would not block."""
        left = self.at - monotonic()
        if left <= 0:
            raise TimeoutError("out of time")
        return left


class Resolver:
    """Name lookups that can be left: the C library's own may take many seconds and cannot be interrupted.

    One lookup per name at a time; whoever comes while it hangs waits for the same one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[list[Any]]] = {}

    def __call__(self, host: str, port: int, moment: Moment) -> list[Any]:
        try:
            # A numeric address needs no lookup and so no thread.
            return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        with self._lock:
            future = self._running.get((host, port))
            if future is None:
                future = self._running[host, port] = Future()
                threading.Thread(target=self._look_up, args=(host, port, future), daemon=True).start()
        return future.result(moment.left())

    def _look_up(self, host: str, port: int, future: Future[list[Any]]) -> None:
        try:
            future.set_result(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except Exception as error:
            future.set_exception(error)
        finally:
            with self._lock:
                self._running.pop((host, port), None)


class BoundedSocket:
    """A connected socket of which every call ends at the moment's deadline, as far as redis-py uses sockets."""

    __slots__ = ("_moment", "_poll", "_sock")

    def __init__(self, sock: socket.socket, moment: Moment) -> None:
        self._sock = sock
        self._moment = moment
        self._poll = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, value: float | None) -> None:
        """Does nothing: the deadline rules."""

    def recv_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0) -> int:
        self._sock.settimeout(self._moment.left())
        return self._sock.recv_into(buffer, nbytes, flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._sock.settimeout(self._moment.left())
        return self._sock.recv(size, flags)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while len(view):
            self._sock.settimeout(self._moment.left())
            view = view[self._sock.send(view) :]

    def wake(self) -> None:
        """End the connection under a thread that reads from it, which then sees its end. TLS objects stay untouched."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            pass

    def quiet(self) -> bool:
        """Whether the peer neither closed it nor sent anything unasked: else it must not be used again."""
        if self._poll is not None:
            return not self._poll.poll(0)
        return not select.select([self._sock], [], [], 0)[0]  # pragma: no cover (Windows)


def _greeting(connection: sio.AbstractConnection | aio.AbstractConnection) -> list[tuple[Any, ...]]:
    """What a new connection sends, all at once. redis-py's own would add two rounds to name itself."""
    commands: list[tuple[Any, ...]] = []
    if connection.username or connection.password:
        user = (connection.username,) if connection.username else ()
        commands.append(("AUTH", *user, connection.password or ""))
    if connection.client_name:
        commands.append(("CLIENT", "SETNAME", connection.client_name))
    if connection.db:
        commands.append(("SELECT", connection.db))
    # A server that wants a password refuses a long command half-way and hangs up, and the hanging up may overtake the
    # reason. To a short question it gives the reason.
    return commands or [("PING",)]


def _unread(parser: Any) -> bool:
    """Whether the parser has bytes past the last reply: they came unasked, and the next reader would believe them."""
    reader = getattr(parser, "_reader", None)
    if reader is not None:  # hiredis
        return bool(reader.has_data())
    buffer: Any = getattr(parser, "_buffer", None)
    return bool(buffer.unread_bytes() if hasattr(buffer, "unread_bytes") else buffer)


_dialled: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""Every socket of a thread, from the moment that it exists: a fork may come while it is still being connected."""


def close_inherited() -> None:
    """In a forked child: close its copies of the parent's sockets, which go on serving the parent."""
    for sock in list(_dialled):
        sock.close()
    _dialled.clear()


class BoundedConnection(sio.AbstractConnection):
    """What the three kinds have in common; `moment.at` is set before each operation."""

    def __init__(self, *, resolver: Resolver, **options: Any) -> None:
        self.moment = Moment()
        self.resolver = resolver
        super().__init__(**options)

    def _connect(self) -> Any:
        sock = super()._connect()  # type: ignore[safe-super, no-untyped-call]
        _dialled.add(sock)  # TLS has made another one of it
        return BoundedSocket(sock, self.moment)

    def on_connect(self) -> None:
        self.on_connect_check_health()

    def on_connect_check_health(self, check_health: bool = True) -> None:
        wire: Any = self
        wire._parser.on_connect(self)
        commands = _greeting(self)
        wire.send_packed_command(wire.pack_commands(commands), check_health=False)
        for _ in commands:
            wire.read_response()

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
        found = self.resolver(self.host, self.port, self.moment)
        for position, (family, kind, protocol, _, address) in enumerate(found):
            sock = socket.socket(family, kind, protocol)
            _dialled.add(sock)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                # A dead first address must not eat the time of the second one.
                sock.settimeout(self.moment.left() / (len(found) - position))
                sock.connect(address)
                # TLS is negotiated on this socket before the bounded one wraps it.
                sock.settimeout(self.moment.left())
                return sock
            except OSError:
                sock.close()
                if position == len(found) - 1:
                    raise
        raise OSError(f"{self.host} has no address")


class _Local(sio.UnixDomainSocketConnection):
    moment: Moment

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _dialled.add(sock)
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


class UnixConnection(BoundedConnection, _Local):
    """unix://"""


class AsyncConnection(aio.AbstractConnection):
    """What the three kinds have in common. The deadline is the caller's `asyncio.timeout_at`."""

    async def on_connect(self) -> None:
        await self.on_connect_check_health()

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        self._parser.on_connect(self)  # type: ignore[no-untyped-call]
        commands = _greeting(self)
        await self.send_packed_command(self.pack_commands(commands), check_health=False)
        for _ in commands:
            await self.read_response()

    async def disconnect(self, *args: Any, **options: Any) -> None:
        self.drop()

    async def exchange(self, command: tuple[Any, ...]) -> Any:
        """Send a command, connecting if need be, and read its reply."""
        await self.send_packed_command(self.pack_command(*command), check_health=False)
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


class AsyncTlsConnection(AsyncConnection, aio.SSLConnection):
    """rediss://"""


class AsyncUnixConnection(AsyncConnection, aio.UnixDomainSocketConnection):
    """unix://"""


def make_connection(address: Address, resolver: Resolver) -> BoundedConnection:
    """A connection that connects when first used."""
    kind: Any = {"redis": TcpConnection, "rediss": TlsConnection, "unix": UnixConnection}[address.scheme]
    connection: BoundedConnection = kind(resolver=resolver, **address.options)
    return connection


def make_async_connection(address: Address) -> AsyncConnection:
    """The same for the running event loop."""
    kind: Any = {"redis": AsyncTcpConnection, "rediss": AsyncTlsConnection, "unix": AsyncUnixConnection}[address.scheme]
    connection: AsyncConnection = kind(**address.options)
    return connection
