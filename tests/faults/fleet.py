"""The processes under test: Redis, the proxy before it, and four apps; how to hurt them and to see how they are."""

from __future__ import annotations

import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import redis

from tests.faults.proxy import ROOT, Proxy
from tests.faults.terms import HOST, KEYS
from tests.servers import RedisServer, free_port
from tools.redis_server import Binary

COMMANDS = {
    "uvicorn": ["-m", "uvicorn", "tests.faults.app:asgi", "--port={port}", "--lifespan=off", "--log-level=warning"],
    "gunicorn": ["-m", "gunicorn", "tests.faults.app:wsgi", "-b127.0.0.1:{port}", "--threads=24"],
}
KINDS = {
    "asgi-1": ("uvicorn", []),
    "asgi-2": ("uvicorn", []),
    "wsgi-1": ("gunicorn", ["--keep-alive=60"]),
    "wsgi-2": ("gunicorn", ["--keep-alive=60", "--preload"]),
}
LEDGER = "tc:{chaos}:ledger"
MEMBERS = "tc:{chaos}:members"
START = 30.0


class Server(RedisServer):
    """A Redis that faults may look into."""

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def options(self) -> dict[str, object]:
        """Those of the next start."""
        return self._options

    @property
    def snapshot(self) -> Path:
        return Path(self._directory.name, "dump.rdb")


class Origin:
    """The database of the apps: one version for each key, in a file that they all map."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(struct.pack("<q", 1) * len(KEYS))
        self._file = path.open("r+b", buffering=0)
        self._slots = {key: 8 * i for i, key in enumerate(KEYS)}
        self._versions = dict.fromkeys(KEYS, 1)

    def commit(self, key: str) -> None:
        """Begin the next version."""
        self._versions[key] += 1
        os.pwrite(self._file.fileno(), struct.pack("<q", self._versions[key]), self._slots[key])


class App:
    """One app server with one worker process."""

    def __init__(self, number: int, name: str, url: str, origin: Path, directory: Path, plant: str) -> None:
        self.number, self.name = number, name
        self.port = free_port()
        self.pid = 0
        self.away: list[tuple[float, float]] = []
        """When it was killed or stopped on purpose, and when it was back."""
        self._kind, more = KINDS[name]
        self._command = [sys.executable, *[w.format(port=self.port) for w in COMMANDS[self._kind]], *more]
        self._environ = {
            **os.environ,
            "CHAOS_URL": url,
            "CHAOS_ORIGIN": str(origin),
            "TIERCACHE_PLANT": plant,
            "PYTHONPATH": str(ROOT),
        }
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=ROOT,
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        before, end = self.pid, time.monotonic() + START
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended:\n{self.log()[-3000:]}")
            with suppress(OSError, http.client.HTTPException):
                self.pid = int(self.state()["pid"])
                if self.pid != before:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not answer:\n{self.log()[-3000:]}")

    def state(self) -> dict[str, Any]:
        """What the process says of itself. Raises OSError or HTTPException where it does not."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/admin/state", headers={"Host": HOST})
            state: dict[str, Any] = json.loads(connection.getresponse().read())
            return state
        finally:
            connection.close()

    def kill(self) -> None:
        """Crash the worker. gunicorn forks another at once; uvicorn is started again by `start`."""
        self.leave()
        os.kill(self.pid, signal.SIGKILL)
        if self._kind == "uvicorn" and self._process is not None:
            self._process.wait(10)
            self._process = None

    def revive(self) -> None:
        self.start()
        self.back()

    def pause(self) -> None:
        self.leave()
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.back()

    def leave(self) -> None:
        self.away.append((time.monotonic(), inf))

    def back(self) -> None:
        # What was on its way when it came back may still fail.
        self.away[-1] = (self.away[-1][0], time.monotonic() + 0.5)

    def was_away(self, since: float, until: float) -> bool:
        """Whether it was killed or stopped on purpose at some time between these."""
        return any(start <= until and since <= end for start, end in self.away[-5:])

    @property
    def is_away(self) -> bool:
        return bool(self.away) and self.away[-1][1] > time.monotonic()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None


class Fleet:
    """All of it."""

    def __init__(self, binary: Binary | None = None, plant: str = "") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
        self.directory = Path(self._directory.name)
        self.origin = Origin(self.directory / "origin")
        self.redis = Server(binary, key_load_delay=0, loading_process_events_interval_bytes=1024)
        self.redis.start()
        self.proxy = Proxy(self.redis.port, len(KINDS))
        self.apps = [
            App(i, name, f"redis://127.0.0.1:{port}/0", self.origin.path, self.directory, plant)
            for i, (name, port) in enumerate(zip(KINDS, self.proxy.ports, strict=True))
        ]

    def start(self) -> None:
        threads = [threading.Thread(target=app.start) for app in self.apps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not all(app.pid for app in self.apps):
            raise RuntimeError("not every app has started:\n" + "\n".join(app.log()[-2000:] for app in self.apps))

    def client(self, timeout: float = 5.0) -> redis.Redis:
        """A client past the proxy."""
        return redis.Redis(port=self.redis.port, socket_timeout=timeout, socket_connect_timeout=timeout)

    def head(self) -> tuple[str, int]:
        """Epoch and last number of the ledger in Redis; ("", 0) if there is none."""
        with self.client() as client:
            rows: Any = client.zrangebyscore(LEDGER, "-inf", "(0", withscores=True)
        epoch, number = "", 0
        for member, score in rows:
            if member[:2] == b"e:":
                epoch = member[2:].decode()
            elif member == b"q":
                number = int(-10 - score)
        return epoch, number

    def caught_up(self) -> str:
        """Empty if every process knows what Redis knows, trusts itself and has nothing queued; else what is missing."""
        try:
            epoch, number = self.head()
            for app in self.apps:
                state = app.state()
                if state["failing"] or not state["trusted"] or state["queued"]:
                    wanting = {name: state[name] for name in ("failing", "trusted", "queued")}
                    return f"{app.name}: {wanting}"
                if state["epoch"] != epoch or state["number"] < number:
                    return f"{app.name} is at {state['epoch']} {state['number']}, Redis at {epoch} {number}"
        except (OSError, redis.RedisError, http.client.HTTPException, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def close(self) -> None:
        for app in self.apps:
            app.close()
        self.proxy.close()
        self.redis.close()
        self._directory.cleanup()
