"""The store of the run, as every process of it has it: in Redis, in PostgreSQL, and a note of each write there."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.writes.plants import PLANT, plant
from tiercache import TierCache
from tiercache.core.write_batch import WriteBatch
from tiercache.integrations.write_log import unwritten

plant()

engine = create_engine(os.environ["WRITES_DATABASE"], poolclass=NullPool, connect_args={"connect_timeout": 3})
cache = TierCache(os.environ["WRITES_REDIS"], namespace="writes", purge_timeout="2s")


def load(key: str) -> int | None:
    with engine.connect() as connection:
        found: int | None = connection.scalar(text("select value from item where key = :key"), {"key": key})
        return found


def write(batch: WriteBatch[str, int]) -> None:
    with engine.begin() as connection:
        guarded: Any = batch if PLANT == "no-guard" else unwritten(connection, batch)
        for one in guarded:
            row = {"key": one.key, "value": one.value, "write": one.id}
            connection.execute(
                text(
                    "insert into item (key, value) values (:key, :value) "
                    "on conflict (key) do update set value = excluded.value"
                ),
                row,
            )
            connection.execute(text("insert into note (key, value, write) values (:key, :value, :write)"), row)


def stock_of(cache: TierCache, **settings: Any) -> Any:
    """The store, in one more cache."""
    return cache.write_behind(
        "stock",
        load=load,
        write=write,
        ttl="10m",
        partitions=8,
        write_batch=50,
        full_wait="10s",
        durability=os.environ.get("WRITES_DURABILITY", "always"),  # type: ignore[arg-type]
        **settings,
    )


stock = stock_of(cache)


def create() -> None:
    """The tables."""
    from tiercache.integrations.write_log import create_write_log

    with engine.begin() as connection:
        create_write_log(connection)
        connection.execute(text("create table item (key text primary key, value bigint not null)"))
        connection.execute(
            text("create table note (id bigserial primary key, key text, value bigint, write text not null)")
        )
