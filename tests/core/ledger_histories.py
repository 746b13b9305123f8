"""Random histories of the model fleet, one per seed, and how each has to end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.core.ledger_model import BOUND, KEYS, TAGS, World


def simulate(seed: int, steps: int = 300, **switches: Any) -> World:
    """One random history; each seed has its own mix of what goes wrong. Raises what the oracle raises."""
    rng = random.Random(seed)
    lags = {kind: rng.choice((0, 40, 1_000)) for kind in ("sync", "bus")} | {"read": 20, "store": 2_500}
    losses = {kind: rng.choice((0.0, 0.1, 0.5)) for kind in ("sync", "bus")}
    world = World(
        processes=rng.choice((2, 3)),
        page=rng.choice((1, 2, 2, 50)),
        keep=rng.choice((2, 4, 50, 50, 50)),
        isolated_ttl=rng.choice((0, 600, 3_000)),
        lag=lambda kind: int(lags.get(kind, 0) * rng.random()),
        **switches,
    )
    many = len(world.processes)
    # History is lost in half of the seeds only: what a new epoch buries can no longer go wrong.
    trouble = rng.choice((0.3, 1.0)) if seed % 2 else 0.0
    order = rng.choice((1, 1, 3))
    waits = (0, 5, 20, 20, 60, 150, rng.choice((60, 400, 800)))
    keys = [*KEYS, "home", "home"]

    def some() -> int:
        return rng.randrange(many)

    def arrive() -> None:
        for _ in range(rng.randint(2, 8)):
            ripe = [index for index, packet in enumerate(world.packets) if packet.ripe <= world.now]
            if not ripe:
                return
            index = rng.choice(ripe[:order])
            if rng.random() < losses.get(world.packets[index].kind, 0.02):
                world.lose(index)
            else:
                world.deliver(index)

    def visit() -> None:
        index, key = some(), rng.choice(keys)
        served = world.seen["l1"] + world.seen["isolated"]
        world.read(index, key)
        if world.seen["l1"] + world.seen["isolated"] == served and rng.random() < 0.6:
            world.begin(index, key)

    def tags() -> list[str]:
        return rng.sample(TAGS, rng.choice((1, 1, 1, 2, 3)))

    acts: list[tuple[float, Callable[[], object]]] = [
        (34, arrive),
        (16, lambda: world.advance(rng.choice(waits))),
        (rng.choice((2, 5, 9)), lambda: world.sync(some())),
        (40, visit),
        (2, lambda: world.begin(some(), rng.choice(keys))),
        (22, lambda: world.end(some(), rng.randrange(3))),
        (rng.choice((1, 3, 6)), lambda: world.purge(some(), tags(), rng.random() < 0.06)),
        (1, lambda: world.packets and world.repeat(rng.randrange(len(world.packets)))),
        (0.2 + trouble / 2, lambda: world.give_up(some())),
        (1, lambda: world.replay(some())),
        (1, world.snapshot),
        (1.0 * trouble, lambda: world.disconnect(some())),
        (0.4 * trouble, world.fail),
        (0.2 * trouble, world.evict_ledger),
        (0.1 * trouble, world.flush),
        (0.3 * trouble, lambda: world.restart(rng.choice((None, 0, 1, 2, -1, -2)))),
        (0.5 * trouble, world.roll_back),
        (0.2 * trouble, lambda: world.crash(some())),
    ]
    for process in range(many):
        world.sync(process)
    for action in rng.choices([act for _, act in acts], [weight for weight, _ in acts], k=steps):
        action()
    settle(world)
    return world


def settle(world: World) -> None:
    """Everything works again: each process must catch up exactly, and serve what another has filled."""
    world.up = True
    for process in world.processes:
        process.connected = True
        while process.open:
            world.give_up(process.index)
    world.drain()
    for step in (world.sync, world.replay, world.sync):
        for process in world.processes:
            step(process.index)
        world.drain()
    # Long after every purge returned, nothing older may be left anywhere.
    world.advance(BOUND + 1)
    for process in world.processes:
        world.sync(process.index)
    world.drain()
    for _ in ("l1", "l2"):
        for process in world.processes:
            for key in KEYS:
                world.read(process.index, key)
            process.l1.clear()
        world.drain()
    mine = world.redis.ledger
    assert mine is not None
    for process in world.processes:
        ledger = process.ledger
        assert not ledger.pending()
        assert not process.queued
        asked = ledger.sync_request(0.0)
        assert (asked.epoch, asked.seen) == (mine["epoch"], mine["head"])
        assert world.clock(process) < ledger.trusted_until
        known, floor = ledger._view.members, ledger._view.floor
        assert floor == mine["floor"]
        assert {m: n for m, n in known.items() if n > floor} == {m: n for m, n in mine["members"].items() if n > floor}
    world.begin(0, "home")
    world.end(0, -1)
    world.drain()
    for process in world.processes:
        served = world.seen["l1"] + world.seen["l2"]
        if process.index:
            process.l1.clear()
        world.read(process.index, "home")
        world.drain()
        assert world.seen["l1"] + world.seen["l2"] == served + 1
