"""How each history ends: everything works again, and nothing may have been lost or left."""

from __future__ import annotations

from tests.simulator import clients
from tests.simulator.fleet import Fleet
from tests.simulator.oracle import spec_alive
from tests.simulator.process import Process
from tests.simulator.site import PAGES, covered_by_ban
from tests.simulator.world import Dice, Link, Violation


def settle(fleet: Fleet) -> None:
    world = fleet.world
    # What is still broken mends, what is on its way arrives.
    fleet.normal_link = Link()
    for process in fleet.processes:
        process.link = Link()
        process.ensure_listening()
        if process.paused:
            process.paused = False
            process.resume()
    fleet.down = fleet.full = False
    if fleet.stopped:
        fleet.stopped = False
        held, fleet.held = fleet.held, []
        for arrive in held:
            arrive()
    world.run_until(world.now + 3.5)
    for subscription in [s for s in fleet.subscriptions if s.deaf]:
        subscription.cut()
    world.run_until(world.now + 0.5)
    fleet.look()
    _mirrors(fleet)
    _kept(fleet)
    _shared(fleet)


def _mirrors(fleet: Fleet) -> None:
    """I3, I6: each process knows exactly what the ledger holds, and nothing waits any more."""
    mine = fleet.redis.ledger
    assert mine is not None
    for process in fleet.processes:
        ledger = process.engine.ledger
        known = ledger.sync_request(0.0)
        if ledger.pending() or process.awaiting:
            raise Violation(f"{process.name} still holds {ledger.pending()} for {process.awaiting}")
        if process.clock() >= ledger.trusted_until:
            raise Violation(f"{process.name} has not come back to trust")
        view = ledger._view
        members = {member: number for member, number in view.members.items() if number > view.floor}
        if (known.epoch, known.seen, view.floor, members) != (mine.epoch, mine.head, mine.floor, mine.members):
            raise Violation(
                f"{process.name} knows {known.epoch} up to {known.seen}, floor {view.floor}, {members}; the ledger is "
                f"{mine.epoch} up to {mine.head}, floor {mine.floor}, {mine.members}"
            )


def _kept(fleet: Fleet) -> None:
    """I3: what nothing has purged is still there after all that, and what has been purged is not."""
    mine = fleet.redis.ledger
    assert mine is not None
    for process in fleet.processes:
        for entry in process.shelf.items.values():
            alive = process.engine.ledger.alive(entry)
            if entry.epoch != mine.epoch and fleet.keep_lost:
                continue
            if alive != spec_alive(entry, mine.epoch, mine.floor, mine.members, covered_by_ban):
                call = fleet.oracle.of(entry)
                raise Violation(f"{process.name} takes {call} for {'alive' if alive else 'dead'}: {entry.tags}")
            fleet.world.seen["kept" if alive else "dead"] += 1


def _shared(fleet: Fleet) -> None:
    """A page that one process fills now is served by each of the others, from Redis and then from memory."""
    world, first = fleet.world, fleet.processes[0]
    page = PAGES[0]
    for process in fleet.processes:
        process.shelf.clear()
    fleet.redis.values.clear()

    def read(process: Process) -> int:
        before = world.seen["served l1"] + world.seen["served l2"]
        process.spawn(clients.visit(process, page, Dice(1)), Dice(1), "visit")
        world.run_until(world.now + 0.2)
        return world.seen["served l1"] + world.seen["served l2"] - before

    while read(first) == 0:
        # The app fails now and then, and clients go away.
        assert world.now < fleet.start + 60, "a page is never stored"
    world.run_until(world.now + 0.5)
    for process in fleet.processes:
        for _ in range(2):
            if read(process) != 1:
                raise Violation(f"{process.name} does not serve what {first.name} has just filled")
