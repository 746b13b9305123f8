"""Write each write of a write-behind store once: a table beside the data tells what the database has taken.

    def save(batch):
        with Session(engine) as session, session.begin():
            for write in unwritten(session, batch):
                session.merge(Product(id=write.key, cents=write.value))

A worker may die after the database has committed and before the queue knows, and one that stood still may come back
when another has taken over. So the same transaction that writes notes the highest number of its partition, under a lock
on one row: what comes again is left out, and who has been replaced is refused by its fencing token.
"""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.orm import Session

from tiercache.core.write_batch import WriteBatch
from tiercache.errors import LostPartition

K = TypeVar("K")
V = TypeVar("V")

TABLE = "tiercache_writes"
_FENCE = ""
"""Stands for the history in the row that holds the fencing token of a partition; the lock on it guards the others."""


def write_log(metadata: MetaData, name: str = TABLE) -> Table:
    """The table, among those of an application: `metadata.create_all(engine)` makes it, or a migration with the same
    columns."""
    known = metadata.tables.get(name)
    if known is not None:
        return known
    return Table(
        name,
        metadata,
        Column("store", String(100), primary_key=True),
        Column("part", Integer, primary_key=True, autoincrement=False),
        Column("history", String(32), primary_key=True),
        Column("number", BigInteger, nullable=False),
    )


_default = write_log(MetaData())


def create_write_log(connection: Connection | Session) -> None:
    """Make the table where there is none."""
    _default.create(_connection(connection), checkfirst=True)


def unwritten(
    connection: Connection | Session, batch: WriteBatch[K, V], table: Table | None = None
) -> WriteBatch[K, V]:
    """What of a batch the database does not have. The caller writes that, and commits, in the transaction that is open.

    Args:
        connection: with an open transaction, or one that begins by itself; a `Session` too.
        batch: as it was given to the function that writes.
        table: as made by `write_log`; None: `tiercache_writes`.

    Raises:
        LostPartition: another worker writes these by now. Let it through, so that the transaction is rolled back.
    """
    log = _default if table is None else table
    session = _connection(connection)
    here = (log.c.store == batch.place.store) & (log.c.part == batch.place.partition)
    if session.dialect.name == "sqlite":
        # It has no locks on rows: whoever writes first has the whole database, and a write of nothing will do.
        session.execute(update(log).where(here, log.c.history == _FENCE).values(number=log.c.number))
    fence = session.scalar(select(log.c.number).where(here, log.c.history == _FENCE).with_for_update())
    if fence is None:
        _insert(session, log, batch, _FENCE, batch.fence)
    elif fence > batch.fence:
        raise LostPartition(f"{batch!r}: another worker has written there since", fence)
    elif fence < batch.fence:
        session.execute(update(log).where(here, log.c.history == _FENCE).values(number=batch.fence))
    rows = session.execute(select(log.c.history, log.c.number).where(here, log.c.history.in_(list(batch.marks))))
    marks: dict[str, int] = {row.history: row.number for row in rows}
    for history, number in batch.marks.items():
        if history not in marks:
            _insert(session, log, batch, history, number)
        elif number > marks[history]:
            session.execute(update(log).where(here, log.c.history == history).values(number=number))
    return batch.newer_than(marks)


def _insert(session: Connection, log: Table, batch: WriteBatch[Any, Any], history: str, number: int) -> None:
    session.execute(
        insert(log).values(store=batch.place.store, part=batch.place.partition, history=history, number=number)
    )


def _connection(connection: Connection | Session) -> Connection:
    return connection.connection() if isinstance(connection, Session) else connection
