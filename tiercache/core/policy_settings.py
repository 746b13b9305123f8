"""The table of what a rule or a decorator may say, from which the policies, the types and the reference are made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Final, Literal, TypedDict

from tiercache.core.kinds import (
    DURATION,
    FLAG,
    SIZE,
    above_zero,
    cookie_names,
    field_names,
    one_of,
    optional,
    whole,
    words_or_names,
)
from tiercache.core.policy_kinds import (
    EARLY,
    FRACTION,
    NEGOTIATED_NAMES,
    STATUS_LIFETIMES,
    TAGS,
    TIER_NAMES,
    TIERS,
)
from tiercache.core.validation import Setting

Duration = int | float | timedelta | str
"""Seconds, a `timedelta`, or text such as "250ms", "5s", "10m", "1h", "7d"."""
Size = int | str
"""Bytes, or text such as "512B", "1KiB", "10MB", "64MiB"."""


BOUNDED: Final = "bounded"
STRONG: Final = "strong"
SESSION: Final = "session"
PROCESS: Final = "process"
FLEET: Final = "fleet"

ROWS: Final = (
    Setting("cache", FLAG, True, "Whether responses are stored at all; False leaves every request to the app."),
    Setting(
        "ttl",
        optional(DURATION),
        None,
        "Freshness lifetime in L1 and L2 where the app states none, in seconds; None: only what the app states.",
    ),
    Setting(
        "browser_ttl",
        optional(DURATION),
        None,
        "Freshness lifetime in browsers, in seconds from when we send; None: what the app states, else to revalidate "
        "each time.",
    ),
    Setting(
        "cdn_ttl",
        optional(DURATION),
        None,
        "Freshness lifetime in the CDN, in seconds from when we send; None: not set.",
    ),
    Setting("tags", TAGS, (), "Tags of what is stored, filled from the route's parameters, for purges."),
    Setting("tiers", TIER_NAMES, TIERS, "The tiers to store in."),
    Setting(
        "query",
        words_or_names("ignore", "query parameter"),
        None,
        'The part of the query in the key: None for all, "ignore" for nothing, or names of parameters.',
        early=True,
    ),
    Setting("headers", field_names(), (), "Request header fields whose values are part of the key.", early=True),
    Setting(
        "cookies",
        words_or_names("ignore", "cookie", cookies=True),
        None,
        'None: a cookie is a credential; "ignore": cookies do not matter; names: these are part of the key, '
        "any other is a credential.",
        early=True,
    ),
    Setting("drop_cookies", cookie_names(), (), "Cookies whose Set-Cookie may be dropped from what is stored."),
    Setting(
        "ttl_by_status",
        STATUS_LIFETIMES,
        {},
        "Freshness lifetime by status where the app states none, in seconds; instead of `ttl` for that status.",
    ),
    Setting(
        "isolated_ttl",
        DURATION,
        "10s",
        "How long L1 may go on answering when the shared tier cannot be reached, in seconds; 0: not at all.",
    ),
    Setting(
        "consistency",
        one_of(BOUNDED, STRONG, SESSION),
        BOUNDED,
        "What an answer from the store must know of: purges up to the staleness bound before it; every purge that had "
        "returned when the request came (asks the shared tier each time); or the client's own.",
        early=True,
    ),
    Setting("max_body", optional(above_zero(SIZE)), None, "Largest body to store, in bytes; None: as for the cache."),
    Setting(
        "invalidates", TAGS, (), "Tags purged when an unsafe request (POST, PUT, …) to the route succeeds.", early=True
    ),
    Setting(
        "invalidates_target",
        FLAG,
        True,
        "Whether an unsafe request to the route that succeeds purges its own path, and those in its Location and "
        "Content-Location (RFC 9111 §4.4); False where it changes nothing that is shown, such as a counted view.",
        early=True,
    ),
    Setting(
        "stale_while_revalidate",
        optional(DURATION),
        None,
        "How long past its freshness a response may be served while a new one is fetched, in seconds (RFC 5861 §3).",
    ),
    Setting(
        "stale_if_error",
        optional(DURATION),
        None,
        "How long past its freshness a response may be served when the app fails, in seconds (RFC 5861 §4).",
    ),
    Setting(
        "early_refresh",
        optional(EARLY),
        None,
        "When a response is fetched anew behind an answer although it is still fresh: from this part of its lifetime "
        "on, or by chance, the likelier the nearer its end and the dearer it was to make (XFetch).",
    ),
    Setting(
        "jitter",
        optional(FRACTION),
        None,
        "By how much at most a lifetime that the app has not stated is shortened at random, as a fraction, so that "
        "what was stored together does not expire together.",
    ),
    Setting(
        "coalesce",
        one_of(PROCESS, FLEET, False),
        PROCESS,
        "Whether requests wait for one that fills the same key: in this process, in every process of the fleet (asks "
        "the shared tier for a lease), or not at all.",
        early=True,
    ),
    Setting(
        "serve_stale_after",
        optional(above_zero(DURATION)),
        None,
        "How long the app may take before a stale response is served in its place (within stale_if_error), in seconds; "
        "what it answers later is stored.",
        early=True,
    ),
    Setting(
        "fill_timeout",
        optional(above_zero(DURATION)),
        None,
        "How long the app may take before clients get 504 where there is nothing stale to serve, in seconds; what it "
        "answers later is stored.",
        early=True,
    ),
    Setting(
        "retry_after_error",
        DURATION,
        "1s",
        "How long the app is left alone after it has failed where a stale response hides that, in seconds; 0: not at "
        "all.",
        early=True,
    ),
    Setting(
        "max_fills",
        optional(whole(1, 100_000)),
        None,
        "Most requests of this rule that the app of one process works on at once for the cache; beyond it stale "
        "responses are served (within stale_if_error), else 503 with Retry-After.",
        early=True,
    ),
    Setting(
        "etag",
        one_of("weak", "strong", False),
        "weak",
        "The ETag given to stored responses that lack one; False: none.",
    ),
    Setting(
        "client_directives",
        FLAG,
        False,
        "Whether Cache-Control in requests is obeyed (RFC 9111 §5.2.1); any client can then pass the cache by.",
        early=True,
    ),
    Setting(
        "normalize",
        NEGOTIATED_NAMES,
        (),
        "Request fields by which responses vary that are compared by what they ask for, not by how they spell it.",
        early=True,
    ),
    Setting(
        "follow_data",
        FLAG,
        True,
        "Whether what is made with data of a store (`cache.aside`, `read_through`, `write_through`, `memoize`) is "
        "purged with that data.",
    ),
    Setting(
        "heuristic",
        optional(FRACTION),
        None,
        "Lifetime as a fraction of the time since Last-Modified, where nothing else states one (RFC 9111 §4.2.2).",
    ),
)

class PolicySettings(TypedDict, total=False):
    """The settings of a route, as a type checker sees them."""

    cache: bool
    ttl: Duration | None
    browser_ttl: Duration | None
    cdn_ttl: Duration | None
    tags: Collection[str]
    tiers: Collection[str]
    query: Literal["ignore"] | Collection[str] | None
    headers: Collection[str]
    cookies: Literal["ignore"] | Collection[str] | None
    drop_cookies: Collection[str]
    ttl_by_status: Mapping[int, Duration] | Mapping[str, Duration]
    isolated_ttl: Duration
    consistency: Literal["bounded", "strong", "session"]
    max_body: Size | None
    invalidates: Collection[str]
    invalidates_target: bool
    stale_while_revalidate: Duration | None
    stale_if_error: Duration | None
    early_refresh: float | Literal["probabilistic"] | None
    jitter: float | None
    coalesce: Literal["process", "fleet", False]
    serve_stale_after: Duration | None
    fill_timeout: Duration | None
    retry_after_error: Duration
    max_fills: int | None
    etag: Literal["weak", "strong", False]
    client_directives: bool
    normalize: Collection[str]
    follow_data: bool
    heuristic: float | None
