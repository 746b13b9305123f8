"""PostgreSQL as a source of purges: what changes in watched tables is purged, whoever changes it.

Triggers write tags into an outbox (`tiercache.integrations.postgresql_triggers`); a listener reads it and purges.
NOTIFY is only the wake-up. What has been read is a *snapshot*, kept in the database: numbers of rows do not commit in
order, but which transactions a snapshot shows is exact, so that one which commits late is never skipped. The snapshot
moves on when the ledger has confirmed the purge, so that a listener which is killed, cut off or without Redis goes on
where it was: at least once, and twice does no harm.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, LiteralString, NamedTuple, Self

try:
    import psycopg
    from psycopg import sql
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'tiercache[postgresql]'", name=error.name) from error

from tiercache.cache import TierCache
from tiercache.core.kinds import DURATION, above_zero
from tiercache.core.policy_settings import Duration
from tiercache.errors import ConfigError, PurgeUnconfirmed
from tiercache.integrations.postgresql_triggers import (
    CHANNEL,
    SCHEMA,
    grant_sql,
    setup,
    setup_sql,
    unwatch_sql,
    watch,
    watch_sql,
)

__all__ = ["DatabaseListener", "grant_sql", "setup", "setup_sql", "unwatch_sql", "watch", "watch_sql"]

MOST_TAGS: Final = 10_000
"""Tags that are purged one by one; where more have been missed, everything is."""
PATIENCE: Final = 2.0
"""Seconds that a listener waits for another one of its namespace to finish the same work, before it does it too."""
TENDING: Final = 60.0
"""Seconds between two times that the outbox is tidied."""
LONGEST_PAUSE: Final = 5.0
"""Seconds between attempts to reach a database that is away."""
# A server that is gone without a word is found out within seconds.
_CONNECTING: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "tcp_user_timeout": 10_000,
    "application_name": "tiercache",
}
_LOOK: Final = 0.25
"""Seconds until a listener that is told to stop sees it."""

# The history changes where the data may have gone back: another server, or another timeline after a failover.
_HISTORY: Final[LiteralString] = (
    "(SELECT system_identifier FROM pg_control_system()) || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)"
)
_LOOK_UP: Final[LiteralString] = f"""\
SELECT pg_current_snapshot()::text, {_HISTORY}, snapshot::text,
    history = {_HISTORY}
    AND pg_snapshot_xmax(snapshot) <= pg_snapshot_xmax(pg_current_snapshot())
    AND NOT EXISTS (
        SELECT FROM {{schema}}.cuts
        WHERE NOT pg_visible_in_snapshot(by, snapshot) AND upto >= pg_snapshot_xmin(snapshot)
    )
FROM (VALUES (1)) AS one LEFT JOIN {{schema}}.positions ON name = %(name)s
"""
# All that is visible now and was not in that snapshot, by the index: what began after it, and what was under way.
# Nothing of the future: numbers of another server, in rows that were restored, would be found again and again.
_NEW: Final[LiteralString] = """\
FROM {schema}.outbox
WHERE (xid >= pg_snapshot_xmax(%(seen)s) AND xid < pg_snapshot_xmax(pg_current_snapshot()))
    OR xid = ANY (ARRAY(SELECT pg_snapshot_xip(%(seen)s)))
"""
_KEEP: Final[LiteralString] = """\
INSERT INTO {schema}.positions AS known (name, snapshot, history) VALUES (%(name)s, %(snapshot)s, %(history)s)
ON CONFLICT (name) DO UPDATE SET snapshot = excluded.snapshot, history = excluded.history, at = now()
WHERE known.history <> excluded.history OR pg_snapshot_xmax(known.snapshot) <= pg_snapshot_xmax(excluded.snapshot)
    OR pg_snapshot_xmax(known.snapshot) > pg_snapshot_xmax(pg_current_snapshot())
"""
_FORGET: Final[LiteralString] = "DELETE FROM {schema}.positions WHERE name = %(name)s"
_TIDY: Final[tuple[LiteralString, ...]] = (
    "DELETE FROM {schema}.positions WHERE at < now() - make_interval(secs => %(keep)s)",
    # What every namespace has purged.
    """DELETE FROM {schema}.outbox WHERE xid < (
        SELECT pg_snapshot_xmin(snapshot) FROM {schema}.positions ORDER BY pg_snapshot_xmin(snapshot) LIMIT 1
    )""",
    """DELETE FROM {schema}.cuts WHERE NOT EXISTS (
        SELECT FROM {schema}.positions WHERE NOT pg_visible_in_snapshot(by, snapshot)
    )""",
)


class _Batch(NamedTuple):
    """What has been found in one look."""

    snapshot: str
    history: str
    tags: list[str]
    everything: bool

    @property
    def empty(self) -> bool:
        return not self.tags and not self.everything


class DatabaseListener:
    """Purges what changes in the watched tables of a PostgreSQL database, in a thread of its own.

    One in the fleet is enough; several do each other's work where one fails, and no harm. `start()` it in the process
    that is to run it, after any fork.

    Args:
        cache: whose tags the triggers write.
        conninfo: of the database, as a URL or `host=… dbname=…`; or a function that connects. Straight to the server:
            a pooler that shares connections between transactions cannot LISTEN.
        schema: of the outbox.
        channel: on which the triggers notify.
        poll: look at least so often, in seconds: for wake-ups that are lost, and triggers that send none.
        keep: how long the database keeps what a namespace has missed whose listeners are away, in seconds; one that
            comes back later purges everything.
        settle: repeat each purge once after this time, for views that read from a replica which lags.

    Raises:
        ConfigError: a setting that cannot work.
    """

    def __init__(
        self,
        cache: TierCache,
        conninfo: str | Callable[[], psycopg.Connection[Any]],
        *,
        schema: str = SCHEMA,
        channel: str = CHANNEL,
        poll: Duration = "1s",
        keep: Duration = "7d",
        settle: Duration | None = None,
    ) -> None:
        where = "DatabaseListener"
        if not conninfo or not (callable(conninfo) or isinstance(conninfo, str)):
            raise ConfigError(f"{where}: conninfo", conninfo, "a URL such as 'postgresql://…', or a function")
        setup_sql(schema)
        self._cache = cache
        self._conninfo = conninfo
        self._schema = sql.Identifier(schema)
        self._channel = sql.Identifier(channel)
        self._poll = float(above_zero(DURATION)(f"{where}: poll", poll))
        self._keep = float(above_zero(DURATION)(f"{where}: keep", keep))
        self._settle = None if settle is None else float(DURATION(f"{where}: settle", settle))
        self._complaints = cache._engine.complaints
        self._tended = -TENDING
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def _name(self) -> str:
        """Under which the position is kept."""
        engine = self._cache._engine
        # Without a shared ledger each process has its own ledger, and has to hear of everything itself.
        return f"{engine.process_id}, on its own" if self._on_its_own else self._cache.settings.namespace

    @property
    def _on_its_own(self) -> bool:
        shared = self._cache._engine.shared
        return shared is None or shared.alone

    def start(self) -> Self:
        """Begin to listen. Harmless if called twice."""
        if self._thread is None or not self._thread.is_alive():
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stopping,), name="tiercache-database-listener", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, once what is under way is done."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._cache.settings.purge_timeout + PATIENCE + 1.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _run(self, stopping: threading.Event) -> None:
        pause = 0.0
        while not stopping.is_set():
            try:
                with self._connected() as connection:
                    # Before the first look, so that nothing falls between the two.
                    connection.execute(sql.SQL("LISTEN {}").format(self._channel))
                    while not stopping.is_set():
                        found = self._look(connection)
                        if pause:
                            pause = 0.0
                            self._complaints.settle("database listener", "it listens again")
                        if not found:
                            self._wait(connection, stopping)
                    if self._on_its_own:
                        connection.execute(self._sql(_FORGET), {"name": self._name})
            except PurgeUnconfirmed:
                pass  # counted and logged where it was queued; it is read and purged again
            except Exception as error:  # a listener that dies leaves its namespace without purges for good
                if stopping.is_set():
                    break
                self._complaints.swallow("database listener", f"{type(error).__name__}: {error}")
            pause = min(LONGEST_PAUSE, max(0.1, pause * 2))
            stopping.wait(pause * random.uniform(0.5, 1.0))

    def _connected(self) -> psycopg.Connection[Any]:
        if callable(self._conninfo):
            connection = self._conninfo()
            connection.autocommit = True
            return connection
        conninfo = re.sub(r"^postgres(ql)?\+\w+://", "postgresql://", self._conninfo)
        given = psycopg.conninfo.conninfo_to_dict(conninfo)
        return psycopg.connect(psycopg.conninfo.make_conninfo(conninfo, **{**_CONNECTING, **given}), autocommit=True)

    def _wait(self, connection: psycopg.Connection[Any], stopping: threading.Event) -> None:
        due = time.monotonic() + self._poll
        while not stopping.is_set() and (left := due - time.monotonic()) > 0:
            if list(connection.notifies(timeout=min(left, _LOOK), stop_after=1)):
                return

    # -- one look at the outbox ---------------------------------------------------------------------------------------

    def _look(self, connection: psycopg.Connection[Any]) -> bool:
        """Purge what is new. Whether there was anything."""
        batch = self._read(connection)
        if batch.empty:
            self._tend(connection, batch)
            return False
        with _Turn(connection, self._name):
            # Another listener may have done it meanwhile.
            batch = self._read(connection)
            if not batch.empty:
                self._purge(batch)
                self._keep_position(connection, batch)
        return True

    def _read(self, connection: psycopg.Connection[Any]) -> _Batch:
        """What has been committed since the position. It is one snapshot that shows it and that becomes the next."""
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            row = connection.execute(self._sql(_LOOK_UP), {"name": self._name}).fetchone()
            assert row is not None
            snapshot, history, seen, known = row
            if not known:
                return _Batch(snapshot, history, [], everything=True)
            bound = {"seen": seen}
            whole = connection.execute(self._sql("SELECT bool_or(tags IS NULL) " + _NEW), bound).fetchone()
            tags = connection.execute(
                self._sql(f"SELECT DISTINCT unnest(tags) {_NEW} LIMIT {MOST_TAGS + 1}"), bound
            ).fetchall()
        everything = bool(whole and whole[0]) or len(tags) > MOST_TAGS
        return _Batch(snapshot, history, [] if everything else [tag for (tag,) in tags], everything)

    def _purge(self, batch: _Batch) -> None:
        if not batch.everything:
            try:
                self._cache.purge(tags=batch.tags, settle=self._settle)
                return
            except ConfigError:  # somebody else has written into the outbox what is no tag
                pass
        self._complaints.swallow("database changes unknown", "everything is purged")
        self._cache.purge(everything=True, settle=self._settle)

    def _keep_position(self, connection: psycopg.Connection[Any], batch: _Batch) -> None:
        position = {"name": self._name, "snapshot": batch.snapshot, "history": batch.history}
        connection.execute(self._sql(_KEEP), position)

    def _tend(self, connection: psycopg.Connection[Any], batch: _Batch) -> None:
        """Now and then: move on where nothing has happened, and remove what nobody needs."""
        now = time.monotonic()
        if now - self._tended < min(TENDING, self._keep / 3):
            return
        self._tended = now
        self._keep_position(connection, batch)
        for statement in _TIDY:
            connection.execute(self._sql(statement), {"keep": self._keep})

    def _sql(self, statement: LiteralString) -> sql.Composed:
        return sql.SQL(statement).format(schema=self._schema)


class _Turn:
    """The listeners of one namespace do their work one after the other, so that the second finds it done. One that
    holds on to its turn for long is not waited for."""

    def __init__(self, connection: psycopg.Connection[Any], name: str) -> None:
        self._connection = connection
        self._name = name
        self._taken = False

    def __enter__(self) -> None:
        connection = self._connection
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(int(PATIENCE * 1000))))
                connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"tiercache {self._name}"])
            self._taken = True
        except psycopg.errors.LockNotAvailable:
            pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._taken:
            with suppress(psycopg.Error):  # it ends with the connection at the latest
                self._connection.execute(
                    "SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [f"tiercache {self._name}"]
                )
