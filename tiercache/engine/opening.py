"""The first half of an exchange: whether the store, or a fill under way, answers a request that L1 does not."""

from __future__ import annotations

import time
from collections.abc import Hashable

from tiercache.core.admission import scrubbed
from tiercache.core.directives import accepts_refreshing, accepts_stale
from tiercache.core.entries import Entry
from tiercache.core.keys import variant_key
from tiercache.core.policy import BOUNDED
from tiercache.engine import admitting, consistency, flows
from tiercache.engine.effects import Flow, Wait
from tiercache.engine.exchange import Exchange, Failure
from tiercache.engine.flights import LATE, RELEASED, RETRY, Flight
from tiercache.engine.serving import Answer

ATTEMPTS = 3
"""How often a follower joins again when what its leader brought was not for it, before it calls the app."""


def open_exchange(exchange: Exchange) -> Flow[Answer | None]:
    """Ask L2 and the fills under way. None: call the app."""
    engine, request = exchange.engine, exchange.request
    deadline = time.monotonic() + engine.settings.l2_budget
    if engine.must_catch_up() and (yield from flows.catch_up(engine, deadline)):
        entry = engine.hit(request)
        if entry is not None:
            return Answer(entry, "l1")
    if engine.shared is not None and not engine.trusted():
        exchange.detail = "isolated"
    known = True
    if request.route.policy.consistency != BOUNDED:
        known = yield from consistency.reach(engine, request)
        entry = engine.hit(request) if known else None
        if entry is not None:
            return Answer(entry, "l1")
    answer: Answer | None = None
    if not known:
        _pass(exchange)
    elif request.key in engine.unshareable:
        # A condition is left to the app: it may well answer it, and what it answers is rarely for us.
        exchange.recording = request.method == "GET" and not request.conditional
    elif _alone(exchange):
        answer = yield from _open_alone(exchange, deadline)
    else:
        answer = yield from _open_shared(exchange, deadline)
    if answer is None and request.directives is not None and request.directives.only_if_cached:
        exchange.unsatisfiable = True
        exchange.abandon()
    return answer


def _pass(exchange: Exchange) -> None:
    """Leave the store aside, since this process may lack a purge that the answer must know of. What the app answers
    may be kept: its stamp says what it knew."""
    request = exchange.request
    exchange.recording = request.method == "GET" and not request.conditional
    exchange.forward, exchange.detail = "bypass", "behind"
    exchange.engine.stats.bypassed["behind"] += 1


def _alone(exchange: Exchange) -> bool:
    """Whether this request neither waits for others nor others for it: nobody waits for somebody else's page, nor
    for one that would be cut down for him; and a client that wants the newest gets no fill begun before."""
    request = exchange.request
    return (
        bool(request.credential)
        or request.method != "GET"
        or request.conditional == "range"
        or (bool(request.conditional) and not exchange.engine.expects(request) and not exchange.engine.find(request))
        or (request.directives is not None and request.directives.no_cache)
    )


def _open_alone(exchange: Exchange, deadline: float) -> Flow[Answer | None]:
    engine, request = exchange.engine, exchange.request
    entry = yield from flows.fetch(engine, request, deadline)
    if entry is not None and engine.fresh(entry, request):
        return Answer(entry, "l2")
    exchange.stale = entry or engine.find(request)
    exchange.recording = request.method == "GET" and (not request.conditional or exchange.stale is not None)
    if request.conditional == "range":
        exchange.recording = False
    if request.credential:
        exchange.forward, exchange.detail = "bypass", request.credential
    elif request.conditional and not exchange.recording:
        exchange.forward, exchange.detail = "request", request.conditional
    elif exchange.stale is not None:
        exchange.forward = "stale"
    if exchange.forward in ("bypass", "request"):
        engine.stats.bypassed[exchange.detail] += 1
    return None


def _open_shared(exchange: Exchange, deadline: float) -> Flow[Answer | None]:
    engine, request = exchange.engine, exchange.request
    patience = time.monotonic() + engine.settings.lease_wait
    exchange.recording = True
    for _ in range(ATTEMPTS):
        flight, leads = engine.flights.join(_flight_key(exchange))
        if leads:
            return (yield from _lead(exchange, flight, deadline))
        stale = engine.find(request)
        if stale is not None and _may_serve_stale(exchange, stale):
            flight.leave()
            exchange.recording = False
            return Answer(stale, "l1")
        try:
            outcome = yield Wait(flight, patience)
        finally:
            flight.leave()
        if outcome is LATE or outcome is RELEASED:
            return None
        if outcome is RETRY:
            continue
        if isinstance(outcome, Entry) and engine.usable(outcome, request):
            exchange.recording = False
            return Answer(outcome, "l1", collapsed=True)
        if isinstance(outcome, Failure) and outcome.covers(exchange):
            exchange.recording = False
            return Answer(outcome.stale, "l1", collapsed=True)
    return None


def _lead(exchange: Exchange, flight: Flight, deadline: float) -> Flow[Answer | None]:
    engine, request = exchange.engine, exchange.request
    exchange.flight = flight
    try:
        # A flight may have landed between our look into L1 and our joining.
        entry, tier = engine.find(request), "l1"
        if entry is None or not (engine.fresh(entry, request) or _may_serve_stale(exchange, entry)):
            found = yield from flows.fetch(engine, request, deadline)
            if found is not None and found is not entry:
                entry, tier = found, "l2"
    except BaseException:
        flight.finish(RETRY)
        raise
    if entry is None:
        return None
    if engine.fresh(entry, request):
        exchange.recording = False
        flight.finish(entry)
        return Answer(entry, tier)
    exchange.stale = entry
    exchange.forward = "stale"
    if entry.response.fresh_until <= entry.response.created:
        # Whatever the app answers, each request has to ask for itself.
        flight.finish(RELEASED)
    if _may_serve_stale(exchange, entry):
        _refresh_behind(exchange, entry)
        return Answer(entry, tier)
    return None


def _refresh_behind(exchange: Exchange, stale: Entry) -> None:
    """RFC 5861 §3: let this exchange go on behind its answer, unless enough do that already."""
    # Not every way here has scrubbed the request: a client may have asked for a stale answer.
    allowed = exchange.request.now < stale.refresh_until and _scrub(exchange, stale)
    if allowed and exchange.engine.may_refresh():
        exchange.refresh = True
    else:
        exchange.abandon()


def _scrub(exchange: Exchange, stale: Entry) -> bool:
    """Whether the cache can ask in the client's place at all."""
    engine, request = exchange.engine, exchange.request
    variants = admitting.variants(engine, request.key)
    names = tuple([name for name, _ in stale.response.vary]) if variants is None else variants.names
    exchange.scrubbed = scrubbed(request, request.route.policy, engine.rules, names)
    return exchange.scrubbed is not None


def _may_serve_stale(exchange: Exchange, entry: Entry) -> bool:
    """RFC 5861 §3, or RFC 9111 §5.2.1.2 where the client asks for it."""
    request = exchange.request
    directives = request.directives
    if directives is not None and accepts_stale(directives, entry, request.now):
        return True
    return request.now < entry.refresh_until and accepts_refreshing(directives) and _scrub(exchange, entry)


def _flight_key(exchange: Exchange) -> Hashable:
    """Requests for different variants do not wait for each other, once it is known that there are any."""
    engine, key = exchange.engine, exchange.request.key
    variants = admitting.variants(engine, key)
    return (
        key
        if variants is None
        else variant_key(key, variants.names, engine.selecting(exchange.request, variants.names))
    )
