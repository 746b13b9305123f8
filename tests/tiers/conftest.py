"""Fixtures for the tests of the tiers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.servers import RedisServer
from tiercache.tiers.redis import RedisTier


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
