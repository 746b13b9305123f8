"""The fill under way, and what the code that makes the response says about it: `tag`, `no_store`, `ttl`.

The context variable holds one object that everything downstream shares: it follows the request into tasks and into
thread pools that copy the context, and what they say is still heard after the response has started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Executor, Future
from contextvars import ContextVar
from functools import wraps
from math import inf
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar
from weakref import ref

from tiercache.core.entries import Kept
from tiercache.core.ledger import Ledger
from tiercache.core.policy import Policy, parse_duration
from tiercache.core.records import Stamp
from tiercache.errors import ConfigError

if TYPE_CHECKING:
    from tiercache.engine.events import Complaints


class Fill:
    """One call of the app, from the moment before it to the end of the body."""

    __slots__ = (
        "began",
        "declared",
        "followed",
        "foreign",
        "ledger",
        "limit",
        "mark",
        "over",
        "parent",
        "refusal",
        "since",
        "stamp",
        "subjects",
        "tags",
        "ttl",
    )

    def __init__(
        self,
        stamp: Stamp,
        mark: int,
        began: float,
        subjects: tuple[Hashable, ...] = (),
        ledger: Ledger | None = None,
    ) -> None:
        self.stamp = stamp
        """Read before the app was called: whatever is invalidated from here on kills what this fill makes."""
        self.mark = mark
        self.began = began
        """Process clock, seconds."""
        self.tags: set[str] = set()
        self.refusal: str | None = None
        self.ttl: float | None = None
        self.declared: Policy | None = None
        self.ledger = ledger
        """What the stamp was read from."""
        self.subjects = subjects
        """The keys that are being filled, where they are of data."""
        self.parent: Fill | None = None
        """The fill within which this one was begun."""
        self.followed: set[str] = set()
        """Tags of the data that it was made with, as the ledger names them."""
        self.since = began
        """From when on it may be served in isolation: as long as the data that it was made with, and no longer."""
        self.limit = inf
        """When the first stale value that it was made with stopped being fresh."""
        self.foreign = False
        """It was made with data that has been purged since, or whose history is lost."""
        self.over = False
        """What it makes is stored, or will not be. A task that was begun in it and outlives it still belongs to it, and
        must not add to it for ever."""

    def follow(self, entry: Kept, ledger: Ledger, now: float) -> None:
        """It is being made with this value: what invalidates the one invalidates the other.

        The number of the fill stays. It was noted before the value was looked up, and the value is looked at here
        against all that was known then, whatever version it was last checked at: a record that kills the value later
        has a higher number than the fill, and kills what carries its tags.
        """
        if self.over:
            return
        own = self.ledger
        if own is not None and own is not ledger:
            if own.namespace != ledger.namespace:
                return  # No purge there could reach what is stored here.
            # Another cache of this process, which may know less than this one: from its number on.
            self.stamp = Stamp(self.stamp.epoch, min(self.stamp.number, entry.number))
        if entry.epoch != self.stamp.epoch or not ledger.alive(entry):
            self.foreign = True
        self.followed.update(entry.tags)
        self.since = min(self.since, max(entry.began, ledger.last_good_sync))
        if now >= entry.fresh_until:
            self.limit = min(self.limit, entry.fresh_until)

    def within(self, subject: Hashable) -> bool:
        """Whether this fill, or one around it, is of that key."""
        return any(subject in fill.subjects for fill in self.line())

    def line(self) -> Iterator[Fill]:
        """This fill and those around it."""
        fill: Fill | None = self
        while fill is not None:
            yield fill
            fill = fill.parent

    def merge(self, other: Fill) -> None:
        """Take over what was said to another one, which stood for several."""
        self.tags |= other.tags
        self.followed |= other.followed
        self.since, self.limit = min(self.since, other.since), min(self.limit, other.limit)
        self.foreign |= other.foreign or (bool(other.followed) and other.stamp.epoch != self.stamp.epoch)
        if other.stamp.epoch == self.stamp.epoch:
            self.stamp = min(self.stamp, other.stamp)
        self.refusal = self.refusal or other.refusal
        self.ttl = other.ttl if self.ttl is None else self.ttl


class _Nowhere:
    """What is current in a context that no request has ever been in."""


_NOWHERE: Final = _Nowhere()
_POOLS: Final = ("asyncio_", "ThreadPoolExecutor-")
"""How the threads of `run_in_executor` and of thread pools are named, into which no context comes by itself."""

_current: ContextVar[Fill | None] = ContextVar("tiercache_fill", default=None)
_entered = False
"""Whether anything has ever been stored in this process, as none is where caching is switched off."""
_complaints: ref[Complaints] | None = None


def complain_to(complaints: Complaints) -> None:
    """Whom to tell of what nobody hears; not kept alive by that."""
    global _complaints
    _complaints = ref(complaints)


def current_fill() -> Fill | None:
    """The fill that the running code belongs to; None outside a request that may be stored."""
    return _current.get()


def enter(fill: Fill | None) -> Any:
    """Make `fill` the current one; the token goes to `leave`."""
    global _entered
    _entered = _entered or fill is not None
    return _current.set(fill)


def not_filling() -> None:
    """The request of this context is not stored: what its app says of it is rightly heard by nobody."""
    if _current.get(_NOWHERE) is _NOWHERE:
        _current.set(None)


def _told(word: str) -> Fill | None:
    """The fill that the running code belongs to, for `tag` and its like. Where it has been lost on the way, that is
    complained of: a response would be stored without its tags.
    """
    fill = _current.get(_NOWHERE)
    if not isinstance(fill, _Nowhere):
        return fill
    complaints = None if _complaints is None else _complaints()
    if _entered and complaints is not None and threading.current_thread().name.startswith(_POOLS):
        complaints.swallow(
            "said in a thread without its request",
            f"{word}() in the thread of a pool, into which the request does not follow: nobody heard it. "
            "Give the pool tiercache.carry(function), or use asyncio.to_thread",
        )
    return None


def leave(token: Any) -> None:
    """Put back what was current before `enter`."""
    try:
        _current.reset(token)
    except ValueError:
        # Closed by the garbage collector after its event loop had ended: the context in which it ran is gone.
        pass


def tag(*tags: str) -> None:
    """Add tags to the response being made, so that `purge(tags=[...])` reaches it.

    Outside a request, or where the response will not be stored, it does nothing.

    Raises:
        ConfigError: a tag is not a non-empty string.
    """
    for name in tags:
        if not name or not isinstance(name, str):
            raise ConfigError("tag", name, "non-empty strings, such as 'product:7'")
    fill = _told("tag")
    if fill is not None and not fill.over:
        fill.tags.update(tags)


def no_store(reason: str = "no_store()") -> None:
    """Keep the response being made out of every tier. `reason` shows in the debug log; L0 is told `no-store` too."""
    fill = _told("no_store")
    if fill is not None:
        fill.refusal = reason or "no_store()"


def ttl(duration: Any) -> None:
    """Set the lifetime of the response being made, over whatever rule, decorator or header says.

    An error (400 and above) is not stored by this word alone: a view that says it may fail afterwards. `ttl_by_status`,
    or a lifetime in the error's own fields, has it stored, for as long as is said here.

    Args:
        duration: seconds, a `timedelta`, or a string such as `"5s"`.

    Raises:
        ConfigError: not a duration.
    """
    seconds = parse_duration("ttl()", duration)
    fill = _told("ttl")
    if fill is not None:
        fill.ttl = seconds


P = ParamSpec("P")
R = TypeVar("R")


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """The function as part of the response or value that is being made where this is called, in whatever thread it
    runs: `pool.submit(tiercache.carry(work), 7)`. asyncio's tasks and `to_thread` need no such help; thread pools and
    `run_in_executor` do.
    """
    fill = _current.get()

    @wraps(function)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        token = _current.set(fill)
        try:
            return function(*args, **kwargs)
        finally:
            _current.reset(token)

    return carried


class Carrying(Executor):
    """An executor all of whose work is carried: `loop.run_in_executor(tiercache.Carrying(pool), work)`."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._executor.submit(carry(fn), *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
