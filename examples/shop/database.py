"""The shop's database: products, sales, exchange rates and page views, through SQLAlchemy."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ForeignKey, create_engine, event, func, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tiercache import WriteBatch
from tiercache.integrations.write_log import unwritten, write_log

CREATED_WITHIN = 10.0
"""Seconds in which the processes of a fleet that start together have made the tables."""
SEED = [
    ("Green tea", "Tea", 890),
    ("Black tea", "Tea", 750),
    ("Filter coffee", "Coffee", 1190),
    ("Espresso", "Coffee", 1390),
    ("Teapot", "Ware", 3450),
    ("Coffee mill", "Ware", 8900),
]
RATES = {"CHF": 0.9612, "GBP": 0.8534, "JPY": 163.21, "USD": 1.0871}


class Base(DeclarativeBase):
    pass


# Beside the data, and changed in the same transactions: which page views have been written.
write_log(Base.metadata)


class ProductRow(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    category: Mapped[str]
    cents: Mapped[int]


class PageViews(Base):
    __tablename__ = "page_views"

    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"), primary_key=True, autoincrement=False)
    views: Mapped[int]


class Sale(Base):
    __tablename__ = "sale"

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    quantity: Mapped[int]
    cents: Mapped[int]
    sold_at: Mapped[datetime] = mapped_column(index=True)


class Rate(Base):
    __tablename__ = "rate"

    currency: Mapped[str] = mapped_column(primary_key=True)
    per_euro: Mapped[float]


@dataclass(frozen=True)
class Product:
    """What changes seldom of a product; its price is asked for by itself."""

    id: int
    name: str
    category: str


class Turnover(NamedTuple):
    category: str
    sales: int
    pieces: int
    euros: float


class Shop:
    """Every query that the pages need. Safe to share between threads; each call is one transaction."""

    def __init__(self, url: str | None = None) -> None:
        """`url` is SQLAlchemy's; None: `DATABASE_URL`, else `shop.db` in the current directory."""
        self.engine = create_engine(url or os.environ.get("DATABASE_URL") or "sqlite:///shop.db")
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _write_ahead)
        self._create()

    def _create(self) -> None:
        """Tables and a little data, once; several processes may start at the same time."""
        until = time.monotonic() + CREATED_WITHIN
        while True:
            try:
                Base.metadata.create_all(self.engine)
                with Session(self.engine) as session, session.begin():
                    if session.get(ProductRow, 1) is None:
                        _seed(session)
                return
            except (IntegrityError, OperationalError, ProgrammingError):
                # Another process may have been faster. If it was something else, it happens again.
                if time.monotonic() > until:
                    raise
            time.sleep(random.uniform(0.01, 0.1))

    def product_ids(self) -> list[int]:
        with Session(self.engine) as session:
            return list(session.scalars(select(ProductRow.id).order_by(ProductRow.id)))

    def product(self, product_id: int) -> Product | None:
        return self.products([product_id]).get(product_id)

    def products(self, product_ids: Iterable[int]) -> dict[int, Product]:
        """Those that there are, in one query."""
        query = select(ProductRow.id, ProductRow.name, ProductRow.category).where(ProductRow.id.in_(product_ids))
        with Session(self.engine) as session:
            return {row.id: Product(row.id, row.name, row.category) for row in session.execute(query)}

    def price(self, product_id: int) -> int:
        """In cents. Raises `LookupError` if there is no such product."""
        return self.prices([product_id])[product_id]

    def prices(self, product_ids: Iterable[int]) -> dict[int, int]:
        query = select(ProductRow.id, ProductRow.cents).where(ProductRow.id.in_(product_ids))
        with Session(self.engine) as session:
            return {row.id: row.cents for row in session.execute(query)}

    def set_price(self, product_id: int, cents: int) -> None:
        """Returns when it is committed. Raises `LookupError` if there is no such product."""
        with Session(self.engine) as session, session.begin():
            change = update(ProductRow).where(ProductRow.id == product_id).values(cents=cents)
            changed: Any = session.execute(change)
            if not changed.rowcount:
                raise LookupError(product_id)

    def views(self, product_id: int) -> int:
        """How often its page has been looked at."""
        return self.views_of([product_id])[product_id]

    def views_of(self, product_ids: Sequence[int]) -> dict[int, int]:
        query = select(PageViews.product_id, PageViews.views).where(PageViews.product_id.in_(product_ids))
        with Session(self.engine) as session:
            found = {row.product_id: row.views for row in session.execute(query)}
        return {**dict.fromkeys(product_ids, 0), **found}

    def add_view(self, product_id: int) -> None:
        """Count one, in a transaction of its own."""
        with Session(self.engine) as session, session.begin():
            more = update(PageViews).where(PageViews.product_id == product_id).values(views=PageViews.views + 1)
            session.execute(more)

    def write_views(self, batch: WriteBatch[int, int]) -> None:
        """Write what write-behind has counted, in one transaction, and nothing twice: a batch may come again."""
        with Session(self.engine) as session, session.begin():
            for write in unwritten(session, batch):
                session.merge(PageViews(product_id=write.key, views=write.value))

    def turnover(self, days: int) -> tuple[Turnover, ...]:
        """What a dashboard asks: a sum over all sales of the last days."""
        since = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
        pieces, cents = func.sum(Sale.quantity), func.sum(Sale.quantity * Sale.cents)
        query = (
            select(ProductRow.category, func.count(), pieces, cents)
            .join(Sale, Sale.product_id == ProductRow.id)
            .where(Sale.sold_at >= since)
            .group_by(ProductRow.category)
            .order_by(cents.desc())
        )
        with Session(self.engine) as session:
            rows = session.execute(query)
            return tuple(Turnover(name, sales, int(n), int(sum_) / 100) for name, sales, n, sum_ in rows)

    def rates(self) -> dict[str, float]:
        with Session(self.engine) as session:
            return {rate.currency: rate.per_euro for rate in session.scalars(select(Rate).order_by(Rate.currency))}


def _write_ahead(connection: Any, _record: Any) -> None:
    # Readers and one writer at the same time, and patience where two processes want to write.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=5000")


def _seed(session: Session) -> None:
    dice = random.Random(7)
    now = datetime.now(UTC).replace(tzinfo=None)
    session.add_all(Rate(currency=currency, per_euro=rate) for currency, rate in RATES.items())
    for number, (name, category, cents) in enumerate(SEED, 1):
        session.add(ProductRow(id=number, name=name, category=category, cents=cents))
    # What refers to them comes after them.
    session.flush()
    for number, (_, _, cents) in enumerate(SEED, 1):
        session.add(PageViews(product_id=number, views=0))
        session.add_all(
            Sale(
                product_id=number,
                quantity=dice.randint(1, 4),
                cents=cents,
                sold_at=now - timedelta(minutes=dice.randrange(60 * 24 * 60)),
            )
            for _ in range(500)
        )


def parse_price(text: str) -> int | None:
    """`"12.3"` or `"12.30"` in cents; None for what is no price between 0.01 and 99999.99."""
    found = re.fullmatch(r"([0-9]{1,5})(?:\.([0-9]{1,2}))?", text.strip())
    if found is None:
        return None
    euros, cents = found.groups()
    return int(euros) * 100 + int((cents or "").ljust(2, "0")) or None
