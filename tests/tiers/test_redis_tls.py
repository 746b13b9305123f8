"""rediss:// in practice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiers.redis_help import shortly, soon
from tiercache.errors import TierUnavailable
from tiercache.tiers.redis import RedisTier


class TestTls:
    """rediss://, through a TLS front end, since most of the servers at hand are built without TLS."""

    async def test_values_ledger_and_bus(
        self, tls_front: str, tmp_path: Path, open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(f"{tls_front}?ssl_ca_certs={tmp_path}/ca.pem")

        def in_thread() -> None:
            tier.set("a", b"x" * 300_000, 60_000, soon())
            for _ in range(3):
                assert tier.get("a", soon()) == b"x" * 300_000
            assert len(tier._wire.threads._all) == 1
            subscription = tier.listen(soon())
            sent = tier.purge(["h:a"], False, soon())
            assert [subscription.wait(20)] == [sent[0]._replace(previous=())]
            subscription.close()

        await asyncio.to_thread(in_thread)
        for _ in range(3):
            assert await tier.aget("a", soon()) == b"x" * 300_000
        (pool,) = tier._wire.loops.values()
        assert len(pool._all) == 1
        await tier.aclose()

    async def test_a_certificate_that_nobody_vouches_for(
        self, tls_front: str, open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(tls_front)
        with pytest.raises(TierUnavailable, match="certificate"):
            await asyncio.to_thread(tier.get, "a", soon())
        with pytest.raises(TierUnavailable, match="certificate"):
            await tier.aget("a", soon())

    async def test_a_greeting_that_never_comes(self, silent: str, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(silent.replace("redis:", "rediss:"))
        with pytest.raises(TierUnavailable, match="in time"):
            tier.get("a", shortly())
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aget("a", shortly())
