"""The faults of one server, of the network and of the apps: each begins something, yields the seconds for which to
hold it, and ends it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.faults.fleet import FLEETS, LEDGER, MEMBERS, App, Fleet, SingleFleet

Steps = Iterator[float]
"""Runs to the first `yield` to begin; is let go on after the seconds that it yielded."""


class Fault(NamedTuple):
    name: str
    run: Callable[..., Steps]
    """Given the fleet and the source of chance."""
    keeps: bool
    """Whether Redis keeps the history of purges, so that the processes must keep what they hold."""
    on: tuple[str, ...]
    """The kinds of fleet that it is for."""


FAULTS: dict[str, Fault] = {}


def fault(*, keeps: bool, on: tuple[str, ...] = ("single",)) -> Callable[[Callable[..., Steps]], Callable[..., Steps]]:
    def add(run: Callable[..., Steps]) -> Callable[..., Steps]:
        name = run.__name__.replace("_", "-")
        FAULTS[name] = Fault(name, run, keeps, on)
        return run

    return add


def schedule(rng: random.Random, names: list[str]) -> Iterator[Fault]:
    """Every fault once in random order, again and again: few of many kinds say more than many of few."""
    while True:
        for name in rng.sample(names, len(names)):
            yield FAULTS[name]


def some(fleet: SingleFleet, rng: random.Random) -> list[int]:
    """The lanes of one app, of several, or of all."""
    count = rng.choice((1, 1, 2, 3, len(fleet.apps), len(fleet.apps)))
    return rng.sample(range(len(fleet.apps)), count)


def moment(rng: random.Random) -> float:
    """Shorter than the staleness bound, about as long, or longer."""
    return rng.choice((rng.uniform(0.05, 0.5), rng.uniform(0.5, 1.5), rng.uniform(1.5, 3.5)))


# -- Redis itself ------------------------------------------------------------------------------------------------------


@fault(keeps=False)
def redis_killed_and_emptied(fleet: SingleFleet, rng: random.Random) -> Steps:
    fleet.redis.snapshot.unlink(missing_ok=True)
    fleet.redis.kill()
    yield moment(rng)
    fleet.redis.start()


@fault(keeps=False)
def redis_killed_and_restored(fleet: SingleFleet, rng: random.Random) -> Steps:
    """From a snapshot that lacks the last purges."""
    fleet.redis.ask("SAVE")
    time.sleep(rng.uniform(0, 1.0))
    fleet.redis.kill()
    yield moment(rng)
    fleet.redis.start()


@fault(keeps=False)
def redis_loads_for_long(fleet: SingleFleet, rng: random.Random) -> Steps:
    """LOADING in answer to everything."""
    fleet.redis.ask("SAVE")
    with fleet.client() as client:
        delay = int(rng.uniform(0.5, 3.0) * 1e6 / max(1, client.dbsize()))
    fleet.redis.kill()
    fleet.redis.options["key_load_delay"] = delay
    try:
        fleet.redis.start()
    finally:
        fleet.redis.options["key_load_delay"] = 0
    yield 0.0


@fault(keeps=False)
def redis_restored_before_a_newcomer(fleet: SingleFleet, rng: random.Random) -> Steps:
    """An old snapshot, and the first to see it is a process that knows nothing of the purges that it lacks."""
    fleet.redis.ask("SAVE")
    time.sleep(rng.uniform(0.6, 1.2))
    newcomer = rng.choice(fleet.apps)
    others = [app.number for app in fleet.apps if app is not newcomer]
    fleet.proxy.rule(others, "hold")
    newcomer.kill()
    fleet.redis.kill()
    fleet.redis.start()
    newcomer.revive()
    yield rng.uniform(1.5, 2.5)
    fleet.proxy.heal(others, deliver=False)


@fault(keeps=True)
def redis_stopped(fleet: SingleFleet, rng: random.Random) -> Steps:
    fleet.redis.pause()
    yield moment(rng)
    fleet.redis.resume()


@fault(keeps=True)
def redis_pauses_clients(fleet: SingleFleet, rng: random.Random) -> Steps:
    hold = moment(rng)
    with fleet.client() as client:
        client.execute_command("CLIENT", "PAUSE", int(hold * 1000), rng.choice(("ALL", "WRITE")))
    yield hold


@fault(keeps=True)
def redis_read_only(fleet: SingleFleet, rng: random.Random) -> Steps:
    """The replica of a primary that is not there."""
    with fleet.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield moment(rng)
        client.execute_command("REPLICAOF", "NO", "ONE")


@fault(keeps=True)
def redis_full(fleet: SingleFleet, rng: random.Random) -> Steps:
    with fleet.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        yield moment(rng)
        client.config_set("maxmemory", 0)


@fault(keeps=False)
def redis_evicts(fleet: SingleFleet, rng: random.Random) -> Steps:
    """Whatever comes under its hand: responses, the ledger, the table of members."""
    with fleet.client() as client:
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", max(1, int(client.info("memory")["used_memory"]) - 20_000))
        yield moment(rng)
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


@fault(keeps=True)
def scripts_flushed(fleet: SingleFleet, rng: random.Random) -> Steps:
    with fleet.client() as client:
        for _ in range(rng.randrange(1, 6)):
            client.script_flush()
            yield 0.1


@fault(keeps=False)
def redis_flushed(fleet: SingleFleet, rng: random.Random) -> Steps:
    with fleet.client() as client:
        client.flushall()
    yield 0.3


@fault(keeps=False)
def ledger_lost(fleet: SingleFleet, rng: random.Random) -> Steps:
    """Evicted while some app is away, which therefore does not know what the others knew."""
    away = some(fleet, rng)[:3]
    fleet.proxy.rule(away, "hold")
    yield moment(rng)
    with fleet.client() as client:
        client.delete(LEDGER)
    yield rng.uniform(0.1, 1.0)
    fleet.proxy.heal(away, deliver=rng.random() < 0.5)


@fault(keeps=True)
def members_lost(fleet: SingleFleet, rng: random.Random) -> Steps:
    with fleet.client() as client:
        for _ in range(rng.randrange(1, 8)):
            client.delete(MEMBERS)
            yield 0.1


# -- the apps ----------------------------------------------------------------------------------------------------------


@fault(keeps=True, on=tuple(FLEETS))
def app_stopped(fleet: Fleet, rng: random.Random) -> Steps:
    app = rng.choice(fleet.apps)
    app.pause()
    yield moment(rng)
    app.resume()


@fault(keeps=True, on=tuple(FLEETS))
def app_killed(fleet: Fleet, rng: random.Random) -> Steps:
    app = rng.choice(fleet.apps)
    app.kill()
    yield rng.uniform(0, 0.5)
    app.revive()


@fault(keeps=True)
def app_killed_while_cut_off(fleet: SingleFleet, rng: random.Random) -> Steps:
    """Its queue of purges dies with it, and the new one begins without Redis."""
    app: App = rng.choice(fleet.apps)
    fleet.proxy.rule([app.number], "hold")
    yield moment(rng)
    app.kill()
    app.revive()
    yield rng.uniform(0, 1.5)
    fleet.proxy.heal([app.number], deliver=rng.random() < 0.5)


# -- the network -------------------------------------------------------------------------------------------------------


@fault(keeps=True)
def subscribers_killed(fleet: SingleFleet, rng: random.Random) -> Steps:
    with fleet.client() as client:
        for _ in range(rng.randrange(1, 6)):
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            yield rng.uniform(0, 0.5)


@fault(keeps=True)
def bus_loses_messages(fleet: SingleFleet, rng: random.Random) -> Steps:
    """As a server does whose buffer for a slow subscriber is full, but without the end of the connection."""
    lanes = some(fleet, rng)
    for _ in range(rng.randrange(4, 10)):
        fleet.proxy.rule(lanes, "lose", way="down", only="bus")
        yield rng.uniform(0.1, 0.6)
        fleet.proxy.heal(lanes)
        yield rng.uniform(0, 0.2)


@fault(keeps=True)
def bus_held(fleet: SingleFleet, rng: random.Random) -> Steps:
    lanes = some(fleet, rng)
    fleet.proxy.rule(lanes, "hold", way="down", only="bus")
    yield moment(rng)
    fleet.proxy.heal(lanes, deliver=rng.random() < 0.7)


@fault(keeps=True)
def bus_forgotten(fleet: SingleFleet, rng: random.Random) -> Steps:
    """A half-open subscription: nothing comes any more, and nobody says so."""
    fleet.proxy.forget(some(fleet, rng), only="bus")
    yield moment(rng)


@fault(keeps=True)
def connections_forgotten(fleet: SingleFleet, rng: random.Random) -> Steps:
    fleet.proxy.forget(some(fleet, rng))
    yield moment(rng)


@fault(keeps=True)
def latency(fleet: SingleFleet, rng: random.Random) -> Steps:
    lanes = some(fleet, rng)
    fleet.proxy.rule(lanes, "delay", rng.choice((0.002, 0.02, 0.06, 0.2)) * rng.uniform(0.5, 1.5))
    yield moment(rng)
    fleet.proxy.heal(lanes)


@fault(keeps=True)
def replies_come_very_late(fleet: SingleFleet, rng: random.Random) -> Steps:
    """Trust must count from the question: what these answers say is older than the bound."""
    lanes = some(fleet, rng)
    fleet.proxy.rule(lanes, "delay", rng.uniform(0.8, 1.7), way="down")
    yield rng.uniform(3, 5)
    fleet.proxy.heal(lanes)


@fault(keeps=True)
def black_hole(fleet: SingleFleet, rng: random.Random) -> Steps:
    lanes = some(fleet, rng)
    fleet.proxy.rule(lanes, "hold")
    yield moment(rng)
    fleet.proxy.heal(lanes, deliver=rng.random() < 0.5)


@fault(keeps=True)
def questions_lost(fleet: SingleFleet, rng: random.Random) -> Steps:
    """One way: nothing reaches Redis, while what it publishes arrives."""
    lanes = some(fleet, rng)
    fleet.proxy.rule(lanes, "hold", way="up")
    yield moment(rng)
    fleet.proxy.heal(lanes, deliver=rng.random() < 0.5)


@fault(keeps=True)
def replies_lost(fleet: SingleFleet, rng: random.Random) -> Steps:
    """The other way: Redis does what it is told, and nobody hears of it."""
    lanes = some(fleet, rng)
    fleet.proxy.rule(lanes, "hold", way="down")
    yield moment(rng)
    fleet.proxy.heal(lanes, deliver=rng.random() < 0.5)


@fault(keeps=True)
def reset_in_mid_reply(fleet: SingleFleet, rng: random.Random) -> Steps:
    lanes = some(fleet, rng)
    for _ in range(rng.randrange(2, 8)):
        fleet.proxy.rule(lanes, "reset", rng.choice((1, 3, 50, 1_000, 5_000, 20_000)), way="down")
        yield rng.uniform(0.1, 0.5)
    fleet.proxy.heal(lanes)


@fault(keeps=True)
def connections_reset(fleet: SingleFleet, rng: random.Random) -> Steps:
    for _ in range(rng.randrange(1, 6)):
        fleet.proxy.cut(some(fleet, rng), only=rng.choice(("", "", "bus", "pool")))
        yield rng.uniform(0, 0.5)


@fault(keeps=True)
def flapping(fleet: SingleFleet, rng: random.Random) -> Steps:
    """In and out of isolation."""
    for _ in range(rng.randrange(3, 8)):
        lanes = some(fleet, rng)
        fleet.proxy.rule(lanes, "hold", way=rng.choice(("up", "down", "both")))
        yield rng.uniform(0.1, 1.2)
        fleet.proxy.heal(fleet.proxy.all, deliver=rng.random() < 0.5)
        yield rng.uniform(0, 0.3)
