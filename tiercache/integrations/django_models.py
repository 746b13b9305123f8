"""Django's models: purge what a transaction has changed, once it has committed.

`invalidate_on_commit(cache, {Product: "product:{id}"})` hears the signals of models. What sends none, `QuerySet.update`
and `bulk_create`, is heard where the manager is made of `PurgingQuerySet`; the rest is purged by `purge_on_commit`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any, Self, Unpack, cast
from weakref import WeakKeyDictionary, WeakSet

from django.db import connections, models, transaction
from django.db.models.fields import NOT_PROVIDED
from django.db.models.signals import class_prepared, m2m_changed, post_save, pre_delete, pre_save

from tiercache.cache import TierCache
from tiercache.core.policy_settings import Duration
from tiercache.engine.purging import PurgeSettings, purge_for
from tiercache.errors import ConfigError, PurgeError
from tiercache.integrations.row_tags import MOST_ROWS, UNKNOWN, Names, QuietPurger, RowTags, Tags, Templates

_WHERE = "invalidate_on_commit"
_BEFORE = "tiercache_before"
"""Under which the state of an instance keeps, while it is saved, what its row was."""


def purge_on_commit(cache: TierCache, *, using: str | None = None, **what: Unpack[PurgeSettings]) -> None:
    """Purge when the transaction under way commits; at once where there is none. A rollback drops the purge.

    Nothing is raised behind the commit: where Redis does not confirm, the purge holds in this process, is queued for
    the others, counted and logged.

    Args:
        cache: in which.
        using: the database, where it is not the default one.
        what: as for `TierCache.purge`.

    Raises:
        ConfigError: nothing to purge is named, or something that is none.
        PurgeError: called on a running event loop, which has no transaction to wait for: `await cache.apurge(...)`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise PurgeError("purge_on_commit() would block the running event loop; use `await cache.apurge(...)` here")
    purge = purge_for(cache.routes, what)
    quietly = QuietPurger(cache, _WHERE, unknown=None)
    transaction.on_commit(partial(quietly.carry_out, [purge]), using=using, robust=True)


def invalidate_on_commit(
    cache: TierCache,
    tags: Mapping[type[models.Model], Templates],
    *,
    unknown: Names | None = None,
    soft: bool = False,
    settle: Duration | None = None,
) -> OnCommit:
    """Purge tags by the rows that are saved and deleted, after each commit. Call it once, in `AppConfig.ready`.

    Args:
        cache: whose tags they are.
        tags: by model, or an abstract base of models: templates filled from the columns of the model (`{id}`, `{pk}`,
            `{category_id}`), as they were and as they are; functions of an instance that return tags; or several.
        unknown: the tags to purge where rows have changed of which it is not known which; None: everything.
        soft: as for `purge`.
        settle: as for `purge`.

    Returns what `remove()` ends it with.

    Raises:
        ConfigError: what is no model, or a template that cannot work.
    """
    return OnCommit(tags, QuietPurger(cache, _WHERE, unknown=unknown, soft=soft, settle=settle))


class OnCommit:
    """The watch over some models."""

    def __init__(self, tags: Mapping[type[models.Model], Templates], purger: QuietPurger) -> None:
        self._purger = purger
        self._rules = _parsed(tags)
        self._found: dict[type, RowTags | None] = {}
        self._connected: set[type[models.Model]] = set()
        for model in {below for base in self._rules for below in _below(base)}:
            self._connect(model)
        m2m_changed.connect(self._related)
        class_prepared.connect(self._prepared)
        _watching.append(self)

    def remove(self) -> None:
        """Watch no longer."""
        for model in self._connected:
            for signal, receiver in self._heard():
                signal.disconnect(receiver, sender=model)
        self._connected.clear()
        m2m_changed.disconnect(self._related)
        class_prepared.disconnect(self._prepared)
        if self in _watching:
            _watching.remove(self)

    def _heard(self) -> tuple[tuple[Any, Any], ...]:
        return (pre_save, self._saving), (post_save, self._saved), (pre_delete, self._deleting)

    def _connect(self, model: type[models.Model]) -> None:
        # One by one: models with receivers are deleted instance by instance, and the others need not be.
        self._connected.add(model)
        for signal, receiver in self._heard():
            signal.connect(receiver, sender=model)

    def _prepared(self, sender: type[models.Model], **more: Any) -> None:
        if self.rule(sender) is not None:
            self._connect(sender)

    def rule(self, model: type) -> RowTags | None:
        """What holds for a model: its own templates and those of all its bases."""
        try:
            return self._found[model]
        except KeyError:
            several = [self._rules[base] for base in model.__mro__ if base in self._rules]
            templates = [one for rule in several for one in (*rule.templates, *rule.functions)]
            found = self._found[model] = RowTags(templates, _WHERE) if templates else None
            return found

    def hold(self, tags: Tags, using: str) -> None:
        """Purge these when the transaction under way commits, if it does."""
        if tags:
            waiting = _waiting.setdefault(connections[using], WeakSet())
            transaction.on_commit(_Purge(self._purger, tags, waiting), using=using, robust=True)

    # -- signals -----------------------------------------------------------------------------------------------------

    def _saving(self, sender: type[models.Model], instance: models.Model, using: str, **more: Any) -> None:
        rule = self.rule(sender)
        if rule is None or not rule.names - {"pk", sender._meta.pk.attname}:
            return
        # As Django itself looks at it: with a key of its own making, the row cannot be there yet.
        made = instance._state.adding and sender._meta.pk.default is not NOT_PROVIDED
        if instance.pk is None or made:
            return
        rows = _asked(sender, using, [instance.pk], rule.names)
        instance._state.__dict__.setdefault(_BEFORE, {})[id(self)] = rows[0] if rows else None

    def _saved(
        self, sender: type[models.Model], instance: models.Model, using: str, update_fields: Any, **more: Any
    ) -> None:
        rule = self.rule(sender)
        if rule is None:
            return
        before = instance._state.__dict__.get(_BEFORE, {}).pop(id(self), None)
        row = _row(instance, using, rule.names)
        if before is not None and update_fields is not None:
            written = {field.attname for field in _fields(sender) if {field.name, field.attname} & set(update_fields)}
            row = {name: row[name] if name in written or name == "pk" else before[name] for name in row}
        tags = rule.of(row) if before is None else rule.of(row) | rule.of(before)
        self.hold(tags | self._called(rule, instance), using)

    def _deleting(self, sender: type[models.Model], instance: models.Model, using: str, **more: Any) -> None:
        """Within the transaction of the deletion, which takes rows of associations along and tells nobody of them."""
        rule = self.rule(sender)
        if rule is None:
            return
        tags = rule.of({name: getattr(instance, name) for name in rule.names}) | self._called(rule, instance)
        relations = [(one.remote_field.through, one.related_model) for one in sender._meta.many_to_many]
        relations += [
            (one.through, one.related_model) for one in sender._meta.related_objects if one.many_to_many
        ]
        for through, model in relations:
            if (other := self.rule(model)) is not None:
                tags |= self._at_ends(other, model, _ends(through, instance, model, using), using)
        self.hold(tags, using)

    def _related(
        self,
        sender: type[models.Model],
        instance: models.Model,
        action: str,
        model: type[models.Model],
        pk_set: Collection[Any] | None,
        using: str,
        **more: Any,
    ) -> None:
        """Rows of an association come or go: both of its ends change."""
        if action not in ("post_add", "post_remove", "pre_clear"):
            return
        own, other = self.rule(type(instance)), self.rule(model)
        tags: Tags = set()
        if own is not None:
            tags |= own.of(_row(instance, using, own.names)) | self._called(own, instance)
        if other is not None:
            keys = _ends(sender, instance, model, using) if pk_set is None else pk_set
            tags |= self._at_ends(other, model, keys, using)
        self.hold(tags, using)

    def _at_ends(self, rule: RowTags, model: type[models.Model], keys: Collection[Any], using: str) -> Tags:
        if keys and (len(keys) > MOST_ROWS or rule.functions):
            return {UNKNOWN}
        return set().union(*[rule.of(row) for row in _asked(model, using, keys, rule.names)])

    def _called(self, rule: RowTags, instance: models.Model) -> Tags:
        try:
            return rule.called(instance)
        except Exception as error:
            self._purger.swallow("tags of a change", f"{type(error).__name__}: {error}")
            return {UNKNOWN}


_watching: list[OnCommit] = []


class PurgingQuerySet(models.QuerySet):  # type: ignore[misc]
    """Tells `invalidate_on_commit` of what sends no signals: `update`, `bulk_update` and `bulk_create`, and their async
    forms. `objects = PurgingQuerySet.as_manager()`, or as a base of one's own query set.
    """

    def update(self, **values: Any) -> int:
        self._for_write = True  # else a router may send the question for the rows elsewhere
        watched = [(one, rule) for one in _watching if (rule := one.rule(self.model)) is not None]
        names = sorted(frozenset().union(*[rule.names for _, rule in watched]))
        before = _few(self.values("pk", *names)) if watched else None
        # One transaction, so that no purge comes between.
        with transaction.atomic(using=self.db, savepoint=False):
            done: int = super().update(**values)
            if watched:
                after = None if before is None else _asked(self.model, self.db, [row["pk"] for row in before], names)
                self._hold(watched, before, after)
        return done

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[Any], *arguments: Any, **options: Any) -> Any:
        self._for_write = True
        watched = [(one, rule) for one in _watching if (rule := one.rule(self.model)) is not None]
        with transaction.atomic(using=self.db, savepoint=False):
            made = super().bulk_create(objs, *arguments, **options)
            # With either, which rows have come is not told, nor what they were before.
            blurred = options.get("ignore_conflicts") or options.get("update_conflicts") or len(arguments) > 1
            known = not blurred and all(one.pk is not None for one in made) and len(made) <= MOST_ROWS
            if watched and made:
                names = frozenset().union(*[rule.names for _, rule in watched])
                rows = [_row(one, self.db, names) for one in made] if known else None
                self._hold(watched, rows, rows)
        return made

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _hold(self, watched: list[tuple[OnCommit, RowTags]], *several: list[dict[str, Any]] | None) -> None:
        for watch, rule in watched:
            tags: Tags = set()
            for rows in several:
                if rows is None or (rows and rule.functions):
                    tags.add(UNKNOWN)
                else:
                    tags |= set().union(*[rule.of(row) for row in rows])
            watch.hold(tags, self.db)


class _Purge:
    """What one change is to purge when its transaction has committed.

    Of those that Django keeps until then the first purges for all, so that a thousand saves are one purge. Those that
    it has dropped with a savepoint are gone; one that lingers a while purges too much, and never too little.
    """

    __slots__ = ("__weakref__", "_purger", "_tags", "_waiting")

    def __init__(self, purger: QuietPurger, tags: Tags, waiting: WeakSet[Self]) -> None:
        self._purger, self._tags, self._waiting = purger, tags, waiting
        waiting.add(self)

    def __call__(self) -> None:
        if self not in self._waiting:
            return
        due = [one for one in self._waiting if one._purger is self._purger]
        self._waiting.difference_update(due)
        self._purger.purge(set().union(*[one._tags for one in due]))


_waiting: WeakKeyDictionary[Any, WeakSet[_Purge]] = WeakKeyDictionary()
"""By connection."""


# -- rows --------------------------------------------------------------------------------------------------------------


def _fields(model: type[models.Model]) -> list[Any]:
    return list(model._meta.concrete_fields)


def _few(rows: Any) -> list[dict[str, Any]] | None:
    """The rows of a query, or None if they are too many to be told one by one."""
    found = list(rows[: MOST_ROWS + 1])
    return found if len(found) <= MOST_ROWS else None


def _asked(
    model: type[models.Model], using: str, keys: Collection[Any], names: Collection[str]
) -> list[dict[str, Any]]:
    """The rows of a model with these keys, as the database has them."""
    if set(names) <= {"pk", model._meta.pk.attname}:
        return [dict.fromkeys(names, key) for key in keys]
    return list(model._base_manager.using(using).filter(pk__in=keys).values(*names))


def _row(instance: models.Model, using: str, names: Collection[str]) -> dict[str, Any]:
    """The values of an instance that has been written; the database is asked for those that it made itself."""
    values = {name: getattr(instance, name) for name in names}
    made = [name for name, value in values.items() if hasattr(value, "resolve_expression")]
    rows = _asked(type(instance), using, [instance.pk], made) if made else []
    return {**values, **(rows[0] if rows else {})}


def _ends(through: Any, instance: models.Model, model: type[models.Model], using: str) -> set[Any]:
    """The keys at the other end of the association rows of an instance; of both ends where they are of one model."""
    columns = [field for field in through._meta.concrete_fields if field.remote_field is not None]
    own = [field for field in columns if isinstance(instance, field.remote_field.model)]
    others = [field.attname for field in columns if issubclass(model, field.remote_field.model)]
    found: set[Any] = set()
    for field in own:
        value = getattr(instance, field.target_field.attname)
        rows = through._base_manager.using(using).filter(**{field.attname: value}).values_list(*others)
        found.update(key for row in rows[: MOST_ROWS + 1] for key in row if key is not None)
    return found


def _below(base: type) -> list[type[models.Model]]:
    subclasses: list[type] = type.__subclasses__(base)
    below = [one for sub in subclasses for one in _below(sub)]
    model = cast("type[models.Model]", base)
    return below if model._meta.abstract else [model, *below]


def _parsed(tags: Any) -> dict[type, RowTags]:
    if not isinstance(tags, Mapping) or not tags:
        raise ConfigError(_WHERE, tags, "a dict from models to tag templates, e.g. {Product: 'product:{id}'}")
    rules = {}
    for model, templates in tags.items():
        if not isinstance(model, type) or not issubclass(model, models.Model):
            raise ConfigError(_WHERE, model, "models, or abstract bases of models")
        rules[model] = RowTags(templates, f"{_WHERE}: {model.__name__}")
        columns = {"pk", *(field.attname for field in _fields(model))}
        for template in rules[model].templates:
            if unknown := RowTags(template, "").names - columns:
                raise ConfigError(
                    f"{_WHERE}: {model.__name__}",
                    template,
                    f"templates with columns of the model, {', '.join(sorted(columns))}, in place of "
                    f"{', '.join(sorted(unknown))}; or a function of an instance",
                )
    return rules
