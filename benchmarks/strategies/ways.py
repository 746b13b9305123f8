"""The ways to keep the prices of the shop: none at all, responses, and a store by each strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from wsgiref.types import StartResponse, WSGIEnvironment

from sqlalchemy import event, insert, update
from sqlalchemy.orm import Session

from benchmarks.drive import wsgi_answer
from examples.shop.database import ProductRow, Shop
from tiercache import TierCache
from tiercache.core.write_batch import WriteBatch
from tiercache.integrations.write_log import unwritten

PRODUCTS = 500
TTL = "1h"
"""Longer than any run, so that nothing but changes makes a price old."""


class Prices(Shop):
    """The shop's database with more products in it, and with its reads counted."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reads = 0
        event.listen(self.engine, "before_cursor_execute", self._count)

    def fill(self) -> None:
        """Make the products that the shop itself does not begin with."""
        known = set(self.product_ids())
        more = [
            {"id": number, "name": f"Tea {number}", "category": "Tea", "cents": 100}
            for number in range(1, PRODUCTS + 1)
            if number not in known
        ]
        with Session(self.engine) as session, session.begin():
            session.execute(insert(ProductRow), more)

    def save(self, batch: WriteBatch[int, int]) -> None:
        """What a worker does with the changes that were queued."""
        with Session(self.engine) as session, session.begin():
            rows = [{"id": write.key, "cents": write.value} for write in unwritten(session, batch)]
            if rows:
                session.execute(update(ProductRow), rows)

    def _count(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self.reads += statement.startswith("SELECT product.")


class Way:
    """One way. This one asks the database each time."""

    name = "no cache"

    def __init__(self, prices: Prices, redis: str) -> None:
        self.prices = prices
        self.cache = TierCache(redis, namespace="bench-" + self.name.replace(" ", "-"), purge_timeout="20s")
        self._begin()

    def _begin(self) -> None:
        """Make the store."""

    def view(self, product: int) -> int:
        """The price on a page that is looked at."""
        return self.prices.price(product)

    def listing(self, products: Sequence[int]) -> None:
        """Show several at once."""
        self.prices.prices(products)

    def change(self, product: int, cents: int) -> None:
        """Returns when the change is acknowledged."""
        self.prices.set_price(product, cents)

    def close(self) -> None:
        self.cache.close()


class Responses(Way):
    """The page as a whole, purged after the change."""

    name = "response cache"

    def _begin(self) -> None:
        self.cache.route("/products/{id:int}", ttl=TTL, tags=["product:{id}"])
        self.cache.route("/list/{ids}", ttl=TTL)
        self._app = self.cache.wsgi(self._page)

    def _page(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _, kind, asked = environ["PATH_INFO"].split("/")
        products = [int(one) for one in asked.split("-")]
        found = self.prices.prices(products) if kind == "list" else {products[0]: self.prices.price(products[0])}
        body = b" ".join(b"%d" % cents for cents in found.values())
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    def view(self, product: int) -> int:
        return int(wsgi_answer(self._app, "GET", f"/products/{product}").body)

    def listing(self, products: Sequence[int]) -> None:
        wsgi_answer(self._app, "GET", "/list/" + "-".join(map(str, products)))

    def change(self, product: int, cents: int) -> None:
        self.prices.set_price(product, cents)
        self.cache.purge(tags=f"product:{product}")


class CacheAside(Way):
    """The app looks into the store, fills it, and deletes what it has changed."""

    name = "cache-aside"

    def _begin(self) -> None:
        self._store = self.cache.aside("prices", ttl=TTL, type=int)

    def view(self, product: int) -> int:
        return self._store.get_or_load(product, self.prices.price)

    def listing(self, products: Sequence[int]) -> None:
        for product in products:
            self._store.get_or_load(product, self.prices.price)

    def change(self, product: int, cents: int) -> None:
        self.prices.set_price(product, cents)
        self._store.delete(product)


class ReadThrough(Way):
    """The store loads, several by one query; the app deletes what it has changed."""

    name = "read-through"

    def _begin(self) -> None:
        prices = self.prices
        self.store = self.cache.read_through("prices", load=prices.price, load_many=prices.prices, ttl=TTL)

    def view(self, product: int) -> int:
        return self.store.get(product)

    def listing(self, products: Sequence[int]) -> None:
        self.store.get_many(products)

    def change(self, product: int, cents: int) -> None:
        self.prices.set_price(product, cents)
        self.store.delete(product)


class WriteThrough(Way):
    """The store writes the database, and has the new value at once."""

    name = "write-through"

    def _begin(self) -> None:
        prices = self.prices
        self._store = self.cache.write_through(
            "prices", load=prices.price, load_many=prices.prices, write=prices.set_price, ttl=TTL
        )

    def view(self, product: int) -> int:
        return self._store.get(product)

    def listing(self, products: Sequence[int]) -> None:
        self._store.get_many(products)

    def change(self, product: int, cents: int) -> None:
        self._store.set(product, cents)


class WriteBehind(Way):
    """Redis has the new value, and a worker writes the database."""

    name = "write-behind"

    def _begin(self) -> None:
        prices = self.prices
        self.store = self.cache.write_behind(
            "prices", load=prices.price, load_many=prices.prices, write=prices.save, ttl=TTL
        )

    def view(self, product: int) -> int:
        return self.store.get(product)

    def listing(self, products: Sequence[int]) -> None:
        self.store.get_many(products)

    def change(self, product: int, cents: int) -> None:
        self.store.set(product, cents)


WAYS: tuple[Callable[[Prices, str], Way], ...] = (Way, Responses, CacheAside, ReadThrough, WriteThrough, WriteBehind)
