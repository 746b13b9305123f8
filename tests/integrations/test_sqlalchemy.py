"""`invalidate_on_commit` with real databases: what a transaction has changed is purged once it has committed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.pool import NullPool

from tests.integrations.told import Told
from tests.servers import RedisServer, free_port
from tests.test_cache import asked
from tiercache import ConfigError, TierCache
from tiercache.integrations.sqlalchemy import OnCommit, invalidate_on_commit


class Base(DeclarativeBase):
    pass


class Slugged:
    """A base that is no table."""

    slug: Mapped[str | None] = mapped_column(default=None)


labels = Table(
    "labels",
    Base.metadata,
    Column("product_id", ForeignKey("product.id"), primary_key=True),
    Column("label_id", ForeignKey("label.id"), primary_key=True),
)


class Label(Base):
    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)


class Category(Slugged, Base):
    __tablename__ = "category"
    id: Mapped[int] = mapped_column(primary_key=True)
    products: Mapped[list[Product]] = relationship(cascade="save-update, merge, delete, delete-orphan")


class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="product")
    price: Mapped[int] = mapped_column("price_cents", default=0)
    category_id: Mapped[int | None] = mapped_column(ForeignKey("category.id"))
    labels: Mapped[list[Label]] = relationship(secondary=labels)
    parts: Mapped[list[Part]] = relationship(cascade="save-update, merge, delete, delete-orphan")
    double: Mapped[int] = column_property(price * 2)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "product"}  # noqa: RUF012


class Book(Product):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(ForeignKey("product.id"), primary_key=True)
    isbn: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "book"}  # noqa: RUF012


class Part(Base):
    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int | None] = mapped_column(ForeignKey("product.id"))


TAGS: dict[type, Any] = {
    Product: ["product:{id}", "category:{category_id}"],
    Book: "isbn:{isbn}",
    Slugged: "slug:{slug}",
    Label: "label:{id}",
    Part: "part:{id}",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/shop.db"
    else:
        url = request.getfixturevalue("postgres_server").new_database("psycopg")
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    with Session(engine) as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
        session.add_all([Category(id=1, slug="tea"), Category(id=2, slug="coffee"), Label(id=1), Label(id=2)])
        session.flush()
        session.add_all([Product(id=n, category_id=1, price=n) for n in (1, 2, 3)])
        session.add(Book(id=9, isbn="978", category_id=2))
        session.flush()
        third = session.get_one(Product, 3)
        third.labels.append(session.get_one(Label, 1))
        session.add_all([Part(id=1, product_id=3), Part(id=2)])
        session.commit()
    return sessionmaker(engine)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watch(told: Told) -> Iterator[Callable[..., OnCommit]]:
    """Watches and ends with the test, since its hooks are those of every mapper of the process."""
    watches: list[OnCommit] = []

    def make(target: Any, tags: Any = TAGS, **settings: Any) -> OnCommit:
        watches.append(invalidate_on_commit(told.cache, target, tags, **settings))
        return watches[-1]

    yield make
    for one in watches:
        one.remove()


Change = Callable[[Session], Any]


def moved(session: Session) -> None:
    product = session.get_one(Product, 1)
    product.category_id = 2


def moved_unread(session: Session) -> None:
    """The old value has never been read."""
    product = session.get_one(Product, 1)
    session.expire(product)
    product.category_id = 2


def moved_by_the_collection(session: Session) -> None:
    product = session.get_one(Product, 1)
    session.expire(product, ["category_id"])
    old, new = session.get_one(Category, 1), session.get_one(Category, 2)
    here, there = old.products, new.products
    here.remove(product)
    there.append(product)


def by_expression(session: Session) -> None:
    session.get_one(Product, 1).category_id = func.coalesce(None, 2)  # type: ignore[assignment]


def new_key(session: Session) -> None:
    session.get_one(Product, 1).id = 77


def unlabelled(session: Session) -> None:
    product = session.get_one(Product, 3)
    product.labels.clear()


def deleted(session: Session) -> None:
    session.delete(session.get_one(Product, 3))


def whole_category(session: Session) -> None:
    session.delete(session.get_one(Category, 1))


def orphaned(session: Session) -> None:
    category = session.get_one(Category, 1)
    category.products = [one for one in category.products if one.id != 3]


def bulk_where(session: Session) -> None:
    session.execute(update(Product).where(Product.id.in_([1, 2])).values(category_id=2))


def bulk_parameters(session: Session) -> None:
    statement = update(Product).where(Product.id == bindparam("which")).values(price=5)
    session.execute(statement, {"which": 2})


def bulk_by_key(session: Session) -> None:
    session.execute(update(Product), [{"id": 1, "category_id": 2}, {"id": 3, "price": 8}])


def bulk_of_a_subclass(session: Session) -> None:
    session.execute(update(Book).where(Book.isbn == "978").values(isbn="979"))


def core_table(session: Session) -> None:
    session.execute(update(Label.__table__).where(Label.id == 2).values(id=2))  # type: ignore[arg-type]


def bulk_after_autoflush(session: Session) -> None:
    session.add(Product(id=20, category_id=2))
    session.execute(delete(Product).where(Product.category_id == 2, Product.kind == "product"))


def legacy_query(session: Session) -> None:
    session.query(Label).filter(Label.id == 2).delete()


def bulk_insert(session: Session) -> None:
    session.execute(insert(Label), [{"id": 5}, {"id": 6}])


def single_insert(session: Session) -> None:
    session.execute(insert(Label).values(id=7))


def generated_key(session: Session) -> None:
    session.execute(insert(Category).values(slug="pots"))


@pytest.mark.parametrize(
    ("change", "tags"),
    [
        (lambda session: session.add(Product(id=4, category_id=2)), {"product:4", "category:2"}),
        (lambda session: session.add(Product(id=4)), {"product:4"}),
        (lambda session: session.add(Book(id=5, isbn="1")), {"product:5", "isbn:1"}),
        (lambda session: session.add(Category(id=3, slug="")), {"slug:"}),
        (lambda session: session.add(Part()), {"part:3"}),
        (moved, {"product:1", "category:1", "category:2"}),
        (moved_unread, {"product:1", "category:1", "category:2"}),
        (moved_by_the_collection, {"product:1", "category:1", "category:2", "slug:tea", "slug:coffee"}),
        (by_expression, {"product:1", "category:1", "category:2"}),
        (new_key, {"product:1", "product:77", "category:1"}),
        (unlabelled, {"product:3", "category:1", "label:1"}),
        (deleted, {"product:3", "category:1", "label:1", "part:1"}),
        (
            whole_category,
            {"slug:tea", "product:1", "product:2", "product:3", "category:1", "label:1", "part:1"},
        ),
        (orphaned, {"slug:tea", "product:3", "category:1", "label:1", "part:1"}),
        (bulk_where, {"product:1", "product:2", "category:1", "category:2"}),
        (bulk_parameters, {"product:2", "category:1"}),
        (bulk_by_key, {"product:1", "product:3", "category:1", "category:2"}),
        (bulk_after_autoflush, {"product:20", "category:2"}),
        (bulk_of_a_subclass, {"product:9", "category:2", "isbn:978", "isbn:979"}),
        (core_table, {"label:2"}),
        (legacy_query, {"label:2"}),
        (bulk_insert, {"label:5", "label:6"}),
        (single_insert, {"label:7"}),
        (generated_key, {"slug:pots"}),
        (lambda session: session.execute(update(Product).where(Product.id == 100).values(price=1)), set()),
        (lambda session: setattr(session.get_one(Product, 1), "price", 1), set()),
        (lambda session: session.execute(select(Product)).all(), set()),
    ],
)
def test_a_commit_purges_what_has_changed(
    change: Change, tags: set[str], sessions: Any, told: Told, watch: Callable[..., OnCommit]
) -> None:
    watch(sessions)
    for commit in (False, True):
        with sessions() as session:
            fix_sequences(session)
            change(session)
            session.flush()
            assert told.take() == set()
            if commit:
                session.commit()
                assert told.take() == tags
                assert told.times <= 1
            else:
                session.rollback()
            session.commit()
        assert told.take() == set()
    with sessions() as session:
        session.add(Label(id=99))
        session.flush()  # and is closed
    assert told.take() == set()


def fix_sequences(session: Session) -> None:
    """Let the next generated key be the same with every database and after every rollback."""
    if session.get_bind().dialect.name == "postgresql":
        for table in ("part", "category"):
            session.execute(text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))"))


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.execute(insert(Part), [{"product_id": 1}, {"product_id": 1}]),
        lambda session: session.execute(insert(Part).from_select(["id"], select(func.max(Part.id) + 1))),
        lambda session: session.execute(update(Product).values(price=1)),
        lambda session: session.execute(update(Product).where(Product.id == 2).values(id=200)),
        lambda session: session.execute(update(Product), [{"id": n, "price": 1} for n in (1, 2, 3, 9)]),
        lambda session: session.execute(insert(Label), [{"id": n} for n in range(10, 14)]),
    ],
)
def test_where_the_rows_cannot_be_told_what_stands_for_them_goes(
    change: Change, sessions: Any, told: Told, watch: Callable[..., OnCommit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache.integrations.sqlalchemy_rows.MOST_ROWS", 3)
    watch(sessions, {Product: "product:{id}", Part: "part:{id}", Label: "label:{id}"})
    with sessions() as session:
        fix_sequences(session)
        change(session)
        assert told.take() == set()
        session.commit()
    assert told.take() == {"everything"}
    assert told.cache.stats()["swallowed"] == {"change of unknown rows": 1}
    watch(sessions, {Product: "product:{id}", Part: "part:{id}", Label: "label:{id}"}, unknown=["catalog"])
    with sessions() as session:
        session.execute(update(Product).values(price=1))
        session.commit()
    assert told.take() == {"everything", "catalog"}


def test_a_savepoint_that_is_rolled_back_drops_what_it_held(
    sessions: Any, told: Told, watch: Callable[..., OnCommit]
) -> None:
    watch(sessions)
    with sessions() as session:
        session.add(Label(id=10))
        outer = session.begin_nested()
        session.add(Label(id=11))
        with session.begin_nested():
            session.add(Label(id=12))
        inner = session.begin_nested()
        session.add(Label(id=13))
        session.flush()
        inner.rollback()
        session.add(Label(id=14))
        outer.commit()
        dropped = session.begin_nested()
        session.add(Label(id=15))
        with session.begin_nested():
            session.add(Label(id=16))
        dropped.rollback()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(insert(Label), [{"id": 17}, {"id": 10}])
        session.add(Label(id=18))
        assert told.take() == set()
        session.commit()
    assert told.take() == {f"label:{n}" for n in (10, 11, 12, 14, 18)}


def test_a_flush_that_fails_purges_nothing(sessions: Any, told: Told, watch: Callable[..., OnCommit]) -> None:
    watch(sessions)
    with sessions() as session:
        session.add(Label(id=10))
        session.flush()
        session.add(Label(id=1))
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert told.take() == set()
        session.add(Label(id=11))
        session.commit()
    assert told.take() == {"label:11"}


def test_a_commit_of_which_nobody_knows_is_purged(
    sessions: Any, engine: Engine, told: Told, watch: Callable[..., OnCommit]
) -> None:
    """The database may have done it before the connection broke."""
    watch(sessions)

    def broken(connection: Any) -> None:
        raise ConnectionError

    with sessions() as session:
        session.add(Label(id=10))
        session.flush()
        event.listen(engine, "commit", broken)
        try:
            with pytest.raises(ConnectionError):
                session.commit()
        finally:
            event.remove(engine, "commit", broken)
    assert told.take() == {"label:10"}


def test_two_phases(postgres_server: Any, told: Told, watch: Callable[..., OnCommit]) -> None:
    engine = create_engine(postgres_server.new_database("psycopg"))
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine, twophase=True)
    watch(sessions)
    with sessions() as session:
        session.add(Label(id=10))
        session.prepare()
        assert told.take() == set()
        session.commit()
    assert told.take() == {"label:10"}
    engine.dispose()


def test_sessions_of_others_are_left_alone(
    sessions: Any, engine: Engine, told: Told, watch: Callable[..., OnCommit]
) -> None:
    other = sessionmaker(engine)
    watch(sessions)
    with other() as session, sessions() as ours:
        session.add(Label(id=10))
        session.execute(update(Label).values(id=Label.id))
        session.commit()
        assert told.take() == set()
        ours.add(Label(id=11))
        ours.commit()
    assert told.take() == {"label:11"}


def test_what_is_not_watched_any_more(sessions: Any, told: Told, watch: Callable[..., OnCommit]) -> None:
    watched = watch(sessions)
    watched.remove()
    watched.remove()
    with sessions() as session:
        session.add(Label(id=10))
        session.commit()
    assert told.take() == set()


@pytest.mark.parametrize("kind", ["scoped_session", "Session", "subclass"])
def test_what_can_be_watched(kind: str, engine: Engine, sessions: Any, told: Told, watch: Any) -> None:
    class Own(Session):
        pass

    scoped = scoped_session(sessions)
    session: Any = {"scoped_session": scoped, "Session": Session(engine), "subclass": Own(engine)}[kind]
    watch(scoped if kind == "scoped_session" else session if kind == "Session" else Own)
    session.add(Label(id=10))
    session.commit()
    session.close()
    assert told.take() == {"label:10"}


def test_functions_say_what_they_like(sessions: Any, told: Told, watch: Callable[..., OnCommit]) -> None:
    def shelf(product: Product) -> list[str]:
        return [f"shelf:{product.category_id}", f"labels:{len(product.labels)}"]

    watch(sessions, {Product: ["product:{id}", shelf], Label: lambda label: f"l:{label.missing}"})
    with sessions() as session:
        moved(session)
        session.commit()
        assert told.take() == {"product:1", "shelf:2", "labels:0"}
        deleted(session)
        session.commit()
        # The label at the other end of it has a function that fails.
        assert told.take() == {"everything"}
        bulk_where(session)
        session.commit()
        assert told.take() == {"everything"}
    assert told.cache.stats()["swallowed"] == {"tags of a change": 1, "change of unknown rows": 2}


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({}, "a dict from classes"),
        ({"Product": "a"}, "a dict from classes"),
        ({Product: "product:{name}"}, "invalidate_on_commit: Product: 'product:{name}'"),
        ({Product: "product:{double}"}, "in place of double"),
        ({Product: "product:{labels}"}, "or a function of an instance"),
        ({Product: "product:{id"}, "invalidate_on_commit: Product"),
        ({Product: []}, "invalidate_on_commit: Product"),
        ({Product: 7}, "invalidate_on_commit: Product"),
    ],
)
def test_tags_that_cannot_work_are_refused(tags: Any, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        invalidate_on_commit(TierCache(), sessionmaker(), tags)
    assert named in str(raised.value)


def test_other_arguments_are_checked() -> None:
    maker = sessionmaker()
    for sessions, settings in ((object(), {}), (None, {}), (maker, {"unknown": 7}), (maker, {"soft": 1})):
        with pytest.raises(ConfigError, match="invalidate_on_commit"):
            invalidate_on_commit(TierCache(), sessions, {Product: "a"}, **settings)


def test_a_purge_that_is_not_confirmed_does_not_fail_the_commit(sessions: Any, watch: Callable[..., OnCommit]) -> None:
    away = TierCache(f"redis://127.0.0.1:{free_port()}/0")
    ending = invalidate_on_commit(away, sessions, TAGS)
    try:
        with sessions() as session:
            moved(session)
            session.commit()
        assert {member for item in away._engine.ledger.pending() for member in item.members} == {
            "h:t:product:1", "h:t:category:1", "h:t:category:2",
        }  # fmt: skip
        stats = away.stats()
        assert stats["purges_queued"] == 1
        assert stats["swallowed"]["purge not confirmed, queued"] >= 1
        away._engine.purge_watcher = lambda members, everything: 1 / 0  # whatever it is
        with sessions() as session:
            session.add(Label(id=10))
            session.commit()
            assert session.get(Label, 10) is not None
        assert away.stats()["swallowed"]["purge after a commit"] == 1
    finally:
        ending.remove()
        away.close()


# -- async ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def asessions(engine: Engine, sessions: Any) -> Any:
    url = engine.url.set(drivername=engine.url.drivername.replace("sqlite", "sqlite+aiosqlite"))
    async_engine = create_async_engine(url, poolclass=NullPool)
    yield async_sessionmaker(async_engine)
    await async_engine.dispose()


async def test_async_sessions(asessions: Any, told: Told, watch: Callable[..., OnCommit]) -> None:
    watch(asessions)
    async with asessions() as session:
        product = await session.get_one(Product, 1)
        session.expire(product)
        product.category_id = 2
        await session.execute(update(Book).where(Book.isbn == "978").values(isbn="979"))
        await session.commit()
        assert told.take() == {"product:1", "category:1", "category:2", "product:9", "isbn:978", "isbn:979"}
        session.add(Label(id=10))
        await session.flush()
        await session.rollback()
        await session.commit()
        await session.run_sync(lambda sync: (sync.add(Label(id=11)), sync.commit()))
        assert told.take() == {"label:11"}


async def test_other_async_sessions_are_left_alone(asessions: Any, told: Told, watch: Callable[..., OnCommit]) -> None:
    others = async_sessionmaker(asessions.kw["bind"])
    scoped = async_scoped_session(asessions, asyncio.current_task)
    watch(scoped)
    async with others() as session:
        session.add(Label(id=10))
        await session.commit()
    assert told.take() == set()
    scoped.add(Label(id=11))
    await scoped.commit()
    await scoped.remove()
    assert told.take() == {"label:11"}


async def test_an_async_session_and_one_of_a_sync_maker(
    asessions: Any, told: Told, watch: Callable[..., OnCommit]
) -> None:
    async with AsyncSession(asessions.kw["bind"]) as session:
        watch(session)
        session.add(Label(id=10))
        await session.commit()
    assert told.take() == {"label:10"}
    made = async_sessionmaker(asessions.kw["bind"], sync_session_class=sessionmaker())
    watch(made)
    async with made() as session:
        session.add(Label(id=11))
        await session.commit()
    assert told.take() == {"label:11"}


async def test_the_loop_goes_on_while_redis_is_asked(
    asessions: Any, told: Told, watch: Callable[..., OnCommit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit returns when the purge is done, and not before; other tasks run meanwhile, with no connection held."""
    asked_for, answer = asyncio.Event(), asyncio.Event()
    watching = watch(asessions)
    real = watching._purger.apurge

    async def slow(tags: Any) -> None:
        asked_for.set()
        await answer.wait()
        await real(tags)

    monkeypatch.setattr(watching._purger, "apurge", slow)
    async with asessions() as session:
        session.add(Label(id=10))
        commit = asyncio.create_task(session.commit())
        await asked_for.wait()
        assert not commit.done()
        assert told.take() == set()
        async with asessions.kw["bind"].connect() as other:
            assert await other.scalar(select(func.count()).where(Label.id == 10)) == 1
        answer.set()
        await commit
    assert told.take() == {"label:10"}


async def test_a_commit_that_is_cancelled_while_redis_is_asked(asessions: Any, watch: Callable[..., OnCommit]) -> None:
    asked_for = asyncio.Event()
    away = TierCache(f"redis://127.0.0.1:{free_port()}/0")

    async def never(*args: Any, **kwargs: Any) -> Any:
        asked_for.set()
        await asyncio.Event().wait()

    away._engine.shared.apurge = never  # type: ignore[union-attr, method-assign]
    ending = invalidate_on_commit(away, asessions, TAGS)
    try:
        async with asessions() as session:
            session.add(Label(id=10))
            commit = asyncio.create_task(session.commit())
            await asked_for.wait()
            commit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await commit
            assert [item.members for item in away._engine.ledger.pending()] == [("h:t:label:10",)]
            assert await session.get(Label, 10) is not None
    finally:
        ending.remove()
        await away.aclose()


def test_a_sync_session_on_a_running_loop_purges_all_the_same(
    sessions: Any, told: Told, watch: Callable[..., OnCommit]
) -> None:
    watch(sessions)

    async def view() -> None:
        with sessions() as session:
            session.add(Label(id=10))
            session.commit()

    asyncio.run(view())
    assert told.take() == {"label:10"}


async def test_a_page_in_another_process_goes_with_the_commit(
    asessions: Any, one_redis: RedisServer, watch: Callable[..., OnCommit]
) -> None:
    patient = {"l2_budget": "10s", "l2_slow": "10s"}
    here, there = TierCache(one_redis.url, **patient), TierCache(one_redis.url, **patient)  # type: ignore[arg-type]
    ending = invalidate_on_commit(here, asessions, TAGS)
    try:
        there.route("/p/{id}", ttl="10m", tags=["product:{id}"], consistency="strong")
        for path in ("/p/1", "/p/2"):
            assert "hit" in await asyncio.to_thread(asked, there, path)
        async with asessions() as session:
            product = await session.get_one(Product, 1)
            product.price = 100
            await session.commit()
        assert "stored" in await asyncio.to_thread(asked, there, "/p/1", 1)
        assert "hit" in await asyncio.to_thread(asked, there, "/p/2", 1)
    finally:
        ending.remove()
        await here.aclose()
        there.close()


def test_it_needs_no_greenlet_where_nothing_is_async() -> None:
    """SQLAlchemy 2.1 no longer brings greenlet along, and its module for asyncio cannot be imported without."""
    script = """
import sys
sys.modules["greenlet"] = None
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from tiercache import TierCache
from tiercache.integrations.sqlalchemy import invalidate_on_commit

class Base(DeclarativeBase):
    pass

class Product(Base):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)

engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
cache, sessions = TierCache(), sessionmaker(engine)
invalidate_on_commit(cache, sessions, {Product: "product:{id}"})
with sessions.begin() as session:
    session.add(Product(id=7))
assert cache.stats()["purges"] == 1
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
