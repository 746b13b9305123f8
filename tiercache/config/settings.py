"""The settings of `TierCache`, made from one table like those of a route."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, NoReturn, TypedDict, Unpack, cast

from tiercache.core.admission import FORWARDING
from tiercache.core.credentials import CREDENTIAL_HEADERS, IGNORED_COOKIES
from tiercache.core.kinds import (
    DURATION,
    FLAG,
    OFF,
    ON,
    SIZE,
    SWITCH,
    Kind,
    above_zero,
    cookie_patterns,
    field_names,
    listing,
    one_of,
    optional,
    whole,
)
from tiercache.core.policy import Policy
from tiercache.core.policy_settings import BOUNDED, Duration, Size
from tiercache.core.validation import Secret, Setting, Validated, qualified, redacted, refuse_unknown
from tiercache.errors import ConfigError

DISABLED_VARIABLE: Final = "TIERCACHE_DISABLED"
FORWARDING_HEADERS: Final = tuple(name.decode() for name in FORWARDING)
DEBUG_VARIABLE: Final = "TIERCACHE_DEBUG"


def _matching(accepted: str, pattern: str) -> Kind:
    compiled = re.compile(pattern)

    def convert(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    return Kind(accepted, convert, {"type": "string", "pattern": f"^{pattern}$"})


def _label(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 64 or not value.isprintable():
        raise ValueError
    return value


def _url(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _secret(value: Any) -> str:
    if not isinstance(value, str) or len(value) < 16:
        raise ValueError
    return Secret(value)


def _forwarding(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in FORWARDING_HEADERS:
        raise ValueError
    return value.lower()


_OF_ROUTES = frozenset(row.name for row in Policy.settings())
_LABEL = Kind("up to 64 printable characters", _label, {"type": "string", "maxLength": 64})
_URL = Kind("a URL such as 'redis://localhost:6379/0'", _url, {"type": "string", "minLength": 1})
_APART = ("memcached://", "memcacheds://")
"""The URLs of tiers that have no ledger of their own."""
_SECRET = Kind(
    "text of at least 16 characters, the same in every process", _secret, {"type": "string", "minLength": 16}
)
_WAIT = above_zero(DURATION)
_ROWS = (
    Setting(
        "url",
        optional(_URL),
        None,
        "The shared tier (L2); None: this process alone.",
    ),
    Setting(
        "ledger",
        optional(_URL),
        None,
        "The Redis that holds the ledger of purges where `url` is that of a Memcached; None there: purges reach this "
        "process alone.",
    ),
    Setting(
        "namespace",
        # Braces would move keys between the slots of a Redis Cluster; colons and spaces would blur where a part ends.
        _matching("1 to 64 letters, digits and . _ -", "[A-Za-z0-9._-]{1,64}"),
        "default",
        "What a purge reaches: one ledger, one set of tags.",
    ),
    Setting("app", _LABEL, "", "Name of the app; apps of one namespace share purges, never responses."),
    Setting("version", _LABEL, "", "Version of the deployment; versions share purges, never responses."),
    Setting("l1_size", above_zero(SIZE), "64MiB", "Memory for stored responses in this process, in bytes."),
    Setting("max_body", above_zero(SIZE), "1MiB", "Largest body to store, in bytes."),
    Setting("l2_budget", _WAIT, "50ms", "Longest that one request waits for L2 in all, in seconds."),
    Setting(
        "l2_slow",
        _WAIT,
        "15ms",
        "An answer of L2 that takes this long counts as a failed one, in seconds; when half of the last calls have "
        "failed, L2 is left alone until it is well again.",
    ),
    Setting(
        "staleness_bound",
        _WAIT,
        "1s",
        "Longest that something purged elsewhere may still be served after the purge returned, in seconds.",
    ),
    Setting(
        "on_lost_history",
        one_of("dead", "stale"),
        "dead",
        "What becomes of stored responses when the shared tier has lost the end of its record of purges (a restart, a "
        "failover): of no use, or used as stale within their stale_while_revalidate.",
    ),
    Setting(
        "strong_wait",
        _WAIT,
        "250ms",
        "Longest that a request waits for L2 where its rule asks for strong or session consistency, in seconds; then "
        "the app is called.",
    ),
    Setting(
        "session_secret",
        optional(_SECRET),
        None,
        'Signs what a client carries of its own purges; needed for consistency="session" with a shared tier.',
        secret=True,
    ),
    Setting("purge_timeout", _WAIT, "2s", "Longest that a purge waits for L2 to confirm, in seconds."),
    Setting(
        "lease_wait",
        DURATION,
        "2s",
        "Longest that a request waits for another one that is filling the same key, in seconds; 0: not at all.",
    ),
    Setting(
        "drain_timeout",
        DURATION,
        "5s",
        "Longest that a process which stops waits for fills that go on behind answers, in seconds; 0: not at all.",
    ),
    Setting("pool_size", whole(1, 10_000), 50, "Most connections to L2 at once, per process."),
    Setting("max_variants", whole(1, 10_000), 50, "Most variants (by Vary) of one URL that are stored."),
    Setting(
        "credential_headers",
        field_names(),
        (),
        "Request fields that make a request personal, in addition to the well-known ones.",
    ),
    Setting(
        "ignore_cookies",
        cookie_patterns(),
        (),
        "Cookies that are no credential, in addition to the well-known analytics and consent cookies.",
    ),
    Setting(
        "trust_forwarded",
        listing(
            f"a list of names among {', '.join(FORWARDING_HEADERS)}",
            _forwarding,
            # A schema cannot ignore the case of letters.
            schema={"anyOf": [{"enum": list(FORWARDING_HEADERS)}, {"type": "string", "pattern": "[A-Z]"}]},
        ),
        (),
        "Forwarding fields that the proxy in front always sets itself; they become part of the key. "
        "Trusting one that a client can set lets it choose what others are served.",
    ),
    Setting(
        "targets",
        field_names(),
        ("Tiercache-Cache-Control",),
        "Targeted fields of responses that are obeyed in place of Cache-Control, the first found (RFC 9213 §2.2).",
    ),
    Setting("cache_status", FLAG, True, "Whether responses carry Cache-Status (RFC 9211)."),
    Setting("age", FLAG, True, "Whether stored responses carry Age (RFC 9111 §5.1)."),
    Setting(
        "enabled",
        optional(FLAG),
        None,
        f"Whether anything is cached; None: yes, unless the environment has {DISABLED_VARIABLE}=1.",
    ),
    Setting(
        "debug",
        optional(FLAG),
        None,
        f"Whether each request is explained in the log; None: no, unless the environment has {DEBUG_VARIABLE}=1.",
    ),
)


class CacheSettings(TypedDict, total=False):
    """The settings of a cache beside its URL, as a type checker sees them."""

    ledger: str | None
    namespace: str
    app: str
    version: str
    l1_size: Size
    max_body: Size
    l2_budget: Duration
    l2_slow: Duration
    staleness_bound: Duration
    on_lost_history: Literal["dead", "stale"]
    strong_wait: Duration
    session_secret: str | None
    purge_timeout: Duration
    lease_wait: Duration
    drain_timeout: Duration
    pool_size: int
    max_variants: int
    credential_headers: Collection[str]
    ignore_cookies: Collection[str]
    trust_forwarded: Collection[str]
    targets: Collection[str]
    cache_status: bool
    age: bool
    enabled: bool | None
    debug: bool | None


class SourcedSettings(CacheSettings, total=False):
    """The same for a cache whose URL may stand in a file or in the environment."""

    url: str | None


class Settings(Validated):
    """The settings of one cache. Frozen; attributes are parsed values: seconds, bytes, tuples of lower-case names.

    `credential_headers` and `ignore_cookies` are the whole lists, the well-known entries first; `enabled` and `debug`
    have the environment taken into account and are never None. Raises `ConfigError` like every setting of tiercache.
    """

    __slots__ = tuple(row.name for row in _ROWS)
    _table: ClassVar[Mapping[str, Setting]] = MappingProxyType({row.name: row for row in _ROWS})

    url: str | None
    ledger: str | None
    namespace: str
    app: str
    version: str
    l1_size: int
    max_body: int
    l2_budget: float
    l2_slow: float
    staleness_bound: float
    on_lost_history: Literal["dead", "stale"]
    strong_wait: float
    session_secret: str | None
    purge_timeout: float
    lease_wait: float
    drain_timeout: float
    pool_size: int
    max_variants: int
    credential_headers: tuple[str, ...]
    ignore_cookies: tuple[str, ...]
    trust_forwarded: tuple[str, ...]
    targets: tuple[str, ...]
    cache_status: bool
    age: bool
    enabled: bool
    debug: bool

    def __init__(self, *, url: str | None = None, **settings: Unpack[CacheSettings]) -> None:
        given = cast("dict[str, Any]", settings)
        self._load(given if url is None else {"url": url, **given}, "TierCache")

    @classmethod
    def converted(cls, name: str, where: str, value: object) -> Any:
        """One setting's parsed value; errors name it as `where`, and show no password."""
        row = cls._table[name]
        if name in ("url", "ledger") and value is not None and not isinstance(value, str):
            # The value may hold a password, and its class says enough.
            raise ConfigError(where, type(value), row.kind.accepted)
        return row.kind(where, Secret(value) if row.secret and isinstance(value, str) else value)

    @classmethod
    def refuse(cls, name: str, where: str, value: object, extra: Iterable[str] = ()) -> NoReturn:
        """`ConfigError` for a setting that there is none of for a whole cache."""
        if name in _OF_ROUTES:
            raise ConfigError(
                qualified(where, name),
                redacted(value),
                f"this setting in a rule, cache.route(template, {name}=…), or beside a view; there is none for all",
            )
        refuse_unknown(where, name, value, [*cls._table, *extra])

    def _load(self, settings: Mapping[str, Any], where: str) -> None:
        for name, value in settings.items():
            if name not in self._table:
                self.refuse(name, where, value)
        super()._load({n: self.converted(n, qualified(where, n), v) for n, v in settings.items()}, where)

    def _set(self, values: Mapping[str, Any], given: frozenset[str]) -> None:
        complete = dict(values)
        if values["ledger"] is not None and not self._is_apart(values["url"]):
            # Its value may hold a password.
            raise ConfigError(
                "TierCache: ledger", "***", "a url that begins with memcached:// beside it; a Redis has its own ledger"
            )
        complete["credential_headers"] = _extended(CREDENTIAL_HEADERS, values["credential_headers"])
        complete["ignore_cookies"] = _extended(IGNORED_COOKIES, values["ignore_cookies"])
        if complete["enabled"] is None:
            complete["enabled"] = not switched_on(DISABLED_VARIABLE, os.environ)
        if complete["debug"] is None:
            complete["debug"] = switched_on(DEBUG_VARIABLE, os.environ)
        super()._set(complete, given)


    @staticmethod
    def _is_apart(url: str | None) -> bool:
        return url is not None and url.lower().startswith(_APART)

    @property
    def apart(self) -> bool:
        """Whether the values of L2 lie elsewhere than the ledger."""
        return self._is_apart(self.url)

    @property
    def alone(self) -> bool:
        """Whether there is an L2, and no ledger beside it that other processes read."""
        return self.apart and self.ledger is None

    def check_consistency(self, setting: str, consistency: str) -> None:
        """`ConfigError` where something is to be more than bounded, and nobody could say what others have purged."""
        if self.alone and consistency != BOUNDED:
            raise ConfigError(
                setting, consistency, "'bounded', or a ledger beside the URL of the Memcached, which has none"
            )


def _extended(known: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *more)))


def switched_on(variable: str, environ: Mapping[str, str]) -> bool:
    """Whether the environment has a switch on; `ConfigError` for a word that could mean either."""
    word = environ.get(variable, "").strip().lower()
    if word not in ON | OFF:
        raise ConfigError(variable, environ[variable], SWITCH)
    return word in ON
