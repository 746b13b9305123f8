"""A model of the fleet around the ledger: one Redis, a few processes with a real `Ledger`, a network, and an oracle.

Everything that is on its way is a packet; whoever drives the model chooses which packet arrives next, twice or never,
so any delay and any order can happen. Time is whole milliseconds and moves only by `advance`. The oracle knows when
the app calls and the purges really began and ended, and looks at every answer from a store.

The switches `stamp_at_end`, `trust_from_receipt` and `cut_numbers`, and a `ledger_type` with a line taken out, make
models that must be caught.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.core.ledger_redis import Entry, Redis
from tiercache.core.ledger import Ledger
from tiercache.core.records import Message, Stamp, SyncPage, SyncRequest

BOUND = 1_000
KEYS = {
    "home": ("t:a", "p:/"),
    "list": ("t:b", "p:/list"),
    "item": ("t:b", "p:/item"),
}
TAGS = sorted({tag for tags in KEYS.values() for tag in tags})


class Violation(AssertionError):
    """Something was served that must not be."""


@dataclass(slots=True)
class Purge:
    """What the oracle knows of one purge."""

    by: int
    life: int
    members: tuple[str, ...]
    everything: bool
    invoked: int
    returned: int | None = None
    """When the caller was told that the fleet has it, or when a queued one was confirmed."""
    told: int | None = None
    """When the call ended for the caller, confirmed or not: from then on its own process serves nothing older."""

    def covers(self, entry: Entry) -> bool:
        return self.everything or any("h:" + tag in self.members for tag in entry.tags)


@dataclass(slots=True)
class Packet:
    arrive: Callable[[], None]
    by: int
    """The process whose link it uses."""
    life: int
    kind: str
    ripe: int
    """A driver that keeps time lets it arrive no sooner."""


@dataclass(slots=True)
class Process:
    index: int
    life: int
    ledger: Ledger
    skew: int
    """What this process's clock shows beyond the true time."""
    l1: dict[str, Entry] = field(default_factory=dict)
    fills: list[tuple[str, Stamp, int, float, int]] = field(default_factory=list)
    open: list[Purge] = field(default_factory=list)
    queued: list[Purge] = field(default_factory=list)
    connected: bool = True


class World:
    def __init__(
        self,
        *,
        processes: int = 3,
        page: int = 2,
        keep: int = 6,
        isolated_ttl: int = 3_000,
        lag: Callable[[str], int] = lambda kind: 0,
        ledger_type: type[Ledger] = Ledger,
        stamp_at_end: bool = False,
        trust_from_receipt: bool = False,
        cut_numbers: bool = False,
    ) -> None:
        serial = count(1)
        self.names = lambda kind: f"{kind}-{next(serial)}"
        self.now = 1_000_000
        self.isolated_ttl = isolated_ttl
        self.lag = lag
        self.ledger_type = ledger_type
        self.stamp_at_end, self.trust_from_receipt = stamp_at_end, trust_from_receipt
        self.redis = Redis(self.names, page=page, keep=keep, cut_numbers=cut_numbers)
        self.up = True
        self.snapshots = [self.redis.snapshot()]
        self.packets: list[Packet] = []
        self.purges: list[Purge] = []
        self.seen: Counter[str] = Counter()
        self.lives = count(1)
        self.processes = [self.start(index) for index in range(processes)]

    # Time and the network

    def advance(self, ms: int) -> None:
        self.now += ms

    def clock(self, process: Process) -> int:
        return self.now + process.skew

    def send(self, process: Process, arrive: Callable[[], None], kind: str) -> None:
        if process.connected:
            self.packets.append(Packet(arrive, process.index, process.life, kind, self.now + self.lag(kind)))

    def to_redis(self, process: Process, ask: Callable[[], Callable[[], None]], kind: str) -> None:
        """`ask` runs in Redis and gives what the reply does in the process, if that still lives."""
        life = process.life

        def arrive() -> None:
            if not self.up:
                return
            reply = ask()
            if self.processes[process.index].life == life:
                self.send(process, lambda: reply() if self.processes[process.index].life == life else None, kind)

        self.send(process, arrive, kind)

    def deliver(self, index: int) -> None:
        self.packets.pop(index).arrive()

    def lose(self, index: int) -> None:
        self.packets.pop(index)

    def repeat(self, index: int) -> None:
        self.packets[index].arrive()

    def drain(self) -> None:
        for _ in range(10_000):
            if not self.packets:
                return
            self.deliver(0)
        raise AssertionError("the processes never stop talking")

    def disconnect(self, index: int) -> None:
        """Cut or mend the link: nothing new is sent; what is on its way may still arrive."""
        process = self.processes[index]
        process.connected = not process.connected
        self.seen["cut off"] += not process.connected

    # Processes

    def start(self, index: int) -> Process:
        ledger = self.ledger_type(bound=BOUND, epoch=self.names("local"), shared=True)
        return Process(index, next(self.lives), ledger, skew=-7_777 * index)

    def crash(self, index: int) -> None:
        self.processes[index] = self.start(index)
        self.seen["crash"] += 1

    def sync(self, index: int) -> None:
        process = self.processes[index]
        self._ask(process, process.ledger.sync_request(self.clock(process)))

    def _ask(self, process: Process, request: SyncRequest) -> None:
        def ask() -> Callable[[], None]:
            page = self.redis.sync(request)
            return lambda: self._synced(process, request, page)

        self.to_redis(process, ask, "sync")

    def _synced(self, process: Process, request: SyncRequest, page: SyncPage) -> None:
        ledger = process.ledger
        before = ledger.stamp().epoch
        given = request._replace(sent=self.clock(process)) if self.trust_from_receipt else request
        if ledger.synced(given, page):
            self.seen["sync"] += 1
            self.seen["new epoch"] += ledger.stamp().epoch != before
        else:
            self.seen["reply not taken" if page.complete else "more pages"] += 1
            self._ask(process, ledger.sync_request(request.sent))

    # Purges

    def purge(self, index: int, tags: Iterable[str], everything: bool = False) -> None:
        process = self.processes[index]
        members = () if everything else tuple("h:" + tag for tag in tags)
        purge = Purge(index, process.life, members, everything, self.now)
        self.purges.append(purge)
        process.open.append(purge)
        asked = process.ledger.sync_request(0.0)

        def ask() -> Callable[[], None]:
            message = self.redis.purge(asked.epoch, asked.seen, members, everything)
            self.publish(message)

            def reply() -> None:
                if process.ledger.answered(message, self.clock(process)):
                    self.sync(index)
                if purge in process.open:
                    process.open.remove(purge)
                    purge.returned = purge.told = self.now
                    self.seen["purge"] += 1

            return reply

        self.to_redis(process, ask, "purge")

    def publish(self, message: Message) -> None:
        for process in self.processes:

            def hear(process: Process = process) -> None:
                if self.processes[process.index] is process and process.ledger.heard(message, self.clock(process)):
                    self.seen["sync needed"] += 1
                    self.sync(process.index)

            self.send(process, hear, "bus")

    def give_up(self, index: int) -> None:
        """The deadline of the oldest open purge: it holds here and is queued."""
        process = self.processes[index]
        if process.open:
            purge = process.open.pop(0)
            process.ledger.bar(purge.members, purge.everything, self.clock(process))
            process.queued.append(purge)
            purge.told = self.now
            self.seen["unconfirmed"] += 1

    def replay(self, index: int) -> None:
        process = self.processes[index]
        asked = process.ledger.sync_request(0.0)
        for item in process.ledger.pending():

            def ask(item: Any = item) -> Callable[[], None]:
                message = self.redis.purge(asked.epoch, asked.seen, item.members, item.everything)
                self.publish(message)

                def reply() -> None:
                    if process.ledger.confirmed(item, message, self.clock(process)):
                        self.sync(index)
                    self._settle(process)

                return reply

            self.to_redis(process, ask, "purge")

    def _settle(self, process: Process) -> None:
        waiting = process.ledger.pending()
        held = {member for item in waiting for member in item.members}
        if not any(item.everything for item in waiting):
            for purge in [p for p in process.queued if not held.intersection(p.members)]:
                process.queued.remove(purge)
                purge.returned = self.now
                self.seen["replayed"] += 1

    # Filling and reading

    def begin(self, index: int, key: str) -> None:
        process = self.processes[index]
        ledger = process.ledger
        process.fills.append((key, ledger.stamp(), ledger.mark, self.clock(process), self.now))

    def end(self, index: int, which: int) -> None:
        """The fill ends: into L1 at once, and on its way to L2, where it may arrive very late."""
        process = self.processes[index]
        if not process.fills:
            return
        key, stamp, mark, began, truly = process.fills.pop(which % len(process.fills))
        if self.stamp_at_end:
            stamp, mark = process.ledger.stamp(), process.ledger.mark
        entry = Entry(key, stamp.epoch, stamp.number, KEYS[key], mark, began, truly)
        process.l1[key] = entry

        def store() -> None:
            if self.up:
                self.redis.values[key] = entry

        self.send(process, store, "store")

    def read(self, index: int, key: str) -> None:
        process = self.processes[index]
        ledger, entry, now = process.ledger, process.l1.get(key), self.clock(process)
        trusted = now < ledger.trusted_until
        if entry is not None:
            if entry.checked == ledger.version or ledger.alive(entry):
                if trusted:
                    self.served(process, entry, "l1", isolated=False)
                    return
                if ledger.isolated_ok(entry, now, self.isolated_ttl):
                    self.served(process, entry, "isolated", isolated=True)
                    return
            else:
                self.seen["dead in l1"] += 1
        if not trusted:
            return

        def ask() -> Callable[[], None]:
            found = self.redis.values.get(key)
            return lambda: self._read_l2(process, found)

        self.to_redis(process, ask, "read")

    def _read_l2(self, process: Process, found: Entry | None) -> None:
        if found is None or self.clock(process) >= process.ledger.trusted_until:
            return
        entry = found.from_l2()
        if process.ledger.alive(entry):
            process.l1[entry.key] = entry
            self.served(process, entry, "l2", isolated=False)
        else:
            self.seen["dead in l2"] += 1

    def served(self, process: Process, entry: Entry, source: str, *, isolated: bool) -> None:
        self.seen[source] += 1
        allowed = max(BOUND, self.isolated_ttl) if isolated else BOUND
        for purge in self.purges:
            if entry.truly_began >= purge.invoked or not purge.covers(entry):
                continue
            if purge.returned is not None and self.now - purge.returned > allowed:
                late = self.now - purge.returned
                raise Violation(f"{entry} from {source} {late} ms after {purge} returned; {allowed} are allowed")
            if purge.told is not None and purge.by == process.index and purge.life == process.life:
                raise Violation(f"{entry} from {source} by the process that had purged it: {purge}")

    # Redis fails

    def snapshot(self) -> None:
        self.snapshots.append(self.redis.snapshot())

    def evict_ledger(self) -> None:
        self.redis.ledger = None
        self.seen["ledger evicted"] += 1

    def flush(self) -> None:
        self.redis.load((None, {}))
        self.seen["flush"] += 1

    def restart(self, which: int | None) -> None:
        """With the state of some snapshot (also a failover to a replica that lagged), or with all it had (None)."""
        self.redis.load(self.redis.snapshot() if which is None else self.snapshots[which % len(self.snapshots)])
        self.redis.run_id = self.names("run")
        self.seen["restart"] += 1

    def roll_back(self) -> None:
        """The same server with older data; within the promise only where one who has seen more is the next caller."""
        for process in self.processes:
            asked = process.ledger.sync_request(self.clock(process))
            for snapshot in reversed(self.snapshots):
                if self.redis.would_be_noticed(snapshot, asked):
                    self.redis.load(snapshot)
                    self.redis.sync(asked)
                    self.seen["rolled back"] += 1
                    return

    def fail(self) -> None:
        self.up = not self.up
