"""The servers under wrk: how each is started, with one worker, on one core."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.peers.subjects import Face

APP = "benchmarks.peers.served:make"
THREADS = 4
"""Of gunicorn's gthread worker and granian's WSGI."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server, the face it speaks to, and its command line for a port."""

    name: str
    face: Face
    distribution: str
    command: Callable[[int], list[str]]


def _uvicorn(port: int) -> list[str]:
    place = ["--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", "--factory", APP, *place, "--log-level", "warning", "--no-access-log"]


def _granian(*more: str) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        place = ["--host", "127.0.0.1", "--port", str(port)]
        return [sys.executable, "-m", "granian", "--factory", APP, *place, "--log-level", "warning", *more]

    return command


def _gunicorn(*more: str) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        place = ["--bind", f"127.0.0.1:{port}", "--config", "python:examples.demo.gunicorn_conf"]
        return [sys.executable, "-m", "gunicorn", f"{APP}()", *place, *more]

    return command


SERVERS = (
    Server("uvicorn", "asgi", "uvicorn", _uvicorn),
    Server("granian, ASGI", "asgi", "granian", _granian("--interface", "asgi")),
    Server("granian, WSGI", "wsgi", "granian", _granian("--interface", "wsgi", "--blocking-threads", str(THREADS))),
    # With more than one thread gunicorn makes a gthread worker of it.
    Server("gunicorn, sync", "wsgi", "gunicorn", _gunicorn("--worker-class", "sync", "--threads", "1")),
    Server("gunicorn, gthread", "wsgi", "gunicorn", _gunicorn("--threads", str(THREADS))),
)


@dataclass(frozen=True, slots=True)
class Cores:
    """Where server and client run; None where a process cannot be pinned, or there is but one core."""

    server: int | None
    client: int | None

    @classmethod
    def of_this_machine(cls) -> Cores:
        if shutil.which("taskset") is None or not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[1]) if len(cores) > 1 else cls(None, None)


def pinned(core: int | None, command: list[str]) -> list[str]:
    return command if core is None else ["taskset", "--cpu-list", str(core), *command]
