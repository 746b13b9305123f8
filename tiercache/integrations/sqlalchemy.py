"""SQLAlchemy: purge what a transaction has changed, once it has committed.

`invalidate_on_commit(cache, sessions, {Product: "product:{id}"})` watches the sessions of a factory. A rollback purges
nothing, and nor does a savepoint that is rolled back. The purge never fails a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from sqlalchemy import Connection, event, inspect
from sqlalchemy.orm import (
    InstanceState,
    Mapper,
    ORMExecuteState,
    Session,
    SessionTransaction,
    object_session,
    scoped_session,
)
from sqlalchemy.orm import sessionmaker as SessionMaker

from tiercache.cache import TierCache
from tiercache.core.policy_settings import Duration
from tiercache.errors import ConfigError
from tiercache.integrations.row_tags import UNKNOWN, Names, QuietPurger, RowTags, Tags, Templates
from tiercache.integrations.sqlalchemy_rows import RowsUnknown, changed_rows, columns_of, values_before, values_now

_WHERE = "invalidate_on_commit"
_ASYNC = find_spec("greenlet") is not None
"""Whether there can be async sessions at all. SQLAlchemy 2.1 comes without greenlet, and then refuses the import."""


def invalidate_on_commit(
    cache: TierCache,
    sessions: Any,
    tags: Mapping[type, Templates],
    *,
    unknown: Names | None = None,
    soft: bool = False,
    settle: Duration | None = None,
) -> OnCommit:
    """Purge tags by the rows that sessions insert, update and delete, after each commit.

    Args:
        cache: whose tags they are.
        sessions: a `sessionmaker`, `scoped_session`, `async_sessionmaker` or `async_scoped_session`, before it has made
            the first session; or a `Session`, an `AsyncSession`, or a subclass of `Session`.
        tags: by class, mapped or a base of mapped ones: templates filled from columns of the class, as they were and as
            they are; functions of an instance that return tags; or several of both.
        unknown: the tags to purge where rows have changed of which it is not known which; None: everything.
        soft: as for `purge`.
        settle: as for `purge`.

    Returns what `remove()` ends it with.

    Raises:
        ConfigError: something else to watch, or a template that cannot work.
    """
    return OnCommit(_watched(sessions), tags, QuietPurger(cache, _WHERE, unknown=unknown, soft=soft, settle=settle))


_NO_TAGS = RowTags((), "", empty=True)


class _Held:
    """What one session has changed and not committed yet."""

    __slots__ = ("changing", "committed", "committing", "flushing", "open")

    def __init__(self) -> None:
        self.open: dict[SessionTransaction, Tags] = {}
        """By the transaction or savepoint in which it was changed."""
        self.changing: set[InstanceState[Any]] = set()
        """What is being updated."""
        self.committed = self.committing = self.flushing = False


class OnCommit:
    """The watch over the sessions of one factory."""

    def __init__(self, target: Any, tags: Mapping[type, Templates], purger: QuietPurger) -> None:
        self._purger = purger
        self._rules = _parsed(tags)
        self._found: dict[type, RowTags | None] = {}
        self._listening: list[tuple[Any, str, Callable[..., Any]]] = [
            (target, "after_transaction_create", self._begun),
            (target, "before_commit", self._committing),
            (target, "before_flush", self._flushing),
            (target, "after_flush_postexec", self._flushed),
            (target, "after_commit", self._committed),
            (target, "after_transaction_end", self._ended),
            (target, "do_orm_execute", self._execute),
            (Mapper, "after_insert", self._inserted),
            (Mapper, "before_update", self._updating),
            (Mapper, "after_update", self._updated),
            (Mapper, "before_delete", self._deleting),
        ]
        for on, name, hook in self._listening:
            event.listen(on, name, hook)

    def remove(self) -> None:
        """Watch no longer. What has been changed and not committed yet is not purged any more."""
        while self._listening:
            on, name, hook = self._listening.pop()
            event.remove(on, name, hook)

    # -- the life of a transaction -----------------------------------------------------------------------------------

    def _begun(self, session: Session, transaction: SessionTransaction) -> None:
        if self not in session.info:
            session.info[self] = _Held()

    def _committing(self, session: Session) -> None:
        held = session.info.get(self)
        if held is not None and session.get_nested_transaction() is None:
            held.committing = True

    def _flushing(self, session: Session, context: Any, instances: Any) -> None:
        if self in session.info:
            session.info[self].flushing = True

    def _flushed(self, session: Session, context: Any) -> None:
        if self in session.info:
            session.info[self].flushing = False

    def _committed(self, session: Session) -> None:
        """A transaction has committed, or a savepoint was released: that passes what it holds on."""
        held = session.info.get(self)
        if held is None:
            return
        nested = session.get_nested_transaction()
        if nested is None:
            held.committed = True
        elif tags := held.open.pop(nested, None):
            held.open.setdefault(_holder(nested.parent), set()).update(tags)

    def _ended(self, session: Session, transaction: SessionTransaction) -> None:
        """Its connections are back in their pool by now: nobody waits for one while Redis is asked."""
        held = session.info.get(self)
        if held is None or (transaction.parent is not None and not transaction.nested):
            return
        tags = held.open.pop(transaction, None)
        if transaction.parent is not None:
            return
        # Where the commit itself has failed, nobody knows what the database has made of it.
        due = held.committed or (held.committing and not held.flushing)
        session.info[self] = _Held()
        if not tags or not due:
            return
        if _ASYNC:
            from sqlalchemy.util import await_only
            from sqlalchemy.util.concurrency import in_greenlet

            if in_greenlet():
                # Within an AsyncSession: the loop goes on while this waits.
                await_only(self._purger.apurge(tags))
                return
        self._purger.purge(tags)

    def _hold(self, session: Session, tags: Tags) -> None:
        held = session.info.get(self)
        transaction = session.get_nested_transaction() or session.get_transaction()
        if held is not None and transaction is not None and tags:
            held.open.setdefault(transaction, set()).update(tags)

    # -- instances ---------------------------------------------------------------------------------------------------

    def _inserted(self, mapper: Mapper[Any], connection: Connection, target: Any) -> None:
        self._note(mapper, connection, target, now=True)

    def _updating(self, mapper: Mapper[Any], connection: Connection, target: Any) -> None:
        session = object_session(target)
        # It is told of everything that was touched, changed or not.
        if session is not None and self in session.info and session.is_modified(target):
            session.info[self].changing.add(inspect(target))
            self._note(mapper, connection, target, before=True)

    def _updated(self, mapper: Mapper[Any], connection: Connection, target: Any) -> None:
        session, state = object_session(target), inspect(target)
        if session is not None and self in session.info and state in session.info[self].changing:
            session.info[self].changing.discard(state)
            self._note(mapper, connection, target, now=True)

    def _deleting(self, mapper: Mapper[Any], connection: Connection, target: Any) -> None:
        self._note(mapper, connection, target, before=True, calls=True)

    def _note(
        self,
        mapper: Mapper[Any],
        connection: Connection,
        target: Any,
        *,
        before: bool = False,
        now: bool = False,
        calls: bool = False,
    ) -> None:
        session = object_session(target)
        if session is None or self not in session.info:
            return
        tags: Tags = set()
        try:
            rule = self._rule(mapper.class_)
            if rule is not None and before:
                tags |= rule.of(values_before(mapper, connection, target, rule.names))
            if rule is not None and now:
                tags |= rule.of(values_now(mapper, connection, target, rule.names))
            if rule is not None and (now or calls):
                tags |= rule.called(target)
            tags |= self._across(mapper, connection, target, whole=calls)
        except Exception as error:
            self._purger.swallow("tags of a change", f"{type(error).__name__}: {error}")
            tags.add(UNKNOWN)
        self._hold(session, tags)

    def _across(self, mapper: Mapper[Any], connection: Connection, target: Any, *, whole: bool) -> Tags:
        """The tags of those at the other end of association rows that come or go with this."""
        tags: Tags = set()
        state = inspect(target)
        for relationship in mapper.relationships:
            rule = self._rule(relationship.mapper.class_) if relationship.secondary is not None else None
            if rule is None:
                continue
            history = state.attrs[relationship.key].history
            for other in (*history.added, *history.deleted, *(history.unchanged if whole else ())):
                if other is not None and inspect(other).has_identity:
                    of = inspect(other).mapper
                    its = self._rule(of.class_) or rule
                    tags |= its.of(values_before(of, connection, other, its.names))
                    tags |= its.called(other)
        return tags

    def _rule(self, of: type) -> RowTags | None:
        """What holds for a class: its own templates and those of all its bases."""
        try:
            return self._found[of]
        except KeyError:
            several = [self._rules[base] for base in of.__mro__ if base in self._rules]
            templates = [one for rule in several for one in (*rule.templates, *rule.functions)]
            found = self._found[of] = RowTags(templates, _WHERE) if templates else None
            if found is not None:
                _check(inspect(of), found)
            return found

    # -- statements --------------------------------------------------------------------------------------------------

    def _execute(self, state: ORMExecuteState) -> Any:
        """A statement that changes rows without their instances."""
        if not (state.is_update or state.is_delete or state.is_insert):
            return None
        session = state.session
        meant = self._meant(state)
        if meant is None:
            return None
        if state.bind_mapper is not None and session.autoflush and state.execution_options.get("autoflush", True):
            session.flush()  # as the statement itself would, before its rows are looked for
        session.connection(bind_arguments=state.bind_arguments)  # from here on there is a transaction
        mapper, rules = meant
        try:
            if mapper is None or any(rule.functions for rule in rules.values()):
                raise RowsUnknown
            result, rows = changed_rows(state, mapper, {one: rule.names for one, rule in rules.items()})
        except RowsUnknown as unknown:
            result = unknown.args[0] if unknown.args else state.invoke_statement()
            self._hold(session, {UNKNOWN})
            return result
        self._hold(session, set().union(*[rules[one].of(row) for one, row in rows]))
        return result

    def _meant(self, state: ORMExecuteState) -> tuple[Mapper[Any] | None, dict[Mapper[Any], RowTags]] | None:
        """The class whose rows a statement changes, and the templates for it and for the classes below; None where none
        of ours is meant, and no class where it may be one of several.
        """
        target = state.bind_mapper
        if target is None:
            table = getattr(state.statement, "table", None)
            mappers = {one for base in self._rules for one in _mappers_below(base) if table in set(one.tables)}
            if not mappers:
                return None
            target = next((one for one in mappers if all(other.isa(one) for other in mappers)), None)
            if target is None:
                return None, {}
        below = [] if state.is_insert else target.self_and_descendants
        rules = {one: rule for one in (target, *below) if (rule := self._rule(one.class_)) is not None}
        if not rules:
            return None
        return target, {target: _NO_TAGS, **rules}


def _holder(transaction: SessionTransaction | None) -> SessionTransaction:
    """The savepoint or transaction that a part of one belongs to."""
    assert transaction is not None
    while transaction.parent is not None and not transaction.nested:
        transaction = transaction.parent
    return transaction


def _parsed(tags: Any) -> dict[type, RowTags]:
    if not isinstance(tags, Mapping) or not tags or not all(isinstance(one, type) for one in tags):
        raise ConfigError(_WHERE, tags, "a dict from classes to tag templates, e.g. {Product: 'product:{id}'}")
    rules = {}
    for of, templates in tags.items():
        rules[of] = RowTags(templates, f"{_WHERE}: {of.__name__}")
        mapper = inspect(of, raiseerr=False)
        if isinstance(mapper, Mapper):
            _check(mapper, rules[of])
    return rules


def _check(mapper: Mapper[Any], rule: RowTags) -> None:
    for template in rule.templates:
        if unknown := RowTags(template, "").names - columns_of(mapper):
            raise ConfigError(
                f"{_WHERE}: {mapper.class_.__name__}",
                template,
                f"templates with columns of the class, {', '.join(sorted(columns_of(mapper)))}, in place of "
                f"{', '.join(sorted(unknown))}; or a function of an instance",
            )


def _mappers_below(base: type) -> set[Mapper[Any]]:
    mapper: Any = inspect(base, raiseerr=False)
    subclasses: list[type] = type.__subclasses__(base)
    below = {one for sub in subclasses for one in _mappers_below(sub)}
    return {mapper, *below} if isinstance(mapper, Mapper) else below


def _watched_async(sessions: Any) -> Any:
    """The same for async sessions and their factories; None for anything else."""
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

    if isinstance(sessions, AsyncSession):
        return sessions.sync_session
    if isinstance(sessions, async_scoped_session):
        return _watched(sessions.session_factory)
    if isinstance(sessions, async_sessionmaker):
        made = sessions.kw.get("sync_session_class") or sessions.class_.sync_session_class
        if not isinstance(made, type):
            return made  # a sessionmaker
        # A class of its own, so that no other factory's sessions are watched.
        own = type(made.__name__, (made,), {})
        sessions.configure(sync_session_class=own)
        return own
    return None


def _watched(sessions: Any) -> Any:
    """What SQLAlchemy takes as the target of events of these sessions."""
    if _ASYNC and (target := _watched_async(sessions)) is not None:
        return target
    if isinstance(sessions, Session | SessionMaker | scoped_session) or (
        isinstance(sessions, type) and issubclass(sessions, Session)
    ):
        return sessions
    raise ConfigError(
        _WHERE,
        sessions,
        "a sessionmaker, scoped_session, async_sessionmaker, async_scoped_session, Session or AsyncSession",
    )
