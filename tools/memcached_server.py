"""A real Memcached on a free port, for the tests. Standard library only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from types import TracebackType
from typing import Self

from tools.debian_packages import Program, find
from tools.ports import free_port

_STARTUP = 20.0
"""Seconds that a server may take to answer before it counts as broken."""


def available() -> Program | None:
    """The program of this machine, installed or unpacked (`make servers`); None where there is none."""
    try:
        return find("memcached")
    except FileNotFoundError:
        return None


class MemcachedServer:
    """One server process. `arguments` are those of memcached: `-I 2m`."""

    def __init__(self, *arguments: str) -> None:
        program = available()
        if program is None:
            raise RuntimeError("no memcached: install one, or run `make servers`")
        self._program = program
        self._arguments = arguments
        self._tls = "-Z" in arguments
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"memcached://{self.where}"

    def start(self) -> Self:
        """Start it, on the port that it had before if it had one, and wait until it answers."""
        assert self._process is None, "the server is running"
        self.port = self.port or free_port()
        command = [self._program.path, "-p", str(self.port), "-l", "127.0.0.1", "-t", "1", *self._arguments]
        if os.geteuid() == 0:
            command += ["-u", "root"]
        self._process = subprocess.Popen(
            command, env=self._program.environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        end = time.monotonic() + _STARTUP
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                self.kill()
                raise RuntimeError(f"{self._program.path} did not start")
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        try:
            if self._tls:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            return self.ask("version").startswith("VERSION")
        except OSError:
            return False

    def ask(self, command: str) -> str:
        """Send one line over a connection of its own and return the first one of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=_STARTUP) as sock, sock.makefile("rb") as lines:
            sock.sendall(command.encode() + b"\r\n")
            return lines.readline().decode().rstrip()

    def stats(self) -> dict[str, str]:
        """What `stats` says."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=_STARTUP) as sock, sock.makefile("rb") as lines:
            sock.sendall(b"stats\r\n")
            words = [line.decode().split() for line in iter(lines.readline, b"END\r\n")]
        return {name: value for _, name, value in words}

    def kill(self) -> None:
        """End it at once, as a crash would; its values are gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open and nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
