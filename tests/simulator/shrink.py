"""From a history that breaks a promise to a short one that breaks it too, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.simulator.fleet import Action, Fleet, Shape
from tests.simulator.plan import plan_of, shape_of, simulate
from tests.simulator.world import Violation

TRIES = 400


def violation(seed: int, actions: Sequence[Action], shape: Shape, **switches: Any) -> Violation | None:
    try:
        simulate(seed, actions, shape=shape, **switches)
    except Violation as error:
        return error
    except AssertionError:
        return None
    return None


def shrink(seed: int, *, shape: Shape | None = None, tries: int = TRIES, **switches: Any) -> list[Action]:
    """Take out ever smaller pieces of the plan, as long as something is still wrong without them."""
    shape = shape or shape_of(seed)
    kept = plan_of(seed)
    piece = len(kept) // 2
    while piece and tries:
        start, gone = 0, False
        while start < len(kept) and tries:
            tries -= 1
            rest = kept[:start] + kept[start + piece :]
            if violation(seed, rest, shape, **switches) is not None:
                kept, gone = rest, True
            else:
                start += piece
        if piece == 1 and not gone:
            break
        piece = max(1, piece // 2) if not gone or piece > 1 else 1
    return kept


def explain(seed: int, *, shape: Shape | None = None, **switches: Any) -> str:
    """The seed, what is left of its plan, and what happens then."""
    shape = shape or shape_of(seed)
    actions = shrink(seed, shape=shape, **switches)
    error = violation(seed, actions, shape, tracing=True, **switches)
    if error is None:
        return f"seed {seed}: nothing is wrong"
    fleet: Fleet = error.fleet  # type: ignore[attr-defined]
    lines = [f"seed {seed}, {shape}", f"{len(actions)} of {len(plan_of(seed))} actions are left:"]
    lines += [f"  {action}" for action in actions]
    lines += ["what happens:"]
    lines += [f"  {moment - fleet.start:9.4f}  {text}" for moment, text in fleet.world.trace or ()]
    return "\n".join([*lines, f"violation: {error}"])

