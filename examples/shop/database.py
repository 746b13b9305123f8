"""The shop's database: products, sales and exchange rates, through SQLAlchemy."""

from __future__ import annotations

import os
import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ForeignKey, create_engine, event, func, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

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


class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    category: Mapped[str]
    cents: Mapped[int]

    @property
    def price(self) -> str:
        return f"{self.cents // 100}.{self.cents % 100:02}"


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
        try:
            Base.metadata.create_all(self.engine)
            with Session(self.engine) as session, session.begin():
                if session.get(Product, 1) is None:
                    session.add_all(_seed())
        except (IntegrityError, OperationalError, ProgrammingError):
            # Another process has been faster; if it was something else, this says so.
            with Session(self.engine) as session:
                session.scalar(select(func.count()).select_from(Product))

    def products(self) -> list[Product]:
        with Session(self.engine) as session:
            return list(session.scalars(select(Product).order_by(Product.id)))

    def product(self, product_id: int) -> Product | None:
        with Session(self.engine) as session:
            return session.get(Product, product_id)

    def set_price(self, product_id: int, cents: int) -> bool:
        """Returns when it is committed; False if there is no such product."""
        with Session(self.engine) as session, session.begin():
            changed: Any = session.execute(update(Product).where(Product.id == product_id).values(cents=cents))
            return bool(changed.rowcount)

    def turnover(self, days: int) -> list[Turnover]:
        """What a dashboard asks: a sum over all sales of the last days."""
        since = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
        pieces, cents = func.sum(Sale.quantity), func.sum(Sale.quantity * Sale.cents)
        query = (
            select(Product.category, func.count(), pieces, cents)
            .join(Sale, Sale.product_id == Product.id)
            .where(Sale.sold_at >= since)
            .group_by(Product.category)
            .order_by(cents.desc())
        )
        with Session(self.engine) as session:
            return [Turnover(name, sales, int(n), int(sum_) / 100) for name, sales, n, sum_ in session.execute(query)]

    def rates(self) -> dict[str, float]:
        with Session(self.engine) as session:
            return {rate.currency: rate.per_euro for rate in session.scalars(select(Rate).order_by(Rate.currency))}


def _write_ahead(connection: Any, _record: Any) -> None:
    # Readers and one writer at the same time, and patience where two processes want to write.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=5000")


def _seed() -> list[Base]:
    dice = random.Random(7)
    now = datetime.now(UTC).replace(tzinfo=None)
    rows: list[Base] = [Rate(currency=currency, per_euro=rate) for currency, rate in RATES.items()]
    for number, (name, category, cents) in enumerate(SEED, 1):
        rows.append(Product(id=number, name=name, category=category, cents=cents))
        rows += [
            Sale(
                product_id=number,
                quantity=dice.randint(1, 4),
                cents=cents,
                sold_at=now - timedelta(minutes=dice.randrange(60 * 24 * 60)),
            )
            for _ in range(500)
        ]
    return rows


def parse_price(text: str) -> int | None:
    """`"12.3"` or `"12.30"` in cents; None for what is no price between 0.01 and 99999.99."""
    found = re.fullmatch(r"([0-9]{1,5})(?:\.([0-9]{1,2}))?", text.strip())
    if found is None:
        return None
    euros, cents = found.groups()
    return int(euros) * 100 + int((cents or "").ljust(2, "0")) or None
