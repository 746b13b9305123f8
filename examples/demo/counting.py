"""Page views through all workers at once, one of those that write them killed, and what the database has at the end."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from examples.demo.processes import Worker, Writer
from examples.demo.visitor import Visitor
from examples.shop.database import Shop

PATIENCE = 15.0
"""Seconds for the database to have everything."""


class Counted(NamedTuple):
    acknowledged: Counter[int]
    """By product, the views that a worker said it had counted."""
    refused: list[str]
    behind: int
    """Of what was acknowledged, the most that the database was seen not to have, after the kill."""
    complete: float | None
    """Seconds from the last view until the database had all of them; None: it never did."""
    code: int | None
    """With which the other writer ended, when told to; None: it did not."""
    off: dict[int, int]
    """By product, by how much the database is wrong in the end."""


class Counting:
    """The page views of one run."""

    def __init__(self, workers: Sequence[Worker], writers: Sequence[Writer], database: str) -> None:
        self.writers = writers
        self._workers = workers
        self._database = database

    def run(self, views: int) -> Counted:
        """Look at pages `views` times, over all workers, and kill the first writer in the midst of it."""
        shop = Shop(self._database)
        try:
            return self._run(shop, views)
        finally:
            shop.engine.dispose()

    def _run(self, shop: Shop, views: int) -> Counted:
        products = shop.product_ids()
        before = shop.views_of(products)
        lookers = [_Looker(worker, products, views // len(self._workers)) for worker in self._workers]
        for looker in lookers:
            looker.start()
        while any(looker.is_alive() for looker in lookers) and _total(lookers) < views // 2:
            time.sleep(0.001)
        victim, other = self.writers
        victim.process.kill()
        behind = 0
        while any(looker.is_alive() for looker in lookers):
            counted = sum(before.values()) + _total(lookers)
            behind = max(behind, counted - sum(shop.views_of(products).values()))
            time.sleep(0.02)
        ended = time.monotonic()
        acknowledged = sum((looker.acknowledged for looker in lookers), Counter[int]())
        wanted = {product: before[product] + acknowledged[product] for product in products}
        complete = None
        while complete is None and time.monotonic() < ended + PATIENCE:
            if shop.views_of(products) == wanted:
                complete = time.monotonic() - ended
            time.sleep(0.01)
        # Told to stop, it writes what is left; whatever would have been written twice is in the database then.
        other.process.send_signal(signal.SIGTERM)
        try:
            code = other.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        found = shop.views_of(products)
        off = {product: found[product] - wanted[product] for product in products if found[product] != wanted[product]}
        refused = [text for looker in lookers for text in looker.refused]
        return Counted(acknowledged, refused, behind, complete, code, off)


def _total(lookers: Sequence[_Looker]) -> int:
    return sum(looker.acknowledged.total() for looker in lookers)


class _Looker(threading.Thread):
    """Asks one worker to count views, one product after the other, and notes which it said it had."""

    def __init__(self, worker: Worker, products: Sequence[int], views: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: Counter[int] = Counter(dict.fromkeys(products, 0))
        self.refused: list[str] = []
        self._visitor = Visitor(worker.name, worker.port)
        self._products = products
        self._views = views

    def run(self) -> None:
        try:
            for number in range(self._views):
                product = self._products[number % len(self._products)]
                reply = self._visitor.post(f"/products/{product}/views")
                if reply.status == 204:
                    self.acknowledged[product] += 1
                else:
                    self.refused.append(f"{self._visitor.name} answered a view with {reply.status}")
        except Exception as error:  # to be told at the end, not lost in a thread
            self.refused.append(f"{self._visitor.name}: {type(error).__name__}: {error}")
        finally:
            self._visitor.close()
