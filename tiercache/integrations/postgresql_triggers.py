"""The SQL by which PostgreSQL notes what has changed: an outbox, and triggers that write tags into it.

A trigger writes in the transaction of the change, so that a row of the outbox is there exactly when the change is. The
triggers are those of statements, with transition tables: one row for each statement, however many rows it changes, for
INSERT, UPDATE, DELETE, MERGE, COPY and TRUNCATE alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final

from psycopg import Connection, sql

from tiercache.core.policy_kinds import placeholders
from tiercache.core.records import is_text
from tiercache.errors import ConfigError
from tiercache.integrations.row_tags import MOST_ROWS, Names, RowTags

SCHEMA: Final = "tiercache"
CHANNEL: Final = "tiercache"
_TYPES: Final = ("smallint", "integer", "bigint", "numeric", "text", "character varying", "uuid", "date", "citext")
"""Those whose text is in PostgreSQL what it is in Python; and enumerations."""
_PARTS: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}|([^{}]+)")
_LONGEST: Final = 63
"""Bytes of a name; PostgreSQL cuts longer ones in silence."""

_SETUP: Final = """\
CREATE SCHEMA IF NOT EXISTS {schema};

-- What has changed: tags, or NULL for everything. A row is seen when its transaction has committed.
CREATE TABLE IF NOT EXISTS {schema}.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT now(),
    tags text[]
);
CREATE INDEX IF NOT EXISTS outbox_xid ON {schema}.outbox (xid);

-- What each namespace has purged: all that was visible in this snapshot of this history of the server.
CREATE TABLE IF NOT EXISTS {schema}.positions (
    name text PRIMARY KEY,
    snapshot pg_snapshot NOT NULL,
    history text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

-- Rows of the outbox that are gone: transactions up to `upto`, removed by the transaction `by`.
CREATE TABLE IF NOT EXISTS {schema}.cuts (by xid8 PRIMARY KEY DEFAULT pg_current_xact_id(), upto xid8 NOT NULL);

CREATE OR REPLACE FUNCTION {schema}.note_cut() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $tiercache$
DECLARE
    last xid8 := pg_current_xact_id();
BEGIN
    IF TG_OP = 'DELETE' THEN
        SELECT xid INTO last FROM cut ORDER BY xid DESC LIMIT 1;
        IF last IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO {schema}.cuts (upto) VALUES (last)
        ON CONFLICT (by) DO UPDATE SET upto = greatest(excluded.upto, cuts.upto);
    RETURN NULL;
END
$tiercache$;
DROP TRIGGER IF EXISTS outbox_deleted ON {schema}.outbox;
CREATE TRIGGER outbox_deleted AFTER DELETE ON {schema}.outbox
    REFERENCING OLD TABLE AS cut FOR EACH STATEMENT EXECUTE FUNCTION {schema}.note_cut();
DROP TRIGGER IF EXISTS outbox_truncated ON {schema}.outbox;
CREATE TRIGGER outbox_truncated AFTER TRUNCATE ON {schema}.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.note_cut();
"""
_WATCH: Final = """\
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' AS $tiercache$
DECLARE
    found text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(tag) INTO found FROM ({of_new} LIMIT {limit}) AS changed;
    ELSIF TG_OP = 'UPDATE' THEN
        SELECT array_agg(tag) INTO found FROM ({of_old} UNION {of_new} LIMIT {limit}) AS changed;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(tag) INTO found FROM ({of_old} LIMIT {limit}) AS changed;
    ELSE
        SELECT array_agg(tag) INTO found FROM ({of_table} LIMIT {limit}) AS changed;
    END IF;
    IF found IS NULL THEN
        RETURN NULL;
    END IF;
    IF cardinality(found) = {limit} THEN
        found := {unknown};
    END IF;
    INSERT INTO {schema}.outbox (tags) VALUES (found);
{notify}    RETURN NULL;
END
$tiercache$;
REVOKE ALL ON FUNCTION {function}() FROM PUBLIC;
{drop}CREATE TRIGGER tiercache_insert AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {function}();
CREATE TRIGGER tiercache_update AFTER UPDATE ON {table}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {function}();
CREATE TRIGGER tiercache_delete AFTER DELETE ON {table}
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {function}();
CREATE TRIGGER tiercache_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {function}();
"""
_DROP: Final = "".join(
    f"DROP TRIGGER IF EXISTS tiercache_{what} ON {{table}};\n" for what in ("insert", "update", "delete", "truncate")
)
_GRANT: Final = """\
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, DELETE ON {schema}.outbox, {schema}.cuts TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.positions TO {role};
"""
_COLUMNS: Final = """\
SELECT attname, format_type(coalesce(nullif(typbasetype, 0), atttypid), NULL), typtype = 'e'
FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""


def setup_sql(schema: str = SCHEMA) -> str:
    """The outbox and what belongs to it, in a schema of its own; may be run again."""
    return _made(_SETUP, schema=_identifier("schema", schema))


def grant_sql(role: str, schema: str = SCHEMA) -> str:
    """What the listener's role needs. The roles that change tables need nothing."""
    return _made(_GRANT, schema=_identifier("schema", schema), role=_identifier("role", role))


def watch_sql(
    table: str,
    tags: str | Iterable[str],
    *,
    schema: str = SCHEMA,
    unknown: Names | None = None,
    notify: bool = True,
    channel: str = CHANNEL,
) -> str:
    """Triggers that write down what changes in a table; may be run again, with other tags.

    Args:
        table: `"products"`, in the schema `public`, or `"shop.products"`.
        tags: templates filled from its columns, as they were and as they are.
        schema: of the outbox.
        unknown: the tags to purge where one statement has changed more than 1,000 of them; None: everything.
        notify: whether a listener is woken at once. PostgreSQL lets no prepared transaction (`PREPARE TRANSACTION`)
            notify, and serialises the commits of those that do; without, a listener sees it the next time it looks.
        channel: on which.

    Raises:
        ConfigError: something of it cannot work.
    """
    rule = RowTags(tags, "watch: tags")
    if rule.functions:
        raise ConfigError("watch: tags", tags, "templates: PostgreSQL cannot call functions of Python")
    stands = None if unknown is None else RowTags(unknown, "watch: unknown")
    if stands is not None and (stands.names or stands.functions):
        raise ConfigError("watch: unknown", unknown, "tags without names in braces")
    named, function = _table(table), _function(table, schema)
    if any("$tiercache$" in text for text in (*rule.templates, *(stands.templates if stands else ()), table, channel)):
        raise ConfigError("watch", table, "names and tags without $tiercache$, which ends a function")
    wake = sql.SQL("    PERFORM pg_notify({}, '');\n").format(sql.Literal(_text("channel", channel)))
    return _made(
        _WATCH,
        schema=_identifier("schema", schema),
        table=named,
        function=function,
        drop=sql.SQL(_DROP).format(table=named),
        limit=sql.SQL(str(MOST_ROWS + 1)),
        of_new=_tags_of(rule, sql.SQL("new_rows")),
        of_old=_tags_of(rule, sql.SQL("old_rows")),
        of_table=_tags_of(rule, named),
        unknown=sql.SQL("NULL") if stands is None else _array(map(sql.Literal, stands.templates)),
        notify=wake if notify else sql.SQL(""),
    )


def unwatch_sql(table: str, *, schema: str = SCHEMA) -> str:
    """Take the triggers of a table away."""
    return _made(
        _DROP + "DROP FUNCTION IF EXISTS {function}();\n", table=_table(table), function=_function(table, schema)
    )


def watch(connection: Connection[Any], table: str, tags: str | Iterable[str], **options: Any) -> None:
    """Execute `watch_sql`, once it is seen that the table has such columns and that their text is the same in Python.

    Raises:
        ConfigError: as `watch_sql`; or there is no such table or column, or a column of another type.
    """
    statements = watch_sql(table, tags, **options)
    name = _table(table).as_string(None)
    rows = connection.execute(_COLUMNS, [name]).fetchall()
    columns = {column: (kind, enumeration) for column, kind, enumeration in rows}
    if not columns:
        raise ConfigError("watch: table", table, "a table of this database, with its schema if that is not public")
    for template in RowTags(tags, "").templates:
        for column in sorted(placeholders(template)):
            if column not in columns:
                raise ConfigError("watch: tags", template, f"templates with the columns {', '.join(columns)}")
            kind, enumeration = columns[column]
            if kind not in _TYPES and not enumeration:
                raise ConfigError(
                    "watch: tags", template, f"columns of the types {', '.join(_TYPES)}, or enumerations; not {kind}"
                )
    with connection.transaction():
        connection.execute(statements.encode())


def setup(connection: Connection[Any], schema: str = SCHEMA) -> None:
    """Execute `setup_sql`."""
    with connection.transaction():
        connection.execute(setup_sql(schema).encode())


def _made(statement: str, **parts: sql.Composable) -> str:
    return sql.SQL(statement).format(**parts).as_string(None)


def _text(setting: str, value: Any) -> str:
    if not isinstance(value, str) or not is_text(value) or "\0" in value or not 1 <= len(value.encode()) <= _LONGEST:
        raise ConfigError(f"watch: {setting}", value, "a name of 1 to 63 bytes")
    return value


def _identifier(setting: str, value: Any) -> sql.Identifier:
    return sql.Identifier(_text(setting, value))


def _parts(table: Any) -> tuple[str, str]:
    parts = table.split(".") if isinstance(table, str) else []
    if len(parts) not in (1, 2) or not all(parts):
        raise ConfigError("watch: table", table, "the name of a table, as 'products' or 'shop.products'")
    return ("public", parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def _table(table: Any) -> sql.Identifier:
    return sql.Identifier(*[_text("table", part) for part in _parts(table)])


def _function(table: Any, schema: str) -> sql.Identifier:
    name = ".".join(_parts(table))
    if len(name.encode()) > _LONGEST - len("changed "):
        name = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return sql.Identifier(_text("schema", schema), f"changed {name}")


def _tags_of(rule: RowTags, rows: sql.Composable) -> sql.Composed:
    """The tags of some rows, each once; a null in one makes it null, and that belongs to no tag."""
    tags = _array(map(_expression, rule.templates))
    return sql.SQL("SELECT DISTINCT tag FROM {} AS r, unnest({}) AS tag WHERE tag IS NOT NULL").format(rows, tags)


def _array(items: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(items))


def _expression(template: str) -> sql.Composable:
    parts: list[sql.Composable] = []
    for column, literal in _PARTS.findall(template):
        parts.append(sql.SQL("r.{}::text").format(sql.Identifier(column)) if column else sql.Literal(literal))
    return sql.SQL(" || ").join(parts)
