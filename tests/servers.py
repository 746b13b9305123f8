"""Real Redis servers for tests, and a proxy that does to their connections what networks do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType

from tools.ports import free_port
from tools.redis_server import Binary, RedisServer, available_servers

__all__ = ["Binary", "Proxy", "RedisServer", "available_servers", "free_port"]


class Proxy:
    """A TCP proxy in front of a server, to do to connections what networks do.

    `on_reply(data)` is given what the server sent and returns what passes on; None cuts the connection off.
    """

    def __init__(self, port: int, on_reply: Callable[[bytes], bytes | None] = lambda data: data) -> None:
        self._target = port
        self.on_reply = on_reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._clients: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _spawn(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._clients.add(client)
                self._open |= {client, server}
            self._spawn(self._pump, client, server, lambda data: data)
            self._spawn(self._pump, server, client, lambda data: self.on_reply(data))

    def _pump(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes | None]) -> None:
        try:
            while data := source.recv(65_536):
                changed = change(data)
                if changed is None:
                    break
                target.sendall(changed)
        except OSError:
            pass
        self._cut(source, target)

    def _cut(self, *ends: socket.socket) -> None:
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def say(self, data: bytes) -> None:
        """Send something to every client, as if the server had."""
        with self._lock:
            for client in self._clients:
                client.sendall(data)

    def cut(self) -> None:
        """Cut off every connection that is open now."""
        with self._lock:
            self._cut(*self._open)

    def close(self) -> None:
        """Stop taking connections and cut off those that are open."""
        self._cut(self._listener)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for end in self._open:
            end.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
