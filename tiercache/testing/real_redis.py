"""A real Redis in place of the one that caches are configured with: names of a test's own, and a clock to turn."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import redis

from tiercache.config import Settings
from tiercache.core.records import Row, SyncPage
from tiercache.errors import ConfigError
from tiercache.testing.clock import Clock
from tiercache.tiers.redis import RedisTier

_SCHEMES = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")


class RealRedis:
    """The server, and what one isolation keeps there until `close`."""

    def __init__(self, url: str) -> None:
        given: object = url
        if not isinstance(given, str) or not given.startswith(_SCHEMES):
            # Its value may hold a password.
            raise ConfigError("isolated: url", type(url), f"the URL of one server: {', '.join(_SCHEMES)}")
        self._url = url
        self._prefix = f"test-{secrets.token_hex(8)}"
        self._tiers: list[RedisTier] = []

    def tier(self, settings: Settings, clock: Clock) -> RedisTier:
        """A shared tier for a cache with these settings; caches of one URL and namespace meet in it."""
        # Caches with two URLs and one namespace do not meet.
        place = hashlib.sha256((settings.url or "").encode()).hexdigest()[:8]
        tier = _Turned(clock, self._url, f"{self._prefix}-{place}-{settings.namespace}", pool_size=settings.pool_size)
        self._tiers.append(tier)
        return tier

    def close(self) -> None:
        """Remove what was written, and let go of the server."""
        for tier in self._tiers:
            tier.close()
        self._tiers.clear()
        url = self._url.replace("valkey", "redis", 1) if self._url.startswith("valkey") else self._url
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(f"tc:*{self._prefix}*", 1_000):
                client.unlink(key)


class _Turned(RedisTier):
    """A tier whose server's clock seems to have been turned like those of the caches."""

    def __init__(self, clock: Clock, url: str, namespace: str, *, pool_size: int) -> None:
        super().__init__(url, namespace, pool_size=pool_size)
        self._clock = clock

    def sync(self, *args: Any, **kwargs: Any) -> SyncPage:
        turned = self._clock.turned
        return _later(super().sync(*args, **kwargs), turned)

    async def asynchronise(self, *args: Any, **kwargs: Any) -> SyncPage:
        turned = self._clock.turned
        return _later(await super().asynchronise(*args, **kwargs), turned)


def _later(page: SyncPage, seconds: float) -> SyncPage:
    rows: tuple[Row, ...] | None = page.rows
    # A row is as old as it was: nobody who was heard of a moment ago has been silent since the clock was turned.
    if rows is not None:
        rows = tuple([row._replace(time=row.time + seconds) for row in rows])
    return page._replace(time=page.time + seconds, since=page.since + seconds, rows=rows)
