"""Values kept beside the responses: cache-aside reads, and writes that go through to the store.

A writer notes where the ledger stands before it changes the database; what it has written may be stored under the
number of its own purge only if nobody else purged the key in between. Otherwise the key is invalidated and no more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.simulator.oracle import Call, Purge
from tests.simulator.site import Page
from tests.simulator.world import Cancelled, Dice, Flow, Sleep
from tiercache.core.records import Stamp
from tiercache.engine import flows
from tiercache.engine.effects import Fetch, Keep

if TYPE_CHECKING:
    from tests.simulator.process import Process

KEYS = ("d1", "d2")
DATA = Page("/data", (), ttl=60, isolated_ttl=1.5)
WAIT = 0.05
KEPT = 60_000


class Value:
    """One value in L1."""

    __slots__ = ("began", "checked", "epoch", "mark", "number", "stale", "tags", "version")

    def __init__(self, key: str, stamp: Stamp, mark: int, began: float, version: int) -> None:
        self.epoch, self.number = stamp
        self.tags = ("t:" + key,)
        self.mark = mark
        self.began = began
        self.version = version
        self.checked = -1
        self.stale = False

    def outdate(self, at: float, *, history_lost: bool = False) -> None:
        self.stale = True


def read(process: Process, key: str, dice: Dice) -> Flow:
    """From L1, from Redis, or from the database."""
    engine, fleet = process.engine, process.fleet
    ledger, arrived = engine.ledger, fleet.world.now
    value = process.values.get(key)
    if value is not None and _usable(process, value):
        _served(process, key, value, "l1", arrived)
        return
    if engine.must_catch_up():
        yield from flows.catch_up(engine, arrived + WAIT)
    if engine.trusted():
        try:
            found = yield Fetch(engine.shared, "data:" + key, fleet.world.now + WAIT)
        except Exception:
            found = None
        if found is not None:
            epoch, number, version = json.loads(found)
            value = Value(key, Stamp(epoch, number), -1, 0.0, version)
            if _usable(process, value):
                process.values[key] = value
                _served(process, key, value, "l2", arrived)
                return
    mark, began = ledger.mark, engine.clock()
    stamp = ledger.stamp()
    yield Sleep(fleet.app_time(dice), fragile=True)
    version = fleet.database[key]
    yield Sleep(fleet.app_time(dice) * 0.3, fragile=True)
    yield from _keep(process, key, Value(key, stamp, mark, began, version))


def _usable(process: Process, value: Value) -> bool:
    engine = process.engine
    ledger, now = engine.ledger, engine.clock()
    trusted = now < ledger.trusted_until
    if value.checked != ledger.version and not ledger.alive(value):
        return False
    if value.stale:
        return False
    return trusted or (engine.failing and ledger.isolated_ok(value, now, DATA.isolated))


def _keep(process: Process, key: str, value: Value) -> Flow:
    engine = process.engine
    known = process.values.get(key)
    if known is None or (known.number, known.epoch) != (value.number, value.epoch) or known.version <= value.version:
        process.values[key] = value
    if engine.trusted():
        data = json.dumps([value.epoch, value.number, value.version]).encode()
        try:
            yield Keep(engine.shared, "data:" + key, data, KEPT, process.fleet.world.now + WAIT)
        except Exception:
            process.fleet.world.seen["value not kept"] += 1


def write(process: Process, key: str, dice: Dice) -> Flow:
    """To the database, then to the ledger, then, if nobody came between, to the store."""
    engine, fleet = process.engine, process.fleet
    world, ledger = fleet.world, engine.ledger
    process.ensure_listening()
    mark, began = ledger.mark, engine.clock()
    noted = ledger.stamp()
    yield Sleep(fleet.app_time(dice))
    fleet.database[key] += 1
    version = fleet.database[key]
    yield Sleep(fleet.app_time(dice) * 0.3)
    record = Purge(process.name, world.now, tags=(key,), paths=(), everything=False, soft=False)
    record.version = version
    record.members = ("h:t:" + key,)
    fleet.oracle.writes[key].append(record)
    try:
        messages, _ = yield from flows.invalidate(engine, record.members, False, world.now + 2.0)
    except Cancelled:
        messages = []
    process.told[record] = world.now
    if not messages:
        process.awaiting.append(record)
        return
    record.returned = world.now
    world.seen["writes"] += 1
    if may_store(messages[-1], noted):
        world.seen["written through"] += 1
        stamp = Stamp(messages[-1].epoch, messages[-1].number)
        yield from _keep(process, key, Value(key, stamp, mark, began, version))
    else:
        world.seen["written past others"] += 1


def may_store(message: object, noted: Stamp) -> bool:
    """Whether nobody has purged the key between the note and the purge of the writer itself."""
    return (
        message.epoch == noted.epoch  # type: ignore[attr-defined]
        and message.floor <= noted.number  # type: ignore[attr-defined]
        and all(number <= noted.number for number in message.previous)  # type: ignore[attr-defined]
    )


def _served(process: Process, key: str, value: Value, how: str, arrived: float) -> None:
    oracle = process.fleet.oracle
    call = Call(-1, DATA, 0.0, f"version {value.version} of {key}")
    oracle.served_value(process, call, value.version, oracle.writes[key], how, arrived)
