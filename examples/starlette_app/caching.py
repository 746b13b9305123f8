"""All that the Starlette shop says about caching, but for the two lines beside its views."""

from __future__ import annotations

import logging
import os

from tiercache import PurgeUnconfirmed, TierCache

cache = TierCache(
    os.environ.get("REDIS_URL") or None,  # None: each process caches for itself
    # One namespace for both shops: a purge in one reaches the other.
    namespace="shop",
    # Two names: their pages differ, so neither is ever given what the other has made.
    app="starlette-shop",
    # A new release begins with an empty cache.
    version=os.environ.get("SHOP_VERSION", ""),
)

# The page is the same for everybody, signed in or not: that is what makes cookies="ignore" right here.
# isolated_ttl: with Redis out of reach a process does not hear of changes, so it shows no page older than this.
cache.route("/products/{id:int}", ttl="10m", tags=["product:{id}"], cookies="ignore", isolated_ttl="5s")

# Costly to compute, and may be a few seconds old. Of the query only `days` counts: ?days=7&utm_source=x is no new page.
cache.route("/dashboard", ttl="5s", query=["days"], cookies="ignore")

# For 250 ms nothing is gained by asking Redis: each process keeps its own.
cache.route("/market-data", ttl="250ms", tiers=["l1"], query="ignore", cookies="ignore")

# Personal. A cookie alone would do it; this makes it certain.
cache.route("/account", cache=False)


async def product_changed(product_id: int) -> bool:
    """Take every page with this product out of every tier of both shops. To be called after the commit.

    False if Redis did not confirm: the purge then holds in this process, and reaches the others when Redis is back.
    """
    try:
        await cache.apurge(tags=[f"product:{product_id}"])
    except PurgeUnconfirmed:
        logging.getLogger(__name__).warning("the purge of product %d is queued", product_id)
        return False
    return True
