"""The values of rows as SQLAlchemy knows them: before and after a flush, and of statements that change many rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Column, ColumnElement, Connection, and_, inspect, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper, ORMExecuteState
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.dml import DMLWhereBase, Insert
from sqlalchemy.sql.elements import BindParameter

from tiercache.integrations.row_tags import MOST_ROWS

Row = Mapping[str, Any]
"""Values by the names of attributes."""
_AT_ONCE = 200
"""Rows that one statement asks for by their keys."""


class RowsUnknown(Exception):
    """Which rows a statement changes cannot be told."""


def columns_of(mapper: Mapper[Any]) -> frozenset[str]:
    """The attributes that are columns of a table."""
    return frozenset(prop.key for prop in mapper.column_attrs if isinstance(prop.columns[0], Column))


def values_before(mapper: Mapper[Any], connection: Connection, target: Any, names: Collection[str]) -> Row:
    """The values of a persistent instance as they were before this flush: what the session had read, or what the
    database has where it never did.
    """
    state = inspect(target)
    values, missing = {}, []
    for name in names:
        history = state.attrs[name].history
        if history.deleted:
            values[name] = history.deleted[0]
        elif history.unchanged and not history.added:
            values[name] = history.unchanged[0]
        else:
            missing.append(name)
    return {**values, **_asked(mapper, connection, state.identity, missing)}


def values_now(mapper: Mapper[Any], connection: Connection, target: Any, names: Collection[str]) -> Row:
    """The values of an instance whose row has just been written."""
    state = inspect(target)
    values = {name: state.dict[name] for name in names if name in state.dict}
    values = {name: value for name, value in values.items() if not isinstance(value, ClauseElement)}
    missing = [name for name in names if name not in values]
    return {**values, **_asked(mapper, connection, mapper.primary_key_from_instance(target), missing)}


def _asked(mapper: Mapper[Any], connection: Connection, identity: Any, names: Sequence[str]) -> Row:
    if not names or identity is None:
        return {}
    rows = connection.execute(_select(mapper, names).where(_is(mapper, identity))).all()
    return dict(zip(names, rows[0], strict=True)) if rows else {}


def _select(mapper: Mapper[Any], names: Iterable[str]) -> Any:
    return select(*[mapper.columns[name] for name in names]).select_from(mapper.persist_selectable)


def _is(mapper: Mapper[Any], identity: Sequence[Any]) -> ColumnElement[bool]:
    return and_(*[column == value for column, value in zip(mapper.primary_key, identity, strict=True)])


Wanted = Mapping[Mapper[Any], Collection[str]]
"""The class that a statement means, and those below it whose rows may be among them, each with what is asked of it."""
_Found = list[tuple[tuple[Any, ...], Row]]
Rows = list[tuple[Mapper[Any], Row]]


def changed_rows(state: ORMExecuteState, mapper: Mapper[Any], wanted: Wanted) -> tuple[Any, Rows]:
    """Execute a statement that changes rows of a class; its result, and the rows as they were and as they are.

    Raises:
        RowsUnknown: before it is executed, or with the result as its argument.
    """
    if state.is_insert:
        return _inserted(state, mapper, wanted[mapper])
    try:
        found = _rows_of(state, mapper, wanted[mapper])
        keys = [identity for identity, _ in found]
        rows = [(mapper, row) for _, row in found] + _below(state, mapper, wanted, keys)
    except SQLAlchemyError as error:  # the statement may say more than a query can
        raise RowsUnknown from error
    result = state.invoke_statement()
    if state.is_delete:
        return result, rows
    try:
        after = _by_identity(state, mapper, wanted[mapper], keys)
        rows += [(mapper, row) for _, row in after] + _below(state, mapper, wanted, keys)
    except SQLAlchemyError as error:
        raise RowsUnknown(result) from error
    if len(after) < len(set(keys)):
        raise RowsUnknown(result)  # their keys have changed
    return result, rows


def _below(state: ORMExecuteState, mapper: Mapper[Any], wanted: Wanted, keys: Sequence[tuple[Any, ...]]) -> Rows:
    """What the tables of classes below have of the same rows."""
    return [
        (one, row)
        for one, names in wanted.items()
        if one is not mapper
        for _, row in _by_identity(state, one, names, keys)
    ]


def _rows_of(state: ORMExecuteState, mapper: Mapper[Any], names: Collection[str]) -> _Found:
    statement, parameters = state.statement, state.parameters
    assert isinstance(statement, DMLWhereBase)
    if not isinstance(parameters, Mapping | None):
        # An update of many rows, each by its primary key.
        keys = _keys(mapper)
        if statement.whereclause is not None or not all(set(keys) <= row.keys() for row in parameters):
            raise RowsUnknown
        return _by_identity(state, mapper, names, [tuple(row[key] for key in keys) for row in parameters])
    chosen = _select(mapper, (*_keys(mapper), *names))
    if statement.whereclause is not None:
        chosen = chosen.where(statement.whereclause)
    return _found(state, mapper, names, chosen.limit(MOST_ROWS + 1), parameters)


def _keys(mapper: Mapper[Any]) -> tuple[str, ...]:
    return tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)


def _by_identity(
    state: ORMExecuteState, mapper: Mapper[Any], names: Collection[str], identities: Sequence[tuple[Any, ...]]
) -> _Found:
    if len(identities) > MOST_ROWS:
        raise RowsUnknown
    found: _Found = []
    for start in range(0, len(identities), _AT_ONCE):
        some = or_(*[_is(mapper, identity) for identity in identities[start : start + _AT_ONCE]])
        found += _found(state, mapper, names, _select(mapper, (*_keys(mapper), *names)).where(some), None)
    return found


def _found(
    state: ORMExecuteState, mapper: Mapper[Any], names: Collection[str], chosen: Any, parameters: Any
) -> _Found:
    connection = state.session.connection(bind_arguments={**state.bind_arguments, "mapper": mapper})
    rows = connection.execute(chosen, parameters or {}).all()
    if len(rows) > MOST_ROWS:
        raise RowsUnknown
    wide = len(mapper.primary_key)
    return [(tuple(row[:wide]), dict(zip(names, row[wide:], strict=True))) for row in rows]


def _inserted(state: ORMExecuteState, mapper: Mapper[Any], names: Collection[str]) -> tuple[Any, Rows]:
    statement = state.statement
    assert isinstance(statement, Insert)
    given = _given(state, statement, mapper)
    # What it does where the row is there already, the statement does not say.
    if getattr(statement, "_post_values_clause", None) is not None or len(given) > MOST_ROWS:
        raise RowsUnknown
    result = state.invoke_statement()
    if len(given) == 1 and not set(names) <= given[0].keys():
        try:
            given[0].update(zip(_keys(mapper), cast("Any", result).inserted_primary_key, strict=True))
        except Exception:  # as every driver, version and kind of result has its own: it cannot tell
            raise RowsUnknown(result) from None
    if not all(set(names) <= row.keys() for row in given):
        raise RowsUnknown(result)
    return result, [(mapper, row) for row in given]


def _given(state: ORMExecuteState, statement: Insert, mapper: Mapper[Any]) -> list[dict[str, Any]]:
    """The rows that an insert is given, as far as their values stand in it."""
    parameters: Any = state.parameters
    if isinstance(parameters, Mapping):
        parameters = [parameters]
    if parameters is None or parameters == [{}]:
        values = getattr(statement, "_values", None)
        if not values:
            raise RowsUnknown
        parameters = [{column.key: bound.value for column, bound in values.items() if isinstance(bound, BindParameter)}]
    by_column = {prop.columns[0].key: prop.key for prop in mapper.column_attrs}
    return [{by_column.get(name, name): value for name, value in row.items()} for row in parameters]
