"""The fill under way, and what the code that makes the response says about it: `tag`, `no_store`, `ttl`.

The context variable holds one object that everything downstream shares: it follows the request into tasks and into
thread pools that copy the context, and what they say is still heard after the response has started.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from tiercache.core.policy import Policy, parse_duration
from tiercache.core.records import Stamp
from tiercache.errors import ConfigError


class Fill:
    """One call of the app, from the moment before it to the end of the body."""

    __slots__ = ("began", "declared", "mark", "refusal", "stamp", "tags", "ttl")

    def __init__(self, stamp: Stamp, mark: int, began: float) -> None:
        self.stamp = stamp
        """Read before the app was called: whatever is invalidated from here on kills what this fill makes."""
        self.mark = mark
        self.began = began
        """Process clock, seconds."""
        self.tags: set[str] = set()
        self.refusal: str | None = None
        self.ttl: float | None = None
        self.declared: Policy | None = None


_current: ContextVar[Fill | None] = ContextVar("tiercache_fill", default=None)


def current_fill() -> Fill | None:
    """The fill that the running code belongs to; None outside a request that may be stored."""
    return _current.get()


def enter(fill: Fill | None) -> Any:
    """Make `fill` the current one; the token goes to `leave`."""
    return _current.set(fill)


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
    fill = _current.get()
    if fill is not None:
        fill.tags.update(tags)


def no_store(reason: str = "no_store()") -> None:
    """Keep the response being made out of every tier. `reason` shows in the debug log; L0 is told `no-store` too."""
    fill = _current.get()
    if fill is not None:
        fill.refusal = reason or "no_store()"


def ttl(duration: Any) -> None:
    """Set the lifetime of the response being made, over whatever rule, decorator or header says.

    Args:
        duration: seconds, a `timedelta`, or a string such as `"5s"`.

    Raises:
        ConfigError: not a duration.
    """
    seconds = parse_duration("ttl()", duration)
    fill = _current.get()
    if fill is not None:
        fill.ttl = seconds
