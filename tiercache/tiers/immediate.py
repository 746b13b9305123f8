"""Tiers that have all they need at hand: the form of their calls for event loops."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def awaitable(call: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """The same for async code, where nothing in it waits."""

    async def acall(*args: P.args, **kwargs: P.kwargs) -> R:
        return call(*args, **kwargs)

    return acall
