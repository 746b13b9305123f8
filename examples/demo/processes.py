"""The processes of the demonstration: workers, Redis, and the end of them all."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.ports import free_port
from tools.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "tiercache-demo-"
"""Of the directory of one run; its process follows, so that the next run can tell which ones are left over."""
STARTUP = 30.0
"""Seconds that a worker may take to answer."""
TAKEN_OVER = 1.0
"""Seconds until one that writes takes over from one that is dead."""


class StartFailed(Exception):
    """A process ended, or did not answer in time; the message has what it wrote."""


def starlette_command(port: int) -> list[str]:
    place = ["--host", "127.0.0.1", "--port", str(port)]
    quiet = ["--log-level", "warning", "--timeout-keep-alive", "75"]
    return [sys.executable, "-m", "uvicorn", "examples.starlette_app.app:app", *place, *quiet]


def flask_command(port: int) -> list[str]:
    place = ["--bind", f"127.0.0.1:{port}", "--config", "python:examples.demo.gunicorn_conf"]
    return [sys.executable, "-m", "gunicorn", "examples.flask_app.app:create_app()", *place]


def writer_command() -> list[str]:
    # The store of page views is the same in both shops, so either will do.
    target = "examples.starlette_app.app:app"
    return [sys.executable, "-m", "tiercache", "worker", target, "--owned", f"{TAKEN_OVER:g}s"]


class Started:
    """One process, and what it writes."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def ready(self) -> bool:
        """Whether it does its work yet; `StartFailed` if it has ended."""
        if self.process.poll() is not None:
            raise StartFailed(f"{self.name} ended with code {self.process.returncode}:\n{self.said()}")
        return self._ready()

    def _ready(self) -> bool:
        raise NotImplementedError

    def said(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-2000:].strip() or "(it wrote nothing)"


class Writer(Started):
    """One process that writes what was counted into the database."""

    def _ready(self) -> bool:
        return "writing for" in self.said()


class Worker(Started):
    """One process that serves a shop on a port of its own."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        super().__init__(name, process, log)
        self.port = port

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
                sock.sendall(b"HEAD /account HTTP/1.1\r\nHost: ready\r\nConnection: close\r\n\r\n")
                return sock.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False


class Processes:
    """Starts processes and ends every one of them on the way out, however that is taken.

    Each gets a process group of its own, so that a server's children end with it. A guard outside does the same should
    this process itself be killed.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._guard: subprocess.Popen[str] | None = None
        self.directory = Path()

    def __enter__(self) -> Self:
        _remove_leftovers()
        directory = tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True)
        self.directory = Path(self._stack.enter_context(directory))
        guard = [sys.executable, "-m", "examples.demo.guard"]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
        self._stack.callback(self._dismiss, self._guard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not cut the end short.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._stack.close()
        finally:
            signal.signal(signal.SIGINT, previous)

    def worker(
        self, name: str, command: Callable[[int], list[str]], environment: Mapping[str, str], port: int | None = None
    ) -> Worker:
        """Start a worker; `port` is taken if it is free. It may not answer yet: `wait_for`."""
        if port is None or not _is_free(port):
            port = free_port()
        return Worker(name, *self._start(name, command(port), environment), port)

    def writer(self, name: str, environment: Mapping[str, str]) -> Writer:
        """Start one that writes. It may not do so yet: `wait_for`."""
        return Writer(name, *self._start(name, writer_command(), environment))

    def _start(
        self, name: str, command: list[str], environment: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,
            )
        self._stack.callback(self._end, process)
        self._tell(f"+{process.pid}")
        return process, log

    def redis(self) -> RedisServer:
        """Start a Redis server that keeps what it acknowledges: page views wait in it for the database."""
        server = RedisServer(appendonly="yes")
        self._stack.callback(server.close)
        self.start_redis(server)
        return server

    def start_redis(self, server: RedisServer) -> None:
        server.start()
        self._tell(f"+{server.pid}")

    def kill_redis(self, server: RedisServer) -> None:
        pid = server.pid
        server.kill()
        self._tell(f"-{pid}")

    @staticmethod
    def wait_for(started: Sequence[Started]) -> None:
        """Return when all are ready; `StartFailed` if one is not."""
        end = time.monotonic() + STARTUP
        waiting = list(started)
        while waiting:
            waiting = [one for one in waiting if not one.ready()]
            if waiting and time.monotonic() > end:
                raise StartFailed(f"{waiting[0].name} was not ready in {STARTUP:g} s:\n{waiting[0].said()}")
            time.sleep(0.05)

    def _tell(self, line: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(line + "\n")
            self._guard.stdin.flush()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        # Whatever of the group is left: a child that outlived its parent, or all of them.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait(5)
        self._tell(f"-{process.pid}")

    @staticmethod
    def _dismiss(guard: subprocess.Popen[str]) -> None:
        if guard.stdin is not None:
            guard.stdin.close()
        guard.wait(10)


def _signal_group(group: int, how: signal.Signals) -> None:
    try:
        os.killpg(group, how)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        pass


def _remove_leftovers() -> None:
    """Remove the directories of runs that were killed before they could do so."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        process = left.name.removeprefix(PREFIX).partition("-")[0]
        if process.isascii() and process.isdigit() and not _runs(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
