"""What guards the transactions of workers, on real databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from tiercache import LostPartition
from tiercache.core.write_batch import QueuedWrite, WriteBatch
from tiercache.core.write_queue import Place, Receipt
from tiercache.integrations.write_log import create_write_log, unwritten, write_log

PLACE = Place("stock", 3)


@pytest.fixture(params=["postgresql", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/shop.db"
    else:
        url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    with engine.begin() as connection:
        create_write_log(connection)
        create_write_log(connection)
    yield engine
    engine.dispose()


def batch(
    *numbers: int, history: str = "h1", fence: int = 1, top: int = 0, place: Place = PLACE
) -> WriteBatch[str, int]:
    writes = [
        QueuedWrite(f"k{number}", number, removed=False, receipt=Receipt(history, number), at=0.0) for number in numbers
    ]
    return WriteBatch(place, writes, fence=fence, marks={history: max(top, *numbers)})


def taken(engine: Engine, batch: WriteBatch[str, int]) -> list[int | None]:
    with engine.begin() as connection:
        return [write.value for write in unwritten(connection, batch)]


def test_what_comes_again_is_left_out(engine: Engine) -> None:
    assert taken(engine, batch(1, 2, 3)) == [1, 2, 3]
    assert taken(engine, batch(1, 2, 3)) == []
    assert taken(engine, batch(2, 3, 4)) == [4]
    # In this one, a newer value has replaced number 6.
    assert taken(engine, batch(5, top=6)) == [5]
    assert taken(engine, batch(6, 7)) == [7]


def test_partitions_stores_and_histories_count_by_themselves(engine: Engine) -> None:
    assert taken(engine, batch(5)) == [5]
    assert taken(engine, batch(5, place=Place("stock", 4))) == [5]
    assert taken(engine, batch(5, place=Place("views", 3))) == [5]
    assert taken(engine, batch(2, history="h2")) == [2]
    assert taken(engine, batch(5)) == []


def test_a_batch_of_two_histories(engine: Engine) -> None:
    first, second = batch(8), batch(2, history="h2")
    both = WriteBatch(PLACE, [*first, *second], fence=1, marks={"h1": 8, "h2": 2})
    assert taken(engine, both) == [8, 2]
    assert taken(engine, both) == []


def test_what_is_rolled_back_is_not_taken(engine: Engine) -> None:
    with engine.connect() as connection:
        assert len(unwritten(connection, batch(1))) == 1
        connection.rollback()
    assert taken(engine, batch(1)) == [1]


def test_who_has_been_replaced_is_refused(engine: Engine) -> None:
    assert taken(engine, batch(1, fence=4)) == [1]
    assert taken(engine, batch(2, fence=5)) == [2]
    with pytest.raises(LostPartition, match="another worker") as refused:
        taken(engine, batch(3, fence=4))
    assert refused.value.fence == 5
    assert taken(engine, batch(3, fence=5)) == [3]


def test_two_at_once_follow_each_other(postgres_url: str) -> None:
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        create_write_log(connection)
        unwritten(connection, batch(1))
    results: list[list[int | None]] = []
    with engine.connect() as first:
        assert len(unwritten(first, batch(2, 3))) == 2
        other = threading.Thread(target=lambda: results.append(taken(engine, batch(2, 3, 4))))
        other.start()
        waiting = text("select count(*) from pg_locks where not granted")
        with engine.connect() as watcher:
            while not watcher.scalar(waiting):
                watcher.rollback()
        assert results == []
        first.commit()
        other.join(20)
    assert results == [[4]]
    engine.dispose()


def test_on_sqlite_nobody_takes_over_while_one_looks(tmp_path: Path) -> None:
    # SQLite knows no locks on rows, and its driver begins a transaction with the first write alone.
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db", connect_args={"timeout": 0})
    with engine.begin() as connection:
        connection.execute(text("PRAGMA journal_mode=WAL"))
        create_write_log(connection)
    assert taken(engine, batch(1, fence=1)) == [1]
    refused: list[str] = []

    def take_over(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "history IN" in statement:  # it has seen by then that it is not replaced
            try:
                taken(engine, batch(2, 3, fence=2))
            except OperationalError as error:
                refused.append(str(error))

    with engine.begin() as first:
        event.listen(first, "before_cursor_execute", take_over)
        assert [write.value for write in unwritten(first, batch(2, fence=1))] == [2]
    assert "locked" in refused[0]
    assert taken(engine, batch(2, 3, fence=2)) == [3]
    engine.dispose()


def test_a_session_and_a_table_among_ones_own(engine: Engine) -> None:
    metadata = MetaData()
    table = write_log(metadata, "shop_writes")
    assert write_log(metadata, "shop_writes") is table
    metadata.create_all(engine)
    for expected in ([1], []):
        with Session(engine) as session, session.begin():
            assert [write.value for write in unwritten(session, batch(1), table)] == expected
    assert taken(engine, batch(1)) == [1]
