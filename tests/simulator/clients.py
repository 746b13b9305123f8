"""What visitors and the application do, as flows: they go through the engine as the faces do, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulator import data
from tests.simulator.oracle import Call, Client, Purge
from tests.simulator.site import PAGES, Asked, Page
from tests.simulator.world import Cancelled, Dice, Flow, Sleep
from tiercache.core.session_mark import FIELD
from tiercache.engine import purging, session
from tiercache.engine.exchange import Exchange
from tiercache.engine.opening import open_exchange
from tiercache.errors import PurgeUnconfirmed

if TYPE_CHECKING:
    from tests.simulator.process import Process
    from tiercache.core.entries import Entry


_NOTHING: frozenset[Purge] = frozenset()
_PLAIN = [Asked(page) for page in PAGES if page.consistency == "bounded"]
(SESSION_PAGE,) = [page for page in PAGES if page.consistency == "session"]


class AppFailed(Exception):
    pass


def look(process: Process) -> None:
    """What would L1 answer now, page by page? Requests that go away again if it does not."""
    hit, oracle, now = process.engine.hit, process.fleet.oracle, process.fleet.world.now
    for request in _PLAIN:
        request.isolated = False
        entry = hit(request)
        if entry is not None:
            oracle.served(process, entry, "l1", now, _NOTHING)


def look_again(process: Process) -> None:
    """The same by a thread that runs in the middle of another one's change; one that waits for nothing."""
    look(process)
    engine = process.engine
    for client in process.fleet.clients:
        visitor = Visitor(process, SESSION_PAGE, client)
        stamp = session.asked(engine, visitor.request)
        if stamp is not None and engine.ledger.reached(stamp):
            visitor.request.current = True
            entry = engine.hit(visitor.request)
            if entry is not None:
                visitor.served(entry, "l1")


class Visitor:
    """One request, and what whoever sent it may count on."""

    __slots__ = ("arrived", "page", "process", "purges", "request")

    def __init__(self, process: Process, page: Page, client: Client | None) -> None:
        self.process = process
        self.page = page
        self.arrived = process.fleet.world.now
        self.purges = _NOTHING
        if client is None or client.mark is None:
            self.request = Asked(page)
        else:
            self.purges = frozenset(client.purges)
            self.request = Asked(page, {FIELD: client.mark})

    def served(self, entry: Entry, how: str) -> None:
        self.process.fleet.oracle.served(self.process, entry, how, self.arrived, self.purges)


def visit(process: Process, page: Page, dice: Dice, client: Client | None = None) -> Flow:
    """One GET."""
    engine, fleet = process.engine, process.fleet
    visitor = Visitor(process, page, client)
    request = visitor.request
    entry = engine.hit(request)
    if entry is not None:
        visitor.served(entry, "l1")
        return
    if engine.passes_by(request):
        return
    process.ensure_listening()
    exchange = Exchange(engine, request)
    try:
        answer = yield from open_exchange(exchange)
    except BaseException:
        exchange.abandon()
        raise
    if answer is not None:
        how = "followed" if answer.collapsed else answer.detail
        visitor.served(answer.entry, how)
        if exchange.refresh:
            fleet.world.seen["refresh behind"] += 1
            process.spawn(refresh(process, exchange, page, dice), Dice(dice.under(1 << 30), 7), "refresh")
    elif not exchange.observing:
        yield Sleep(fleet.app_time(dice))
    else:
        yield from fill(process, exchange, page, dice, visitor)


def refresh(process: Process, exchange: Exchange, page: Page, dice: Dice) -> Flow:
    try:
        yield from fill(process, exchange, page, dice, None)
    finally:
        process.engine.limits.refreshed()


def fill(process: Process, exchange: Exchange, page: Page, dice: Dice, visitor: Visitor | None) -> Flow:
    try:
        for _ in range(2):
            yield from _call(process, exchange, page, dice, visitor)
            if not exchange.again:
                break
    except BaseException:
        exchange.abandon()
        raise
    yield from exchange.close()


def _call(process: Process, exchange: Exchange, page: Page, dice: Dice, visitor: Visitor | None) -> Flow:
    """One call of the app: it reads the database some time after it was called, and answers some time after that."""
    fleet = process.fleet
    world, seen = fleet.world, fleet.world.seen
    taken = exchange.begin()
    call = fleet.oracle.call(page, process.name)
    seen["fills"] += 1
    conditions = dict(exchange.conditions() or ())
    yield Sleep(fleet.app_time(dice), fragile=True)
    call.version = version = fleet.versions[page.path]
    if page.shows:
        yield from data.show(process, call, taken, dice)
    if dice.roll() < 0.1:
        more = dice.pick(("a", "b", "c"))
        call.tags.add(more)
        taken.tags.add(more)
    luck = 1.0 if fleet.calm else dice.roll()
    if luck < 0.05:
        seen["app failed"] += 1
        answer = exchange.failed(AppFailed())
        if answer is not None and visitor is not None:
            visitor.served(answer.entry, "error")
        exchange.abandon()
        return
    etag = b'"v%d-%d"' % (version, call.shown)
    head = ((b"x-call", b"%d" % call.number), (b"etag", etag))
    if conditions.get(b"if-none-match") == etag:
        seen["not modified"] += 1
        exchange.started(304, b"", head)
        if exchange.substitute is None:
            return
        _inherit(process, exchange, call)
    else:
        exchange.started(500 if luck < 0.1 else 200, b"", head)
    if exchange.substitute is not None:
        # What this very call has validated is the app's own answer, like any other that it gives.
        if visitor is not None and exchange.substitute.detail == "stale-if-error":
            visitor.served(exchange.substitute.entry, "error")
        return
    if world.trace is not None:
        world.log(f"{process.name}: {call} answers, stamp {taken.stamp}, mark {taken.mark}")
    yield Sleep(fleet.app_time(dice) * 0.3, fragile=True)
    exchange.chunk(b"body of version %d" % version)
    exchange.complete()


def _inherit(process: Process, exchange: Exchange, call: Call) -> None:
    """What was validated keeps the tags that the views had given it."""
    assert exchange.substitute is not None
    call.tags.update(tag[2:] for tag in exchange.substitute.entry.tags if tag.startswith("t:"))


def purge(process: Process, record: Purge, named: purging.Purge, client: Client | None) -> Flow:
    """One purge by the application, from the call to what it says."""
    world, seen = process.fleet.world, process.fleet.world.seen
    process.ensure_listening()
    if client is not None and client.busy:
        # Of two answers at once a browser keeps the cookie of the one that comes last, whichever purge was last.
        client = None
    if client is not None:
        client.busy = True
    noted = session.watch() if client is not None else None
    record.invoked = world.now
    record.members = named.members
    process.fleet.oracle.purge(record)
    if world.trace is not None:
        world.log(f"{process.name}: asks for {record}{' and waits' if named.wait else ''}")
    try:
        receipt = yield from purging.carry_out(process.engine, named)
    except (PurgeUnconfirmed, Cancelled) as error:
        seen["unconfirmed" if isinstance(error, PurgeUnconfirmed) else "cancelled"] += 1
        # What is not queued has been confirmed before the call was cut off.
        process.awaiting.append(record)
    else:
        seen["soft purges" if record.soft else "purges"] += 1
        record.returned = world.now
        if named.wait:
            seen["barriers"] += 1
            seen["isolated named"] += bool(receipt.isolated)
            record.barrier = world.now
            record.acknowledged = frozenset(receipt.acknowledged)
    process.told[record] = world.now
    if noted is not None and client is not None:
        told = dict(session.lines(process.engine, noted, secure=False))
        client.mark = told[FIELD]
        client.purges.append(record)
        client.busy = False
        seen["session purges"] += 1
    if world.trace is not None:
        world.log(f"{process.name}: is told of {record}: {'confirmed' if record.returned else 'queued'}")
