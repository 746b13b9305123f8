"""The first half of an exchange: whether the store, or a fill under way, answers a request that L1 does not."""

from __future__ import annotations

import time

from tiercache.core.directives import accepts_refreshing, accepts_stale
from tiercache.core.policy import Policy
from tiercache.core.policy_settings import BOUNDED
from tiercache.engine import consistency, flows, leases
from tiercache.engine.effects import Flow, Wait
from tiercache.engine.flights import LATE, RELEASED, RETRY, Flight
from tiercache.engine.passage import E, Failure, Passage
from tiercache.engine.serving import Answer

LONGEST_FILL = 3_600.0
"""Seconds that a client waits for a fill behind its request where the rule gives no `fill_timeout`."""
HUNG = 60.0
"""Seconds after which a fill of a rule that bounds the time for it may never end: the next request makes its own."""
ATTEMPTS = 3
"""How often a follower joins again when what its leader brought was not for it, before it calls the app."""


def open_exchange(exchange: Passage[E]) -> Flow[Answer[E] | None]:
    """Ask L2 and the fills under way. None: call the app."""
    engine, request = exchange.engine, exchange.request
    deadline = time.monotonic() + engine.settings.l2_budget
    known = True
    # Else there is nothing to ask, and a flow for that would be for nothing.
    if engine.must_catch_up() or request.route.policy.consistency != BOUNDED:
        known, entry = yield from attend(exchange, deadline)
        if entry is not None:
            return Answer(entry, "l1")
    if engine.shared is not None and not engine.trusted():
        exchange.detail = "isolated"
    answer: Answer[E] | None = None
    if known and request.early and (request.key in engine.unshareable or _alone(exchange)):
        entry = engine.find(request)
        if entry is not None and engine.fresh(entry, request):
            return Answer(entry, "l1")
    if not known:
        _pass(exchange)
    elif request.key in engine.unshareable:
        # A condition is left to the app: it may well answer it, and what it answers is rarely for us.
        exchange.recording = request.method == "GET" and not request.conditional
    elif _alone(exchange):
        answer = yield from _open_alone(exchange, deadline)
    else:
        answer = yield from _open_shared(exchange, deadline)
    if answer is None and not exchange.failure:
        if _only_if_cached(exchange):
            exchange.failure = "only-if-cached"
            exchange.abandon()
        elif exchange.recording:
            answer = yield from _make_room(exchange)
    return answer


def attend(exchange: Passage[E], deadline: float) -> Flow[tuple[bool, E | None]]:
    """Learn what this process must know before the store may answer: whether it does, and what L1 answers then."""
    engine, request = exchange.engine, exchange.request
    if engine.must_catch_up() and (yield from flows.catch_up(engine, deadline)):
        entry = exchange.hit()
        if entry is not None:
            return True, entry
    if request.route.policy.consistency == BOUNDED:
        return True, None
    known = yield from consistency.reach(engine, request)
    return known, exchange.hit() if known else None


def _only_if_cached(exchange: Passage[E]) -> bool:
    directives = exchange.request.directives
    return directives is not None and directives.only_if_cached


def _make_room(exchange: Passage[E]) -> Flow[Answer[E] | None]:
    """A place among those that the app works on for the store; or what is stale; or, for want of both, a failure."""
    if exchange.take_room():
        return None
    # Another process may have room.
    yield from exchange.give_back(made=False)
    stale = exchange.stale or exchange.engine.find(exchange.request)
    if stale is not None and exchange.may_hide(stale):
        return _stand_in(exchange, stale, "overload")
    exchange.failure = "overload"
    exchange.abandon()
    return None


def _pass(exchange: Passage[E]) -> None:
    """Leave the store aside, since this process may lack a purge that the answer must know of. What the app answers
    may be kept: its stamp says what it knew."""
    request = exchange.request
    exchange.recording = request.method == "GET" and not request.conditional
    exchange.forward, exchange.detail = "bypass", "behind"
    exchange.engine.stats.bypassed["behind"] += 1


def _alone(exchange: Passage[E]) -> bool:
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


def _open_alone(exchange: Passage[E], deadline: float) -> Flow[Answer[E] | None]:
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
        exchange.forward = _forward(exchange, exchange.stale)
    if exchange.forward in ("bypass", "request"):
        engine.stats.bypassed[exchange.detail] += 1
    return None


def _open_shared(exchange: Passage[E], deadline: float) -> Flow[Answer[E] | None]:
    engine, request = exchange.engine, exchange.request
    policy = request.route.policy
    came = time.monotonic()
    patience = came + engine.settings.lease_wait
    exchange.recording = True
    if policy.coalesce is False and not _refreshable(exchange):
        return (yield from _lead(exchange, None, deadline, patience))
    for _ in range(ATTEMPTS):
        # Requests for different variants do not wait for each other, once it is known that there are any.
        flight, leads = engine.flights.join(flows.place(engine, request))
        if leads:
            return (yield from _lead(exchange, flight, deadline, patience))
        if _patient(policy) and came - flight.began >= max(HUNG, policy.fill_timeout or 0.0):
            flight.leave()
            flight.depart()
            continue
        stale = engine.find(request)
        if stale is not None and (engine.fresh(stale, request) or _may_serve_stale(exchange, stale)):
            flight.leave()
            exchange.recording = False
            return Answer(stale, "l1")
        until = _until(exchange, stale, flight.began, came, patience)
        try:
            outcome = yield Wait(flight, until)
        finally:
            flight.leave()
        if outcome is LATE and until < patience:
            return _too_slow(exchange, stale)
        if outcome is LATE and _patient(policy):
            return (yield from _ask_behind(exchange))
        if outcome is LATE or outcome is RELEASED:
            return None
        if outcome is RETRY:
            continue
        if isinstance(outcome, exchange.kind) and engine.usable(outcome, request):
            exchange.recording = False
            return Answer(outcome, "l1", collapsed=True)
        if isinstance(outcome, Failure) and outcome.covers(exchange):
            exchange.recording = False
            return Answer(outcome.stale, "l1", collapsed=True)
        if isinstance(outcome, Failure) and outcome.error is not None:
            _share_error(exchange, outcome.error)
            return None
    return None


def _forward(exchange: Passage[E], entry: E) -> str:
    """RFC 9211 §2.2: why the app is asked although there is an entry."""
    return "stale" if exchange.engine.answers(entry, exchange.request) else "vary-miss"


def _refreshable(exchange: Passage[E]) -> bool:
    """Whether L1 can answer while one request, of all that come meanwhile, has the entry made anew."""
    engine, request = exchange.engine, exchange.request
    stale = None if request.early else engine.find(request)
    return request.early or (stale is not None and _may_serve_stale(exchange, stale))


def _until(exchange: Passage[E], stale: E | None, began: float, came: float, patience: float) -> float:
    """When one who waits for another's fill, begun at `began`, gives up: the rule may have less patience."""
    hard, soft = exchange.request.route.policy.fill_timeout, _soft(exchange, stale)
    if soft is not None:
        return min(patience, began + soft)
    return patience if hard is None else min(patience, came + hard)


def _soft(exchange: Passage[E], stale: E | None) -> float | None:
    """Seconds after which something stale answers in place of an app that is slow."""
    if stale is None or not exchange.may_hide(stale) or not exchange.engine.answers(stale, exchange.request):
        return None
    policy: Policy = exchange.request.route.policy
    return policy.serve_stale_after


def _too_slow(exchange: Passage[E], stale: E | None) -> Answer[E] | None:
    """The rule's patience with another's fill is over: answer stale, or not at all."""
    exchange.recording = False
    if stale is not None and exchange.may_hide(stale):
        return Answer(stale, "slow")
    exchange.failure = "timeout"
    return None


def _share_error(exchange: Passage[E], error: BaseException) -> None:
    """What another's call of the app has raised, this one would have raised too."""
    exchange.recording = False
    exchange.failure, exchange.error = "error", error


def _lead(exchange: Passage[E], flight: Flight | None, deadline: float, patience: float) -> Flow[Answer[E] | None]:
    engine, request = exchange.engine, exchange.request
    exchange.flight = flight
    try:
        # A flight may have landed between our look into L1 and our joining.
        entry: E | None = engine.find(request)
        tier = "l1"
        if entry is None or request.early or not (engine.fresh(entry, request) or _may_serve_stale(exchange, entry)):
            found = yield from flows.fetch(engine, request, deadline)
            if found is not None and found is not entry:
                entry, tier = found, "l2"
                request.early = False
        if entry is not None and engine.fresh(entry, request):
            if request.early:
                yield from _refresh_behind(exchange, entry)
                return Answer(entry, tier)
            return _land(exchange, entry, tier)
        if entry is not None:
            exchange.stale = entry
            exchange.forward = _forward(exchange, entry)
            if entry.lifetime <= 0 and flight is not None:
                # Whatever the app answers, each request has to ask for itself.
                flight.finish(RELEASED)
            if _may_serve_stale(exchange, entry):
                yield from _refresh_behind(exchange, entry)
                return Answer(entry, tier)
            if request.key in engine.cooling and exchange.may_hide(entry):
                return _stand_in(exchange, entry, "stale-if-error")
        if _only_if_cached(exchange):
            return None
        if leases.shared_fill(engine, request):
            began = time.monotonic()
            until = _until(exchange, exchange.stale, began, began, patience)
            got = yield from leases.take(engine, request, until)
            if isinstance(got, exchange.kind):
                return _land(exchange, got, "l2")
            exchange.lease = got
            if got is None and until < patience and time.monotonic() >= until:
                if flight is not None:
                    flight.finish(RETRY)
                return _too_slow(exchange, exchange.stale)
        if _patient(request.route.policy):
            return (yield from _ask_behind(exchange))
    except BaseException:
        if flight is not None:
            flight.finish(RETRY)
        leases.forget(engine, exchange.lease)
        raise
    return None


def _land(exchange: Passage[E], entry: E, tier: str) -> Answer[E]:
    exchange.recording = False
    if exchange.flight is not None:
        exchange.flight.finish(entry)
    return Answer(entry, tier)


def _stand_in(exchange: Passage[E], stale: E, detail: str) -> Answer[E]:
    """Answer stale, whoever waits for this likewise, and leave the app alone."""
    exchange.recording = False
    if exchange.flight is not None:
        exchange.flight.finish(Failure(stale))
    return Answer(stale, detail)


def _patient(policy: Policy) -> bool:
    """Whether the rule bounds the time for which clients wait for the app."""
    return policy.serve_stale_after is not None or policy.fill_timeout is not None


def _ask_behind(exchange: Passage[E]) -> Flow[Answer[E] | None]:
    """Have the app asked behind this request, and wait for that no longer than the rule says. What the app answers
    later is stored all the same. None: the app is to be called for this client alone.
    """
    engine, request, stale = exchange.engine, exchange.request, exchange.stale
    policy = request.route.policy
    if not exchange.take_room():
        return None  # and is told so where every request is
    behind = exchange.hand_over()
    flight = behind.flight = behind.flight or engine.flights.join(behind)[0]
    # The client counts as one who waits, so that the fill goes on for its sake.
    flight.follow()
    began = time.monotonic()
    exchange.ask_behind(behind)
    try:
        for patience in (_soft(exchange, stale), policy.fill_timeout or LONGEST_FILL):
            if patience is None:
                continue
            outcome = yield Wait(flight, began + patience)
            if isinstance(outcome, exchange.kind) and engine.usable(outcome, request):
                status = exchange.status_of(outcome)
                return Answer(outcome, "", forward_status=status, stored=True, forward=exchange.forward)
            if isinstance(outcome, Failure) and outcome.covers(exchange):
                return Answer(outcome.stale, "stale-if-error", forward_status="")
            if isinstance(outcome, Failure) and outcome.error is not None:
                _share_error(exchange, outcome.error)
                return None
            if outcome is not LATE:
                return None
            if stale is not None and exchange.may_hide(stale):
                return Answer(stale, "slow")
        exchange.failure = "timeout"
        return None
    finally:
        flight.leave()


def _refresh_behind(exchange: Passage[E], stale: E) -> Flow[None]:
    """RFC 5861 §3: let this exchange go on behind its answer, unless enough do that already, here or in the fleet."""
    engine, request = exchange.engine, exchange.request
    # Not every way here has scrubbed the request: a client may have asked for a stale answer.
    wanted = request.early or request.now < stale.refresh_until
    if not wanted or request.key in engine.cooling or not exchange.scrub(stale) or not engine.limits.may_refresh():
        exchange.abandon()
        return
    try:
        if leases.shared_fill(engine, request):
            got = yield from leases.seize(engine, request)
            if isinstance(got, leases.Lease):
                exchange.lease = got
            # Where the shared tier cannot say who refreshes, each process does.
            exchange.refresh = got is not leases.TAKEN and exchange.take_room()
        else:
            exchange.refresh = exchange.take_room()
        if not exchange.refresh:
            yield from exchange.give_back(made=False)
    finally:
        if not exchange.refresh:
            engine.limits.refreshed()
            exchange.abandon()


def _may_serve_stale(exchange: Passage[E], entry: E) -> bool:
    """RFC 5861 §3, or RFC 9111 §5.2.1.2 where the client asks for it."""
    request = exchange.request
    directives = request.directives
    if not exchange.engine.answers(entry, request):
        return False
    if directives is not None and accepts_stale(directives, entry, request.now):
        return True
    return request.now < entry.refresh_until and accepts_refreshing(directives) and exchange.scrub(entry)
