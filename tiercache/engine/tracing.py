"""What happened to one request, noted where it happens, for whoever asks to have it explained.

Nobody asks in normal times: then there is no trace, a note costs one look at a context variable, and a hit in L1 does
not even that.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeVar

R = TypeVar("R")

CALLED: Final = "called"
HEAD: Final = "head"
STORED: Final = "stored"
REFUSED: Final = "refused"
LOOKED: Final = "looked into L1"
FOUND_UNUSABLE: Final = "found, of no use"


class Step(NamedTuple):
    """One thing that happened."""

    what: str
    """One of the names above, or the class of an effect."""
    subject: Any
    outcome: Any
    took: float
    """Seconds; 0 where it takes none."""
    at: float
    """Seconds since the request came."""


class Trace:
    """The steps of one request, in order."""

    __slots__ = ("began", "request", "steps")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.request: Any = None
        self.steps: list[Step] = []

    def add(self, what: str, subject: Any = None, outcome: Any = None, took: float = 0.0) -> None:
        self.steps.append(Step(what, subject, outcome, took, time.perf_counter() - self.began))

    def watch(self, flow: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        """The same flow, with a step for each of its effects."""
        try:
            effect = next(flow)
            while True:
                began = time.perf_counter()
                try:
                    answer = yield effect
                except BaseException as error:
                    self.add(type(effect).__name__, effect, error, time.perf_counter() - began)
                    effect = flow.throw(error)
                else:
                    self.add(type(effect).__name__, effect, answer, time.perf_counter() - began)
                    effect = flow.send(answer)
        except StopIteration as stop:
            result: R = stop.value
            return result


current: Final[ContextVar[Trace | None]] = ContextVar("tiercache_trace", default=None)
"""The trace of the request that the running code belongs to."""


def note(what: str, subject: Any = None, outcome: Any = None) -> None:
    """Note a step, if anybody wants to know."""
    trace = current.get()
    if trace is not None:
        trace.add(what, subject, outcome)
