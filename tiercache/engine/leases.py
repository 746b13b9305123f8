"""One fill per key in the fleet: a lease in the shared tier, held by the process that calls the app.

A lease has a token, is renewed by the listener while the fill runs, and ends by itself when its holder dies. Who does
not get it waits to be woken by its holder's word, looks again now and then in case that word was lost, and never waits
past `lease_wait`.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tiercache.core.keys import canonical, storage_name
from tiercache.core.messages import Request
from tiercache.core.policy_settings import FLEET
from tiercache.engine import flows
from tiercache.engine.effects import Acquire, Flow, Release, Renew, Wait
from tiercache.engine.flights import RELEASED

if TYPE_CHECKING:
    from tiercache.engine.engine import Engine

LOOK_AGAIN = 0.5
"""Seconds after which one who waits looks for itself: word may be lost, and the holder may have died."""


TAKEN = "taken"
"""Another one holds the lease."""
UNKNOWN = "unknown"
"""The shared tier cannot say."""


class Lease(NamedTuple):
    """The right to call the app for a key."""

    name: str
    token: str


def shared_fill(engine: Engine, request: Request) -> bool:
    """Whether the rule wants one fill in the fleet, and the shared tier is there for it."""
    return (
        request.route.policy.coalesce == FLEET
        and engine.shared is not None
        and engine.trusted()
        and engine.breaker.allows(engine.clock())
    )


def deadline(engine: Engine) -> float:
    """A crowd on a cold key is when processes are slow themselves: they have more patience here than with a read."""
    return time.monotonic() + max(engine.settings.l2_budget, engine.settings.strong_wait)


def ttl(engine: Engine) -> float:
    """Seconds until the lease of a holder that does not renew it ends: several turns of its listener, and few enough
    for one of those who wait, with the patience of `lease_wait` as it comes, to see it end."""
    return min(3.0, max(1.5, engine.settings.staleness_bound))


def take(engine: Engine, request: Request, patience: float) -> Flow[Any]:
    """The lease of this request's key; or what its holder has made meanwhile; or None: call the app without.

    `patience` is the moment of `time.monotonic()` up to which to wait.
    """
    while True:
        name = storage_name(canonical(flows.place(engine, request)))
        # Before the attempt, so that no word is missed.
        flight = engine.wakes.expect(name)
        try:
            got = yield from _attempt(engine, name)
            if isinstance(got, Lease):
                # Its last holder may have been done between our look into L2 and this.
                try:
                    entry = yield from _look(engine, request)
                except BaseException:
                    forget(engine, got)
                    raise
                if entry is None:
                    return got
                yield from release(engine, got, made=True)
                return entry
            if got is UNKNOWN:
                return None
            outcome = yield Wait(flight, min(patience, time.monotonic() + LOOK_AGAIN))
        finally:
            engine.wakes.dismiss(flight)
        entry = yield from _look(engine, request)
        if entry is not None:
            return entry
        if outcome is RELEASED or time.monotonic() >= patience:
            return None


def seize(engine: Engine, request: Request) -> Flow[Lease | str]:
    """`take` for a refresh, which nobody waits for: the lease, or TAKEN if another process is at it, or UNKNOWN."""
    return (yield from _attempt(engine, storage_name(canonical(flows.place(engine, request)))))


def _look(engine: Engine, request: Request) -> Flow[Any]:
    """What L2 has by now, if it answers this request as it is."""
    entry = yield from flows.fetch(engine, request, deadline(engine))
    return entry if entry is not None and engine.fresh(entry, request) else None


def _attempt(engine: Engine, name: str) -> Flow[Lease | str]:
    """The lease, or TAKEN or UNKNOWN."""
    assert engine.shared is not None
    lease = Lease(name, secrets.token_hex(8))
    until = deadline(engine)
    try:
        granted = yield from flows.guarded(
            engine, Acquire(engine.shared, name, lease.token, int(ttl(engine) * 1000), until)
        )
    except Exception as error:
        engine.complaints.swallow("lease", f"{type(error).__name__}: {error}")
        return UNKNOWN
    if not granted:
        return TAKEN
    engine.leases[name] = lease.token
    return lease


def release(engine: Engine, lease: Lease, *, made: bool) -> Flow[None]:
    """Give a lease back and wake who waits: `made` tells whether there is something for them in L2."""
    if engine.shared is None or engine.leases.pop(lease.name, None) is None:
        return
    until = deadline(engine)
    try:
        yield Release(engine.shared, lease.name, lease.token, made, until)
    except Exception as error:  # it ends by itself, and those who wait look for themselves
        engine.complaints.swallow("lease", f"{type(error).__name__}: {error}")


def forget(engine: Engine, lease: Lease | None) -> None:
    """Renew a lease no more where it cannot be given back, so that it ends by itself."""
    if lease is not None:
        engine.leases.pop(lease.name, None)


def renew(engine: Engine) -> Flow[None]:
    """Keep what this process holds from ending while its fills run. For the listener."""
    if engine.shared is None:
        return
    for name, token in list(engine.leases.items()):
        until = deadline(engine)
        try:
            yield Renew(engine.shared, name, token, int(ttl(engine) * 1000), until)
        except Exception as error:
            engine.complaints.swallow("lease", f"{type(error).__name__}: {error}")
            return
