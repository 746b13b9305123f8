"""What the errors of drivers say: of a database that is away, and of writes that it refuses."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, exc, text

from tests.servers import RedisServer
from tiercache import TierCache
from tiercache.core.write_batch import WriteBatch
from tiercache.engine.refusals import Verdict, verdict
from tiercache.integrations.write_log import create_write_log, unwritten
from tiercache.write_behind import WriteBehind

PATIENCE = 20.0


class OperationalError(Exception):
    """As drivers call it."""

    def __init__(self, **facts: Any) -> None:
        super().__init__("what happened")
        self.__dict__.update(facts)


class IntegrityError(Exception):
    """As drivers call it."""


class InternalError(Exception):
    """As drivers call it."""

    sqlstate = "25006"


AWAY, REFUSED, UNCLEAR = Verdict.AWAY, Verdict.REFUSED, Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OperationalError(), UNCLEAR),
        (OperationalError(sqlstate=None), UNCLEAR),
        (OperationalError(sqlstate="08006"), AWAY),
        (OperationalError(pgcode="40P01"), AWAY),
        (OperationalError(sqlstate="53100"), AWAY),
        (OperationalError(sqlstate="55P03"), AWAY),
        (OperationalError(sqlstate="57P01"), AWAY),
        (OperationalError(sqlstate="54000"), REFUSED),
        (OperationalError(pgcode="42703"), REFUSED),
        (OperationalError(sqlite_errorcode=sqlite3.SQLITE_BUSY), AWAY),
        (OperationalError(sqlite_errorcode=sqlite3.SQLITE_IOERR_READ), AWAY),
        (OperationalError(sqlite_errorcode=sqlite3.SQLITE_ERROR), REFUSED),
        (InternalError(), AWAY),
        (IntegrityError("duplicate"), REFUSED),
        (ConnectionResetError(), AWAY),
        (TimeoutError(), AWAY),
        (exc.TimeoutError("no connection is free"), UNCLEAR),
        (exc.OperationalError("select", {}, Exception()), UNCLEAR),
        (exc.IntegrityError("insert", {}, Exception()), REFUSED),
        (ValueError("no"), REFUSED),
    ],
)
def test_what_an_error_says(error: Exception, said: Verdict) -> None:
    assert verdict(error) is said
    wrapped = RuntimeError("while saving")
    wrapped.__cause__ = error
    assert verdict(wrapped) is said


@pytest.fixture
def log() -> Iterator[RedisServer]:
    with RedisServer(appendonly="yes", appendfsync="everysec") as server:
        yield server


@pytest.fixture(params=["postgresql", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    else:
        url = request.getfixturevalue("postgres_url")
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        create_write_log(connection)
        connection.execute(text("CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT UNIQUE)"))
    yield engine
    engine.dispose()


def saving(engine: Engine, statement: Callable[[Any], str], failed: list[Exception]) -> Callable[..., None]:
    def save(batch: WriteBatch[int, str]) -> None:
        try:
            with engine.begin() as connection:
                for one in unwritten(connection, batch):
                    connection.execute(text(statement(one)), {"id": one.key, "name": one.value})
        except Exception as error:
            failed.append(error)
            raise

    return save


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def rows(engine: Engine) -> dict[int, str]:
    with engine.begin() as connection:
        if engine.name == "sqlite":
            # The connection comes from the pool, and may be one that a writer has made impatient.
            connection.execute(text("PRAGMA busy_timeout = 10000"))
        return {row.id: row.name for row in connection.execute(text("SELECT id, name FROM name"))}


PLAIN = "INSERT INTO name (id, name) VALUES (:id, :name)"
LONG = "".join(f"{number * 2654435761 % 4294967296:08x}" for number in range(4_000))
"""Longer than an index of PostgreSQL takes, compressed too."""


def store_of(cache: TierCache, save: Callable[..., None]) -> WriteBehind[int, str]:
    return cache.write_behind(
        "names", load=lambda key: None, write=save, ttl="1h", attempts=2, partitions=1, type=str
    )  # fmt: skip


def test_a_write_that_the_database_calls_operational_blocks_nothing(engine: Engine, log: RedisServer) -> None:
    """The one in PostgreSQL is too long for an index, the one in SQLite names a column that is not there."""
    failed: list[Exception] = []

    def statement(one: Any) -> str:
        return PLAIN.replace("(id, name)", "(id, names)") if engine.name == "sqlite" and one.key == 2 else PLAIN

    cache = TierCache(log.url)
    try:
        store = store_of(cache, saving(engine, statement, failed))
        store.set_many({1: "tea", 2: LONG, 3: "cake"})
        worker = cache.worker(interval="5ms")
        worker.start()
        try:
            until(lambda: rows(engine) == {1: "tea", 3: "cake"})
        finally:
            worker.stop(PATIENCE)
        ((_, letter),) = store.letters()
        assert (letter.attempts, letter.error.startswith("names: OperationalError")) == (2, True)
        assert all(isinstance(error, exc.OperationalError) for error in failed)
        assert store.state()[:3] == (0, 0, 1)
    finally:
        cache.close()


def test_a_lock_that_somebody_holds_is_waited_for(engine: Engine, log: RedisServer) -> None:
    """Also where the database breaks the statement off each time."""
    failed: list[Exception] = []
    cache = TierCache(log.url)

    def save(batch: WriteBatch[int, str]) -> None:
        try:
            with engine.begin() as connection:
                impatient = "PRAGMA busy_timeout = 1" if engine.name == "sqlite" else "SET LOCAL lock_timeout = '1ms'"
                connection.execute(text(impatient))
                for one in batch:
                    connection.execute(text(PLAIN), {"id": one.key, "name": one.value})
        except Exception as error:
            failed.append(error)
            raise

    try:
        store = store_of(cache, save)
        worker = cache.worker(interval="5ms")
        with engine.connect() as holder:
            holder.execute(text(PLAIN), {"id": 7, "name": "held"})
            if engine.name != "sqlite":
                holder.execute(text("LOCK TABLE name IN ACCESS EXCLUSIVE MODE"))
            store.set(1, "tea")
            worker.start()
            # More often than `attempts`.
            until(lambda: len(failed) >= 4)
            holder.rollback()
        try:
            until(lambda: rows(engine) == {1: "tea"})
        finally:
            worker.stop(PATIENCE)
        assert store.letters() == []
        assert {verdict(error) for error in failed} == {AWAY}
    finally:
        cache.close()
