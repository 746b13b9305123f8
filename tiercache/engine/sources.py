"""Where the values of a store come from: its loaders, what they are called by, and what comes of it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tiercache.core.stores import StoreRule
from tiercache.core.values import Held
from tiercache.engine.events import StoreStats
from tiercache.engine.fill import enter, leave
from tiercache.errors import DataError

if TYPE_CHECKING:
    from tiercache.engine.loading import Loading


class Source:
    """Where the values of one store come from."""

    __slots__ = ("aload", "aload_many", "counts", "crowd", "load", "load_many", "max_batch", "rule", "ticks")

    def __init__(self, rule: StoreRule, counts: StoreStats) -> None:
        self.rule = rule
        self.counts = counts
        self.load: Callable[[Any], Any] | None = None
        self.aload: Callable[[Any], Awaitable[Any]] | None = None
        self.load_many: Callable[[Any], Any] | None = None
        self.aload_many: Callable[[Any], Awaitable[Any]] | None = None
        self.max_batch = 100
        self.crowd: Any = None
        self.ticks: Any = None
        """Who loads together, in threads and in tasks, where `load_many` is there for it."""

    def by(self, load: Callable[[Any], Any] | None, aload: Callable[[Any], Awaitable[Any]] | None) -> Source:
        """The same store with a loader for one call."""
        other = Source(self.rule, self.counts)
        other.load, other.aload = load, aload
        return other


class Outcome(NamedTuple):
    """What came of one get. An error is carried, not raised: a flow could not raise every one of them unchanged."""

    entry: Held | None = None
    value: Any = None
    error: BaseException | None = None
    refusal: str | None = None
    """Why the one who loaded it wants it nowhere stored."""
    made: bool = False
    """`value` is what the load gave; without, `entry` gives one to each caller."""


def plain(value: Any, source: Source) -> Any:
    """What a sync loader has given; `DataError` where it was none."""
    if inspect.iscoroutine(value):
        value.close()
        raise DataError(f"{source.rule.named}: its loader gives an awaitable: give it as aload=…, and await aget(...)")
    return value


class Load:
    """Call the loader for one key."""

    __slots__ = ("loading",)

    def __init__(self, loading: Loading) -> None:
        self.loading = loading

    def run(self) -> Any:
        loading = self.loading
        load = loading.source.load
        assert load is not None
        token = enter(loading.fill)
        try:
            return plain(load(loading.request.subject), loading.source)
        finally:
            leave(token)

    async def arun(self) -> Any:
        loading = self.loading
        load = loading.source.aload
        assert load is not None
        token = enter(loading.fill)
        try:
            return await load(loading.request.subject)
        finally:
            leave(token)


def copies(error: BaseException, count: int) -> list[BaseException]:
    """An error for several who are to raise it: each its own, so that no traceback grows by what another one does."""
    return [error, *[own_copy(error) for _ in range(count - 1)]]


def own_copy(error: BaseException) -> BaseException:
    """The same error once more; itself, if its class cannot be copied."""
    try:
        made = copy.copy(error)
    except Exception:
        return error
    if type(made) is not type(error) or made.args != error.args:
        return error
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made.with_traceback(error.__traceback__)
