"""From a seed to a history: its shape, the actions in it, and how it has to end."""

from __future__ import annotations

import logging
import random
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.simulator import faults
from tests.simulator.ending import settle
from tests.simulator.fleet import Action, Fleet, Shape
from tests.simulator.mishaps import Mishap, many_keys, mishap
from tests.simulator.redis_model import ModelRedis
from tests.simulator.site import routes, settings
from tests.simulator.world import Dice
from tiercache.core.history import History
from tiercache.engine import barrier, consistency, flows, listening, loading, opening, passage, purging, writing
from tiercache.engine.troubles import LOGGERS

LENGTH = 5.0
"""Virtual seconds of one history, before it is brought to its end."""
WEIGHTS = {
    "read": 40.0,
    "crowd": 8.0,
    "look": 14.0,
    "purge": 12.0,
    "read value": 9.0,
    "write value": 2.0,
    "write at once": 1.0,
    "sync": 2.0,
    "forget": 1.5,
    "replicate": 1.5,
    "save": 1.0,
}
TROUBLES = (
    ("pause", "fork", "crash"),
    ("cut", "one way", "slow", "drop subscription"),
    ("deafen", "drop subscription", "slow"),
    ("evict", "fill up", "flush"),
    ("restart", "fail over", "stop"),
    ("roll back", "evict", "stop"),
    tuple(faults.FAULTS),
)
_ROUTES = routes()
_SECRET = "a secret of the simulated site"
_SETTINGS = {keep: settings(on_lost_history="stale" if keep else "dead", session_secret=_SECRET) for keep in (0, 1)}


def shape_of(seed: int, processes: int | None = None) -> Shape:
    dice = Dice(seed, 101)
    return Shape(
        seed=seed,
        processes=processes or dice.pick((2, 2, 3, 3, 4)),
        page=dice.pick((1, 2, 2, 50)),
        limit=dice.pick((2, 4, 50, 50, 50)),
        app_time=dice.pick((0.002, 0.02, 0.2, 1.0)),
        lag=dice.pick((0.0005, 0.002, 0.01)),
        tail=dice.pick((0.0, 0.0, 0.02, 0.1)),
        bus_loss=dice.pick((0.0, 0.0, 0.1, 0.5, 1.0)),
        keep_lost=dice.roll() < 0.2,
        keys=dice.pick((1, 1, 50)),
    )


def plan_of(seed: int, focus: Mishap | None = None) -> list[Action]:
    """In half of the histories nothing breaks for long: what a new epoch buries can no longer go wrong.

    With `focus` each has that mishap in it.
    """
    dice = Dice(seed, 102)
    weights = dict(WEIGHTS)
    weights["purge"] *= dice.pick((0.4, 1.0, 1.0, 2.0))
    if seed % 2:
        for kind in dice.pick(TROUBLES):
            weights[kind] = weights.get(kind, 0.0) + dice.pick((0.5, 2.0, 4.0))
    kinds, cumulative, total = [], [], 0.0
    for kind, weight in weights.items():
        kinds.append(kind)
        total += weight
        cumulative.append(total)
    actions = []
    for _ in range(int(dice.between(30, 70))):
        at = dice.roll() * LENGTH
        roll = dice.roll() * total
        kind = kinds[next(index for index, limit in enumerate(cumulative) if roll < limit)]
        actions.append(Action(at, kind, dice.under(4), dice.under(1 << 40)))
        if kind == "purge":
            # What is wrong shows after a purge, and mostly around the bounds.
            moments = [at + after * dice.between(0.95, 1.3) for after in (0.003, 0.4, 1.02, 2.6)]
            actions += [Action(moment, "look", 0, 0) for moment in moments if dice.roll() < 0.5]
    for _ in range(dice.pick((0, 1, 1, 2)) if seed % 3 else 0):
        actions += mishap(dice, dice.roll() * (LENGTH - 1.0))
    if seed % 8 == 4 and focus is None:
        # With luck of its own, so that the other histories are what they would be without.
        actions += mishap(Dice(seed, 104), 0.2 * LENGTH, many_keys)
    if focus is not None:
        actions += mishap(dice, dice.roll() * (LENGTH - 1.0), focus)
    actions.sort()
    return actions


def _interrupted(fleet: Fleet) -> Any:
    dice = Dice(fleet.seed, 103)
    plain = History.merge

    def merge(history: History, *args: Any) -> bool:
        changed = plain(history, *args)
        # Between the members and the number and version that tell of them.
        if changed and dice.roll() < 0.3:
            fleet.interrupt(history)
        return changed

    return merge


@contextmanager
def virtual_time(fleet: Fleet) -> Iterator[None]:
    """The clock by which flows reckon their deadlines, their luck, and threads in the middle of what others do."""
    watch = types.SimpleNamespace(monotonic=lambda: fleet.world.now)
    jitter = random.Random(fleet.seed)
    places: list[tuple[Any, str, Any]] = [
        (module, "time", watch)
        for module in (barrier, consistency, flows, listening, loading, opening, passage, purging, writing)
        if getattr(module, "time", None) is time
    ]
    places.append((listening, "random", jitter))
    places += [(logging.getLogger(name), "disabled", True) for name in LOGGERS]
    places.append((History, "merge", _interrupted(fleet)))
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, value in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            setattr(module, name, value)


def simulate(
    seed: int,
    actions: Sequence[Action] | None = None,
    *,
    shape: Shape | None = None,
    tracing: bool = False,
    redis_type: type[ModelRedis] = ModelRedis,
    prepare: Callable[[Fleet], None] | None = None,
) -> Fleet:
    """One history. Raises `Violation`, with the fleet as `.fleet`, when a promise is broken."""
    if shape is None:
        shape = shape_of(seed)
    if actions is None:
        actions = plan_of(seed)
    fleet = Fleet(shape, _SETTINGS[shape.keep_lost], _ROUTES, tracing=tracing, redis_type=redis_type)
    if prepare is not None:
        prepare(fleet)
    with virtual_time(fleet):
        try:
            world, start = fleet.world, fleet.start
            for process in fleet.processes:
                process.ensure_listening()
            for action in actions:
                world.run_until(start + action.at)
                fleet.perform(action)
            world.run_until(start + LENGTH)
            settle(fleet)
        except AssertionError as error:
            error.fleet = fleet  # type: ignore[attr-defined]
            raise
        finally:
            fleet.end()
    return fleet
