"""What a process must know before it answers from the store, where a rule asks for more than the staleness bound."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tiercache.core.messages import Request
from tiercache.core.policy_settings import STRONG
from tiercache.core.session_mark import UNCONFIRMED
from tiercache.engine import flows, session
from tiercache.engine.effects import Flow, Wait
from tiercache.engine.flights import RELEASED, RETRY, Flight

if TYPE_CHECKING:
    from tiercache.engine.engine import Engine

_NEXT = "tiercache: the next sync"
_NOW = "tiercache: the sync under way"


def reach(engine: Engine, request: Request) -> Flow[bool]:
    """Learn what the rule of this request asks for. False: it cannot be had now, and the store must not answer."""
    if engine.shared is None or request.current:
        return True
    stamp = None
    if request.route.policy.consistency != STRONG:
        stamp = session.asked(engine, request)
        if stamp is None or engine.ledger.reached(stamp):
            request.current = True
            return True
        if stamp.epoch == UNCONFIRMED:
            return False
    # One who looks is enough while the shared tier does not answer, and the listener does.
    if engine.failing:
        return False
    good = yield from _sync_from_now(engine, time.monotonic() + engine.settings.strong_wait)
    # A ledger that lacks what this client has been told of has lost its end without anybody noticing.
    request.current = good and not (
        stamp is not None and stamp.epoch == engine.ledger.stamp().epoch and not engine.ledger.reached(stamp)
    )
    return request.current


def _sync_from_now(engine: Engine, deadline: float) -> Flow[bool]:
    """A sync that is sent after this call. Whoever waits for the next one shares it; never one in flight already,
    which may have been answered before the purge that the caller must know of.
    """
    while True:
        following, leads = engine.flights.join(_NEXT)
        if leads:
            break
        try:
            landed = yield Wait(following, deadline)
        finally:
            following.leave()
        if landed is not RETRY:
            return landed is True
    outcome: object = RETRY
    try:
        good = yield from _lead(engine, following, deadline)
        outcome = True if good else RELEASED
        return good
    finally:
        # Where this one was cut off, another of those who wait leads.
        following.finish(outcome)


def _lead(engine: Engine, following: Flight, deadline: float) -> Flow[bool]:
    while True:
        current, idle = engine.flights.join(_NOW)
        if idle:
            break
        try:
            yield Wait(current, deadline)
        finally:
            current.leave()
        if time.monotonic() >= deadline:
            return False
    try:
        # From here on newcomers are too late for this one.
        following.depart()
        page = yield from flows.sync(engine, deadline, hurried=True)
        return page is not None
    finally:
        current.finish(RELEASED)
