"""How a process follows the ledger: it hears the bus, syncs every third of the staleness bound and at once on a gap,
and replays what the shared tier has not confirmed.

While the server is away it tries again with growing, jittered pauses, so that a fleet does not come back as a herd.
"""

from __future__ import annotations

import random
import threading
import time
from math import inf

from tiercache.core.records import Wake
from tiercache.engine import flows, leases
from tiercache.engine.effects import Flow, Hear, Listen, Probe, Rest, ThreadFlow
from tiercache.engine.engine import Engine
from tiercache.engine.flights import RELEASED, RETRY
from tiercache.engine.ports import SharedStore, Subscription
from tiercache.errors import TierError

SYNCS_PER_BOUND = 3
"""A sync may fail twice before trust runs out."""
LONGEST_PAUSE = 1.0
"""Seconds between attempts to reach a server that is away: recovery is seen within two seconds."""


def listening(engine: Engine, stopping: threading.Event) -> ThreadFlow[None]:
    """The life of a listener, until it is told to stop. Only for a thread of its own."""
    assert engine.shared is not None
    pause = 0.0
    while not stopping.is_set():
        subscription: Subscription | None = None
        try:
            # Before the first sync, so that nothing falls between the two.
            subscription = yield Listen(engine.shared)
            pause = 0.0
            yield from _follow(engine, subscription, stopping)
        except TierError as error:
            if stopping.is_set():
                break
            # The bus is only the fast way; as long as syncs are answered, the bound holds without it. One that is
            # not answered says so itself.
            if (yield from _sync(engine)):
                engine.complaints.swallow("bus of the shared tier cut off", error)
                # Where there is never a bus, this is all that a purge which was not confirmed can wait for.
                yield from _replay(engine)
        except Exception as error:  # a listener that dies leaves its process isolated for good
            engine.complaints.swallow("listener", f"{type(error).__name__}: {error}")
        finally:
            if subscription is not None:
                subscription.close()
        pause = min(LONGEST_PAUSE, max(0.05, pause * 2))
        yield Rest(stopping, min(pause, _interval(engine)) * random.uniform(0.5, 1.0))


def _follow(engine: Engine, subscription: Subscription, stopping: threading.Event) -> ThreadFlow[None]:
    """Apply what is published, and sync, for as long as the subscription lives."""
    due = engine.clock()
    # The first one connects, which says little of how quick the shared tier is.
    late = inf
    while not stopping.is_set():
        now = engine.clock()
        if now >= due:
            good = yield from _sync(engine, max(late, now - due))
            late = 0.0
            due = now + _interval(engine) * random.uniform(0.9, 1.0)
            if good:
                yield from leases.renew(engine)
            if good and (yield from _replay(engine)):
                due = now
            continue
        message = yield Hear(subscription, due - now)
        if isinstance(message, Wake):
            engine.wakes.wake(message.name, RETRY if message.made else RELEASED)
        elif message is not None and engine.ledger.heard(message, engine.clock()):
            due = now


def _replay(engine: Engine) -> Flow[bool]:
    return flows.replay(engine, time.monotonic() + engine.settings.purge_timeout)


def _interval(engine: Engine) -> float:
    return min(LONGEST_PAUSE, engine.settings.staleness_bound / SYNCS_PER_BOUND)


def _sync(engine: Engine, late: float = 0.0) -> ThreadFlow[bool]:
    # Longer than a sync may take in normal times: attaching to a large ledger takes many pages.
    deadline = time.monotonic() + max(2.0, engine.settings.staleness_bound)
    assert engine.shared is not None
    apart = engine.shared.apart
    page = yield from flows.sync(engine, deadline, probe=not apart, late=late)
    if apart:
        yield from _probe(engine, engine.shared, late)
    return page is not None


def _probe(engine: Engine, store: SharedStore, late: float) -> ThreadFlow[None]:
    """Tell the circuit breaker how the values are, which lie elsewhere than the ledger."""
    asked, failed = engine.clock(), False
    engine.breaker.probing(asked, late)
    try:
        yield Probe(store, time.monotonic() + flows.SYNC_PATIENCE)
    except Exception:  # the breaker says it
        failed = True
    flows.note(engine, asked, failed=failed, probe=True)
