"""Values kept beside the responses, and a page that shows one: the flows of `loading` and `writing` as they are.

Each write has a value of its own, and the order in which the database has taken them tells which is older.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from tests.simulator.oracle import Call, Purge
from tests.simulator.site import Page
from tests.simulator.world import Cancelled, Dice, Flow, Sleep
from tiercache.core.stores import Get, StoreRule
from tiercache.core.values import MsgspecCodec
from tiercache.data import ReadThrough
from tiercache.data_store import MISS, Wiring
from tiercache.engine import fill, loading, writing
from tiercache.engine.events import StoreStats
from tiercache.engine.loading import Loading
from tiercache.engine.sources import Load, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.process import Process

KEYS = ("d1", "d2")
DATA = Page("/data", (), ttl=60, isolated_ttl=1.5)
RULE = StoreRule("values", {"ttl": 60, "isolated_ttl": 1.5}, codec=MsgspecCodec(int))


class WriteFailed(Exception):
    pass


class Database:
    """What each key has, and which of two values is the newer one."""

    def __init__(self) -> None:
        self.rows = dict.fromkeys(KEYS, 0)
        self._taken = {0: 0}
        self._made = 0

    def new(self) -> int:
        """The value of a write that is to come."""
        self._made += 1
        return self._made

    def take(self, key: str, value: int) -> int:
        """Write a value; its place among all."""
        self.rows[key] = value
        self._taken[value] = len(self._taken)
        return self._taken[value]

    def version(self, value: int) -> int:
        return self._taken[value]


def _store(process: Process) -> ReadThrough[str, int]:
    wiring = Wiring(process.engine, cast("Any", None), cast("Any", None))
    return ReadThrough(wiring, Source(RULE, StoreStats()))


def _asked(process: Process, key: str) -> Loading:
    return Loading(process.engine, Get(RULE, key, RULE.key_for(key)), Source(RULE, StoreStats()))


def _answering(flow: Flow, own: Callable[[Any], Flow | None]) -> Flow:
    """Drive a flow, and answer in its place what `own` knows an answer to."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = flow.send(value) if error is None else flow.throw(error)
        except StopIteration as end:
            return end.value
        value = error = None
        try:
            answer = own(effect)
            value = (yield effect) if answer is None else (yield from answer)
        except BaseException as caught:
            error = caught


def read(process: Process, key: str, dice: Dice) -> Flow:
    """One get: the value, and what of it was judged."""
    fleet, arrived = process.fleet, process.fleet.world.now
    found = _store(process)._hit(RULE.key_for(key))
    if found is not MISS:
        _served(process, key, found, "l1", arrived)
        return found
    process.ensure_listening()

    def database(effect: Any) -> Flow | None:
        return _query(process, key, dice) if isinstance(effect, Load) else None

    asked = _asked(process, key)
    outcome = yield from _answering(loading.read(asked), database)
    value = _store(process)._taken(asked, outcome)
    if outcome.made:
        fleet.world.seen["values loaded"] += 1
        return value
    _served(process, key, value, "l2" if outcome.entry.mark < 0 else "l1", arrived)
    return value


def _query(process: Process, key: str, dice: Dice) -> Flow:
    fleet = process.fleet
    yield Sleep(fleet.app_time(dice), fragile=True)
    value = fleet.database.rows[key]
    yield Sleep(fleet.app_time(dice) * 0.3, fragile=True)
    return value


def write(process: Process, key: str, dice: Dice) -> Flow:
    """To the database, then to the ledger, then, if nobody came between, to the tiers."""
    fleet = process.fleet
    world = fleet.world
    process.ensure_listening()
    value = fleet.database.new()
    asked = _asked(process, key)
    record = Purge(process.name, world.now, tags=(key,), paths=(), everything=False, soft=False)
    record.members = tuple(RULE.changed_by(key, asked.request.key))

    def database(effect: Any) -> Flow | None:
        return _update(process, key, value, record, dice) if isinstance(effect, writing.Call) else None

    confirmed = False
    try:
        problem = yield from _answering(
            writing.change(asked, writing.Call(None, None), value, keeps=True), database
        )
        confirmed = problem is None
    except Cancelled:
        world.seen["writes cut off"] += 1
    if not record.version:
        return  # it has not come to the database
    process.told[record] = world.now
    if not confirmed:
        process.awaiting.append(record)
        return
    record.returned = world.now
    world.seen["writes"] += 1
    world.seen["written through" if asked.source.counts.stored else "written past others"] += 1


def _update(process: Process, key: str, value: int, record: Purge, dice: Dice) -> Flow:
    fleet = process.fleet
    yield Sleep(fleet.app_time(dice), fragile=True)
    if dice.roll() < 0.03 and not fleet.calm:
        fleet.world.seen["writes refused"] += 1
        raise WriteFailed
    record.version = fleet.database.take(key, value)
    fleet.oracle.writes[key].append(record)
    yield Sleep(fleet.app_time(dice) * 0.3, fragile=True)


def show(process: Process, call: Call, taken: fill.Fill, dice: Dice) -> Flow:
    """The page reads its value while it is made."""
    key = call.page.shows
    flow = read(process, key, dice)
    answer: Any = None
    error: BaseException | None = None
    while True:
        # Between its steps the task of the page does other things, in the simulation, than be this fill.
        with _current(taken):
            try:
                effect = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as end:
                call.shown = process.fleet.database.version(end.value)
                return
        answer = error = None
        try:
            answer = yield effect
        except BaseException as caught:
            error = caught


@contextmanager
def _current(taken: fill.Fill) -> Iterator[None]:
    token = fill.enter(taken)
    try:
        yield
    finally:
        fill.leave(token)


def _served(process: Process, key: str, value: int, how: str, arrived: float) -> None:
    fleet = process.fleet
    call = Call(-1, DATA, 0.0, f"value {value} of {key}")
    fleet.oracle.served_value(
        process, call, fleet.database.version(value), fleet.oracle.writes[key], how, arrived
    )
