"""The decorator that keeps what a function returns: read-through, with the function as the loader.

The template names what of the arguments counts: `"products:{id}"`, `"prices:{self.tenant}:{id}"`. Their values make
the key, each with its kind, so that 1 and "1" are two keys. What the template does not name does not count.
"""

from __future__ import annotations

import functools
import inspect
import string
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from tiercache.core.keys import Key
from tiercache.core.stores import StoreRule, plain_key, text_of
from tiercache.data import ReadThrough
from tiercache.data_store import MISS, raised
from tiercache.engine.effects import adrive, drive
from tiercache.engine.sources import Source
from tiercache.errors import ConfigError

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")


class Bound(Protocol[P, R_co]):
    """A memoized method of one object."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class Memoized(Protocol[P, R_co]):
    """A memoized function, called as it was before. Its helpers take the function's own arguments; of a method, they
    are found at its class and take `self` as the first: `Shop.price.invalidate(shop, 7)`."""

    __wrapped__: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Memoized[P, R_co]: ...

    @overload
    def __get__(self: Memoized[Concatenate[S, Q], R_co], instance: S, owner: type[Any]) -> Bound[Q, R_co]: ...

    def __get__(self, instance: Any, owner: Any) -> Any: ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
        """The values that make the key of these arguments, in the order of the template."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Invalidate what these arguments gave, in every process. Raises as `ReadThrough.delete` does."""

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """`invalidate` for async code."""

    def clear(self) -> None:
        """Invalidate whatever the function gave, in every process."""

    async def aclear(self) -> None:
        """`clear` for async code."""


class Arguments:
    """What of a function's arguments makes the key."""

    __slots__ = ("_most", "_needed", "_plan", "_signature", "_where", "blind_to", "fields")

    def __init__(self, template: str, function: Callable[..., Any]) -> None:
        self._where = f"memoize {template!r}"
        self._signature = signature = inspect.signature(function)
        self.fields = _fields(self._where, template)
        parameters = signature.parameters
        for field in self.fields:
            name = _first(field)
            if name not in parameters:
                raise ConfigError(
                    self._where, "{" + field + "}", f"fields with arguments of the function: {', '.join(parameters)}"
                )
        first = next(iter(parameters), "")
        named = {_first(field) for field in self.fields}
        self.blind_to = first if first in ("self", "cls") and first not in named else ""
        """The object of a method, where nothing of it counts."""
        in_order = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        names = [p.name for p in in_order]
        self._most = len(names)
        self._needed = sum(p.default is p.empty for p in in_order)
        plain = all(field in names for field in self.fields) and not any(
            p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or (p.kind is p.KEYWORD_ONLY and p.default is p.empty)
            for p in parameters.values()
        )
        # Where positions tell all, arguments are found by them: binding costs more than the lookup.
        self._plan = tuple((names.index(field), parameters[field].default) for field in self.fields) if plain else None

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The values that make the key. `TypeError` for arguments that the function does not take."""
        plan, given = self._plan, len(args)
        if plan is not None and not kwargs and self._needed <= given <= self._most:
            return tuple([args[index] if index < given else default for index, default in plan])
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return tuple([_value(field, bound.arguments) for field in self.fields])


    def key_maker(self, prefix: str, careful: Callable[[tuple[Any, ...]], Key]) -> Callable[[Any, Any], Key]:
        """What makes the key of a call. `careful` makes it of values that may be of any kind."""
        values, plan, needed, most = self.values, self._plan, self._needed, self._most
        if plan is None or len(plan) != 1:
            return lambda args, kwargs: careful(values(args, kwargs))
        (index, default), *_ = plan

        def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
            if not kwargs and needed <= len(args) <= most:
                value = args[index] if index < len(args) else default
                kind = value.__class__
                if kind is int or kind is str:
                    return (prefix, value)
            return careful(values(args, kwargs))

        return key_of


def _fields(where: str, template: str) -> tuple[str, ...]:
    try:
        parts = list(string.Formatter().parse(template))
    except (TypeError, ValueError) as error:
        raise ConfigError(where, template, "a template such as 'products:{id}'") from error
    if not template or any(conversion or spec for _, _, spec, conversion in parts):
        raise ConfigError(where, template, "a template such as 'products:{id}', with no formats in its fields")
    fields = tuple([field for _, field, _, _ in parts if field is not None])
    if not all(_first(field).isidentifier() for field in fields):
        raise ConfigError(where, template, "a template whose fields name arguments: 'products:{id}'")
    return fields


def _first(field: str) -> str:
    return field.partition(".")[0].partition("[")[0]


def _value(field: str, arguments: dict[str, Any]) -> Any:
    value, _ = string.Formatter().get_field(field, (), arguments)
    return value


class _Call:
    """One call, as the subject of a load: the values of its key, and the arguments for the function."""

    __slots__ = ("args", "kwargs", "values")

    def __init__(self, values: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.values, self.args, self.kwargs = values, args, kwargs

    def __repr__(self) -> str:
        return repr(self.values[0] if len(self.values) == 1 else self.values)


class MemoRule(StoreRule):
    """The rule of one memoized function: templates of tags name its arguments."""

    __slots__ = ("names",)

    def __init__(self, names: tuple[str, ...], template: str, settings: Mapping[str, Any], **more: Any) -> None:
        self.names = names
        super().__init__(template, settings, **more)

    def texts(self, subject: _Call) -> Mapping[str, str]:
        return dict(zip(self.names, map(text_of, subject.values), strict=True))

    def shown(self, subject: _Call) -> Any:
        return subject.values[0] if len(subject.values) == 1 else subject.values


class Memo(ReadThrough[Any, Any]):
    """The store of one memoized function. Its keys are the values that the template names."""

    def asks_for(self, values: tuple[Any, ...]) -> Key:
        try:
            return (self._prefix, *map(plain_key, values))
        except TypeError:
            return self._rule.key_for(values)  # says what is wrong


def memoized(memo: Memo, source: Source, arguments: Arguments, function: Callable[..., Any], *, is_async: bool) -> Any:
    """The function with its memo in front."""
    values_of, hit = arguments.values, memo._hit
    key_of = arguments.key_maker(memo._prefix, memo.asks_for)

    if is_async:
        source.aload = lambda call: function(*call.args, **call.kwargs)

        @functools.wraps(function)
        async def kept(*args: Any, **kwargs: Any) -> Any:
            key = key_of(args, kwargs)
            value = hit(key)
            if value is MISS:
                value = await memo._aload(_Call(values_of(args, kwargs), args, kwargs), key, source)
            return value

    else:
        source.load = lambda call: function(*call.args, **call.kwargs)

        @functools.wraps(function)
        def kept(*args: Any, **kwargs: Any) -> Any:
            key = key_of(args, kwargs)
            value = hit(key)
            if value is MISS:
                # On an event loop it blocks as long as the function itself would, and no longer than the tiers may.
                value = memo._load(_Call(values_of(args, kwargs), args, kwargs), key, source)
            return value

    return _with_helpers(kept, memo, arguments)


def _with_helpers(kept: Any, memo: Memo, arguments: Arguments) -> Any:
    def invalidating(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        values = arguments.values(args, kwargs)
        return memo._change(_Call(values, args, kwargs), memo.asks_for(values))

    def key(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return arguments.values(args, kwargs)

    def invalidate(*args: Any, **kwargs: Any) -> None:
        memo._off_loop("invalidate")
        raised(drive(invalidating(args, kwargs)))

    async def ainvalidate(*args: Any, **kwargs: Any) -> None:
        raised(await adrive(invalidating(args, kwargs)))

    kept.key, kept.invalidate, kept.ainvalidate = key, invalidate, ainvalidate
    kept.clear, kept.aclear = memo.clear, memo.aclear
    return kept
