"""What needs the world, written once for threads and tasks: read L2, write L2, catch up, invalidate.

No flow raises for a tier that fails, except an explicit purge: a request goes on without it, and it is counted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tiercache.core.codec import VaryMarker, decode, encode
from tiercache.core.decisions import invalidated_by
from tiercache.core.keys import Key, canonical, storage_name, variant_key
from tiercache.core.messages import Fields, Request, StoredResponse
from tiercache.core.records import Message, SyncPage, is_text
from tiercache.core.stores import Get
from tiercache.core.values import StoredValue
from tiercache.engine import admitting, session
from tiercache.engine.effects import Effect, Fetch, Flow, Invalidate, Keep, Leave, Sync, Wait
from tiercache.engine.flights import RELEASED
from tiercache.errors import CodecError, TierError, TierRejected, TierTooLarge

if TYPE_CHECKING:
    from tiercache.engine.engine import Engine

CATCHING_UP = "tiercache: catching up"
SYNC_PATIENCE = 0.25
"""Seconds that one page of a sync may take, or half the staleness bound where that is longer: a shared tier that does
not answer is known to be away before trust ends, and no request has to find out."""
MAX_PAGES = 10_000
"""Pages of one sync: far more than a ledger has; a reply that is never taken must not hold a process for ever."""
MARKER_TTL = 86_400.0
"""Seconds that a `Vary` marker stays in L2: long, since without it a cold process cannot find the variants."""


def fetch(engine: Engine, request: Request, deadline: float) -> Flow[Any]:
    """What L2 has for this request, admitted to L1, fresh or not, as an entry of the request's kind; None if there is
    nothing alive, or if L2 cannot be trusted or reached.

    One round trip; two for a URL that varies and that this process has not met yet.
    """
    store = engine.shared
    if store is None or not request.route.policy.l2 or engine.clock() >= engine.ledger.trusted_until:
        return None
    if not engine.breaker.allows(engine.clock()):
        return None
    try:
        found, size = yield from _read(engine, place(engine, request), deadline)
        if isinstance(found, VaryMarker):
            variants = admitting.learn(engine, request.key, found.names, shared=True)
            key = variant_key(request.key, variants.names, engine.selecting(request, variants.names))
            found, size = yield from _read(engine, key, deadline)
    except CodecError as error:
        engine.complaints.swallow("unreadable value in L2", error)
        return None
    except TierError as error:
        engine.complaints.swallow("L2 read", error)
        return None
    except Exception as error:  # a fault of a client library is no reason for a request to fail
        engine.complaints.swallow("L2 read", f"{type(error).__name__}: {error}")
        return None
    if not isinstance(found, request.kind):
        return None
    try:
        return _admitted(engine, request, found, size)
    except Exception as error:  # It is data from outside, well-formed as it was.
        engine.complaints.swallow("unreadable value in L2", f"{type(error).__name__}: {error}")
        return None


def place(engine: Engine, request: Request) -> Key:
    """The key under which the answer to this request lies, as far as the variants of its URL are known here."""
    variants = admitting.variants(engine, request.key)
    if variants is None:
        return request.key
    return variant_key(request.key, variants.names, engine.selecting(request, variants.names))


def guarded(engine: Engine, effect: Effect) -> Flow[Any]:
    """A call to L2 by which the circuit breaker judges it."""
    began = engine.clock()
    try:
        answer = yield effect
    except Exception as error:
        # What it refuses (it is full, it lacks a permission) it answers all the same.
        note(engine, began, failed=not isinstance(error, TierRejected))
        raise
    note(engine, began, failed=False)
    return answer


def note(engine: Engine, began: float, *, failed: bool, probe: bool = False) -> None:
    """Tell the circuit breaker of a call to L2 that has ended, or with `probe` of one that says how L2 is."""
    breaker, now = engine.breaker, engine.clock()
    tell = breaker.probed if probe else breaker.note
    if not tell(now - began, now, failed=failed):
        return
    if breaker.open:
        engine.complaints.swallow("L2 in trouble, left alone", f"its answers fail or take {breaker.slow} s and more")
    else:
        engine.complaints.settle("L2 in trouble, left alone", "it answers again")


def _admitted(engine: Engine, request: Request, found: Any, size: int) -> Any:
    if not engine.selects(found, request):
        return None
    known = engine.find(request)
    if known is not None and known.created >= found.created:
        # What is stale here is staler there: its writer has not been heard, or its write was lost.
        return known
    if isinstance(request, Get):
        return _alive(engine, request, admitting.admit_value(engine, request, found))
    return _alive(engine, request, admitting.admit(engine, request, found, encoded=size))


def _alive(engine: Engine, request: Request, entry: Any) -> Any:
    return entry if engine.selectable(entry, request) else None


def _read(engine: Engine, key: Key, deadline: float) -> Flow[tuple[Any, int]]:
    """What lies under a key, and its length in bytes."""
    assert engine.shared is not None
    whole = canonical(key)
    data = yield from guarded(engine, Fetch(engine.shared, storage_name(whole), deadline))
    return (None, 0) if data is None else (decode(data, whole), len(data))


def keep(engine: Engine, request: Request, stored: StoredResponse | StoredValue, deadline: float) -> Flow[bool]:
    """Write what is stored to L2, and the marker of its URL where it varies; whether others find it there now."""
    store = engine.shared
    now = engine.clock()
    # Past trust its stamp would be checked against a history that may have moved on; nobody is served by the write.
    if store is None or now >= engine.ledger.trusted_until or not engine.breaker.allows(now):
        return False
    ttl_ms = int((stored.keep_until - engine.server_time.low - now) * 1000)
    if ttl_ms <= 0:
        return False
    try:
        yield from guarded(engine, Keep(store, storage_name(stored.key), encode(stored), ttl_ms, deadline))
        variants = admitting.variants(engine, request.key) if stored.vary else None
        if variants is not None and not variants.shared:
            whole = canonical(request.key)
            marker = encode(VaryMarker(key=whole, names=variants.names))
            marker_ms = max(ttl_ms, int(MARKER_TTL * 1000))
            yield Keep(store, storage_name(whole), marker, marker_ms, deadline)
            variants.shared = True
    except TierTooLarge as error:
        engine.complaints.swallow("value too large for L2", error)
        return False
    except Exception as error:  # the response has left already; whatever this is must not turn it into a failure
        engine.complaints.swallow("L2 write", f"{type(error).__name__}: {error}")
        return False
    return True


def catch_up(engine: Engine, deadline: float) -> Flow[bool]:
    """Read what the ledger has that this process has not, and renew trust. Requests that need it at once share one."""
    flight, leads = engine.flights.join(CATCHING_UP)
    if not leads:
        try:
            yield Wait(flight, deadline)
        finally:
            flight.leave()
        return engine.clock() < engine.ledger.trusted_until
    try:
        page = yield from sync(engine, deadline)
        return page is not None
    finally:
        flight.finish(RELEASED)


def sync(
    engine: Engine,
    deadline: float,
    *,
    fleet: bool = False,
    probe: bool = False,
    late: float = 0.0,
    hurried: bool = False,
) -> Flow[SyncPage | None]:
    """One sync, page by page until complete; its last page, with the rows of all processes if `fleet` says so. None,
    with the trouble noted, if the shared tier does not answer.

    `probe`: it tells the circuit breaker how the shared tier is, and began so many seconds `late`; only the listener's
    do. `hurried`: a request has no more time, which says nothing of the shared tier.
    """
    store = engine.shared
    if store is None:
        return None
    ledger = engine.ledger
    sent = asked = engine.clock()
    longest = max(SYNC_PATIENCE, ledger.bound / 2)
    try:
        for _ in range(MAX_PAGES):
            asked = engine.clock()
            if probe:
                engine.breaker.probing(asked, late)
            request = ledger.sync_request(sent)
            patience = min(deadline, time.monotonic() + longest)
            page: SyncPage = yield Sync(store, request, engine.process_id, patience, ledger.bound, fleet=fleet)
            received = engine.clock()
            engine.server_time.observe(page.time, sent=asked, received=received)
            if probe:
                note(engine, asked, failed=False, probe=True)
            if ledger.synced(request, page):
                engine.sync_succeeded()
                return page
    except Exception as error:  # whatever it is, nothing has been heard of what others purge
        if hurried:
            engine.complaints.swallow("sync for a request", f"{type(error).__name__}: {error}")
        else:
            engine.sync_failed(error, late=engine.clock() - asked > 2 * longest)
        if probe:
            note(engine, sent, failed=True, probe=True)
    return None


def invalidate(
    engine: Engine, members: Sequence[str], everything: bool, deadline: float, *, ack: bool = False
) -> Flow[tuple[list[Message], TierError | None]]:
    """Write an invalidation to the ledger and apply it here.

    Where the shared tier does not confirm, it holds in this process all the same and is queued, and the error comes
    back beside the empty list: an explicit purge raises it, a request goes on. With `ack`, whoever hears of it lets
    the shared tier know at once.
    """
    ledger = engine.ledger
    engine.stats.purges += 1
    if engine.purge_watcher is not None:
        engine.purge_watcher(members, everything)
    if engine.shared is None:
        return [ledger.purge_locally(members, everything, engine.clock())], None
    seen = ledger.stamp()
    try:
        messages: list[Message] = yield Invalidate(engine.shared, members, everything, deadline, seen, ack=ack)
    except BaseException as error:
        # Refused, out of time or cancelled: it may or may not have been recorded, and is repeated, which is harmless.
        ledger.bar(members, everything, engine.clock())
        engine.stats.purges_queued += 1
        session.note(engine, [])
        if not isinstance(error, TierError):
            raise
        engine.complaints.swallow("purge not confirmed, queued", error)
        return [], error
    behind = [ledger.answered(message, engine.clock()) for message in messages]
    session.note(engine, messages)
    if any(behind):
        yield from catch_up(engine, time.monotonic() + engine.settings.l2_budget)
    return messages, None


def changed_by(engine: Engine, request: Request, fields: Fields) -> list[str]:
    """What a successful unsafe request has changed, as members of the ledger; `fields` are its response's."""
    try:
        # A parameter that is no text cannot be told to others, and would hold up the queue of what is to be told. The
        # bucket of its path can.
        return ["h:" + tag for tag in invalidated_by(request, fields) if is_text(tag)]
    except Exception as error:
        engine.complaints.swallow("invalidation by a request", f"{type(error).__name__}: {error}")
        return []


def invalidate_quietly(engine: Engine, members: Sequence[str]) -> Flow[None]:
    """Invalidate on behalf of a request: within its budget for L2, queued where that fails, and never raising."""
    deadline = time.monotonic() + engine.settings.l2_budget
    try:
        if members:
            yield from invalidate(engine, members, False, deadline)
    except Exception as error:
        engine.complaints.swallow("invalidation by a request", f"{type(error).__name__}: {error}")


def replay(engine: Engine, deadline: float) -> Flow[bool]:
    """Write to the ledger the purges that it has not confirmed. Numbers only rise, so that twice does no harm.

    True: the replies tell of something that is not known here; sync now.
    """
    store = engine.shared
    missed = False
    if store is None:
        return missed
    for item in engine.ledger.pending():
        try:
            messages: list[Message] = yield Invalidate(
                store, item.members, item.everything, deadline, engine.ledger.stamp()
            )
        except TierError as error:
            engine.complaints.swallow("purge not confirmed, queued", error)
            return missed
        for message in messages:
            missed |= engine.ledger.confirmed(item, message, engine.clock())
        engine.complaints.settle("purge not confirmed, queued", "confirmed")
    return missed


def replay_at_last(engine: Engine, deadline: float) -> Flow[None]:
    """Write once more to the ledger what it has not confirmed, before the process ends and takes that along."""
    if engine.shared is None or not engine.ledger.pending():
        return
    # First: a reply of another history than the one known here would confirm nothing.
    if (yield from sync(engine, deadline)) is not None:
        yield from replay(engine, deadline)
    lost = sum(1 if item.everything else len(item.members) for item in engine.ledger.pending())
    if lost:
        engine.complaints.swallow(
            "purges lost at the end", f"{lost} that Redis has not confirmed; other processes never hear of them"
        )


def leave(engine: Engine, deadline: float) -> Flow[None]:
    """Trust nothing any more, and let the fleet know that this process is not to be waited for.

    A request may come meanwhile and sync. It does so as another process, whose row stays; and one that has left its
    row under the name that goes has no trust of it.
    """
    if engine.shared is None:
        return
    gone = engine.rename()
    engine.ledger.distrust(engine.clock())
    try:
        yield Leave(engine.shared, gone, deadline)
    except Exception:  # it is found out soon enough: nobody waits longer than the bound
        return
    finally:
        engine.ledger.distrust(engine.clock())
