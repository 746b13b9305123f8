"""Bugs that are planted to see whether the simulator notices. Each is a switch in the tests alone."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from tests.simulator import mishaps
from tests.simulator.fleet import Fleet
from tests.simulator.mishaps import Mishap
from tests.simulator.plan import plan_of, simulate
from tests.simulator.redis_model import ModelRedis
from tests.simulator.world import Leftover, Violation
from tiercache.core.history import History
from tiercache.core.ledger import Ledger
from tiercache.engine import consistency, flows, opening, purging, validating, writing
from tiercache.engine.engine import Engine
from tiercache.engine.exchange import Exchange
from tiercache.engine.loading import Loading
from tiercache.engine.recording import Recording


class Line(NamedTuple):
    """One line of a function or method, and what is put in its place."""

    owner: Any
    name: str
    line: str
    instead: str


class Plant(NamedTuple):
    lines: tuple[Line, ...] = ()
    redis: dict[str, bool] = {}  # noqa: RUF012
    focus: Mishap | None = None
    """What brings it out; without, it takes longer."""


def _one(owner: Any, name: str, line: str, instead: str, **more: Any) -> Plant:
    return Plant((Line(owner, name, line, instead),), **more)


_HARD_ALONE = "any(view.members.get('h:' + tag, 0) > number for tag in tags) or number < view.floor"
PLANTS = {
    "a gap is not caught up": _one(Ledger, "_apply", "if message.prev == view.seq:", "if True:"),
    "the number is counted before the tags": _one(
        Ledger,
        "_apply",
        "changed = view.merge(",
        "self._reached = Stamp(view.epoch, number); Ledger.meanwhile(view); changed = view.merge(",
    ),
    "a number is reached before the version is counted": _one(
        Ledger,
        "_heard",
        "if self._apply(view, message, now):",
        "if (self._apply(view, message, now), setattr(self, '_reached', self.stamp()), Ledger.meanwhile(view))[0]:",
    ),
    "the version is counted before the tags": Plant(
        (
            Line(Ledger, "_heard", "seq = view.seq\n", "seq = view.seq; self.version += 1; Ledger.meanwhile(view)\n"),
            Line(Ledger, "_heard", "if self._apply(view, message, now):", "if self._apply(view, message, now) > 1:"),
        )
    ),
    "the stamp is taken at the end": Plant(
        (
            Line(Recording, "_response", "epoch=fill.stamp.epoch", "epoch=engine.ledger.stamp().epoch"),
            Line(Recording, "_response", "number=fill.stamp.number", "number=engine.ledger.stamp().number"),
        )
    ),
    "trust runs from the receipt": _one(
        flows, "sync", "ledger.synced(request, page)", "ledger.synced(request._replace(sent=engine.clock()), page)"
    ),
    "epochs are not compared": _one(Ledger, "alive", "if entry.epoch != view.epoch:", "if False:"),
    "a missing ledger keeps its epoch": Plant(redis={"keeps_epoch": True}),
    "the run_id is not compared": Plant(redis={"compares_run_id": False}, focus=mishaps.lost_history),
    "the caller's number is not compared": Plant(redis={"compares_number": False}, focus=mishaps.lost_history),
    "the floor is not raised": _one(History, "merge", "changed = floor > self.floor", "changed = False"),
    "the floor is not looked at": _one(History, "kills", "return number < self.floor", "return False"),
    "a page ends inside a number": Plant(redis={"cuts_numbers": True}, focus=mishaps.late_joiner),
    "soft covers hard": Plant(redis={"merges_kinds": True}, focus=mishaps.soft_after_hard),
    "bans are not applied to what comes from L2": _one(
        Ledger, "alive", "view.kills(tags, number)", f"view.kills(tags, number) if entry.mark >= 0 else {_HARD_ALONE}"
    ),
    "an isolated entry is judged from the end of its fill": _one(
        Exchange, "admit", "began=take.began", "began=engine.clock()", focus=mishaps.long_fill
    ),
    "the queue is dropped on reconnect": _one(
        Engine,
        "sync_succeeded",
        "self.failing = False",
        "self.failing = False; self.ledger._bars.clear()",
        focus=mishaps.new_epoch,
    ),
    "the barrier returns on an evicted table of processes": _one(
        purging,
        "wait_for_fleet",
        "if not trusting and page.time - page.since >= bound:",
        "if not trusting:",
        focus=mishaps.barrier,
    ),
    "a strong read joins a sync in flight": _one(
        consistency, "_lead", "following.depart()", "pass", focus=mishaps.strong
    ),
    "members do not merge by maximum": _one(
        History, "merge", "and number > members.get(member, 0)", "and True", focus=mishaps.burst
    ),
    "a partial page gives trust": _one(Ledger, "synced", "if not page.complete:", "if False:"),
    "an own purge in another epoch is not held": _one(
        Ledger,
        "answered",
        "self._bar(message.members, message.floor >= message.number, now)",
        "pass",
        focus=mishaps.new_epoch,
    ),
    "bars are lifted by a reply of another epoch": _one(
        Ledger, "confirmed", "if current:", "if True:", focus=mishaps.new_epoch
    ),
    "what is barred is served from L2": _one(
        Ledger,
        "_barred",
        "bars, mark = self._bars, entry.mark",
        ("bars, mark = self._bars, entry.mark if entry.mark >= 0 else self.mark"),
        focus=mishaps.new_epoch,
    ),
    "a soft purge outdates nothing": _one(Ledger, "alive", "if since is not None:", "if False:"),
    "bans are not looked at": _one(History, "kills", "bans = self.bans", "bans = None"),
    "a barred ban is not looked at": _one(Ledger, "_barred", 'if tag[:2] == "p:"', "if False"),
    "followers take what their leader brings": _one(
        opening, "_open_shared", "and engine.usable(outcome, request)", "and True"
    ),
    "a thawed process serves before it syncs": _one(
        Engine, "_isolated", "self.failing\n", "True\n", focus=mishaps.long_sleep
    ),
    "what others filled is served in isolation": _one(Ledger, "isolated_ok", "entry.mark >= 0 and", "True and"),
    "the mark of a session is not looked at": _one(
        consistency,
        "reach",
        "if stamp is None or engine.ledger.reached(stamp):",
        "if True:",
        focus=mishaps.session,
    ),
    "a write does not ask who has written meanwhile": _one(
        writing, "may_keep", "all(before.get(HARD + tag, 0) <= noted.number for tag in tags)", "True"
    ),
    "a write does not look at the floor": _one(
        writing, "may_keep", "message.floor <= noted.number", "True", focus=mishaps.writers
    ),
    "a write does not compare epochs": _one(
        writing, "may_keep", "message.epoch == noted.epoch", "True", focus=mishaps.writers
    ),
    "a write notes its number when it is made": Plant(
        (
            Line(writing, "written", "yield call\n", "yield call; engine.noted = engine.ledger.stamp()\n"),
            Line(writing, "change", "messages[-1], noted, members)", "messages[-1], engine.noted, members)"),
        ),
        focus=mishaps.writers,
    ),
    "a write that was cut off invalidates nothing": _one(
        writing, "written", "yield from doubt(engine, members, error)", "pass", focus=mishaps.writers
    ),
    "a page does not follow its data": _one(Recording, "_tags", "implied += self.fill.followed", "pass"),
    "a value that was purged while it was loaded is kept": Plant(
        (Line(Loading, "_entry", "number=fill.stamp.number", "number=engine.ledger.stamp().number"),)
    ),
    "what is dead is validated": Plant(
        (
            Line(Exchange, "begin", "not self.engine.ledger.alive(self.stale)", "False"),
            Line(validating, "validated", "if exchange.engine.ledger.alive(stale) else None", ""),
            Line(Engine, "find", "and self.selectable(found, request)", ""),
        )
    ),
    "keys that are folded leave nothing behind": Plant(redis={"forgets_keys": True}, focus=mishaps.many_keys),
    "a writer is not told of a key that was folded": Plant(redis={"hides_folded": True}, focus=mishaps.writers),
    "a row tells of what has only been paged": _one(
        Ledger,
        "sync_request",
        "applied = view.seq if self._incoming is None else 0",
        "applied = view.paged",
        focus=mishaps.barrier,
    ),
}


SLOW = frozenset(
    {
        "members do not merge by maximum",
        "the queue is dropped on reconnect",
        "bars are lifted by a reply of another epoch",
        "a write does not look at the floor",
        "a row tells of what has only been paged",
        "a writer is not told of a key that was folded",
    }
)
"""Those that take more than a few seconds to be noticed even so: left to `make simulate ARGS=--plants`."""


@contextmanager
def planted(plant: Plant) -> Iterator[dict[str, Any]]:
    """The bug in place; what `simulate` has to be told besides."""
    with ExitStack() as stack:
        for owner in {(line.owner, line.name) for line in plant.lines}:
            stack.enter_context(_replaced(*owner, [line for line in plant.lines if (line.owner, line.name) == owner]))
        switches: dict[str, Any] = {"prepare": _watch}
        if plant.redis:
            switches["redis_type"] = type("Planted", (ModelRedis,), plant.redis)
        try:
            yield switches
        finally:
            if hasattr(Ledger, "meanwhile"):
                del Ledger.meanwhile


def _watch(fleet: Fleet) -> None:
    """Let a planted line have other threads run."""
    Ledger.meanwhile = fleet.interrupt  # type: ignore[attr-defined]


@contextmanager
def _replaced(owner: Any, name: str, lines: list[Line]) -> Iterator[None]:
    original = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(original))
    for line in lines:
        assert source.count(line.line) == 1, f"{line.line!r} is {source.count(line.line)} times in {name}"
        source = source.replace(line.line, line.instead)
    made: dict[str, Any] = {}
    code = compile("from __future__ import annotations\n" + source, f"planted {name}", "exec")
    exec(code, original.__globals__, made)
    setattr(owner, name, made[name])
    try:
        yield
    finally:
        setattr(owner, name, original)


def seeds_until_caught(name: str, most: int, *, focused: bool) -> tuple[int, str] | None:
    """How many histories it takes until the bug of this name is noticed, and how it shows."""
    plant = PLANTS[name]
    with planted(plant) as switches:
        for seed in range(most):
            actions = plan_of(seed, plant.focus if focused else None)
            try:
                simulate(seed, actions, **switches)
            except Leftover:
                continue  # nothing wrong was served: not enough
            except Violation as error:
                return seed + 1, str(error)
    return None
