"""Fixtures for the tests of the tiers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.servers import Binary, RedisServer
from tiercache.tiers.redis import RedisTier
from tools.redis_topologies import ClusterSetup, SentinelSetup

CALM = 30_000
"""Milliseconds of silence that nobody minds in tests where nothing is meant to die."""


@pytest.fixture
def open_tier() -> Iterator[Callable[..., RedisTier]]:
    tiers: list[RedisTier] = []

    def make(url: str, **options: Any) -> RedisTier:
        tiers.append(RedisTier(url, "shop", **options))
        return tiers[-1]

    yield make
    for tier in tiers:
        tier.close()


@pytest.fixture
def tier(redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> RedisTier:
    return open_tier(redis_server.url)


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.fixture(scope="session")
def sentinel_setup(redis_binary: Binary) -> Iterator[SentinelSetup]:
    """One for each version and the whole run. Whoever fails it over leaves a primary with a replica that follows."""
    with SentinelSetup(redis_binary) as setup:
        setup.notice_after(CALM)
        yield setup


@pytest.fixture(scope="session")
def cluster_setup(redis_binary: Binary) -> Iterator[ClusterSetup]:
    """One for each version and the whole run. Whoever breaks it mends it."""
    with ClusterSetup(redis_binary) as setup:
        setup.notice_after(CALM)
        yield setup


@pytest.fixture
def sentinels(sentinel_setup: SentinelSetup) -> SentinelSetup:
    """The same, with nothing stored and a primary that the sentinels name."""
    sentinel_setup.follow()
    assert sentinel_setup.primary.ask("FLUSHALL") == "+OK"
    return sentinel_setup


@pytest.fixture
def cluster(cluster_setup: ClusterSetup) -> ClusterSetup:
    """The same, with nothing stored."""
    cluster_setup.empty()
    return cluster_setup


@pytest.fixture(params=["server", "tls", "unix", "sentinel", "cluster"])
def topology_url(request: pytest.FixtureRequest, redis_binary: Binary) -> str:
    """The URL of each kind of set-up, with nothing stored."""
    kind: str = request.param
    if kind == "sentinel":
        return str(request.getfixturevalue("sentinels").url)
    if kind == "cluster":
        return str(request.getfixturevalue("cluster").url)
    if kind == "tls":
        return f"{request.getfixturevalue('tls_front')}?ssl_ca_certs={request.getfixturevalue('tmp_path')}/ca.pem"
    server: RedisServer = request.getfixturevalue("redis_server")
    return f"unix://{server.unix_socket}" if kind == "unix" else server.url
