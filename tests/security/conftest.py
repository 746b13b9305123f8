"""The attacks run through both faces, and where it matters against a second process by way of L2."""

from __future__ import annotations

from tests.parity.conftest import one_redis, pair, redis_url, world

__all__ = ["one_redis", "pair", "redis_url", "world"]
