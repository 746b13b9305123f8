"""What befalls processes, the network and Redis."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulator.fleet import ACTIONS, Fleet
from tests.simulator.process import Process
from tests.simulator.world import Dice

# Processes


def freeze(fleet: Fleet, process: Process, dice: Dice) -> None:
    _stand_still(fleet, process, dice.between(1.3, 2.0))


def pause(fleet: Fleet, process: Process, dice: Dice) -> None:
    _stand_still(fleet, process, dice.pick((0.02, 0.3, 0.9, 1.2, 3.0)) * dice.between(0.5, 1.5))


def _stand_still(fleet: Fleet, process: Process, seconds: float) -> None:
    """`SIGSTOP`, or a virtual machine that is moved: its clock goes on."""
    if process.paused:
        return
    fleet.world.seen["paused"] += 1
    process.paused = True

    def thaw() -> None:
        if process.lives and process.paused:
            # A request is served before anything else may run.
            process.paused = False
            fleet.look()
            process.resume()

    fleet.world.after(seconds, thaw)


def crash(fleet: Fleet, process: Process, dice: Dice) -> None:
    fleet.world.seen["crashed"] += 1
    process.crash()
    Process(fleet, process.index, process.life + 1)


def fork(fleet: Fleet, process: Process, dice: Dice) -> None:
    """A child beside its parent, or, where there are enough, in the place of another process, which ends."""
    if process.paused:
        return
    fleet.world.seen["forked"] += 1
    index, life = len(fleet.processes), 0
    if index >= 4:
        index = (process.index + 1) % index
        fleet.processes[index].crash()
        life = fleet.processes[index].life + 1
    child = Process(fleet, index, life, parent=process)
    if dice.roll() < 0.7:
        child.ensure_listening()


# The network of one process


def _for_a_while(fleet: Fleet, process: Process, dice: Dice, undo: Callable[[], None]) -> None:
    fleet.world.after(dice.pick((0.1, 0.6, 1.5, 4.0)) * dice.between(0.5, 1.5), undo)


def cut(fleet: Fleet, process: Process, dice: Dice) -> None:
    """Nothing gets through; sometimes the connection to the bus is reset, else it is half open."""
    fleet.world.seen["cut off"] += 1
    link = process.link
    link.cut = True
    if dice.roll() < 0.5:
        drop_subscription(fleet, process, dice)

    def mend() -> None:
        link.cut = False

    _for_a_while(fleet, process, dice, mend)


def one_way(fleet: Fleet, process: Process, dice: Dice) -> None:
    """Requests arrive and answers do not, or the other way round."""
    fleet.world.seen["one way"] += 1
    link = process.link
    before = link.request_loss, link.reply_loss
    if dice.roll() < 0.7:
        link.reply_loss = dice.pick((0.3, 0.9, 1.0))
    else:
        link.request_loss = dice.pick((0.3, 0.9, 1.0))

    def mend() -> None:
        link.request_loss, link.reply_loss = before

    _for_a_while(fleet, process, dice, mend)


def slow(fleet: Fleet, process: Process, dice: Dice) -> None:
    fleet.world.seen["slow"] += 1
    link = process.link
    before = link.lag
    link.lag = dice.pick((0.01, 0.05, 0.2, 0.4))

    def mend() -> None:
        link.lag = before

    _for_a_while(fleet, process, dice, mend)


def drag(fleet: Fleet, process: Process, dice: Dice) -> None:
    """Slow, but not so slow that questions go unanswered."""
    fleet.world.seen["slow"] += 1
    link = process.link
    before = link.lag
    link.lag = dice.pick((0.02, 0.04, 0.08))

    def mend() -> None:
        link.lag = before

    fleet.world.after(0.6, mend)


def deafen(fleet: Fleet, process: Process, dice: Dice) -> None:
    """The bus is lost to this process and nobody notices; syncs go on."""
    fleet.world.seen["deaf"] += 1
    found = [s for s in fleet.subscriptions if s.process is process]
    for subscription in found:
        subscription.deaf = True

    def notice() -> None:
        for subscription in found:
            subscription.cut()

    _for_a_while(fleet, process, dice, notice)


def drop_subscription(fleet: Fleet, process: Process, dice: Dice) -> None:
    fleet.world.seen["subscriber killed"] += 1
    for subscription in [s for s in fleet.subscriptions if s.process is process]:
        subscription.cut()


# Redis


def _replaced(fleet: Fleet) -> None:
    fleet.server += 1
    for subscription in list(fleet.subscriptions):
        subscription.cut()


def replicate(fleet: Fleet, process: Process, dice: Dice) -> None:
    fleet.replica = fleet.redis.snapshot()


def save(fleet: Fleet, process: Process, dice: Dice) -> None:
    fleet.saved = fleet.redis.snapshot()


def failover(fleet: Fleet, process: Process, dice: Dice) -> None:
    """A replica that lags takes over; the primary is gone."""
    fleet.world.seen["failed over"] += 1
    fleet.redis.restart(fleet.replica)
    _replaced(fleet)


def restart(fleet: Fleet, process: Process, dice: Dice) -> None:
    """With all it had, with its last snapshot, or with nothing."""
    fleet.world.seen["restarted"] += 1
    luck = dice.roll()
    kept = fleet.redis.snapshot() if luck < 0.3 else fleet.saved
    fleet.redis.restart(kept)
    if luck > 0.8:
        fleet.redis.flush()
    _replaced(fleet)
    if not fleet.down:
        fleet.down = True

        def up() -> None:
            fleet.down = False

        _for_a_while(fleet, process, dice, up)


def stop(fleet: Fleet, process: Process, dice: Dice) -> None:
    """`SIGSTOP`: what arrives is done when it goes on."""
    if fleet.stopped:
        return
    fleet.world.seen["redis stopped"] += 1
    fleet.stopped = True

    def go_on() -> None:
        fleet.stopped = False
        held, fleet.held = fleet.held, []
        for arrive in held:
            arrive()

    _for_a_while(fleet, process, dice, go_on)


def flush(fleet: Fleet, process: Process, dice: Dice) -> None:
    fleet.world.seen["flushed"] += 1
    fleet.redis.flush()


def evict(fleet: Fleet, process: Process, dice: Dice) -> None:
    """`allkeys-random`: the ledger, the table of processes or values go."""
    luck = dice.roll()
    if luck < 0.3:
        lose_ledger(fleet, process, dice)
    elif luck < 0.7:
        lose_members(fleet, process, dice)
    else:
        fleet.world.seen["values evicted"] += 1
        values = fleet.redis.values
        for name in [name for name in values if dice.roll() < 0.6]:
            del values[name]


def lose_ledger(fleet: Fleet, process: Process, dice: Dice) -> None:
    fleet.world.seen["ledger evicted"] += 1
    fleet.redis.ledger = None


def lose_members(fleet: Fleet, process: Process, dice: Dice) -> None:
    fleet.world.seen["members evicted"] += 1
    fleet.redis.rows = None


def fill_up(fleet: Fleet, process: Process, dice: Dice) -> None:
    """`noeviction` and no memory left: values are refused, the ledger is not."""
    fleet.world.seen["full"] += 1
    fleet.full = True

    def room() -> None:
        fleet.full = False

    _for_a_while(fleet, process, dice, room)


def roll_back(fleet: Fleet, process: Process, dice: Dice) -> None:
    """The same server with older data. Within the promise only where the next caller has seen more, and shows it."""
    for each in fleet.processes:
        stamp = each.engine.ledger.stamp()
        if each.lives and not each.paused and fleet.redis.would_be_noticed(fleet.saved, stamp):
            fleet.world.seen["rolled back"] += 1
            fleet.redis.load(fleet.saved)
            fleet.redis.sync(each.engine.ledger.sync_request(0.0), each.name, 1.0)
            return


FAULTS = {
    "pause": pause,
    "crash": crash,
    "fork": fork,
    "cut": cut,
    "one way": one_way,
    "slow": slow,
    "deafen": deafen,
    "drop subscription": drop_subscription,
    "replicate": replicate,
    "save": save,
    "fail over": failover,
    "restart": restart,
    "stop": stop,
    "flush": flush,
    "evict": evict,
    "fill up": fill_up,
    "roll back": roll_back,
}
ACTIONS.update(FAULTS)
ACTIONS.update({"lose ledger": lose_ledger, "lose members": lose_members, "drag": drag, "freeze": freeze})
