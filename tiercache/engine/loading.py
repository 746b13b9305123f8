"""One get of a value that L1 does not answer: from L2, from a load under way, or by a load of its own.

The first half is `opening.open_exchange`, as for a response. What a load makes is admitted to L1 and lands its flight
at once, and goes to L2 behind that.
"""

from __future__ import annotations

import random
import time
from math import inf
from typing import Any

from tiercache.core.keys import canonical
from tiercache.core.policy import Policy
from tiercache.core.policy_settings import BOUNDED
from tiercache.core.stores import Get, StoreRule
from tiercache.core.values import ENCODED, Body, Held, StoredValue, body_of
from tiercache.engine import admitting, flows
from tiercache.engine.effects import Flow
from tiercache.engine.engine import Engine
from tiercache.engine.fill import Fill, current_fill
from tiercache.engine.opening import attend, open_exchange
from tiercache.engine.passage import Failure, Passage
from tiercache.engine.sources import Load, Outcome, Source, own_copy
from tiercache.errors import DataError, LoadRefused, LoadTimeout

FOR_THOSE_WHO_WAIT = 1.0
"""Seconds for which a value that is not kept is good, for those who have waited for it."""


class Loading(Passage[Held]):
    """The state of one get between its arrival and its end."""

    __slots__ = ("_tags", "_ttl", "around", "effect", "fill", "source")

    kind = Held
    request: Get

    def __init__(self, engine: Engine, request: Get, source: Source) -> None:
        super().__init__(engine, request)
        self.source = source
        self.around = current_fill()
        """What is being made with the value: noted where the get is asked for, since others may carry it out."""
        self.fill: Fill
        self.effect: type[Any] = Load
        """What asks for the value."""
        self._ttl: float | None = None
        self._tags: tuple[str, ...] = ()

    def another(self) -> Loading:
        other = Loading(self.engine, self.request, self.source)
        other.effect, other.around = self.effect, self.around
        return other

    def hit(self) -> Held | None:
        engine, request = self.engine, self.request
        if request.route.policy.consistency != BOUNDED and not request.current and engine.shared is not None:
            return None
        entry: Held | None = engine.find(request)
        if entry is None or not engine.fresh(entry, request):
            return None
        return entry if request.now < entry.soon or engine.still_fresh(request, entry) else None

    def scrub(self, stale: Held | None) -> bool:
        return True

    # -- the load ----------------------------------------------------------------------------------------------------

    def begin(self) -> Fill:
        """Note the stamp, before the loader is called or the database written."""
        ledger = self.engine.ledger
        # The mark first, as for a response.
        mark = ledger.mark
        self.fill = fill = Fill(ledger.stamp(), mark, self.engine.clock(), (self.request.key,), ledger)
        fill.parent = self.around
        if self.stale is not None and not ledger.alive(self.stale):
            self.stale = None
        return fill

    def choose(self, ttl: float | None, tags: tuple[str, ...]) -> None:
        """A lifetime for this value in place of its store's, and tags beside them."""
        self._ttl, self._tags = ttl, tags

    def made(self, value: Any) -> Outcome:
        """The loader has answered: store it in L1 and land the flight."""
        fill, counts = self.fill, self.source.counts
        try:
            body, tags, problem = *self._prepared(value), None
        except Exception as error:
            body, tags, problem = None, None, error
        if body is None or tags is None:
            self.engine.complaints.swallow("value not kept", f"{self.request.route.named}: {problem}")
            counts.refused["value"] += 1
            # Dead for whoever is made with it, since nothing could invalidate it.
            fill.foreign = True
            entry = self._entry(Body(ENCODED, b"", value, 0), (), FOR_THOSE_WHO_WAIT)
            self.abandon()
            return Outcome(entry, value, None, fill.refusal, True)
        lifetime, window, reason = self._lifetime(value, body)
        if reason:
            counts.refused[reason] += 1
            entry = self._entry(body, tags, FOR_THOSE_WHO_WAIT)
            if fill.refusal:
                self.abandon()
        else:
            entry = self._entry(body, tags, lifetime, window, keep=True)
            counts.stored += 1
            self.engine.breaker.took(self.engine.clock() - fill.began)
        if self.flight is not None:
            self.flight.finish(entry)
        self._over()
        return Outcome(entry, value, None, fill.refusal, True)

    def _prepared(self, value: Any) -> tuple[Body, tuple[str, ...]]:
        return body_of(value, self.request.route.codec), self.tags_of(value)

    def tags_of(self, value: Any) -> tuple[str, ...]:
        """Whatever kills this value, as the ledger names it."""
        request, fill = self.request, self.fill
        rule: StoreRule = request.route
        own = (*rule.tags_for(request.subject, value), *self._tags)
        tags = [*["t:" + tag for tag in (*own, *fill.tags)], *fill.followed, *rule.implied(request.key)]
        return tuple(dict.fromkeys(tags))

    def _lifetime(self, value: Any, body: Body) -> tuple[float, float, str]:
        """For how long it is fresh, and of use beyond that; and why it is not kept at all."""
        engine, fill = self.engine, self.fill
        rule: StoreRule = self.request.route
        policy: Policy = rule.policy
        assert policy.ttl is not None
        chosen = self._ttl if fill.ttl is None else fill.ttl
        lifetime = policy.ttl if chosen is None else chosen
        if value is None and chosen is None and rule.none_ttl is not None:
            lifetime = rule.none_ttl
            if not lifetime:
                return 0.0, 0.0, "none"
        elif policy.jitter and chosen is None:
            lifetime *= 1 - policy.jitter * random.random()
        if fill.limit < inf:
            # As a response: what was made with stale data is as stale.
            lifetime = min(lifetime, max(0.0, fill.limit - engine.clock()))
        window = max(policy.stale_while_revalidate or 0.0, policy.stale_if_error or 0.0)
        if fill.refusal:
            return 0.0, 0.0, "no-store"
        if fill.foreign:
            return 0.0, 0.0, "data"
        if lifetime + window <= 0:
            return 0.0, 0.0, "no-lifetime"
        if len(body.data) > engine.max_body(policy):
            return 0.0, 0.0, "too-large"
        return lifetime, window, ""

    def _entry(
        self, body: Body, tags: tuple[str, ...], lifetime: float, window: float = 0.0, *, keep: bool = False
    ) -> Held:
        engine, request, fill = self.engine, self.request, self.fill
        policy: Policy = request.route.policy
        now = engine.clock()
        created = now + engine.server_time.low
        stored = StoredValue(
            key=canonical(request.key),
            # In no history: nobody else may use it, and what is made with it is not stored.
            epoch="" if fill.foreign else fill.stamp.epoch,
            number=fill.stamp.number,
            tags=tags,
            created=created,
            fresh_until=created + lifetime,
            keep_until=created + lifetime + window,
            cost=now - fill.began,
            stale_while_revalidate=(policy.stale_while_revalidate or 0.0) if keep else 0.0,
            stale_if_error=(policy.stale_if_error or 0.0) if keep else 0.0,
            form=body.form,
            body=body.data,
        )
        if not keep:
            return admitting.held(engine, request, stored, body, mark=fill.mark, began=fill.since)
        if policy.l2 and engine.shared is not None:
            self.share = request.route.packed(stored)
        return admitting.admit_value(engine, request, stored, body, mark=fill.mark, began=fill.since)

    def failed(self, error: Exception) -> Held | None:
        """The loader raised: what is given in place of the error, if anything may."""
        stale = self.stale
        self.source.counts.failed += 1
        if self.refresh:
            self.cool()
        if stale is not None and self.recording and self.may_hide(stale):
            self.engine.complaints.swallow("loader failed, answered stale", f"{type(error).__name__}: {error}")
            self.cool()
        else:
            stale = None
        if self.flight is not None:
            self.flight.finish(Failure(stale, error))
        return stale


def read(loading: Loading) -> Flow[Outcome]:
    """One get, with a load if it takes one."""
    outcome = yield from opened(loading)
    if outcome is None:
        outcome = yield from load(loading)
    return outcome


def opened(loading: Loading) -> Flow[Outcome | None]:
    """A get up to the load; None: it takes one."""
    engine, request, counts = loading.engine, loading.request, loading.source.counts
    if not engine.enabled:
        return (yield from unstored(loading))
    if loading.around is not None and loading.around.within(request.key):
        return Outcome(error=_own_key(request))
    # Here as with a response: one caller at a time is chosen to have made anew what is soon to end.
    entry = loading.hit()
    if entry is not None:
        counts.hits_l1 += 1
        return Outcome(entry)
    try:
        answer = yield from open_exchange(loading)
    except BaseException:
        loading.forsake()
        raise
    if answer is not None:
        entry = answer.entry
        if request.now >= entry.fresh_until:
            counts.stale += 1
        elif answer.collapsed or answer.stored:
            counts.collapsed += 1
        elif answer.detail == "l2":
            counts.hits_l2 += 1
        else:
            counts.hits_l1 += 1
        return Outcome(entry)
    if loading.failure:
        counts.misses += 1
        yield from loading.close()
        return Outcome(error=_failure(loading))
    counts.misses += 1
    return None


def load(loading: Loading) -> Flow[Outcome]:
    """Call the loader, and keep what it gives."""
    loading.source.counts.loads += 1
    try:
        loading.begin()
        try:
            value = yield loading.effect(loading)
        except Exception as error:
            stale = loading.failed(error)
            outcome = Outcome(error=error) if stale is None else Outcome(stale)
        else:
            outcome = _kept(loading, value)
        yield from loading.close()
    except BaseException:
        loading.forsake()
        raise
    return outcome


def _kept(loading: Loading, value: Any) -> Outcome:
    try:
        return loading.made(value)
    except Exception as error:  # whatever this is, the loader has answered
        loading.engine.complaints.swallow("value not kept", f"{type(error).__name__}: {error}")
        loading.abandon()
        return Outcome(None, value, None, loading.fill.refusal, True)


def unstored(loading: Loading) -> Flow[Outcome]:
    """Call the loader and keep nothing: the cache is switched off."""
    loading.begin()
    try:
        value = yield loading.effect(loading)
    except Exception as error:
        return Outcome(error=error)
    return Outcome(None, value, None, None, True)


def peek(loading: Loading) -> Flow[Held | None]:
    """What the tiers have, without a load: fresh, or nothing."""
    engine, request = loading.engine, loading.request
    if not engine.enabled:
        return None
    deadline = time.monotonic() + engine.settings.l2_budget
    counts = loading.source.counts
    known, _ = yield from attend(loading, deadline)
    if known:
        # Nobody is here to make anew what is soon to end.
        entry: Held | None = engine.find(request)
        if entry is not None and engine.fresh(entry, request):
            counts.hits_l1 += 1
            return entry
        entry = yield from flows.fetch(engine, request, deadline)
        if entry is not None and engine.fresh(entry, request):
            counts.hits_l2 += 1
            return entry
    counts.misses += 1
    return None


def _own_key(request: Get) -> DataError:
    return DataError(
        f"{request.route.named}: the loader of {request.subject!r} asks for {request.subject!r} itself, and would wait "
        "for itself"
    )


def _failure(loading: Loading) -> BaseException:
    request, policy = loading.request, loading.request.route.policy
    where = f"{request.route.named}: {request.subject!r}"
    if loading.error is not None:
        return own_copy(loading.error)
    if loading.failure == "timeout":
        return LoadTimeout(f"{where} takes longer to load than fill_timeout={policy.fill_timeout:g} s")
    return LoadRefused(f"{where} is not loaded: max_fills={policy.max_fills} loads are under way in this process")
