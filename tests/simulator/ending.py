"""How each history ends: everything works again, and nothing may have been lost or left."""

from __future__ import annotations

from tests.simulator import clients
from tests.simulator.fleet import Fleet
from tests.simulator.oracle import spec_alive
from tests.simulator.process import Process
from tests.simulator.site import LAST_PAGE, covered_by_ban
from tests.simulator.world import Dice, Leftover, Link
from tiercache.core.records import bucket_of_key, is_of_key
from tiercache.core.values import Held


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
    fleet.calm = True
    for subscription in [s for s in fleet.subscriptions if s.deaf]:
        subscription.cut()
    for wait in (0.0, 1.5):
        # A purge that was queued late is repeated later still.
        world.run_until(world.now + wait)
        for _ in range(16):
            world.run_until(world.now + 0.5)
            if all(_settled(process) for process in fleet.processes):
                break
    fleet.look()
    _mirrors(fleet)
    _kept(fleet)
    _shared(fleet)


def _settled(process: Process) -> bool:
    ledger, mine = process.engine.ledger, process.fleet.redis.ledger
    known = ledger.sync_request(0.0)
    return (
        # What was sent before everything mended has ended.
        process.clock() < ledger.last_good_sync + 0.45
        and not process.awaiting
        and not ledger.pending()
        and not process.engine.breaker.open
        and mine is not None
        and (known.epoch, known.seen) == (mine.epoch, mine.head)
    )


def _mirrors(fleet: Fleet) -> None:
    """I3, I6: each process knows exactly what the ledger holds, and nothing waits any more."""
    mine = fleet.redis.ledger
    assert mine is not None
    for process in fleet.processes:
        ledger = process.engine.ledger
        known = ledger.sync_request(0.0)
        if ledger.pending() or process.awaiting:
            raise Leftover(f"{process.name} still holds {ledger.pending()} for {process.awaiting}")
        if process.clock() >= ledger.trusted_until:
            raise Leftover(f"{process.name} has not come back to trust")
        view = ledger._view
        members = {member: number for member, number in view.members.items() if number > view.floor}
        # What has been folded there since it was told, it has as it was.
        buckets = {bucket: mine.members.get(bucket, 0) for bucket in (bucket_of_key(one[2:]) for one in mine.every)}
        members, theirs = [
            {
                one: at
                for one, at in each.items()
                if one not in buckets and not (is_of_key(one) and at <= buckets.get(bucket_of_key(one[2:]), 0))
            }
            for each in (members, mine.members)
        ]
        if (known.epoch, known.seen, view.floor, members) != (mine.epoch, mine.head, mine.floor, theirs):
            raise Leftover(
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
            spec = [spec_alive(entry, mine.epoch, mine.floor, of, covered_by_ban) for of in (mine.members, mine.every)]
            # Alive by one and dead by the other: what was folded kills more than it did.
            if alive not in spec:
                what = "a value" if isinstance(entry, Held) else fleet.oracle.of(entry)
                raise Leftover(f"{process.name} takes {what} for {'alive' if alive else 'dead'}: {entry.tags}")
            fleet.world.seen["kept" if alive else "dead"] += 1


def _shared(fleet: Fleet) -> None:
    """A page that one process fills now is served by each of the others, from Redis and then from memory."""
    world, first = fleet.world, fleet.processes[0]

    def read(process: Process) -> int:
        before = world.seen["served l1"] + world.seen["served l2"]
        process.spawn(clients.visit(process, LAST_PAGE, Dice(1)), Dice(1), "visit")
        world.run_until(world.now + 0.03)
        return world.seen["served l1"] + world.seen["served l2"] - before

    def served(process: Process) -> bool:
        # Clients go away now and then.
        return any(read(process) for _ in range(5))

    if not served(first):
        raise Leftover("a page is never stored")
    world.run_until(world.now + 0.05)
    filled = sum(call.page is LAST_PAGE for call in fleet.oracle.calls)
    for process in fleet.processes:
        for _ in range(2):
            if not served(process) or sum(call.page is LAST_PAGE for call in fleet.oracle.calls) > filled:
                raise Leftover(f"{process.name} does not serve what {first.name} has just filled")
