"""Application servers as processes of their own, each of one worker, that serve the site in one framework."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frameworks.scenarios import eventually
from tests.frameworks.visitors import GUARD
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
SERVED = "tests.frameworks.served:app"
ASGI_SERVERS = {
    "uvicorn": ["uvicorn", SERVED, "--port={port}", "--log-level=warning"],
    "hypercorn": ["hypercorn", SERVED, "--bind=127.0.0.1:{port}"],
    "granian": ["granian", SERVED, "--interface=asgi", "--port={port}", "--log-level=warning"],
    "daphne": ["daphne", "-b", "127.0.0.1", "-p", "{port}", "-v", "0", SERVED],
    "gunicorn-uvicorn": ["gunicorn", SERVED, "-b127.0.0.1:{port}", "-kuvicorn_worker.UvicornWorker"],
}
WSGI_SERVERS = {
    "gunicorn-sync": ["gunicorn", SERVED, "-b127.0.0.1:{port}"],
    "gunicorn-gthread": ["gunicorn", SERVED, "-b127.0.0.1:{port}", "--threads=4"],
    "gunicorn-gevent": ["gunicorn", SERVED, "-b127.0.0.1:{port}", "-kgevent"],
    "waitress": ["waitress", "--listen=127.0.0.1:{port}", SERVED],
    "granian-wsgi": ["granian", SERVED, "--interface=wsgi", "--port={port}", "--log-level=warning"],
}
COMMANDS = {**ASGI_SERVERS, **WSGI_SERVERS}
PREFIX_OPTIONS = {
    "uvicorn": ["--root-path={prefix}"],
    "hypercorn": ["--root-path={prefix}"],
    "granian": ["--url-path-prefix={prefix}"],
    "daphne": ["--root-path={prefix}"],
    "waitress": ["--url-prefix={prefix}"],
    "granian-wsgi": ["--url-path-prefix={prefix}"],
}
"""How a server is told of a prefix; gunicorn is by the variable `SCRIPT_NAME`."""
COMPLAINTS = ("Task was destroyed", "never awaited", "Exception ignored", "Fatal Python error", "Task exception was")


class Server:
    """One server, from its first answer on."""

    def __init__(
        self, name: str, framework: str, layout: str, prefix: str = "", *, folder: Path, **environ: str
    ) -> None:
        self.name = name
        self.port = free_port()
        self._log = folder / "log"
        options = PREFIX_OPTIONS.get(name, []) if prefix else []
        words = [word.format(port=self.port, prefix=prefix) for word in [*COMMANDS[name], *options]]
        # Daphne takes what follows the app for something else.
        if options:
            words.append(words.pop(words.index(SERVED)))
        environ |= {"TEST_FRAMEWORK": framework, "TEST_LAYOUT": layout, "TEST_PREFIX": prefix, "PYTHONPATH": str(ROOT)}
        if prefix and name.startswith("gunicorn"):
            environ["SCRIPT_NAME"] = prefix
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env={**os.environ, **environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            eventually(self._up, f"{name} answers:\n{self.log()}")
        except BaseException:
            self.close()
            raise

    def _up(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"{self.name} ended:\n{self.log()}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GUARD)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            return False
        except http.client.HTTPException:
            # Something answers, if not in HTTP/1.
            return True
        finally:
            connection.close()
        return True

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> int:
        """Stop it as deployments do; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(GUARD)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(GUARD)
            raise AssertionError(f"{self.name} does not end:\n{self.log()}") from None
