"""What one rule says without effect, or with another one than its words have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tiercache.config.contradictions import Finding
from tiercache.config.settings import Settings
from tiercache.core.kinds import as_text
from tiercache.core.policy_settings import BOUNDED, FLEET, SESSION, STRONG
from tiercache.core.routes import Route

ENDLESS: Final = frozenset(
    {"user-agent", "referer", "accept", "accept-language", "accept-encoding", "x-request-id", "traceparent",
     "x-forwarded-for", "x-real-ip", "date", "if-none-match", "if-modified-since", "sec-ch-ua"}
)  # fmt: skip
"""Fields whose values are nearly as many as there are clients or requests."""
_NEGOTIATED: Final = frozenset({"accept", "accept-language", "accept-encoding"})
_MAY_GIVE: Final = "unless a decorator beside the view or the app's Cache-Control gives it"


def needs_url(where: str, name: str) -> Finding:
    return Finding(
        "needs-url", where, name,
        f"{name} means nothing without a shared tier; give a url (TIERCACHE_URL), or leave it out",
    )  # fmt: skip


def check_rule(route: Route, settings: Settings) -> Iterator[Finding]:
    """All that may be wrong with a rule that is in force."""
    if not route.policy.cache:
        return
    yield from _tiers(route, settings)
    yield from _lifetimes(route)
    yield from _edges(route, settings)
    yield from _stale(route)
    yield from _key(route, settings)


def _tiers(route: Route, settings: Settings) -> Iterator[Finding]:
    policy, where = route.policy, route.named
    lonely = settings.url is None
    if lonely and policy.tiers == ("l2",):
        yield Finding(
            "tier-not-there", where, "tiers",
            "tiers=['l2'] and no url: nothing is stored anywhere; give a url (TIERCACHE_URL), or tiers=['l1']",
        )  # fmt: skip
    elif lonely and "tiers" in policy.given and "l2" in policy.tiers:
        yield needs_url(where, "tiers")
    if lonely and policy.coalesce == FLEET:
        yield needs_url(where, "coalesce")
    if lonely and policy.consistency != BOUNDED:
        yield needs_url(where, "consistency")
    if settings.alone and policy.consistency != BOUNDED:
        yield Finding(
            "consistency-without-ledger", where, "consistency",
            f"consistency={policy.consistency!r} needs a ledger that all processes read, and a Memcached has none; "
            "give a ledger (TIERCACHE_LEDGER), or leave it out",
        )  # fmt: skip
    elif not lonely and policy.consistency == SESSION and settings.session_secret is None:
        yield Finding(
            "session-without-secret", where, "consistency",
            "consistency='session' signs what clients carry; give a session_secret (TIERCACHE_SESSION_SECRET)",
        )  # fmt: skip
    if "isolated_ttl" in policy.given and policy.isolated_ttl:
        if lonely:
            yield needs_url(where, "isolated_ttl")
        elif policy.consistency == STRONG or "l1" not in policy.tiers:
            why = "consistency='strong' never answers in isolation" if "l1" in policy.tiers else "L1 is not used"
            yield Finding("isolated-never", where, "isolated_ttl", f"{why}; leave isolated_ttl out")
        elif policy.ttl is not None and policy.isolated_ttl > _kept(route):
            yield Finding(
                "isolated-beyond-lifetime", where, "isolated_ttl",
                f"isolated_ttl ({_s(policy.isolated_ttl)}) is longer than anything is kept "
                f"({_s(_kept(route))}: ttl and the longer stale window); lower it, or raise ttl",
            )  # fmt: skip


def _kept(route: Route) -> float:
    policy = route.policy
    longest = max([policy.ttl or 0.0, *policy.ttl_by_status.values()])
    return longest + max(policy.stale_while_revalidate or 0.0, policy.stale_if_error or 0.0)


def _lifetimes(route: Route) -> Iterator[Finding]:
    policy, where = route.policy, route.named
    states = policy.ttl is not None or bool(policy.ttl_by_status)
    if not states and policy.heuristic is None and "ttl" not in policy.given:
        yield Finding(
            "lifetime-left-to-app", where, "ttl",
            f"the rule gives no ttl: nothing is stored {_MAY_GIVE}; give a ttl, or ttl=None (\"none\" in a file) to "
            "say that it is meant",
        )  # fmt: skip
    if policy.jitter is not None and not states and policy.heuristic is None:
        yield Finding(
            "jitter-without-lifetime", where, "jitter",
            "jitter shortens lifetimes that the app has not stated, and the rule gives none; give a ttl, or leave it "
            "out unless a decorator beside the view gives one",
        )  # fmt: skip
    if policy.heuristic is not None and policy.ttl is not None:
        yield Finding(
            "heuristic-behind-ttl", where, "heuristic",
            "ttl holds wherever the app states no lifetime, so that heuristic is left with 404 and 410 alone; leave "
            "one of the two out",
        )  # fmt: skip
    if policy.early_refresh is not None and policy.ttl == 0:
        yield Finding(
            "early-refresh-never", where, "early_refresh",
            "with ttl=0 nothing is ever fresh, so that nothing is refreshed early; give a ttl, or leave it out",
        )  # fmt: skip


def _edges(route: Route, settings: Settings) -> Iterator[Finding]:
    policy, where = route.policy, route.named
    bound = settings.staleness_bound
    for name, place, seconds in (("browser", "browsers", policy.browser_ttl), ("cdn", "the CDN", policy.cdn_ttl)):
        if not seconds:
            continue
        if name == "cdn" and not _credentials_in_key(route, settings).isdisjoint(policy.headers):
            yield Finding(
                "cdn-ttl-personal", where, "cdn_ttl",
                f"the key has a credential ({', '.join(sorted(_credentials_in_key(route, settings)))}): what is for "
                "one user is never sent with a lifetime for the CDN; leave cdn_ttl out",
            )  # fmt: skip
        elif policy.tags and seconds > bound:
            yield Finding(
                f"{name}-outlives-purge", where, f"{name}_ttl",
                f"purged within {_s(bound)} here, and {place} may go on for {name}_ttl ({_s(seconds)}) with what they "
                f"have; shorten {name}_ttl to what you can bear"
                + (", or purge the CDN yourself" if name == "cdn" else ""),
            )  # fmt: skip
        elif policy.ttl is not None and seconds > _kept(route):
            yield Finding(
                f"{name}-outlives-store", where, f"{name}_ttl",
                f"{name}_ttl ({_s(seconds)}) is longer than the store keeps it ({_s(_kept(route))}): {place} may be "
                f"older than anything here; shorten {name}_ttl, or raise ttl",
            )  # fmt: skip


def _credentials_in_key(route: Route, settings: Settings) -> frozenset[str]:
    return frozenset(route.policy.headers) & frozenset(settings.credential_headers)


def _stale(route: Route) -> Iterator[Finding]:
    policy, where = route.policy, route.named
    hides, revalidates = policy.stale_if_error, policy.stale_while_revalidate
    if policy.serve_stale_after is not None:
        if not hides:
            yield Finding(
                "stale-without-window", where, "serve_stale_after",
                f"serve_stale_after serves what is within its stale_if_error, and the rule has none, {_MAY_GIVE}; give "
                "stale_if_error",
            )  # fmt: skip
        elif policy.serve_stale_after >= hides:
            yield Finding(
                "stale-window-too-short", where, "serve_stale_after",
                f"after {_s(policy.serve_stale_after)} of waiting stale_if_error ({_s(hides)}) is over; raise it",
            )  # fmt: skip
        if policy.fill_timeout is not None and policy.serve_stale_after >= policy.fill_timeout:
            yield Finding(
                "slow-after-timeout", where, "serve_stale_after",
                f"serve_stale_after ({_s(policy.serve_stale_after)}) is not below fill_timeout "
                f"({_s(policy.fill_timeout)}): one of the two does nothing; lower serve_stale_after",
            )  # fmt: skip
    refreshes = revalidates or policy.early_refresh is not None
    if "retry_after_error" in policy.given and policy.retry_after_error and not hides and not refreshes:
        yield Finding(
            "stale-without-window", where, "retry_after_error",
            f"retry_after_error counts where something stale hides that the app has failed, and the rule has no "
            f"stale_if_error, {_MAY_GIVE}; give stale_if_error, or leave it out",
        )  # fmt: skip
    if policy.max_fills is not None and not hides:
        yield Finding(
            "max-fills-refuses", where, "max_fills",
            f"beyond max_fills ({policy.max_fills}) clients get 503: nothing stale may be served, {_MAY_GIVE}; give "
            "stale_if_error if there may be something",
        )  # fmt: skip
    if policy.consistency == STRONG and (hides or revalidates):
        which = " and ".join(n for n in ("stale_while_revalidate", "stale_if_error") if getattr(policy, n))
        yield Finding(
            "stale-under-strong", where, which.split(" and ")[0],
            f"consistency='strong' asks the shared tier before anything stale is served: {which} does not help when "
            "that is away; use consistency='bounded' if it has to",
        )  # fmt: skip


def _key(route: Route, settings: Settings) -> Iterator[Finding]:
    policy, where = route.policy, route.named
    for name in policy.headers:
        if name == "cookie":
            yield Finding(
                "cookie-in-headers", where, "headers",
                "the whole Cookie field is part of the key, so that any analytics cookie makes a page of one's own; "
                "name the cookies that count: cookies=['theme']",
            )  # fmt: skip
        elif name in ENDLESS:
            instead = "let the app send Vary, and use normalize" if name in _NEGOTIATED else "take it out of headers"
            yield Finding(
                "key-explodes", where, "headers",
                f"{name} differs from client to client, so that nearly every request calls the app; {instead}",
            )  # fmt: skip
    if policy.max_body is not None and policy.max_body > settings.l1_size and "l1" in policy.tiers:
        yield Finding(
            "body-larger-than-l1", where, "max_body",
            f"max_body ({as_text('B', policy.max_body)}) is larger than l1_size ({as_text('B', settings.l1_size)}): "
            "such a body is never kept in this process; raise l1_size or lower max_body",
        )  # fmt: skip


def _s(seconds: float) -> str:
    return as_text("s", seconds)
