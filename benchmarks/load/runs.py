"""The two shapes of load: bursts on a cold key, and a stretch of time in phases, during which things happen."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.load.client import Action, Planned, Sample
from benchmarks.load.fleet import Fleet, running
from benchmarks.load.results import Limits, Outcome, Part
from benchmarks.load.subjects import Subject

Step = Callable[[Fleet], object]
Judge = Callable[[Subject, str, "Scale"], Limits]
"""What is asked of a subject in a phase."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it. Seconds, and requests a second."""

    burst: int = 500
    bursts: int = 5
    rate: float = 150.0
    span: float = 4.0
    """Of each phase."""
    long: float = 10.0
    """Of what has only one."""
    seed: int = 5


class Run(Protocol):
    async def __call__(self, subject: Subject, scale: Scale) -> Outcome: ...


def nothing_asked(subject: Subject, phase: str, scale: Scale) -> Limits:
    return Limits()


@dataclass(frozen=True, slots=True)
class Bursts:
    """Requests that are all due at one moment, over connections that are open by then, on a key that nobody has."""

    workers: int
    delay: float
    judge: Judge = nothing_asked

    async def __call__(self, subject: Subject, scale: Scale) -> Outcome:
        counted: list[tuple[int, int]] = []
        everything: list[Sample] = []
        async with running(subject, self.workers) as fleet:
            fleet.origin.set(self.delay)
            await fleet.client.connect(math.ceil(scale.burst / self.workers))
            for number in range(scale.bursts):
                plan = [Planned(0.0, one % self.workers, f"/items/cold-{number}") for one in range(scale.burst)]
                start, samples = await fleet.client.run(plan)
                counted.append((len(fleet.origin.calls(start)), fleet.origin.most_at_once(start)))
                everything += [sample._replace(due=sample.due - start) for sample in samples]
        calls, at_once = max(counted)
        part = Part("", everything, calls, at_once, self.judge(subject, "", scale))
        return Outcome(subject.label, [part], everything)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Traffic at random moments on keys by Zipf's law, through phases; `steps` happen as a phase begins.

    Every key of the plan is asked of every worker before the clock starts where `warm` is set.
    """

    keys: int
    delay: float
    phases: Sequence[str]
    steps: Mapping[str, Step]
    judge: Judge = nothing_asked
    warm: bool = True
    workers: int = 2

    async def __call__(self, subject: Subject, scale: Scale) -> Outcome:
        span = scale.span if len(self.phases) > 1 else scale.long
        plan = zipf_plan(scale, span * len(self.phases), self.keys, self.workers)
        async with running(subject, self.workers) as fleet:
            if self.warm:
                await _warm(fleet, plan)
            fleet.origin.set(self.delay)
            actions = [
                Action(number * span, _bound(self.steps[name], fleet))
                for number, name in enumerate(self.phases)
                if name in self.steps
            ]
            start, samples = await fleet.client.run(plan, actions)
            edges = [(name, number * span, (number + 1) * span) for number, name in enumerate(self.phases)]
            parts = [self._part(fleet, edge, start, samples, self.judge(subject, edge[0], scale)) for edge in edges]
            calls = [call.began - start for call in fleet.origin.calls(start)]
        return Outcome(
            subject.label, parts, [sample._replace(due=sample.due - start) for sample in samples], calls, edges
        )

    def _part(
        self, fleet: Fleet, edge: tuple[str, float, float], start: float, samples: Sequence[Sample], limits: Limits
    ) -> Part:
        name, begin, end = edge
        # What the last phase has set in motion is its own.
        until = math.inf if name == self.phases[-1] else end
        inside = [sample for sample in samples if begin <= sample.due - start < until]
        calls = len(fleet.origin.calls(start + begin, start + until))
        return Part(name, inside, calls, fleet.origin.most_at_once(start + begin, start + until), limits)


def _bound(step: Step, fleet: Fleet) -> Callable[[], object]:
    return lambda: step(fleet)


async def _warm(fleet: Fleet, plan: Sequence[Planned]) -> None:
    fleet.origin.set(0.0)
    paths = sorted({planned.path for planned in plan})
    for turn in range(fleet.workers):
        # Each key is made by one worker, and the next by another, as it would be in a fleet.
        asked = [Planned(0.005 * n, (n + turn) % fleet.workers, path) for n, path in enumerate(paths)]
        await fleet.client.run(asked)


def zipf_plan(scale: Scale, span: float, keys: int, workers: int, alpha: float = 1.0) -> list[Planned]:
    """Requests at random moments (a Poisson process) to the workers in turn; the same for the same seed."""
    chance = random.Random(scale.seed)
    weights = list(itertools.accumulate(rank**-alpha for rank in range(1, keys + 1)))
    plan: list[Planned] = []
    due = chance.expovariate(scale.rate)
    while due < span:
        key = chance.choices(range(keys), cum_weights=weights)[0]
        plan.append(Planned(due, len(plan) % workers, f"/items/{key}"))
        due += chance.expovariate(scale.rate)
    return plan
