"""Hits by purged tags and by tags of the entry, and the finding of rules by their number."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import cast

from benchmarks import measure
from benchmarks.apps import constant_asgi
from benchmarks.cases import HIT, SMALL, cached, expect
from benchmarks.drive import asgi_call, asgi_status
from benchmarks.growth.curves import Curve, of_cases
from benchmarks.invalidation_reads import purge_other
from benchmarks.measure import Case, timed, timed_singly, timed_singly_async
from tiercache import TierCache
from tiercache.core.routes import Route, RouteTable
from tiercache.tiers.memory import MemoryTier

BATCH = 1_000
SHAPES = {
    "name first": "/api/r{n}/{{id}}",
    "behind a parameter": "/{{shop}}/r{n}/{{id}}",
    "at the end": "/items/{{id}}/r{n}",
    "within a segment": "/kind-{n}-{{id}}",
    "before a rest": "/{{shop}}/r{n}/{{rest:path}}",
}
"""Templates of rules, by where their literal part stands."""


def by_purged_tags(sizes: Sequence[int], rounds: int, batch_ms: float) -> Curve:
    """A hit beside so many purges of other tags that this process keeps in mind."""
    hits: dict[str, list[Case]] = {"nothing has changed": [], "the first after a purge of something else": []}
    with asyncio.Runner() as runner:
        for size in sizes:
            cache = cached(ttl="1h", tags=["product:1", "catalog"])
            for at in range(0, size, BATCH):
                cache.purge(tags=[f"other:{number}" for number in range(at, min(size, at + BATCH))])
            _both(hits, runner, cache)
        measure.run([case for found in hits.values() for case in found], rounds=rounds, batch_ms=batch_ms)
    return of_cases("A hit of an entry with 2 tags, by purged tags", "purged tags", sizes, hits)


def by_own_tags(sizes: Sequence[int], rounds: int, batch_ms: float) -> list[Curve]:
    """A hit of an entry with so many tags, and what it weighs."""
    hits: dict[str, list[Case]] = {"nothing has changed": [], "the first after a purge of something else": []}
    weights = []
    with asyncio.Runner() as runner:
        for size in sizes:
            cache = cached(ttl="1h", tags=[f"product:{number:06d}" for number in range(size)])
            _both(hits, runner, cache)
            weights.append(float(cast("MemoryTier", cache._engine.memory).currsize))
        measure.run([case for found in hits.values() for case in found], rounds=rounds, batch_ms=batch_ms)
    return [
        of_cases("A hit, by tags of the entry", "tags", sizes, hits),
        Curve("Memory of an entry of 200 B, by its tags", "tags", "bytes", sizes, {"as L1 accounts for it": weights}),
    ]


def _both(hits: dict[str, list[Case]], runner: asyncio.Runner, cache: TierCache) -> None:
    app = cache.asgi(constant_asgi(SMALL))
    runner.run(asgi_status(app, "GET", "/item"))
    for name, before in zip(hits, (_nothing, lambda: purge_other(cache)), strict=True):

        def check(name: str = name, before: Callable[[], object] = before) -> None:
            before()
            expect(name, runner.run(asgi_status(app, "GET", "/item")), HIT)

        hits[name].append(Case(name, timed_singly_async(runner, asgi_call(app, "GET", "/item"), before), check))


def _nothing() -> None:
    pass


def by_rules(sizes: Sequence[int], rounds: int, batch_ms: float) -> Curve:
    """Which rule a path has, among so many: paths never asked for before, and one asked for all the time."""
    cases: dict[str, list[Case]] = {}
    for shape, template in SHAPES.items():
        for size in sizes:
            rules = RouteTable([Route(template.format(n=number)) for number in range(size)])
            if shape == next(iter(SHAPES)):
                cases.setdefault("known path", []).append(_known(rules, template))
            cases.setdefault(shape, []).append(_finding(rules, template, size))
    measure.run([case for found in cases.values() for case in found], rounds=rounds, batch_ms=batch_ms)
    title = "Finding the rule of a known path, and of a new one by where its name stands"
    return of_cases(title, "rules", sizes, cases)


def _finding(rules: RouteTable, template: str, size: int) -> Case:
    numbers = itertools.count()
    path, rule = "", 0

    def another() -> None:
        nonlocal path, rule
        number = next(numbers)
        rule = number * 7919 % size  # a prime: neighbours in time are none in the table
        path = _filled(template, rule, number)

    def check() -> None:
        another()
        if rules.match(path).template != template.format(n=rule):
            raise AssertionError(f"{path} has the rule {rules.match(path)}")

    return Case("new path", timed_singly(lambda: rules.match(path), another), check)


def _known(rules: RouteTable, template: str) -> Case:
    path = _filled(template, 3, 1)

    def check() -> None:
        assert rules.match(path).is_rule

    return Case("known path", timed(lambda: rules.match(path)), check)


def _filled(template: str, rule: int, number: int) -> str:
    """A path of that rule, like no other."""
    path = template.format(n=rule)
    return path.replace("{id}", f"i{number}").replace("{shop}", f"s{number}").replace("{rest:path}", f"{number}/x")
