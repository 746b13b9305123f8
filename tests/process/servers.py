"""Application servers as processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
GUARD = 30.0
COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "tests.process.app:asgi", "--port={port}", "--workers=2", "--log-level=warning"],
    "gunicorn-sync": ["-m", "gunicorn", "tests.process.app:wsgi", "-b127.0.0.1:{port}", "-w2"],
    "gunicorn-gthread": ["-m", "gunicorn", "tests.process.app:wsgi", "-b127.0.0.1:{port}", "-w2", "--threads=4"],
    "gunicorn-gevent": ["-m", "gunicorn", "tests.process.app:wsgi", "-b127.0.0.1:{port}", "-w2", "-kgevent"],
    "gunicorn-preload": ["-m", "gunicorn", "tests.process.app:wsgi", "-b127.0.0.1:{port}", "-w2", "--preload"],
    "granian": ["-m", "granian", "tests.process.app:asgi", "--interface=asgi", "--port={port}", "--workers=2"],
}
ALONE = {
    "uvicorn-alone": ["-m", "uvicorn", "tests.process.app:asgi", "--port={port}", "--log-level=warning"],
    "gunicorn-gthread-alone": ["-m", "gunicorn", "tests.process.app:wsgi", "-b127.0.0.1:{port}", "--threads=8"],
    "gunicorn-gevent-alone": ["-m", "gunicorn", "tests.process.app:wsgi", "-b127.0.0.1:{port}", "-kgevent"],
}
"""One worker each."""


class Got(NamedTuple):
    worker: int
    outcome: str
    """The first words of `Cache-Status`."""
    body: bytes
    reason: str
    headers: Any


def eventually(condition: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError(f"not within {GUARD} s: {what}")


class AppServer:
    """Two workers of one server."""

    def __init__(self, kind: str, directory: Path, url: str = "", **environ: str) -> None:
        self.kind = kind
        self.port = free_port()
        self.value = directory / "value"
        self.value.write_bytes(b"old")
        self._log = directory / "log"
        command = [sys.executable, *(word.format(port=self.port) for word in {**COMMANDS, **ALONE}[kind])]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "TEST_URL": url, "TEST_VALUE": str(self.value), "PYTHONPATH": str(ROOT), **environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._up, f"{kind} answers")

    def _up(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"{self.kind} ended:\n{self.log()}")
        try:
            self.get("/state")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Got:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GUARD)
        try:
            connection.request(method, path, headers={"Host": "shop.example", **(headers or {})})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        outcome = "; ".join(
            part for part in (response.getheader("Cache-Status") or "").split("; ") if not part.startswith("ttl=")
        )
        return Got(int(response.getheader("X-Worker") or 0), outcome, body, response.reason, response.headers)

    def by_worker(self, path: str, wanted: Callable[[Got], bool] = lambda got: True) -> dict[int, Got]:
        """What each of the two workers answers, once it answers as wanted."""
        found: dict[int, Got] = {}

        def both() -> bool:
            got = self.get(path)
            if wanted(got):
                found[got.worker] = got
            return len(found) == 2

        eventually(both, f"both workers answer {path} as wanted; so far: {found}\n{self.log()[-2000:]}")
        return found

    def states(self) -> dict[int, dict[str, Any]]:
        return {worker: json.loads(got.body) for worker, got in self.by_worker("/state").items()}

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


def sockets_to(port: int, pid: int) -> set[str]:
    """The connections of a process to a local port, as the kernel names them: shared ones have one name."""
    remote = f"0100007F:{port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {words[9] for words in lines if words[2] == remote and words[3] == "01"}
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found & established
