"""How a session of a user is looked up and saved, once for threads and event loops.

The shared tier has the truth. L1 may answer only with `consistency="session"`, and only what the client's own cookie
names: each change gives the session another token, which its client carries. What others change of it meanwhile (a
revocation, a request at the same time) is seen within the staleness bound.
"""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple, TypeVar

from tiercache.core.user_sessions import Lifetime, SessionChanges, StoredSession, UserSession
from tiercache.engine.capabilities import sessions_of
from tiercache.engine.effects import Flow
from tiercache.engine.engine import Engine
from tiercache.engine.leases import deadline
from tiercache.engine.ports import SessionStore
from tiercache.errors import SessionUnavailable, TierUnavailable

R = TypeVar("R")

GRACE = 30.0
"""Seconds for which requests under way under the old id of a session are told that it has moved: longer than they
take."""


class Named(NamedTuple):
    """What a cookie says: which session, and as of which change of it."""

    id: str
    token: str

    @classmethod
    def fresh(cls) -> Named:
        """Of a session that begins."""
        return cls(secrets.token_urlsafe(24), new_token())


class Terms(NamedTuple):
    """How sessions are kept."""

    lifetime: Lifetime
    local: bool
    """Whether L1 may answer."""
    most: int
    """Bytes that the values of one session may have."""


def new_token() -> str:
    """Names a state of a session."""
    return secrets.token_urlsafe(6)


def load(engine: Engine, terms: Terms, named: Named) -> Flow[StoredSession | None]:
    """What there is of a session. Raises `TierError` where the store cannot tell."""
    key = ("user-session", named.id)
    if terms.local:
        known = engine.memory.lookup(key)
        # The token: never older than what this client has seen of its own changes.
        if isinstance(known, Kept) and known.stored.token == named.token and engine.clock() < known.until:
            return known.stored
    # Before Redis is asked: what it says is as old as that.
    until = engine.clock() + engine.settings.staleness_bound
    found = yield from _store(engine).load(named.id, terms.lifetime, deadline(engine))
    if terms.local:
        if found is None or found.moved:
            engine.memory.discard(key)
        else:
            engine.memory.store(key, Kept(found, until), found.size, until)
    return found


class Kept(NamedTuple):
    """What L1 has of a session, until a moment of the engine's clock."""

    stored: StoredSession
    until: float


def save(engine: Engine, terms: Terms, session: UserSession, named: Named | None) -> Flow[Named | None]:
    """Store what a request has changed. What its client is to be told from now on; None: that its session is over.

    Raises:
        SessionUnavailable: the store did not take it, or could not be asked before: nothing is saved.
        ValueError: there is more in it than a session may have.
    """
    changes = session.changes()
    if session.unavailable is not None:
        if changes or session.rotated:
            raise SessionUnavailable("the session could not be read, and is not saved") from session.unavailable
        return named
    if session.moved and not session.rotated:
        return named
    if session.cleared and not (session.new or session.moved or session.rotated or len(session)):
        if named is not None:
            yield from _carried(engine, _store(engine).drop(named.id, deadline(engine)))
            engine.memory.discard(("user-session", named.id))
        return None
    if not (changes or session.rotated):
        return None if session.new else named
    _check(session.whole(), terms)
    store, until, lifetime = _store(engine), deadline(engine), terms.lifetime
    if session.new or session.moved or named is None:
        fresh = Named.fresh()
        begun = yield from _carried(engine, store.begin(fresh.id, changes, fresh.token, lifetime, until))
        return fresh if begun else None
    engine.memory.discard(("user-session", named.id))
    if session.rotated:
        fresh = Named.fresh()
        rotating = store.rotate(named.id, fresh.id, session.rotation(), fresh.token, lifetime, GRACE, until)
        return fresh if (yield from _carried(engine, rotating)) else None
    changed = Named(named.id, new_token())
    # False: it has been revoked meanwhile, or goes on under another id. The next request finds out which.
    saved = yield from _carried(engine, store.save(named.id, changes, changed.token, lifetime, until))
    return changed if saved else named


def _store(engine: Engine) -> SessionStore:
    store = sessions_of(engine)
    if store is None:
        raise TierUnavailable("the shared tier keeps no sessions")
    return store


def _carried(engine: Engine, asking: Flow[R]) -> Flow[R]:
    try:
        return (yield from asking)
    except Exception as error:
        engine.complaints.swallow("session not saved", f"{type(error).__name__}: {error}")
        raise SessionUnavailable("the store of sessions did not answer: the session is not saved") from error


def _check(whole: SessionChanges, terms: Terms) -> None:
    size = sum(len(key) + len(data) for key, data in whole.written.items())
    if size > terms.most:
        largest = max(whole.written, key=lambda key: len(whole.written[key]))
        raise ValueError(
            f"the session has {size} bytes, and may have {terms.most} (max_size); most of it under {largest!r}"
        )


def revoke(engine: Engine, tags: tuple[str, ...]) -> Flow[int]:
    """End every session that has one of these tags; how many there may have been. Raises `TierError`."""
    ended = 0
    for tag in tags:
        ended += yield from _store(engine).revoke(tag, time.monotonic() + engine.settings.purge_timeout)
    return ended
