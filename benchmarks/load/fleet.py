"""The workers of one subject, their Redis and their origin: real processes, ended with the `with` block."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.client import Client, Sample
from benchmarks.load.origin import Watch
from benchmarks.load.subjects import Config, Subject
from examples.demo.processes import Processes, StartFailed, Worker
from tools.redis_server import RedisServer

THREADS = 64
"""Of each Flask worker."""
STARTUP = 60.0
"""Seconds that a worker may take to answer."""


def _asgi(port: int) -> list[str]:
    place = ["--host", "127.0.0.1", "--port", str(port), "--timeout-keep-alive", "75", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.load.asgi_app:make", *place]


def _wsgi(port: int) -> list[str]:
    place = ["--bind", f"127.0.0.1:{port}", "--config", "python:examples.demo.gunicorn_conf"]
    # The later one counts: as many threads as a service that mostly waits for its database would have.
    return [sys.executable, "-m", "gunicorn", "benchmarks.load.wsgi_app:make()", *place, "--threads", str(THREADS)]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Running workers and all that stands around them."""

    client: Client
    origin: Watch
    redis: RedisServer
    workers: int


@asynccontextmanager
async def running(subject: Subject, workers: int) -> AsyncIterator[Fleet]:
    """Start the subject with a Redis and an origin of its own, ask a few things of it, and let it settle.

    Raises:
        StartFailed: a worker ended or did not answer; the message has what it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="tiercache-load-") as directory, Processes() as processes:
        origin = Watch(Path(directory))
        redis = await asyncio.to_thread(processes.redis)
        config = Config(subject.library, subject.rule, subject.cache, redis.url, directory)
        command = _asgi if subject.face == "asgi" else _wsgi
        started = [processes.worker(f"worker-{number}", command, config.to_environment()) for number in range(workers)]
        client = Client([worker.port for worker in started])
        try:
            await _ready(client, started)
            await _warm(client, workers)
            yield Fleet(client, origin, redis, workers)
            for worker in started:
                if worker.process.poll() is not None:
                    raise StartFailed(f"{subject.label}: a worker ended under load:\n{worker.said()}")
        finally:
            client.close()


async def _ready(client: Client, workers: list[Worker]) -> None:
    end = time.monotonic() + STARTUP
    for number, worker in enumerate(workers):
        while (await client.get(number, "/ready")).status != 200:
            if worker.process.poll() is not None or time.monotonic() > end:
                raise StartFailed(f"{worker.name} does not answer:\n{worker.said()}")
            await asyncio.sleep(0.05)


async def _warm(client: Client, workers: int) -> None:
    """Imports, connections and listeners that come with the first requests are not what is measured."""
    for again in range(4):
        asked = [client.get(worker, f"/items/warm-{worker}-{again // 2}") for worker in range(workers)]
        samples: list[Sample] = list(await asyncio.gather(*asked))
        if any(sample.status != 200 for sample in samples):
            raise StartFailed(f"the first requests were answered with {[sample.status for sample in samples]}")
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.3)
