"""Writes of a write-behind store that are under way at once: they go into the queue together, and purge together.

The first one goes at once, and by itself. Those that come meanwhile stand in line; when it has ended, the first of them
carries all of them: one round trip to each server of the queue, and one purge. Whoever has waited for too long goes by
itself, and so does what cannot be settled at once: a full queue, a sum that the database has to be asked for.

A write may be sent twice, since it is known by its id. So nobody depends on the one who carries: where that one is cut
off, each of the others goes by itself, as if it had never been in line.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tiercache.core.records import BATCH, Message
from tiercache.core.write_queue import Errand, Place
from tiercache.engine import flows, session, writing
from tiercache.engine.effects import Flow, Wait
from tiercache.engine.engine import Engine
from tiercache.engine.enqueueing import Enqueue, EnqueueSum
from tiercache.engine.flights import RELEASED, RETRY, Flight, Flights
from tiercache.engine.purging import unconfirmed
from tiercache.engine.queueing import Queue
from tiercache.engine.sources import own_copy
from tiercache.engine.writing import Written
from tiercache.errors import TierError

PATIENCE = 0.02
"""Seconds that a write stands in line: Redis answers slowly then, and one more round trip beside the others costs it
less than another wait."""
LONGEST = 128
"""Writes that go together."""

Uncertain = Callable[[Exception], bool]


class _Submit:
    """Have the queue take several at once, each by itself."""

    __slots__ = ("_errands", "_queue")

    def __init__(self, queue: Queue, errands: Sequence[Errand]) -> None:
        self._queue, self._errands = queue, errands

    def run(self) -> list[Any]:
        queue = self._queue
        return queue.queue.submit(self._errands, queue.terms.most, queue.deadline())

    async def arun(self) -> list[Any]:
        queue = self._queue
        return await queue.queue.asubmit(self._errands, queue.terms.most, queue.deadline())


class _Turn:
    """One write in line."""

    __slots__ = ("call", "carries", "flight", "left", "members", "messages", "written")

    flight: Flight
    """Ends when it is this one's turn to carry, or when it has been carried. Who does not wait has none."""

    def __init__(self, call: Enqueue | EnqueueSum, members: Sequence[str]) -> None:
        self.call, self.members = call, members
        self.carries: list[_Turn] = []
        self.left = False
        """Whether whoever wrote has gone."""
        self.written: Written | None = None
        """What came of it; None: it has to go by itself."""
        self.messages: list[Message] = []
        """Of the purge that it had a part in; none where that was not confirmed."""


class _Line:
    """Those of one process: where a forked child goes on, nobody stands in it."""

    __slots__ = ("busy", "flights", "lock", "waiting")

    def __init__(self, flights: Flights) -> None:
        self.flights = flights
        # Reentrant: a collection that happens to run meanwhile may end a write that was left, and leave the line.
        self.lock = threading.RLock()
        self.busy = False
        self.waiting: dict[_Turn, None] = {}


class Convoy:
    """The writes of one store, in threads and in tasks."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._engine: Engine = queue.engine
        self._line = _Line(self._engine.flights)

    def written(self, call: Enqueue | EnqueueSum, members: Sequence[str], uncertain: Uncertain) -> Flow[Written]:
        """`writing.written`, together with others where there are any. No messages beside no error: it is written, and
        another write of its key has gone with it that may be the last one."""
        if not self._queue.examined or len(members) > BATCH // 2:
            return (yield from writing.written(self._engine, members, call, uncertain))
        line, turn = self._line_of(), _Turn(call, members)
        with line.lock:
            first, line.busy = not line.busy, True
            if not first:
                turn.flight = Flight(line.flights, turn)
                line.waiting[turn] = None
        if first:
            return (yield from self._alone(line, turn, uncertain))
        try:
            yield from self._wait(line, turn)
            if turn.carries:
                yield from self._carry(turn.carries)
            elif turn.written is not None:
                session.note(self._engine, turn.messages)
        finally:
            with line.lock:
                turn.left = True
                line.waiting.pop(turn, None)
            if turn.carries:
                self._pass_on(line, turn)
        if turn.written is None:
            return (yield from writing.written(self._engine, members, call, uncertain))
        return turn.written

    def _alone(self, line: _Line, turn: _Turn, uncertain: Uncertain) -> Flow[Written]:
        """The first one, which holds nobody up for longer than it takes Redis to answer."""

        def pass_on() -> None:
            if not turn.left:
                turn.left = True
                self._pass_on(line, turn)

        turn.call.before_a_pause = pass_on
        try:
            return (yield from writing.written(self._engine, turn.members, turn.call, uncertain))
        finally:
            pass_on()

    def _line_of(self) -> _Line:
        line = self._line
        if line.flights is not self._engine.flights:
            # One line for all who find that out at once: who stood in another would wait for nobody.
            with self._engine.lock:
                line = self._line
                if line.flights is not self._engine.flights:
                    line = self._line = _Line(self._engine.flights)
        return line

    def _wait(self, line: _Line, turn: _Turn) -> Flow[None]:
        yield Wait(turn.flight, time.monotonic() + PATIENCE)
        with line.lock:
            if turn in line.waiting:
                del line.waiting[turn]
                return
        if turn.flight.outcome is None:  # it is on its way by now, and comes back within the patience of its carrier
            yield Wait(turn.flight, time.monotonic() + 3 * self._engine.settings.purge_timeout)

    def _pass_on(self, line: _Line, ended: _Turn) -> None:
        """Let those who were carried go, and have the next one carry those who have come meanwhile."""
        for turn in ended.carries:
            turn.flight.finish(RELEASED)
        with line.lock:
            if not line.waiting:
                line.busy = False
                return
            room = BATCH
            following: list[_Turn] = []
            for turn in list(line.waiting)[:LONGEST]:
                room -= len(turn.members)
                if room < 0:
                    break
                del line.waiting[turn]
                following.append(turn)
            line.busy = bool(following)
            if following:
                following[0].carries = following
        if following:
            following[0].flight.finish(RETRY)
            if following[0].left:  # a collection has ended it just now
                self._pass_on(line, following[0])

    def _carry(self, turns: Sequence[_Turn]) -> Flow[None]:
        queue, engine = self._queue, self._engine
        # Who has gone may have written something else by now, which must not come first.
        turns = [turn for turn in turns if not turn.left]
        errands = _errands(turns)
        try:
            replies = yield _Submit(queue, [errand for errand, _ in errands])
        except Exception:
            return  # whatever it is, each will be told by itself
        except BaseException as error:
            yield from writing.doubt(engine, _members(turns), error)
            raise
        # Where there was an error, Redis may have taken it all the same.
        settled = [
            (turn, reply)
            for (_, those), reply in zip(errands, replies, strict=True)
            for turn in those
            if isinstance(reply, TierError) or turn.call.took(reply)
        ]
        if not settled:
            return
        patience = time.monotonic() + engine.settings.purge_timeout
        members = _members([turn for turn, _ in settled])
        messages, problem = yield from flows.invalidate(engine, members, False, patience)
        writes = Counter([turn.call.name for turn in turns])
        for turn, reply in settled:
            turn.messages = messages
            if isinstance(reply, TierError):
                turn.written = [], own_copy(reply)
            elif problem is not None:
                turn.written = [], unconfirmed(problem)
                turn.written[1].__cause__ = problem
            else:
                # Of two writes of one key nobody knows here which one came last.
                turn.written = (messages if writes[turn.call.name] == 1 else []), None


def _errands(turns: Sequence[_Turn]) -> list[tuple[Errand, list[_Turn]]]:
    """What the queue is asked for, and for whom: all that is put into one partition at once, each sum by itself."""
    puts: dict[Place, list[_Turn]] = {}
    errands: list[tuple[Errand, list[_Turn]]] = []
    for turn in turns:
        errand = turn.call.errand
        if errand.sum is None:
            puts.setdefault(errand.place, []).append(turn)
        else:
            errands.append((errand, [turn]))
    for place, those in puts.items():
        writes = [write for turn in those for write in turn.call.errand.writes]
        errands.append((Errand(place, tuple(writes)), those))
    return errands


def _members(turns: Sequence[_Turn]) -> list[str]:
    return list(dict.fromkeys([member for turn in turns for member in turn.members]))
