"""Virtual time, the queue of what will happen, and the tasks that happen in it.

A task drives one flow of the real engine. Whatever the flow asks of the world is answered at some later virtual
moment, after other tasks have run, or with an error thrown in. Each task draws its luck from dice of its own, so that
an action that is taken out of a plan leaves the luck of the others as it was: that is what makes shrinking work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextvars import Context
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulator.process import Process

_MASK = (1 << 64) - 1


class Violation(AssertionError):
    """Something was served, said or lost that must not be."""


class Leftover(Violation):
    """Nothing wrong was served, but in the end something is missing, or left."""


class Dice:
    """A small stream of luck: `random.Random` costs more to seed than most tasks use."""

    __slots__ = ("_state",)

    def __init__(self, *seed: int) -> None:
        state = 0x9E3779B97F4A7C15
        for part in seed:
            # A few rounds of splitmix64 for each part: neighbouring seeds must not give similar streams.
            state = ((state ^ part) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & _MASK
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
            state ^= state >> 31
        self._state = state

    def roll(self) -> float:
        """In [0, 1)."""
        state = self._state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
        return ((state ^ (state >> 29)) & 0x1FFFFFFFFFFFFF) / 9007199254740992.0

    def under(self, limit: int) -> int:
        return int(self.roll() * limit)

    def pick(self, choices: Any) -> Any:
        return choices[int(self.roll() * len(choices))]

    def between(self, low: float, high: float) -> float:
        return low + self.roll() * (high - low)


class Sleep:
    """An effect of the simulated programs: seconds pass. With `fragile` the client may go away meanwhile."""

    __slots__ = ("fragile", "seconds")

    def __init__(self, seconds: float, *, fragile: bool = False) -> None:
        self.seconds = seconds
        self.fragile = fragile


class Cancelled(BaseException):
    """The client has gone, or the task was cancelled."""


class World:
    """The queue, the clock and the log."""

    def __init__(self, *, tracing: bool = False) -> None:
        self.now = 1_000_000.0
        self.seen: Counter[str] = Counter()
        self.trace: list[tuple[float, str]] | None = [] if tracing else None
        self.steps = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._names = count(1)

    def name(self, kind: str) -> str:
        return f"{kind}-{next(self._names)}"

    def at(self, moment: float, act: Callable[[], None]) -> None:
        heappush(self._queue, (moment, next(self._order), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        heappush(self._queue, (self.now + seconds, next(self._order), act))

    def run_until(self, moment: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= moment:
            when, _, act = heappop(queue)
            if when > self.now:
                self.now = when
            self.steps += 1
            act()
        self.now = max(self.now, moment)

    def log(self, text: str) -> None:
        """Only where a trace is wanted: callers look at `trace` first, so that no text is made in vain."""
        assert self.trace is not None
        self.trace.append((self.now, text))


Flow = Generator[Any, Any, Any]


class Task:
    """One flow under way in one process."""

    __slots__ = ("_context", "_ended", "dice", "flow", "label", "process", "turn")

    def __init__(self, process: Process, flow: Flow, dice: Dice, label: str) -> None:
        self.process = process
        self.flow = flow
        self.dice = dice
        self.label = label
        self.turn = 0
        """Rises with each step: an answer to an earlier question is dropped."""
        self._ended = False
        self._context = Context()

    def start(self) -> None:
        self.resume(0, None, None)

    def cancel(self) -> None:
        self.fail(self.turn, Cancelled())

    def answer(self, turn: int, value: Any) -> None:
        self.resume(turn, value, None)

    def fail(self, turn: int, error: BaseException) -> None:
        self.resume(turn, None, error)

    def resume(self, turn: int, value: Any, error: BaseException | None) -> None:
        process = self.process
        if turn != self.turn or self._ended or not process.lives:
            return
        if process.paused:
            process.inbox.append((self, turn, value, error))
            return
        self.turn += 1
        try:
            flow, run = self.flow, self._context.run
            effect = run(flow.send, value) if error is None else run(flow.throw, error)
        except StopIteration:
            self._ended = True
        except Cancelled:
            self._ended = True
        else:
            process.issue(self, effect)
        if process.awaiting:
            process.settle_purges()


class Link:
    """How the network treats one process: seconds there and back, and what gets lost."""

    __slots__ = ("bus_loss", "cut", "lag", "reply_loss", "request_loss", "tail")

    def __init__(self) -> None:
        self.lag = 0.001
        self.tail = 0.0
        """Share of what takes a hundred times as long."""
        self.request_loss = 0.0
        self.reply_loss = 0.0
        self.bus_loss = 0.0
        self.cut = False

    def delay(self, dice: Dice) -> float:
        luck = dice.roll()
        lag = self.lag * (0.2 + luck * 1.8)
        return lag * 100 if self.tail and dice.roll() < self.tail else lag

    def loses(self, dice: Dice, share: float) -> bool:
        return self.cut or (share > 0 and dice.roll() < share)
