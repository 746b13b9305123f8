"""PostgreSQL as a source of purges, with real servers: nothing that is committed is missed, whatever fails between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from tests.integrations.told import Told
from tests.parity.waiting import eventually
from tests.servers import RedisServer, free_port
from tests.test_cache import asked
from tiercache import ConfigError, PurgeUnconfirmed, TierCache
from tiercache.integrations import postgresql
from tiercache.integrations.postgresql import (
    DatabaseListener,
    grant_sql,
    setup,
    setup_sql,
    unwatch_sql,
    watch,
    watch_sql,
)
from tools.postgres_server import PostgresServer, _open_place

ROOT = Path(__file__).resolve().parents[2]
TAGS = ["product:{id}", "category:{category_id}"]
Connection = psycopg.Connection[Any]


def prepared(connection: Connection) -> Connection:
    setup(connection)
    connection.execute("CREATE TABLE products (id int PRIMARY KEY, category_id int, name text, weight float8)")
    connection.execute("INSERT INTO products SELECT n, 1 FROM generate_series(1, 5) n")
    watch(connection, "products", TAGS)
    return connection


@pytest.fixture(scope="module")
def one_database(postgres_server: PostgresServer) -> str:
    return postgres_server.new_database()


@pytest.fixture
def postgres_url(one_database: str) -> str:
    """Empty; to make one for each test would take longer than all of them."""
    with psycopg.connect(one_database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS tiercache, own, \"My 'shop\" CASCADE; DROP TABLE IF EXISTS products")
    return one_database


@pytest.fixture
def database(postgres_url: str) -> Iterator[Connection]:
    """As another program sees it: products 1 to 5 of category 1, watched."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield prepared(connection)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def listener(told: Told, postgres_url: str, database: Connection) -> DatabaseListener:
    """One that knows what there is to know."""
    one = DatabaseListener(told.cache, postgres_url)
    look(one)
    assert told.take() == {"everything"}
    return one


def look(listener: DatabaseListener) -> None:
    """What its thread does, from one wake-up to the next, on a connection of its own."""
    with listener._connected() as connection:
        for _ in range(10):
            if not listener._look(connection):
                return
    raise AssertionError("it never comes to rest")


def position(database: Connection) -> Any:
    row = database.execute("SELECT snapshot::text FROM tiercache.positions").fetchone()
    return None if row is None else row[0]


@pytest.mark.parametrize(
    ("statement", "tags"),
    [
        ("INSERT INTO products VALUES (6, 2), (7, NULL)", {"product:6", "category:2", "product:7"}),
        ("UPDATE products SET category_id = 2 WHERE id = 1", {"product:1", "category:1", "category:2"}),
        ("UPDATE products SET id = 9 WHERE id = 1", {"product:1", "product:9", "category:1"}),
        ("DELETE FROM products WHERE id > 3", {"product:4", "product:5", "category:1"}),
        ("TRUNCATE products", {f"product:{n}" for n in range(1, 6)} | {"category:1"}),
        (
            "INSERT INTO products VALUES (1, 3), (8, 4) ON CONFLICT (id) DO UPDATE SET category_id = 5",
            {"product:1", "product:8", "category:1", "category:4", "category:5"},
        ),
        (
            "MERGE INTO products p USING (VALUES (1), (8)) AS n (id) ON p.id = n.id WHEN MATCHED THEN DELETE "
            "WHEN NOT MATCHED THEN INSERT (id, category_id) VALUES (n.id, 7)",
            {"product:1", "product:8", "category:1", "category:7"},
        ),
        ("DELETE FROM products WHERE id = 100", set()),
        ("BEGIN; DELETE FROM products; ROLLBACK", set()),
        (
            "BEGIN; DELETE FROM products WHERE id = 1; SAVEPOINT a; DELETE FROM products WHERE id = 2; ROLLBACK TO a; "
            "DELETE FROM products WHERE id = 3; COMMIT",
            {"product:1", "product:3", "category:1"},
        ),
    ],
)
def test_what_a_statement_changes(
    statement: str, tags: set[str], database: Connection, listener: DatabaseListener, told: Told
) -> None:
    database.execute(statement.encode())
    look(listener)
    assert told.take() == tags
    look(listener)
    assert told.take() == set()


def test_copy(database: Connection, listener: DatabaseListener, told: Told) -> None:
    with database.cursor().copy("COPY products (id, category_id) FROM STDIN") as copy:
        for n in range(10, 13):
            copy.write_row((n, 8))
    look(listener)
    assert told.take() == {"product:10", "product:11", "product:12", "category:8"}


def test_a_statement_that_changes_too_much(database: Connection, listener: DatabaseListener, told: Told) -> None:
    database.execute("INSERT INTO products SELECT n FROM generate_series(1000, 1999) n")
    look(listener)
    assert len(told.take()) == 1000
    database.execute("INSERT INTO products SELECT n FROM generate_series(2000, 3000) n")
    look(listener)
    assert told.take() == {"everything"}
    watch(database, "products", TAGS, unknown=["catalog", "it's all"])
    database.execute("DELETE FROM products")
    look(listener)
    assert told.take() == {"catalog", "it's all"}


def test_a_table_that_is_not_watched_any_more(database: Connection, listener: DatabaseListener, told: Told) -> None:
    database.execute(unwatch_sql("products").encode())
    database.execute("DELETE FROM products")
    look(listener)
    assert told.take() == set()


def test_names_and_templates_are_quoted(database: Connection, listener: DatabaseListener, told: Told) -> None:
    long = 'a "strange" name, ' * 3
    database.execute("CREATE SCHEMA \"My 'shop\"")
    quoted = psycopg.sql.Identifier("My 'shop", long).as_string(None)
    database.execute(f"CREATE TABLE {quoted} (_select text, at date, kind uuid)".encode())
    database.execute("SET datestyle = 'German'")
    watch(database, f"My 'shop.{long}", ["it's\\:{_select}%s", "{at}-{kind}"])
    key = "0a0a0a0a-0000-0000-0000-000000000001"
    database.execute(f"INSERT INTO {quoted} VALUES ('{{x}}', '02.01.2026', '{key}')".encode())
    look(listener)
    assert told.take() == {"it's\\:{x}%s", f"2026-01-02-{key}"}
    database.execute(unwatch_sql(f"My 'shop.{long}").encode())


# -- what is missed is made good -------------------------------------------------------------------------------------


def test_what_happens_while_no_listener_is_there(
    database: Connection, listener: DatabaseListener, told: Told, postgres_url: str
) -> None:
    database.execute("UPDATE products SET name = 'a' WHERE id = 2")
    database.execute("DELETE FROM products WHERE id = 3")
    look(DatabaseListener(TierCache(), postgres_url))  # of another process's own ledger
    look(DatabaseListener(told.cache, postgres_url))
    assert told.take() == {"product:2", "product:3", "category:1"}


def test_a_transaction_that_commits_late_is_not_skipped(
    database: Connection, listener: DatabaseListener, told: Told, postgres_url: str
) -> None:
    """It has written before another one that is seen, purged and kept as the position: numbers alone would pass it."""
    with psycopg.connect(postgres_url) as slow:
        slow.execute("UPDATE products SET name = 'slow' WHERE id = 1")
        database.execute("UPDATE products SET name = 'quick' WHERE id = 2")
        look(listener)
        assert told.take() == {"product:2", "category:1"}
        database.execute("DELETE FROM products WHERE id = 3")
        look(listener)
        assert told.take() == {"product:3", "category:1"}
        listener._tended = -1e9
        look(listener)  # moves on, and tidies up
        assert told.take() == set()
        slow.commit()
    look(listener)
    assert told.take() == {"product:1", "category:1"}
    look(listener)
    assert told.take() == set()


def test_a_transaction_that_is_prepared(
    database: Connection, listener: DatabaseListener, told: Told, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as other:
        other.execute("DELETE FROM products WHERE id = 1")
        with pytest.raises(psycopg.errors.FeatureNotSupported):  # those that notify cannot be
            other.execute("PREPARE TRANSACTION 'one'")
        other.rollback()
        watch(database, "products", TAGS, notify=False)
        other.execute("DELETE FROM products WHERE id = 1")
        other.execute("PREPARE TRANSACTION 'one'")
    database.execute("DELETE FROM products WHERE id = 2")
    look(listener)
    assert told.take() == {"product:2", "category:1"}
    database.execute("COMMIT PREPARED 'one'")
    look(listener)
    assert told.take() == {"product:1", "category:1"}


def test_more_than_can_be_purged_one_by_one(
    database: Connection, listener: DatabaseListener, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "MOST_TAGS", 3)
    database.execute("UPDATE products SET name = 'a' WHERE id < 3")
    look(listener)
    assert told.take() == {"product:1", "product:2", "category:1"}
    for n in (1, 2, 3):
        database.execute("UPDATE products SET name = 'a' WHERE id = %s", [n])
    look(listener)
    assert told.take() == {"everything"}
    look(listener)
    assert told.take() == set()


@pytest.mark.parametrize(
    "loss",
    [
        "TRUNCATE tiercache.outbox",
        "DELETE FROM tiercache.outbox",
        "DELETE FROM tiercache.positions",
        "UPDATE tiercache.positions SET history = 'another/1'",
        "UPDATE tiercache.positions SET snapshot = '9000000000:9000000000:'",
    ],
)
def test_where_it_is_not_known_what_was_missed_everything_goes(
    loss: str, database: Connection, listener: DatabaseListener, told: Told, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as slow:
        slow.execute("SELECT pg_current_xact_id()")  # holds the horizon back all the while
        database.execute("DELETE FROM products WHERE id = 3")
        database.execute(loss.encode())
        look(listener)
        assert told.take() == {"everything"}
        assert told.cache.stats()["swallowed"]["database changes unknown"] == 2
        # Once: it goes on from there.
        listener._tended = -1e9
        look(listener)
        database.execute("DELETE FROM products WHERE id = 4")
        look(listener)
        assert told.take() == {"product:4", "category:1"}
        slow.execute("UPDATE products SET name = 'slow' WHERE id = 1")
        slow.commit()
    look(listener)
    assert told.take() == {"product:1", "category:1"}


def test_the_outbox_is_tidied_when_all_have_read_it(
    database: Connection, listener: DatabaseListener, told: Told, postgres_url: str
) -> None:
    other = DatabaseListener(TierCache(), postgres_url)
    look(other)

    def rows() -> int:
        return int(database.execute("SELECT count(*) FROM tiercache.outbox").fetchone()[0])  # type: ignore[index]

    database.execute("DELETE FROM products WHERE id = 3")
    for reader, left in ((listener, 1), (other, 0)):
        look(reader)
        reader._tended = -1e9
        look(reader)
        assert rows() == left
    told.take()
    # One that stays away is forgotten after a while, and has to purge everything when it comes back.
    database.execute("UPDATE tiercache.positions SET at = now() - interval '8 days' WHERE name LIKE '%%'")
    database.execute("DELETE FROM products WHERE id = 4")
    other._tended = -1e9
    look(other)
    other._tended = -1e9
    look(other)
    assert rows() == 0
    look(listener)
    assert told.take() == {"everything"}


# -- failures --------------------------------------------------------------------------------------------------------


def test_the_position_moves_on_only_when_the_purge_is_confirmed(
    database: Connection, postgres_url: str
) -> None:
    redis = RedisServer().start()
    cache = TierCache(redis.url, l2_budget="10s", l2_slow="10s", purge_timeout="1s")
    listener = DatabaseListener(cache, postgres_url)
    try:
        look(listener)
        before = position(database)
        redis.stop()
        database.execute("DELETE FROM products WHERE id = 3")
        for _ in range(2):
            with pytest.raises(PurgeUnconfirmed):
                look(listener)
        assert position(database) == before
        redis.start()
        told: list[Any] = []
        cache._engine.purge_watcher = lambda members, everything: told.append((set(members), everything))
        look(listener)
        assert told == [({"h:t:product:3", "h:t:category:1"}, False)]
        assert position(database) != before
    finally:
        cache.close()
        redis.close()


def test_one_that_fails_between_purge_and_position_purges_again(
    database: Connection, listener: DatabaseListener, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("DELETE FROM products WHERE id = 3")
    with monkeypatch.context() as patch:
        patch.setattr(listener, "_keep_position", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            look(listener)
    assert told.take() == {"product:3", "category:1"}
    look(listener)
    assert told.take() == {"product:3", "category:1"}
    look(listener)
    assert told.take() == set()


def test_what_is_no_tag_purges_everything(database: Connection, listener: DatabaseListener, told: Told) -> None:
    database.execute("INSERT INTO tiercache.outbox (tags) VALUES ('{\"\"}')")
    look(listener)
    assert told.take() == {"everything"}
    look(listener)
    assert told.take() == set()


def test_rows_with_numbers_of_another_server_are_not_found_again_and_again(
    database: Connection, listener: DatabaseListener, told: Told
) -> None:
    """As a backup that was restored into a new server brings them."""
    database.execute("INSERT INTO tiercache.outbox (xid, tags) VALUES ('9000000000', '{old}')")
    database.execute("DELETE FROM products WHERE id = 3")
    look(listener)
    assert told.take() == {"product:3", "category:1"}


def test_processes_with_ledgers_of_their_own_each_hear_of_everything(database: Connection, postgres_url: str) -> None:
    two = [Told(), Told()]
    listeners = [DatabaseListener(told.cache, postgres_url) for told in two]
    before = listeners[0]._name
    two[0].cache._lifecycle.after_fork()  # as in the child of one that was made before the fork
    assert listeners[0]._name != before
    for one in listeners:
        look(one)
    database.execute("DELETE FROM products WHERE id = 3")
    for one, told in zip(listeners, two, strict=True):
        look(one)
        assert told.take() == {"everything", "product:3", "category:1"}
    with listeners[0]:
        database.execute("DELETE FROM products WHERE id = 4")
        eventually(lambda: "product:4" in two[0].take())
    # One that ends in good order leaves nothing behind.
    assert len(database.execute("SELECT FROM tiercache.positions").fetchall()) == 1


STUCK = """
import sys, time
from tiercache import TierCache
from tiercache.integrations.postgresql import DatabaseListener

cache = TierCache(sys.argv[2], l2_budget="10s", l2_slow="10s")
def purge(**what):
    print("purging", flush=True)
    time.sleep(600)
cache.purge = purge
DatabaseListener(cache, sys.argv[1], poll="10ms").start()
time.sleep(600)
"""


def test_a_listener_that_is_killed_in_its_work_is_stood_in_for(
    database: Connection, postgres_url: str, one_redis: RedisServer
) -> None:
    cache = TierCache(one_redis.url, l2_budget="10s", l2_slow="10s")
    cache.route("/p/{id}", ttl="10m", tags=["product:{id}"])
    listener = DatabaseListener(cache, postgres_url, poll="20ms")
    look(listener)
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, postgres_url, one_redis.url], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        database.execute("DELETE FROM products WHERE id = 3")
        assert process.stdout is not None
        assert process.stdout.readline() == b"purging\n"
        for path in ("/p/3", "/p/4"):
            assert "hit" in asked(cache, path)
        os.kill(process.pid, signal.SIGKILL)
        with listener:
            eventually(lambda: "hit" not in asked(cache, "/p/3", 1))
        assert "hit" in asked(cache, "/p/4", 1)
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close() if process.stdout else None
        cache.close()


def test_connections_that_are_cut_and_a_server_that_restarts(told: Told) -> None:
    with PostgresServer() as server:
        url = server.new_database()
        with psycopg.connect(url, autocommit=True) as connection:
            prepared(connection)
        cut = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'tiercache' AND pid <> pg_backend_pid()"
        )
        with DatabaseListener(told.cache, url):
            eventually(lambda: told.take() == {"everything"})
            with psycopg.connect(url, autocommit=True) as connection:
                assert connection.execute(cut).fetchone() == (1,)
                connection.execute("DELETE FROM products WHERE id = 3")
                eventually(lambda: told.take() == {"product:3", "category:1"})
            server.kill()
            eventually(lambda: told.cache.stats()["swallowed"].get("database listener", 0) >= 2)
            server.start()
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("DELETE FROM products WHERE id = 4")
            eventually(lambda: told.take() == {"product:4", "category:1"})


@contextmanager
def standby_of(server: PostgresServer, folder: Path) -> Iterator[int]:
    """The port of a server that follows another one."""
    port, owner = free_port(), os.stat(server._data).st_uid
    folder.mkdir()
    os.chown(folder, owner, owner)
    options: dict[str, Any] = {"user": owner, "group": owner, "extra_groups": []} if os.geteuid() == 0 else {}
    options |= {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C", "PGPASSWORD": server._password}}
    options |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres"]
    copying = [server._folder / "pg_basebackup", *address, "-D", folder / "data", "-R", "-X", "stream", "-c", "fast"]
    subprocess.run(copying, check=True, timeout=50, **options)
    said = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    said |= {"max_connections": "60", "max_prepared_transactions": "20"}
    words = [word for name, value in said.items() for word in ("-c", f"{name}={value}")]
    process = subprocess.Popen(
        [server._folder / "postgres", "-D", folder / "data", "-p", str(port), *words], **options
    )
    try:
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@pytest.mark.soak
def test_a_failover_to_a_standby_that_may_lack_something(told: Told) -> None:
    """What the old server had committed last may be lost: pages may show what never was. The timeline tells."""
    with PostgresServer() as server, TemporaryDirectory(dir=_open_place()) as place:
        url = server.new_database()
        with psycopg.connect(url, autocommit=True) as connection:
            prepared(connection)
        Path(place).chmod(0o755)
        with standby_of(server, Path(place, "standby")) as port:
            other = url.replace(f":{server.port}/", f":{port}/")
            look(DatabaseListener(told.cache, url))
            told.take()

            def reached() -> bool:
                try:
                    with psycopg.connect(other) as connection:
                        return bool(connection.execute("SELECT count(*) = 1 FROM tiercache.positions").fetchone()[0])  # type: ignore[index]
                except psycopg.Error:
                    return False

            eventually(reached)
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="recovery"):
                look(DatabaseListener(told.cache, other))
            server.kill()
            with psycopg.connect(other, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
                look(DatabaseListener(told.cache, other))
                assert told.take() == {"everything"}
                connection.execute("DELETE FROM products WHERE id = 3")
                look(DatabaseListener(told.cache, other))
                assert told.take() == {"product:3", "category:1"}


def test_a_role_may_do_what_it_needs_and_no_more(
    database: Connection, postgres_url: str, postgres_server: PostgresServer, told: Told
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(postgres_url)
    names = {role: f"{role}_{parts['dbname']}" for role in ("writer", "reader")}
    for role in names.values():
        database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'".encode())
    database.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON products TO {names['writer']}".encode())
    database.execute(grant_sql(names["reader"]).encode())

    def address(role: str) -> str:
        return psycopg.conninfo.make_conninfo(**{**parts, "user": names[role], "password": "secret"})

    listener = DatabaseListener(told.cache, address("reader"))
    look(listener)
    told.take()
    with psycopg.connect(address("writer"), autocommit=True) as writer:
        writer.execute("UPDATE products SET category_id = 2 WHERE id = 1")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute("SELECT * FROM tiercache.outbox")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute('SELECT tiercache."changed public.products"()')
    listener._tended = -1e9
    look(listener)
    assert told.take() == {"product:1", "category:1", "category:2"}
    listener._tended = -1e9
    look(listener)
    assert database.execute("SELECT count(*) FROM tiercache.outbox").fetchone() == (0,)


# -- the thread ------------------------------------------------------------------------------------------------------


def test_a_notification_wakes_it_and_a_look_now_and_then_does_without(
    database: Connection, postgres_url: str, told: Told
) -> None:
    with DatabaseListener(told.cache, postgres_url.replace("postgresql:", "postgresql+psycopg:"), poll="1h") as one:
        assert one.start() is one
        eventually(lambda: told.take() == {"everything"})
        database.execute("DELETE FROM products WHERE id = 3")
        eventually(lambda: told.take() == {"product:3", "category:1"})
    assert not [thread for thread in threading.enumerate() if thread.name == "tiercache-database-listener"]
    watch(database, "products", TAGS, notify=False)
    with DatabaseListener(told.cache, lambda: psycopg.connect(postgres_url), poll="20ms"):
        eventually(lambda: told.take() == {"everything"})
        database.execute("DELETE FROM products WHERE id = 4")
        eventually(lambda: told.take() == {"product:4", "category:1"})


def test_several_listeners_do_the_work_once(
    database: Connection, postgres_url: str, one_redis: RedisServer
) -> None:
    caches = [TierCache(one_redis.url, l2_budget="10s", l2_slow="10s") for _ in range(3)]
    told: list[set[str]] = []
    for cache in caches:
        cache._engine.purge_watcher = lambda members, everything: told.append(set(members))
    listeners = [DatabaseListener(cache, postgres_url, poll="1h") for cache in caches]
    look(listeners[0])
    told.clear()
    try:
        for one in listeners:
            one.start()
        for n in (1, 2, 3):
            database.execute("UPDATE products SET name = 'a' WHERE id = %s", [n])
        eventually(lambda: set().union(*told) >= {f"h:t:product:{n}" for n in (1, 2, 3)})
    finally:
        for one in listeners:
            one.stop()
        for cache in caches:
            cache.close()
    assert sorted(tag for tags in told for tag in tags if "product" in tag) == [f"h:t:product:{n}" for n in (1, 2, 3)]


def test_one_that_holds_on_to_its_turn_is_not_waited_for(
    database: Connection, listener: DatabaseListener, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "PATIENCE", 0.01)
    key = f"tiercache {listener._name}"
    database.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
    database.execute("DELETE FROM products WHERE id = 3")
    look(listener)
    assert told.take() == {"product:3", "category:1"}


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "tags", "options", "named"),
    [
        ("products", "product:{nr}", {}, "watch: tags: 'product:{nr}'"),
        ("products", "product:{weight}", {}, "not double precision"),
        ("products", lambda row: "a", {}, "cannot call functions"),
        ("products", [], {}, "watch: tags"),
        ("nothing", "a", {}, "watch: table: 'nothing'"),
        ("a.b.c", "a", {}, "watch: table"),
        ("", "a", {}, "watch: table"),
        (7, "a", {}, "watch: table"),
        ("products", "a", {"unknown": "a:{id}"}, "watch: unknown"),
        ("products", "a", {"schema": ""}, "watch: schema"),
        ("products", "a", {"channel": "c" * 64}, "watch: channel"),
        ("products", "a$tiercache$", {}, "without $tiercache$"),
    ],
)
def test_what_cannot_be_watched(table: Any, tags: Any, options: Any, named: str, database: Connection) -> None:
    with pytest.raises(ConfigError) as raised:
        watch(database, table, tags, **options)
    assert named in str(raised.value)


@pytest.mark.parametrize(
    ("conninfo", "options", "named"),
    [
        ("", {}, "DatabaseListener: conninfo"),
        (7, {}, "DatabaseListener: conninfo"),
        ("dbname=x", {"poll": 0}, "DatabaseListener: poll: 0"),
        ("dbname=x", {"keep": "soon"}, "DatabaseListener: keep: 'soon'"),
        ("dbname=x", {"settle": -1}, "DatabaseListener: settle: -1"),
        ("dbname=x", {"schema": "s" * 64}, "schema"),
    ],
)
def test_a_listener_that_cannot_work(conninfo: Any, options: Any, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        DatabaseListener(TierCache(), conninfo, **options)
    assert named in str(raised.value)


def test_the_statements_may_be_run_by_other_hands(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE products (id int)")
        for statement in (setup_sql("own"), watch_sql("products", "p:{id}", schema="own", channel="mine")) * 2:
            connection.execute(statement.encode())
        connection.execute("INSERT INTO products VALUES (1)")
        assert connection.execute("SELECT tags FROM own.outbox").fetchall() == [(["p:1"],)]


def test_a_database_that_is_away_is_complained_of(told: Told) -> None:
    with DatabaseListener(told.cache, f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"):
        eventually(lambda: told.cache.stats()["swallowed"].get("database listener", 0) >= 1)
    assert told.take() == set()
