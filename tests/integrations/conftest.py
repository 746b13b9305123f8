"""What the tests of several integrations share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import RedisServer


@pytest.fixture(scope="session")
def one_redis() -> Iterator[RedisServer]:
    """One server of one version, for what does not depend on it."""
    with RedisServer() as server:
        yield server
