"""What is asked of the functions that a store is given."""

from __future__ import annotations

import collections.abc
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from tiercache.core.stores import StoreRule
from tiercache.errors import ConfigError

K = TypeVar("K")
V = TypeVar("V")

Load = Callable[[K], V]
ALoad = Callable[[K], Awaitable[V]]
LoadMany = Callable[[Sequence[K]], Mapping[K, V]]
ALoadMany = Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]
Write = Callable[[K, V], object]
AWrite = Callable[[K, V], Awaitable[object]]
Remove = Callable[[K], object]
ARemove = Callable[[K], Awaitable[object]]


def is_async(function: object) -> bool:
    """Whether calling it gives something to await, as far as can be told without calling it."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or (
        callable(function) and inspect.iscoroutinefunction(function.__call__)
    )


def pair(rule: StoreRule, name: str, function: Any, afunction: Any) -> tuple[Any, Any]:
    """The sync and the async one of two functions as they were given."""
    for setting, given in ((name, function), ("a" + name, afunction)):
        if given is not None and not callable(given):
            raise ConfigError(f"{rule.named}: {setting}", given, "a function")
    if function is not None and is_async(function):
        if afunction is not None:
            raise ConfigError(f"{rule.named}: {name}", function, f"a sync function beside a{name}=…")
        return None, function
    return function, afunction


def returned(type_: Any, *loaders: Any) -> Any:
    """The type of the values: as given, or as the first of the loaders is annotated to return."""
    if type_ is not Any:
        return type_
    for loader in loaders:
        if loader is not None:
            try:
                made = inspect.signature(loader, eval_str=True).return_annotation
            except (TypeError, ValueError, NameError, AttributeError):
                continue
            if get_origin(made) in (collections.abc.Awaitable, collections.abc.Coroutine):
                made = get_args(made)[-1]
            if made is not inspect.Signature.empty:
                return made
    return Any
