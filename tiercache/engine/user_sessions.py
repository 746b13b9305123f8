"""How a session of a user is looked up and saved, once for threads and event loops.

The shared tier has the truth. L1 may answer only with `consistency="session"`, and only what the client's own cookie
names: each change gives the session another token, which its client carries. What others change of it meanwhile (a
revocation, a request at the same time) is seen within the staleness bound.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, NamedTuple, Protocol

from tiercache.core.user_sessions import Rotation, SessionChanges, StoredSession, UserSession
from tiercache.engine.effects import Ask, Flow
from tiercache.engine.engine import Engine
from tiercache.engine.leases import deadline
from tiercache.errors import SessionUnavailable

GRACE = 30.0
"""Seconds for which requests under way under the old id of a session are told that it has moved: longer than they
take."""
WEIGHT = 500
"""Bytes that L1 counts for a session beside what it holds."""


class SessionStore(Protocol):
    """Where sessions lie. Each call in two forms, for threads and with an `a` before it for event loops."""

    def load_session(self, session: str, idle: float, absolute: float, deadline: float) -> StoredSession | None: ...

    def save_session(
        self,
        session: str,
        changes: SessionChanges,
        token: str,
        idle: float,
        absolute: float,
        deadline: float,
        *,
        begins: bool = False,
    ) -> bool: ...

    def rotate_session(
        self,
        session: str,
        fresh: str,
        rotation: Rotation,
        token: str,
        idle: float,
        absolute: float,
        grace: float,
        deadline: float,
    ) -> bool: ...

    def drop_session(self, session: str, deadline: float) -> None: ...

    def revoke_sessions(self, tag: str, deadline: float) -> int: ...


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

    idle: float
    """Seconds without a request after which a session ends."""
    absolute: float
    """Seconds after which it ends in any case."""
    local: bool
    """Whether L1 may answer."""
    most: int
    """Bytes that the values of one session may have."""


def new_token() -> str:
    """Names a state of a session."""
    return secrets.token_urlsafe(6)


def load(engine: Engine, store: SessionStore, terms: Terms, named: Named) -> Flow[StoredSession | None]:
    """What there is of a session. Raises `TierError` where the store cannot tell."""
    key = ("user-session", named.id)
    if terms.local:
        known = engine.memory.lookup(key)
        # The token: never older than what this client has seen of its own changes.
        if isinstance(known, Kept) and known.stored.token == named.token and engine.clock() < known.until:
            return known.stored
    # Before Redis is asked: what it says is as old as that.
    until = engine.clock() + engine.settings.staleness_bound
    found: StoredSession | None = yield Ask(
        store, "load_session", named.id, terms.idle, terms.absolute, deadline(engine)
    )
    if terms.local:
        if found is None or found.moved:
            engine.memory.discard(key)
        else:
            size = WEIGHT + sum(len(name) + len(data) for name, data in found.fields.items())
            engine.memory.store(key, Kept(found, until), size, until)
    return found


class Kept(NamedTuple):
    """What L1 has of a session, until a moment of the engine's clock."""

    stored: StoredSession
    until: float


def save(
    engine: Engine, store: SessionStore, terms: Terms, session: UserSession, named: Named | None
) -> Flow[Named | None]:
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
            yield from _carried(engine, store, "drop_session", named.id, deadline(engine))
            engine.memory.discard(("user-session", named.id))
        return None
    if not (changes or session.rotated):
        return None if session.new else named
    _check(session.whole(), terms)
    until, kept = deadline(engine), (terms.idle, terms.absolute)
    if session.new or session.moved or named is None:
        fresh = Named.fresh()
        begun = yield from _carried(
            engine, store, "save_session", fresh.id, changes, fresh.token, *kept, until, begins=True
        )
        return fresh if begun else None
    engine.memory.discard(("user-session", named.id))
    if session.rotated:
        fresh, rotation = Named.fresh(), session.rotation()
        goes_on = yield from _carried(
            engine, store, "rotate_session", named.id, fresh.id, rotation, fresh.token, *kept, GRACE, until
        )
        return fresh if goes_on else None
    changed = Named(named.id, new_token())
    # False: it has been revoked meanwhile, or goes on under another id. The next request finds out which.
    saved = yield from _carried(engine, store, "save_session", named.id, changes, changed.token, *kept, until)
    return changed if saved else named


def _carried(engine: Engine, store: SessionStore, name: str, *args: Any, **more: Any) -> Flow[Any]:
    try:
        return (yield Ask(store, name, *args, **more))
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


def revoke(engine: Engine, store: SessionStore, tags: tuple[str, ...]) -> Flow[int]:
    """End every session that has one of these tags; how many there may have been. Raises `TierError`."""
    ended = 0
    for tag in tags:
        ended += yield Ask(store, "revoke_sessions", tag, time.monotonic() + engine.settings.purge_timeout)
    return ended
