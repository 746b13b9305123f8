"""Sessions of users on the server, for Flask and Starlette: `Sessions(cache, secret="...")`.

Whoever has the cookie has the session. It is `HttpOnly`, `Secure` and `SameSite=Lax` unless told otherwise, signed, and
carries a random id that says nothing; what lies in Redis cannot be turned back into a cookie. Call
`session.rotate("user:7")` when somebody logs in, so that an id that was known before is worth nothing.

The sessions lie in Redis beside what the cache keeps, or in this process where the cache has no Redis. Needs
itsdangerous, the extra `sessions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, TypedDict, Unpack, cast

import msgspec

try:
    from itsdangerous import BadSignature, Signer
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'tiercache[sessions]'", name=error.name) from error

from tiercache.cache import TierCache
from tiercache.core.kinds import DURATION, FLAG, SIZE, Kind, above_zero, one_of, optional
from tiercache.core.policy_settings import Duration, Size
from tiercache.core.user_sessions import Decode, Encode, Lifetime, StoredSession, UserSession
from tiercache.core.validation import Secret, Setting, Validated
from tiercache.engine import user_sessions
from tiercache.engine.capabilities import lacking, sessions_of
from tiercache.engine.effects import Flow, adrive, drive
from tiercache.engine.user_sessions import Named, Terms
from tiercache.errors import ConfigError

__all__ = ["SessionOptions", "SessionSettings", "Sessions", "Told", "UserSession", "decode", "encode"]

_SHORTEST = 16
_ACCEPTED = "text of at least 16 characters, or several of which the first signs and all are accepted"


def _secrets(value: Any) -> tuple[str, ...]:
    several = [value] if isinstance(value, str) else list(value)
    if not several or any(not isinstance(one, str) or len(one) < _SHORTEST for one in several):
        raise ValueError
    return tuple(Secret(one) for one in several)


def _cookie_name(value: Any) -> str:
    if not isinstance(value, str) or not value or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in value):
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or set(value) & set(";, "):
        raise ValueError
    return value


_ROWS = (
    Setting(
        "secret",
        optional(Kind(_ACCEPTED, _secrets)),
        None,
        "Signs the cookie; the same in every process.",
        secret=True,
    ),
    Setting("idle", above_zero(DURATION), "2h", "Time without a request after which a session ends, in seconds."),
    Setting("absolute", above_zero(DURATION), "30d", "Time after which a session ends in any case, in seconds."),
    Setting(
        "consistency",
        one_of("strong", "session"),
        "strong",
        "Where a session is looked up: in Redis each time; or in L1 too, where that is not older than what the client "
        "has been told of its own changes, so that what others change is seen within the staleness bound.",
    ),
    Setting("max_size", above_zero(SIZE), "64KiB", "Most that the values of one session may have, in bytes."),
    Setting("cookie", Kind("letters, digits and - _ .", _cookie_name), "session", "Name of the cookie."),
    Setting("domain", optional(Kind("the name of a domain", _text)), None, "Domain of the cookie; None: this host."),
    Setting("path", Kind("a path", _text), "/", "Path of the cookie."),
    Setting("secure", FLAG, True, "Whether browsers send the cookie over HTTPS (and to localhost) alone."),
    Setting("samesite", one_of("Lax", "Strict", "None"), "Lax", "What browsers do with it on requests of other sites."),
    Setting(
        "permanent", FLAG, False, "Whether the cookie outlives the browser's own session, for as long as `absolute`."
    ),
)


class SessionOptions(TypedDict, total=False):
    """The settings of sessions, as a type checker sees them."""

    idle: Duration
    absolute: Duration
    consistency: Literal["strong", "session"]
    max_size: Size
    cookie: str
    domain: str | None
    path: str
    secure: bool
    samesite: Literal["Lax", "Strict", "None"]
    permanent: bool


class SessionSettings(Validated):
    """The settings of sessions. Frozen; attributes are parsed values."""

    __slots__ = tuple(row.name for row in _ROWS)
    _table: ClassVar[Mapping[str, Setting]] = MappingProxyType({row.name: row for row in _ROWS})

    secret: tuple[str, ...] | None
    idle: float
    absolute: float
    consistency: str
    max_size: int
    cookie: str
    domain: str | None
    path: str
    secure: bool
    samesite: str
    permanent: bool


class Told(NamedTuple):
    """What a response is to tell its client."""

    value: str | None
    """Of the cookie; None: it is to be deleted."""
    max_age: int | None
    """Seconds; None: until the browser is closed."""


class Sessions:
    """The sessions of one cache's users.

    Args:
        cache: beside whose values they lie.
        secret: at least 16 characters that sign the cookie, the same in every process; or several, of which the first
            signs and all are accepted, so that it can be changed.
        settings: see `SessionOptions`.

    Raises:
        ConfigError: a setting that cannot work, or a shared tier that cannot keep sessions.
    """

    def __init__(self, cache: TierCache, secret: str | Sequence[str], **settings: Unpack[SessionOptions]) -> None:
        if not isinstance(cache, TierCache):
            raise ConfigError("Sessions: cache", type(cache), "a TierCache")
        given = {"secret": Secret(secret) if isinstance(secret, str) else secret, **cast("dict[str, Any]", settings)}
        self.settings = SessionSettings.parse(given, "Sessions")
        self.cache = cache
        held = self.settings
        if held.secret is None:
            raise ConfigError("Sessions: secret", None, _ACCEPTED)
        if held.samesite == "None" and not held.secure:
            raise ConfigError("Sessions: samesite", "None", "secure=True beside it: browsers refuse the cookie else")
        host, safe = (held.cookie.lower().startswith(prefix) for prefix in ("__host-", "__secure-"))
        if (host or safe) and not held.secure:
            raise ConfigError("Sessions: secure", False, f"True: browsers refuse a cookie named {held.cookie} else")
        if host and (held.path != "/" or held.domain is not None):
            raise ConfigError(
                "Sessions: cookie", held.cookie, "this name for path='/' and no domain alone: browsers refuse it else"
            )
        if held.idle > held.absolute:
            raise ConfigError("Sessions: idle", held.idle, f"at most `absolute`, {held.absolute:g} s")
        if sessions_of(cache._engine) is None:
            wanted = "that of a Redis, or a Redis as its ledger, or none"
            raise lacking(cache._engine, "Sessions: url of its cache", wanted)
        self._terms = Terms(Lifetime(held.idle, held.absolute), held.consistency == "session", held.max_size)
        # The newest key stands last there.
        # The name of the cookie: what one keeps of visitors is no session of another with the same secret.
        salt = f"tiercache.session.{held.cookie}"
        self._signer = Signer(list(reversed(held.secret)), salt=salt, digest_method=sha256)

    # -- for faces ---------------------------------------------------------------------------------------------------

    def named(self, cookie: str | None) -> Named | None:
        """What a cookie says; None where there is none, or none of ours."""
        if not cookie:
            return None
        try:
            id_, _, token = self._signer.unsign(cookie).decode("ascii").partition(".")
        except (BadSignature, UnicodeError):
            return None
        return Named(id_, token) if id_ else None

    def open(self, named: Named | None, encode: Encode, decode: Decode) -> UserSession:
        """The session of a request; the store is asked when it is first looked at, in the thread that does."""
        load: Callable[[], StoredSession | None]
        load = (lambda: None) if named is None else (lambda: drive(self._loading(named)))
        session = UserSession(load, encode, decode)
        session.permanent = self.settings.permanent
        return session

    async def aopen(self, named: Named | None, encode: Encode, decode: Decode) -> UserSession:
        """The same, with the store asked at once."""
        session = self.open(named, encode, decode)
        if named is None:
            return session
        try:
            session.arrived(await adrive(self._loading(named)))
        except Exception as error:
            session.failed(error)
        return session

    def _loading(self, named: Named) -> Flow[StoredSession | None]:
        engine = self.cache._engine
        try:
            return (yield from user_sessions.load(engine, self._terms, named))
        except Exception as error:
            engine.complaints.swallow("session not read", f"{type(error).__name__}: {error}")
            raise

    def save(self, session: UserSession, named: Named | None) -> Told | None:
        """Store what has changed; what the client is to be told, if anything.

        Raises:
            SessionUnavailable: nothing is saved.
            ValueError, TypeError: a value that cannot be stored.
        """
        if not session.accessed:
            return None
        return self._told(session, named, drive(self._saving(session, named)))

    async def asave(self, session: UserSession, named: Named | None) -> Told | None:
        """`save` for event loops."""
        if not session.accessed:
            return None
        return self._told(session, named, await adrive(self._saving(session, named)))

    def _saving(self, session: UserSession, named: Named | None) -> Flow[Named | None]:
        return user_sessions.save(self.cache._engine, self._terms, session, named)

    def _told(self, session: UserSession, before: Named | None, after: Named | None) -> Told | None:
        if after is None:
            return None if before is None else Told(None, 0)
        known = before is not None and after.id == before.id
        if known and (after == before or not self._terms.local):
            # The id is all that Redis needs; only L1 looks at the token.
            return None
        value = self._signer.sign(f"{after.id}.{after.token}").decode("ascii")
        return Told(value, int(self.settings.absolute) if session.permanent else None)

    # -- for applications --------------------------------------------------------------------------------------------

    def revoke(self, *tags: str) -> int:
        """End every session with one of these tags, as given to `session.rotate` or `session.tag`; how many there may
        have been. Every process sees it at once, or with `consistency="session"` within the staleness bound.

        Raises:
            TierError: Redis did not answer. Some sessions may have ended; call it again.
        """
        return drive(user_sessions.revoke(self.cache._engine, _checked(tags)))

    async def arevoke(self, *tags: str) -> int:
        """`revoke` for event loops."""
        return await adrive(user_sessions.revoke(self.cache._engine, _checked(tags)))


def _checked(tags: tuple[Any, ...]) -> tuple[str, ...]:
    if not tags or any(not isinstance(tag, str) or not tag for tag in tags):
        raise ConfigError("revoke", tags, "tags of sessions, such as 'user:7'")
    return tags


encode: Encode = msgspec.msgpack.Encoder().encode
"""Plain values, as bytes: numbers, text, bytes, dates, lists and mappings. A tuple comes back as a list."""
decode: Decode = msgspec.msgpack.Decoder().decode
