"""For the tests of apps that use tiercache: isolated and empty caches, a clock to turn, and assertions on responses.

    from tiercache.testing import assert_hit, assert_miss, isolated

    with isolated() as caches:
        assert_miss(client.get("/products/1"))
        assert_hit(client.get("/products/1"))
        caches.clock.advance("10m")
        assert_miss(client.get("/products/1"))

No Redis is needed, and nobody sleeps. For pytest there are the fixtures `tiercache_isolated` and `tiercache_clock`,
which come with the installation. Nothing here needs pytest.
"""

from __future__ import annotations

from tiercache.testing.clock import Clock
from tiercache.testing.isolation import Isolation, isolated
from tiercache.testing.purges import AskedPurge
from tiercache.testing.responses import Outcome, assert_bypass, assert_hit, assert_miss, outcome_of

__all__ = [
    "AskedPurge",
    "Clock",
    "Isolation",
    "Outcome",
    "assert_bypass",
    "assert_hit",
    "assert_miss",
    "isolated",
    "outcome_of",
]
