"""Sockets of threads that keep a deadline: resolving, connecting, writing and each read get what is left of it."""

from __future__ import annotations

import select
import socket
import weakref
from functools import partial
from time import monotonic
from typing import Any

from tiercache.tiers.redis_credentials import Detached


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
    """Name lookups that can be left: the C library's own may take many seconds and cannot be interrupted."""

    def __init__(self) -> None:
        self._calls: Detached[list[Any]] = Detached()

    def __call__(self, host: str, port: int, moment: Moment) -> list[Any]:
        try:
            # A numeric address needs no lookup and so no thread.
            return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        lookup = partial(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
        return self._calls.start((host, port), lookup).result(moment.left())


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


_dialled: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""Every socket of a thread, from the moment that it exists: a fork may come while it is still being connected."""


def close_inherited() -> None:
    """In a forked child: close its copies of the parent's sockets, which go on serving the parent."""
    for sock in list(_dialled):
        sock.close()
    _dialled.clear()


def known(sock: socket.socket) -> None:
    """Have a forked child close its copy of this socket."""
    _dialled.add(sock)


def dial(host: str, port: int, resolver: Resolver, moment: Moment) -> socket.socket:
    """A connected socket, by whichever of the host's addresses answers."""
    found = resolver(host, port, moment)
    for position, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        known(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # A dead first address must not eat the time of the second one.
            sock.settimeout(moment.left() / (len(found) - position))
            sock.connect(address)
            # TLS is negotiated on this socket before the bounded one wraps it.
            sock.settimeout(moment.left())
            return sock
        except OSError:
            sock.close()
            if position == len(found) - 1:
                raise
    raise OSError(f"{host} has no address")
