"""The fleet: processes, one Redis and what is between them, and the actions that a plan may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.simulator import clients, data
from tests.simulator.oracle import Client, Oracle, Purge
from tests.simulator.process import Process, Subscription
from tests.simulator.redis_model import ModelRedis
from tests.simulator.site import BANS, LAST_PAGE, PAGES, TAGS
from tests.simulator.world import Dice, Link, World
from tiercache.config import Settings
from tiercache.core.records import Message
from tiercache.core.routes import RouteTable
from tiercache.engine import flows, purging

(STRONG_PAGE,) = [page for page in PAGES if page.consistency == "strong"]


class Action(NamedTuple):
    """One thing that a plan has happen."""

    at: float
    """Seconds from the start."""
    kind: str
    process: int
    luck: int
    """The seed of all that it needs to know besides."""


class Shape(NamedTuple):
    """What one history is like as a whole."""

    seed: int
    processes: int
    page: int
    limit: int
    app_time: float
    lag: float
    tail: float
    bus_loss: float
    keep_lost: bool
    keys: int


class Fleet:
    def __init__(
        self,
        shape: Shape,
        settings: Settings,
        routes: RouteTable,
        *,
        tracing: bool = False,
        redis_type: type[ModelRedis] = ModelRedis,
    ) -> None:
        self.shape = shape
        self.seed = shape.seed
        self.settings = settings
        self.routes = routes
        self.keep_lost = shape.keep_lost
        self.world = world = World(tracing=tracing)
        self.start = world.now
        self.oracle = Oracle(world)
        self.redis = redis_type(lambda: world.now, world.name, limit=shape.limit, keys=shape.keys, page=shape.page)
        self.redis.publish = self.publish
        self.server = 0
        """Rises when another server process answers: connections to the one before are reset."""
        self.down = self.stopped = self.full = self.calm = False
        self.held: list[Callable[[], None]] = []
        """What has arrived at a server that stands still."""
        self.subscriptions: dict[Subscription, None] = {}
        self.replica = self.saved = self.redis.snapshot()
        self.versions = {page.path: 1 for page in (*PAGES, LAST_PAGE)}
        self.database = data.Database()
        self.clients = [Client(), Client()]
        self.normal_link = Link()
        self.normal_link.lag, self.normal_link.tail = shape.lag, shape.tail
        self.normal_link.bus_loss = shape.bus_loss
        self.processes: list[Process] = []
        self._lives = 0
        self._bus = Dice(shape.seed, 3)
        for index in range(shape.processes):
            Process(self, index, 0)

    def adopt(self, process: Process) -> None:
        if process.index < len(self.processes):
            self.processes[process.index] = process
        else:
            self.processes.append(process)

    def end(self) -> None:
        """Let go of the flows under way; what they would still ask for is nobody's business."""
        for process in self.processes:
            process.lives = False

    def app_time(self, dice: Dice) -> float:
        if self.calm:
            return 0.001
        luck = dice.roll()
        return self.shape.app_time * luck if luck < 0.8 else luck * luck * 3.0

    def publish(self, message: Message) -> None:
        world = self.world
        for subscription in list(self.subscriptions):
            link = subscription.process.link
            # By the number, so that what happens to one message does not hang on how many came before.
            dice = Dice(self.seed, message.number, subscription.process.index, 5)
            if link.loses(dice, link.bus_loss):
                world.seen["message lost"] += 1
                continue
            world.after(link.delay(dice), lambda s=subscription: s.deliver(message))  # type: ignore[misc]
            if dice.roll() < 0.05:
                world.seen["message repeated"] += 1
                world.after(link.delay(dice) * 20, lambda s=subscription: s.deliver(message))  # type: ignore[misc]

    def interrupt(self, history: Any) -> None:
        """A thread is in the middle of a change to what it knows: another one reads."""
        for process in self.processes:
            ledger = process.engine.ledger
            if ledger._view is history and process.lives:
                self.world.seen["interrupted"] += 1
                clients.look_again(process)

    def perform(self, action: Action) -> None:
        process = self.processes[action.process % len(self.processes)]
        dice = Dice(action.luck)
        if self.world.trace is not None:
            self.world.log(f"--- {action.kind} {process.name}")
        ACTIONS[action.kind](self, process, dice)

    # What visitors and the application do

    def read(self, process: Process, dice: Dice) -> None:
        page = dice.pick(PAGES)
        client = dice.pick(self.clients) if page.consistency == "session" else None
        process.spawn(clients.visit(process, page, dice, client), dice, "visit")

    def read_strong(self, process: Process, dice: Dice) -> None:
        page = STRONG_PAGE
        process.spawn(clients.visit(process, page, dice), dice, "visit")

    def crowd(self, process: Process, dice: Dice) -> None:
        """Several visitors of one page, here and elsewhere."""
        page = dice.pick(PAGES)
        for count in range(2 + dice.under(3)):
            where = process if dice.roll() < 0.6 else dice.pick(self.processes)
            client = dice.pick(self.clients) if page.consistency == "session" else None
            luck = Dice(dice.under(1 << 30), count)
            where.spawn(clients.visit(where, page, luck, client), luck, "visit")

    def look(self, process: Process | None = None, dice: Dice | None = None) -> None:
        """Every page of every process: what would L1 answer now?"""
        for each in self.processes:
            if each.lives and not each.paused:
                clients.look(each)

    def purge(self, process: Process, dice: Dice) -> None:
        luck = dice.roll()
        tags: tuple[str, ...] = ()
        paths: tuple[str, ...] = ()
        soft = everything = False
        asked: dict[str, Any] = {}
        if luck < 0.55:
            tags = tuple(dice.pick(TAGS) for _ in range(dice.pick((1, 1, 2, 3))))
            asked["tags"] = list(tags)
            soft = dice.roll() < 0.35
        elif luck < 0.7:
            paths = (dice.pick(PAGES).path,)
            asked["urls"] = list(paths)
            soft = dice.roll() < 0.35
        elif luck < 0.9:
            kind, rule, paths = dice.pick(BANS)
            asked[kind] = rule
        else:
            everything = asked["everything"] = True
            soft = dice.roll() < 0.4
        if soft:
            asked["soft"] = True
        if dice.roll() < 0.25:
            asked["wait"] = True
        self._commit(process, dice, asked, tags=tags, paths=paths, everything=everything, soft=soft)

    def purge_strong(self, process: Process, dice: Dice) -> None:
        paths = (STRONG_PAGE.path,)
        self._commit(process, dice, {"urls": list(paths)}, tags=(), paths=paths, everything=False, soft=False)

    def purge_hard(self, process: Process, dice: Dice, *, soft: bool = False) -> None:
        tags = (dice.pick(TAGS),)
        asked = {"tags": tags, "soft": True} if soft else {"tags": tags}
        self._commit(process, dice, asked, tags=tags, paths=(), everything=False, soft=soft)

    def purge_soft(self, process: Process, dice: Dice) -> None:
        self.purge_hard(process, dice, soft=True)

    def read_session(self, process: Process, dice: Dice) -> None:
        client = dice.pick(self.clients)
        process.spawn(clients.visit(process, clients.SESSION_PAGE, dice, client), dice, "visit")

    def purge_session(self, process: Process, dice: Dice) -> None:
        client, paths = dice.pick(self.clients), (clients.SESSION_PAGE.path,)
        record = Purge(process.name, self.world.now, tags=(), paths=paths, everything=False, soft=False)
        named = purging.purge_for(self.routes, {"urls": list(paths)})
        process.spawn(clients.purge(process, record, named, client), dice, "purge")

    def barrier(self, process: Process, dice: Dice) -> None:
        tags = (dice.pick(TAGS), dice.pick(TAGS))
        self._commit(process, dice, {"tags": tags, "wait": True}, tags=tags, paths=(), everything=False, soft=False)

    def _commit(self, process: Process, dice: Dice, asked: dict[str, Any], **what: Any) -> None:
        """The database has changed; now the cache is told, and where the replica lags, told again."""
        record = Purge(process.name, self.world.now, **what)
        for page in PAGES:
            if record.everything or page.path in record.paths or not record.tags.isdisjoint(page.tags):
                self.versions[page.path] += 1
        client = dice.pick(self.clients) if dice.roll() < 0.4 and not record.soft else None
        named = purging.purge_for(self.routes, asked)  # type: ignore[arg-type]
        task = process.spawn(clients.purge(process, record, named, client), dice, "purge")
        if dice.roll() < 0.05:
            self.world.after(dice.between(0.0, 0.02), task.cancel)
        if dice.roll() < 0.15:
            again = Purge(process.name, self.world.now, **what)
            later = Dice(dice.under(1 << 30), 11)

            def repeat() -> None:
                self.world.seen["settled"] += 1
                process.spawn(clients.purge(process, again, named, None), later, "settle")

            self.world.after(dice.between(0.2, 0.8), repeat)

    def sync(self, process: Process, dice: Dice) -> None:
        """One more sync beside those of the listener, as a request may ask for."""
        process.spawn(flows.catch_up(process.engine, self.world.now + 0.05), dice, "sync")

    def read_value(self, process: Process, dice: Dice) -> None:
        process.spawn(data.read(process, dice.pick(data.KEYS), dice), dice, "value")

    def write_value(self, process: Process, dice: Dice) -> None:
        task = process.spawn(data.write(process, dice.pick(data.KEYS), dice), dice, "write")
        if dice.roll() < 0.03:
            self.world.after(dice.between(0.0, 0.1), task.cancel)

    def write_at_once(self, process: Process, dice: Dice) -> None:
        """Two writers of one value, here and elsewhere."""
        key = dice.pick(data.KEYS)
        for each in (process, dice.pick(self.processes)):
            luck = Dice(dice.under(1 << 30))
            each.spawn(data.write(each, key, luck), luck, "write")

    def forget(self, process: Process, dice: Dice) -> None:
        """L1 makes room."""
        items = process.shelf.items
        for key in [key for key in items if dice.roll() < 0.5]:
            del items[key]


ACTIONS: dict[str, Callable[[Fleet, Process, Dice], None]] = {
    "read": Fleet.read,
    "crowd": Fleet.crowd,
    "read strong": Fleet.read_strong,
    "look": Fleet.look,
    "purge strong": Fleet.purge_strong,
    "read session": Fleet.read_session,
    "purge session": Fleet.purge_session,
    "purge hard": Fleet.purge_hard,
    "purge soft": Fleet.purge_soft,
    "barrier": Fleet.barrier,
    "purge": Fleet.purge,
    "read value": Fleet.read_value,
    "write value": Fleet.write_value,
    "write at once": Fleet.write_at_once,
    "sync": Fleet.sync,
    "forget": Fleet.forget,
}
