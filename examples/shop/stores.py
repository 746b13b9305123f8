"""What stands between the pages and the database: a store for each kind of data, by the strategy that fits it.

The pages only ask. A page that is made with a value is purged with that value, so no view names a tag.
"""

from __future__ import annotations

import logging

from examples.shop.database import Product, Shop, Turnover
from tiercache import PurgeUnconfirmed, TierCache
from tiercache.write_behind import WriteBehind

ISOLATED = "5s"
"""With Redis out of reach a process does not hear of changes, so it shows nothing older than this."""


class Stores:
    """The stores of one process. Safe to share between threads."""

    def __init__(self, cache: TierCache, shop: Shop) -> None:
        self._shop = shop

        # Read-through: the store loads what it lacks, once for all who ask meanwhile, and a list in one query.
        self._products = cache.read_through(
            "products",
            load=shop.product,
            load_many=shop.products,
            ttl="10m",
            isolated_ttl=ISOLATED,
            tags=["product:{key}"],
        )

        # Write-through: the new price is in the database, then in the cache; pages with the old one are gone when `set`
        # returns. Prices are values of their own, since a write of the whole product could bring back an old name.
        self._prices = cache.write_through(
            "prices",
            load=shop.price,
            load_many=shop.prices,
            write=shop.set_price,
            ttl="10m",
            isolated_ttl=ISOLATED,
            tags=["product:{key}"],
        )

        # Cache-aside: dear to compute and nothing purges it; one process asks the database for the whole fleet.
        self._turnover = cache.aside("turnover", type=tuple[Turnover, ...], ttl="30s", coalesce="fleet")

        # Write-behind: far more views than a database wants to write. Redis has each, workers write sums now and then.
        # follow_data: else each view would purge the dashboard, which may well be a few seconds behind.
        self._views: WriteBehind[int, int] | None = None
        if cache.settings.url is not None:
            self._views = cache.write_behind(
                "views", load=shop.views, load_many=shop.views_of, write=shop.write_views, ttl="1m", follow_data=False
            )

    def catalogue(self) -> list[tuple[Product, int]]:
        """Every product and its price in cents."""
        ids = self._shop.product_ids()
        products, prices = self._products.get_many(ids), self._prices.get_many(ids)
        return [(product, prices[number]) for number, product in products.items() if product is not None]

    def product(self, product_id: int) -> tuple[Product, int] | None:
        """One of them; None if there is no such product."""
        product = self._products.get(product_id)
        return None if product is None else (product, self._prices.get(product_id))

    def change_price(self, product_id: int, cents: int) -> bool:
        """False if the database has it, but Redis did not confirm that the old price is void: this process goes by that
        at once, and the others when Redis is back. Raises `LookupError` if there is no such product."""
        try:
            self._prices.set(product_id, cents)
        except PurgeUnconfirmed:
            logging.getLogger(__name__).warning("the purge of product %d is queued", product_id)
            return False
        return True

    def turnover(self, days: int) -> tuple[Turnover, ...]:
        """What was sold in the last days, by category."""
        return self._turnover.get_or_load(days, self._shop.turnover)

    def count_view(self, product_id: int) -> bool:
        """Count a look at a page, once; False if there is no such product.

        Raises:
            TierError: Redis did not answer: it may have been counted or not.
        """
        if self._products.get(product_id) is None:
            return False
        if self._views is None:
            # No Redis to count in: a transaction for each view, which is what write-behind saves.
            self._shop.add_view(product_id)
        else:
            self._views.add(product_id)
        return True

    def most_viewed(self) -> list[tuple[Product, int]]:
        """Every product with its views, those that no worker has written yet included."""
        ids = self._shop.product_ids()
        views = self._shop.views_of(ids) if self._views is None else self._views.get_many(ids)
        products = self._products.get_many(ids)
        counted = [(product, views[number]) for number, product in products.items() if product is not None]
        return sorted(counted, key=lambda one: -one[1])
