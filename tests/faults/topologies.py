"""The faults of Sentinel set-ups and Clusters, in the form of those in `faults.py`."""

from __future__ import annotations

import random
import time

from tests.faults.faults import Steps, fault, moment
from tests.faults.fleet import ClusterFleet, SentinelFleet
from tools.redis_topologies import SLOTS, eventually

SENTINEL = ("sentinel",)
CLUSTER = ("cluster",)


# -- Sentinel ----------------------------------------------------------------------------------------------------------


@fault(keeps=False, on=SENTINEL)
def primary_dies(fleet: SentinelFleet, rng: random.Random) -> Steps:
    fleet.intended += 1
    fleet.setup.fail_over()
    yield moment(rng)
    fleet.setup.settle()


@fault(keeps=False, on=SENTINEL)
def primary_dies_ahead_of_its_replicas(fleet: SentinelFleet, rng: random.Random) -> Steps:
    """The last purges that it confirmed are gone with it."""
    fleet.intended += 1
    primary = fleet.setup.primary
    replicas = [server for server in fleet.setup.nodes if server is not primary]
    for server in replicas:
        server.pause()
    yield rng.uniform(0.3, 1.0)
    primary.kill()
    for server in replicas:
        server.resume()
    eventually(lambda: fleet.setup.named() != primary.port, "another primary is named")
    yield moment(rng)
    fleet.setup.settle()


@fault(keeps=False, on=SENTINEL)
def primary_hands_over(fleet: SentinelFleet, rng: random.Random) -> Steps:
    """A planned failover: the old one lives on as a replica.

    It takes no writes from before on. Else there would be two primaries until the sentinels have told it, and two
    histories of purges: that is a split brain, which no cache can see through.
    """
    setup = fleet.setup
    fleet.intended += 1
    before = setup.named()
    setup.primary.expect("CLIENT", "PAUSE", "10000", "WRITE")
    eventually(
        lambda: setup.sentinels[0].ask("SENTINEL", "FAILOVER", setup.service).startswith("+OK"), "a failover begins"
    )
    eventually(lambda: setup.named() != before, "another primary is named")
    # Until the old one has been told, there are two.
    eventually(
        lambda: [server.info("replication")["role"] for server in setup.nodes].count("master") == 1, "one is primary"
    )
    yield moment(rng)
    setup.settle()


@fault(keeps=True, on=SENTINEL)
def sentinels_die(fleet: SentinelFleet, rng: random.Random) -> Steps:
    down = rng.sample(fleet.setup.sentinels, rng.randrange(1, 4))
    for server in down:
        server.kill()
    yield moment(rng)
    for server in down:
        server.start()


@fault(keeps=True, on=SENTINEL)
def replica_dies(fleet: SentinelFleet, rng: random.Random) -> Steps:
    primary = fleet.setup.primary
    replica = rng.choice([server for server in fleet.setup.nodes if server is not primary])
    replica.kill()
    yield moment(rng)
    replica.start()
    fleet.setup.settle()


# -- Cluster -----------------------------------------------------------------------------------------------------------


@fault(keeps=False, on=CLUSTER)
def master_of_the_ledger_dies(fleet: ClusterFleet, rng: random.Random) -> Steps:
    fleet.setup.fail_over(fleet.slot)
    yield moment(rng)
    fleet.setup.settle()


@fault(keeps=True, on=CLUSTER)
def another_master_dies(fleet: ClusterFleet, rng: random.Random) -> Steps:
    """Part of the responses cannot be reached for a while."""
    ours = fleet.setup.master_of(fleet.slot)
    slots = [slot for slot in range(0, SLOTS, 1_000) if fleet.setup.master_of(slot) is not ours]
    fleet.setup.fail_over(rng.choice(slots))
    yield moment(rng)
    fleet.setup.settle()


@fault(keeps=False, on=CLUSTER)
def ledger_moves(fleet: ClusterFleet, rng: random.Random) -> Steps:
    """Its slot is migrated, with a while in between in which part of it is here and part there."""
    source = fleet.setup.master_of(fleet.slot)
    others = {fleet.setup.master_of(slot).port: fleet.setup.master_of(slot) for slot in range(0, SLOTS, 1_000)}
    target = rng.choice([server for server in others.values() if server is not source])
    fleet.setup.begin_move(fleet.slot, target)
    yield rng.uniform(0, 0.5)
    fleet.setup.move_keys(fleet.slot, source, target, 1)
    yield rng.uniform(0, 1.5)
    while fleet.setup.move_keys(fleet.slot, source, target):
        time.sleep(0.01)
    fleet.setup.end_move(fleet.slot, source, target)


@fault(keeps=True, on=CLUSTER)
def responses_move(fleet: ClusterFleet, rng: random.Random) -> Steps:
    """Other slots are migrated, with whatever lies in them."""
    masters = {server.port: server for server in map(fleet.setup.master_of, range(0, SLOTS, 1_000))}
    for slot in rng.sample([slot for slot in range(SLOTS) if slot != fleet.slot], 5):
        source = fleet.setup.master_of(slot)
        fleet.setup.move(slot, rng.choice([server for server in masters.values() if server is not source]))
        yield rng.uniform(0, 0.2)


@fault(keeps=True, on=CLUSTER)
def master_of_the_ledger_stops_for_a_moment(fleet: ClusterFleet, rng: random.Random) -> Steps:
    """Too short for the others to take it for dead."""
    server = fleet.setup.master_of(fleet.slot)
    server.pause()
    yield rng.uniform(0.1, 0.6)
    server.resume()


@fault(keeps=False, on=CLUSTER)
def master_of_the_ledger_hands_over(fleet: ClusterFleet, rng: random.Random) -> Steps:
    """A planned failover to its replica."""
    setup = fleet.setup
    master = setup.master_of(fleet.slot)
    replicas = [server for server in setup.servers if server.info("replication").get("master_port") == str(master.port)]
    rng.choice(replicas).expect("CLUSTER", "FAILOVER")
    eventually(lambda: setup.master_of(fleet.slot) is not master, "the replica takes over")
    yield moment(rng)
    setup.settle()
