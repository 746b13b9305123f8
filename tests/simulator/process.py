"""One simulated process: a real engine, its listener, and its side of the network."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from tests.simulator.oracle import Purge
from tests.simulator.site import Shelf, no_size
from tests.simulator.world import Cancelled, Dice, Flow, Sleep, Task
from tiercache.engine import effects
from tiercache.engine.engine import Engine
from tiercache.engine.flights import LATE
from tiercache.engine.listening import listening
from tiercache.errors import TierRejected, TierUnavailable

if TYPE_CHECKING:
    from tests.simulator.fleet import Fleet
    from tiercache.core.records import Message


class Store:
    """What the engine holds as its shared tier. All it is asked comes through effects."""

    apart = alone = False

    def reset_after_fork(self) -> None:
        pass


class Subscription:
    """One connection to the bus."""

    __slots__ = ("broken", "deaf", "process", "queue", "server", "waiting")

    def __init__(self, process: Process, server: int) -> None:
        self.process = process
        self.server = server
        self.queue: list[Message] = []
        self.waiting: tuple[Task, int] | None = None
        self.broken = False
        self.deaf = False
        """Half open: nothing comes any more, and nobody has noticed."""

    def deliver(self, message: Message) -> None:
        if self.broken or self.deaf:
            return
        if self.waiting is None:
            self.queue.append(message)
        else:
            task, turn = self.waiting
            self.waiting = None
            task.answer(turn, message)

    def cut(self) -> None:
        if not self.broken:
            self.broken = True
            self.process.fleet.subscriptions.pop(self, None)
            if self.waiting is not None:
                task, turn = self.waiting
                self.waiting = None
                task.fail(turn, TierUnavailable("the subscription was cut off"))

    def close(self) -> None:
        self.broken = True
        self.process.fleet.subscriptions.pop(self, None)


class Process:
    def __init__(self, fleet: Fleet, index: int, life: int, parent: Process | None = None) -> None:
        self.fleet = fleet
        self.index = index
        self.life = life
        self.name = f"P{index}" + (f".{life}" if life else "")
        dice = Dice(fleet.seed, index, life, 1)
        self.dice = dice
        self.skew = dice.between(-500.0, 500.0) if parent is None else parent.skew
        self.wall_skew = dice.pick((0.0, 0.0, 1.5, -1.5))
        self.lives = True
        self.paused = False
        self.inbox: list[tuple[Task, int, Any, BaseException | None]] = []
        self.link = copy.copy(fleet.normal_link)
        self.unanswered = -inf
        """When a sync failed last, on this process's own clock."""
        self.awaiting: list[Purge] = []
        self.told: dict[Purge, float] = {}
        """Purges whose call has ended here, confirmed or not: from then on nothing older is served here."""
        self.stopping = threading.Event()
        self.listens = False
        self.shelf = Shelf()
        if parent is not None:
            self._inherit(parent)
        self.engine: Engine = Engine(
            *(fleet.settings, fleet.routes, self.shelf, Store(), no_size),  # type: ignore[arg-type]
            clock=self.clock,
            wall=self.wall,
        )
        if parent is not None:
            self._fork(parent)
        self.engine.process_id = self.name
        fleet.adopt(self)

    def clock(self) -> float:
        return self.fleet.world.now + self.skew

    def wall(self) -> float:
        return self.fleet.world.now + self.wall_skew

    # Life

    def _inherit(self, parent: Process) -> None:
        self.shelf.items.update({key: copy.copy(value) for key, value in parent.shelf.items.items()})
        self.told = dict(parent.told)

    def _fork(self, parent: Process) -> None:
        engine, theirs = self.engine, parent.engine
        # What a real fork copies, locks included; the child makes its own of them.
        locks: dict[int, Any] = {id(theirs.ledger._lock): theirs.ledger._lock}
        engine.ledger = copy.deepcopy(theirs.ledger, locks)
        engine.server_time = copy.copy(theirs.server_time)
        engine.failing = theirs.failing
        engine.after_fork()

    def ensure_listening(self) -> None:
        if not self.listens:
            self.listens = True
            dice = Dice(self.fleet.seed, self.index, self.life, 2)
            self.spawn(listening(self.engine, self.stopping), dice, "listener")

    def crash(self) -> None:
        self.lives = False
        for subscription in [s for s in self.fleet.subscriptions if s.process is self]:
            subscription.close()

    def resume(self) -> None:
        """What came while the process stood still, in some order."""
        waiting, self.inbox = self.inbox, []
        while waiting:
            # The threads of a thawed process run in any order.
            task, turn, value, error = waiting.pop(self.dice.under(len(waiting)) if self.dice.roll() < 0.3 else 0)
            self.fleet.world.after(0.0, lambda t=task, n=turn, v=value, e=error: t.resume(n, v, e))

    def spawn(self, flow: Flow, dice: Dice, label: str) -> Task:
        task = Task(self, flow, dice, label)
        task.start()
        return task

    def settle_purges(self) -> None:
        """Queued purges that the shared tier has confirmed meanwhile."""
        pending = self.engine.ledger.pending()
        if any(item.everything for item in pending):
            return
        held = {member for item in pending for member in item.members}
        for purge in [p for p in self.awaiting if held.isdisjoint(p.members)]:
            self.awaiting.remove(purge)
            purge.returned = self.fleet.world.now
            self.fleet.world.seen["replayed"] += 1

    # What flows ask of the world

    def issue(self, task: Task, effect: Any) -> None:
        HANDLERS[effect.__class__](self, task, effect)

    def _ask(self, task: Task, deadline: float, work: Callable[[Any], Any], kind: str, *, late: bool = False) -> None:
        """A question to Redis: it may be lost, be late, or its answer may."""
        fleet, link, dice, turn = self.fleet, self.link, task.dice, task.turn
        world, server, now = fleet.world, fleet.server, fleet.world.now

        def unavailable() -> None:
            if kind == "sync" and turn == task.turn:
                self.unanswered = self.clock()
            task.fail(turn, TierUnavailable("no answer"))

        if link.loses(dice, link.request_loss):
            # A reset is noticed at once, a silence at the deadline.
            quick = dice.roll() < 0.3
            world.at(now + link.lag if quick else max(now, deadline), unavailable)
            return
        delay = link.delay(dice)
        if late and dice.roll() < 0.08 and not fleet.calm:
            delay += dice.between(0.0, 3.0)

        def arrive() -> None:
            if fleet.server != server or fleet.down:
                world.after(link.lag, unavailable)
                return
            if fleet.stopped:
                world.at(max(world.now, deadline), unavailable)
                fleet.held.append(arrive)
                return
            try:
                reply = work(fleet.redis)
            except TierRejected as error:
                rejected = error
                world.after(link.lag, lambda: task.fail(turn, rejected))
                return
            if world.trace is not None and kind != "get":
                world.log(f"redis: {kind} of {self.name}: {reply!r}")
            back = world.now + link.delay(dice)
            if back > deadline or link.loses(dice, link.reply_loss):
                world.at(max(world.now, deadline), unavailable)
            else:
                world.at(back, lambda: task.answer(turn, reply))

        if now + delay > deadline:
            world.at(max(now, deadline), unavailable)
        world.at(now + delay, arrive)

    def _fetch(self, task: Task, effect: Any) -> None:
        name = effect.name
        self._ask(task, effect.deadline, lambda redis: redis.get(name), "get")

    def _keep(self, task: Task, effect: Any) -> None:
        fleet = self.fleet

        def write(redis: Any) -> None:
            if fleet.full:
                raise TierRejected("OOM command not allowed when used memory > 'maxmemory'")
            redis.set(effect.name, effect.value, effect.ttl_ms)

        self._ask(task, effect.deadline, write, "set", late=True)

    def _invalidate(self, task: Task, effect: Any) -> None:
        def purge(redis: Any) -> Any:
            return redis.purge(effect.members, effect.everything, effect.seen, ack=effect.ack)

        self._ask(task, effect.deadline, purge, "purge")

    def _sync(self, task: Task, effect: Any) -> None:
        def sync(redis: Any) -> Any:
            return redis.sync(effect.request, effect.process_id, effect.bound, fleet=effect.fleet)

        self._ask(task, effect.deadline, sync, "sync")

    def _leave(self, task: Task, effect: Any) -> None:
        self._ask(task, effect.deadline, lambda redis: redis.leave(effect.process_id), "leave")

    def _listen(self, task: Task, effect: Any) -> None:
        fleet = self.fleet

        def subscribe(redis: Any) -> Subscription:
            subscription = Subscription(self, fleet.server)
            fleet.subscriptions[subscription] = None
            return subscription

        self._ask(task, fleet.world.now + 2.0, subscribe, "subscribe")

    def _hear(self, task: Task, effect: Any) -> None:
        subscription, turn, world = effect.subscription, task.turn, self.fleet.world
        if subscription.broken:
            world.after(0.0, lambda: task.fail(turn, TierUnavailable("no answer")))
        elif subscription.queue:
            message = subscription.queue.pop(0)
            world.after(0.0, lambda: task.answer(turn, message))
        else:
            subscription.waiting = (task, turn)

            def nothing() -> None:
                if subscription.waiting == (task, turn):
                    subscription.waiting = None
                task.answer(turn, None)

            world.after(max(0.0, effect.timeout), nothing)

    def _wait(self, task: Task, effect: Any) -> None:
        flight, turn, world = effect.flight, task.turn, self.fleet.world

        def wake() -> None:
            world.after(0.0, lambda: task.answer(turn, flight.outcome or LATE))

        def late() -> None:
            flight.unsubscribe(wake)
            task.answer(turn, flight.outcome or LATE)

        if flight.subscribe(wake):
            world.at(max(world.now, effect.deadline), late)
        else:
            wake()

    def _sleep(self, task: Task, effect: Any) -> None:
        turn, seconds = task.turn, effect.seconds
        if isinstance(effect, Sleep) and effect.fragile and task.dice.roll() < 0.04 and not self.fleet.calm:
            self.fleet.world.after(seconds * task.dice.roll(), lambda: task.fail(turn, Cancelled()))
        else:
            self.fleet.world.after(seconds, lambda: task.answer(turn, None))


HANDLERS: dict[type, Callable[[Process, Task, Any], None]] = {
    effects.Fetch: Process._fetch,
    effects.Keep: Process._keep,
    effects.Invalidate: Process._invalidate,
    effects.Sync: Process._sync,
    effects.Listen: Process._listen,
    effects.Hear: Process._hear,
    effects.Rest: Process._sleep,
    effects.Pause: Process._sleep,
    effects.Wait: Process._wait,
    Sleep: Process._sleep,
}
if hasattr(effects, "Leave"):
    HANDLERS[effects.Leave] = Process._leave
