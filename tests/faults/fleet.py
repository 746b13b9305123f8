"""The processes under test: four apps, and a Redis, its sentinels or a Cluster; how to see how they are."""

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
from redis.crc import key_slot

from tests.faults.proxy import ROOT, Proxy
from tests.faults.terms import HOST, KEYS
from tests.servers import RedisServer, free_port
from tools.redis_server import Binary
from tools.redis_topologies import ClusterSetup, SentinelSetup

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
    def options(self) -> dict[str, object]:
        """Those of the next start."""
        return self._options

    @property
    def snapshot(self) -> Path:
        return Path(self._directory.name, "dump.rdb")


def log_of(server: RedisServer) -> str:
    return Path(server._directory.name, "log").read_text(errors="replace")


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
    """Four apps, and the shared tier that a subclass starts for them."""

    def __init__(self, binary: Binary, plant: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
        directory = Path(self._directory.name)
        self.origin = Origin(directory / "origin")
        urls = self.begin(binary, len(KINDS))
        self.apps = [
            App(i, name, url, self.origin.path, directory, plant)
            for i, (name, url) in enumerate(zip(KINDS, urls, strict=True))
        ]

    def begin(self, binary: Binary, apps: int) -> list[str]:
        """Start the shared tier; the URL for each app."""
        raise NotImplementedError

    def end(self) -> None:
        """Stop it."""
        raise NotImplementedError

    def ledger_port(self) -> int:
        """Of the server that has the ledger."""
        raise NotImplementedError

    def mend(self) -> None:
        """Undo in the shared tier whatever a fault that failed half-way has left behind."""
        raise NotImplementedError

    def split(self) -> str:
        """What Redis has done to itself since the last call that no cache can see through; empty if nothing."""
        return ""

    def start(self) -> None:
        threads = [threading.Thread(target=app.start) for app in self.apps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not all(app.pid for app in self.apps):
            raise RuntimeError("not every app has started:\n" + "\n".join(app.log()[-2000:] for app in self.apps))

    def client(self, timeout: float = 5.0) -> redis.Redis:
        """A client of the server that has the ledger, past any proxy."""
        return redis.Redis(port=self.ledger_port(), socket_timeout=timeout, socket_connect_timeout=timeout)

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
        except (OSError, redis.RedisError, http.client.HTTPException, ValueError, LookupError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def logs(self) -> dict[str, str]:
        """What the processes have written, by name."""
        return {app.name: app.log() for app in self.apps}

    def close(self) -> None:
        for app in self.apps:
            app.close()
        self.end()
        self._directory.cleanup()


class SingleFleet(Fleet):
    """One Redis, and a proxy before it with a lane for each app."""

    redis: Server
    proxy: Proxy

    def begin(self, binary: Binary, apps: int) -> list[str]:
        # Redis 6.2 has no such setting: it looks at its connections once in 2 MB, and is silent while it loads less.
        listens: dict[str, Any] = {"loading_process_events_interval_bytes": 1024} if binary.major > 6 else {}
        self.redis = Server(binary, key_load_delay=0, **listens)
        self.redis.start()
        self.proxy = Proxy(self.redis.port, apps)
        return [f"redis://127.0.0.1:{port}/0" for port in self.proxy.ports]

    def end(self) -> None:
        self.proxy.close()
        self.redis.close()

    def ledger_port(self) -> int:
        return self.redis.port

    def mend(self) -> None:
        self.proxy.heal(self.proxy.all, deliver=False)
        if self.redis.running:
            self.redis.resume()
        else:
            self.redis.start()
        with self.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
            client.config_set("maxmemory", 0)
            client.config_set("maxmemory-policy", "noeviction")


class SentinelFleet(Fleet):
    """A primary, two replicas and three sentinels."""

    setup: SentinelSetup
    intended: int
    """Changes of the primary that a fault has asked for: each adds one."""

    def begin(self, binary: Binary, apps: int) -> list[str]:
        # On a busy machine a primary that lives is soon taken for dead, and then there are two.
        self.setup = SentinelSetup(binary, down_after_ms=3_000).start()
        self.intended = self._promotions()
        return [self.setup.url] * apps

    def end(self) -> None:
        self.setup.close()

    def logs(self) -> dict[str, str]:
        return super().logs() | {f"redis-{server.port}": log_of(server) for server in self.setup.servers}

    def ledger_port(self) -> int:
        return self.setup.named()

    def _promotions(self) -> int:
        return sum(log_of(sentinel).count("+promoted-slave") for sentinel in self.setup.sentinels)

    def split(self) -> str:
        promotions, intended, self.intended = self._promotions(), self.intended, self._promotions()
        return "the sentinels replaced a primary that was alive" if promotions != intended else ""

    def mend(self) -> None:
        for server in self.setup.servers:
            if server.running:
                server.resume()
            else:
                server.start()
        self.setup.settle()


class ClusterFleet(Fleet):
    """Three masters with a replica each."""

    setup: ClusterSetup
    slot = key_slot(LEDGER.encode())
    """Where the ledger is."""

    def begin(self, binary: Binary, apps: int) -> list[str]:
        self.setup = ClusterSetup(binary).start()
        return [self.setup.url] * apps

    def end(self) -> None:
        self.setup.close()

    def logs(self) -> dict[str, str]:
        return super().logs() | {f"redis-{server.port}": log_of(server) for server in self.setup.servers}

    def ledger_port(self) -> int:
        return self.setup.master_of(self.slot).port

    def mend(self) -> None:
        for server in self.setup.servers:
            if server.running:
                server.resume()
        self.setup.settle()


FLEETS: dict[str, type[Fleet]] = {"single": SingleFleet, "sentinel": SentinelFleet, "cluster": ClusterFleet}
