"""All that the Flask shop says about its pages in the cache. Of the data behind them: `examples/shop/stores.py`."""

from __future__ import annotations

import os

from examples.shop.stores import ISOLATED
from tiercache.integrations.flask import FlaskTierCache

cache = FlaskTierCache()

CONFIG = {
    "TIERCACHE_URL": os.environ.get("REDIS_URL") or None,  # None: each process caches for itself
    # One namespace for both shops: a purge in one reaches the other.
    "TIERCACHE_NAMESPACE": "shop",
    # Two names: their pages differ, so neither is ever given what the other has made.
    "TIERCACHE_APP": "flask-shop",
    # A new release begins with an empty cache.
    "TIERCACHE_VERSION": os.environ.get("SHOP_VERSION", ""),
    "TIERCACHE_ROUTES": {
        # The page is the same for everybody, signed in or not: that is what makes cookies="ignore" right here. It has
        # no tags: it is purged with the product and the price that it was made with.
        "/products/{id:int}": {"ttl": "10m", "cookies": "ignore", "isolated_ttl": ISOLATED},
        # Its parts are from stores, and may be a few seconds old. Of the query only `days` counts: ?days=7&utm_source=x
        # is no new page.
        "/dashboard": {"ttl": "5s", "query": ["days"], "cookies": "ignore"},
        # For 250 ms nothing is gained by asking Redis: each process keeps its own.
        "/market-data": {"ttl": "250ms", "tiers": ["l1"], "query": "ignore", "cookies": "ignore"},
        # Personal. A cookie alone would do it; this makes it certain.
        "/account": {"cache": False},
    },
}
