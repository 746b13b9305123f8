"""Every order of the steps of several flows, each order played from its beginning.

A flow is cut where another process or thread can come between in a way that matters: before the database is read or
written, between that and the flow's learning of it, and between the purge and its answer. All else that it asks of the
world is answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from tiercache.engine.batching import LoadMany
from tiercache.engine.effects import Invalidate
from tiercache.engine.sources import Load
from tiercache.engine.writing import Call

CUT = (Call, Load, LoadMany)
"""What is carried out in a step of its own."""
PURGE = (Invalidate,)
"""What ends a step once it is carried out: others come between it and what is made of the answer."""


class Steps:
    """A flow, step by step. `result` is what it returned."""

    def __init__(self, flow: Generator[Any, Any, Any]) -> None:
        self._flow = flow
        self._effect: Any = None
        self._answer: Any = None
        self._error: BaseException | None = None
        self._asked = False
        self.over = False
        self.result: Any = None

    def advance(self) -> None:
        """One step: carry out what it has asked for, or go on with the answer up to the next that counts."""
        if self._asked:
            self._carry_out()
            self._asked = False
            return
        try:
            while True:
                error, self._error = self._error, None
                effect = self._flow.send(self._answer) if error is None else self._flow.throw(error)
                self._effect = effect
                if isinstance(effect, CUT):
                    self._asked = True
                    return
                self._carry_out()
                if isinstance(effect, PURGE):
                    return
        except StopIteration as end:
            self.over, self.result = True, end.value

    def _carry_out(self) -> None:
        self._answer, self._error = None, None
        try:
            self._answer = self._effect.run()
        except Exception as error:
            self._error = error


def orders(make: Callable[[], list[Steps]]) -> Iterator[tuple[list[int], list[Steps]]]:
    """Play every order; yields each when it is through, with the flows that took part."""
    ahead: list[list[int]] = [[]]
    while ahead:
        prefix = ahead.pop()
        flows = make()
        played: list[int] = []
        while True:
            ready = [index for index, flow in enumerate(flows) if not flow.over]
            if not ready:
                break
            if len(played) < len(prefix):
                chosen = prefix[len(played)]
            else:
                chosen = ready[0]
                ahead += [[*played, other] for other in ready[1:]]
            flows[chosen].advance()
            played.append(chosen)
        yield played, flows
