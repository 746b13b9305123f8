"""The decisions of a shared cache about responses: may this be stored, for how long, and what does it invalidate.

Each step names the section that it obeys. The words of the app come first; a policy fills in what they leave open.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from tiercache.core import conditional
from tiercache.core.cache_control import CacheControl, parse_response
from tiercache.core.conditional import make_etag, validators
from tiercache.core.fields import OWS, joined, lines, members, sendable, storable
from tiercache.core.freshness import Source, StaleWindows, age_value, freshness, initial_age, stale_windows
from tiercache.core.keys import bucket_of, group_tags, origin
from tiercache.core.messages import Fields, Request, StoredResponse
from tiercache.core.origins import ORIGIN, open_to_origins
from tiercache.core.policy import Policy
from tiercache.core.policy_kinds import NEVER_STORED

REASONS = {
    "method": "the method is neither GET nor HEAD",
    "route": "the rule of the route says cache=False",
    "host": "the request has several Host fields",
    "upgrade": "the request asks for another protocol",
    "body": "the request has content",
    "forwarded": "a forwarding field disagrees with the URL that the app sees, and is not trusted",
    "cookie": "the request carries a cookie that may be a credential",
    "authorization": "the request carries Authorization",
    "credential": "the request carries another field that is a credential",
    "range": "the request asks for a part that the store cannot give",
    "condition": "the request has a condition that the store cannot answer",
    "client": "the request's own Cache-Control asks for it, and the rule says client_directives=True",
    "nested": "another layer of the same cache stands around this one, and is at work on the request",
    "remembered": "no rule covers this URL, and a moment ago its answer was not for sharing",
    "status": "the status is not stored without the app's explicit word",
    "no-store": "the response says no-store",
    "private": "the response says private",
    "no-cache": "the response says no-cache",
    "must-understand": "the response says must-understand, and its status is unknown",
    "ambiguous": "the request has a field that some servers take for another one, such as x_forwarded_host",
    "malformed": "the response has a field that HTTP does not allow, or its fields are too long",
    "vary": "the response varies by everything, or by too many fields",
    "set-cookie": "the response sets a cookie",
    "event-stream": "the response is a stream of events",
    "no-lifetime": "neither the app nor a rule gives a lifetime",
    "expired": "its lifetime is over already",
    "too-large": "the body is larger than max_body",
    "incomplete": "the body broke off, or its length is not what its head says",
    "extension": "the response is sent by other means than its body (a file by path, trailers)",
    "view": "the view said no_store()",
    "data": "it was made with data that has been purged since, or whose history is lost",
    "behind": "this process may lack a purge that the rule's consistency asks it to know of, and cannot catch up",
    "isolated": "the shared tier cannot be reached: only this process's own fills answer, for isolated_ttl",
}
"""What `detail` in `Cache-Status` may say (RFC 9211 §2.9), and `stats()` counts by."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"})
STORED_BY_POLICY = frozenset({200, 203, 204, 300, 301, 308})
"""Statuses to which a rule's `ttl` applies; others need the app's explicit word, or `ttl_by_status`."""
GUESSED = STORED_BY_POLICY | {404, 410}
"""Statuses to which a rule's `heuristic` applies; others need the app's `public` (RFC 9110 §15.1, 9111 §4.2.2)."""
UNDERSTOOD = frozenset(
    {200, 203, 204, 300, 301, 302, 303, 307, 308, 401, 403, 404, 406, 408, 409, 410, 411, 412, 415, 417, 421, 422, 425}
    | {426, 428, 429, 451, 500, 502, 503, 504, 505, 511}
)
"""Final statuses whose meaning for caching is known here (RFC 9111 §5.2.2.3)."""
LEAST_VALIDATABLE, MOST_VALIDATABLE = 60.0, 86_400.0
"""A response with a validator is kept past its freshness for as long again as it was fresh, within these seconds: a 304
costs the app less than making it anew."""
MAX_FIELDS = 32_768
"""Bytes of names and values of a response: what is longer, proxies in front refuse, and then would for all."""
MAX_VARY = 20
"""Request fields that a response may vary by; more of them are not a choice but an attack, or a mistake."""


class Verdict(NamedTuple):
    """Whether a response is stored, and what follows from that."""

    refusal: str = ""
    """A key of `REASONS`; empty: it is stored, as far as its head can tell."""
    lasting: bool = False
    """Whether the next response of this URL will likely be refused too."""
    lifetime: float = 0.0
    """Freshness lifetime in seconds, counted from age 0."""
    initial_age: float = 0.0
    """Seconds."""
    app_decides: bool = False
    """The lifetime is the app's own word."""
    public: bool = False
    """The app marked it for sharing between requests with credentials (RFC 9111 §3.5)."""
    stale: StaleWindows = StaleWindows(0.0, 0.0)
    kept_stale: float = 0.0
    """Seconds for which it is worth keeping past its freshness: to be used stale, or to be validated."""
    validate_always: bool = False
    """`no-cache`: no lifetime makes it reusable unasked (RFC 9111 §5.2.2.4)."""
    may_stale: bool = True
    """No directive forbids to use it stale (RFC 9111 §4.2.4)."""
    vary: tuple[bytes, ...] = ()
    """The request fields by which it is chosen: what `Vary` nominates, and `Origin` where that chooses it all the same;
    sorted, lower-case."""
    content_length: int | None = None
    """As announced; None where it was not."""
    fields: Fields = ()
    """What of the fields may be stored."""


def may_store(
    request: Request,
    status: int,
    fields: Fields,
    policy: Policy,
    *,
    now: float,
    elapsed: float,
    chosen_ttl: float | None,
    refusal: str | None,
    max_body: int,
    targets: tuple[bytes, ...] = (),
    by_origin: bool = False,
) -> Verdict:
    """Whether a shared cache may store the response to a GET (RFC 9111 §3), and how (§4.2).

    Args:
        fields: all fields of the response, lower-case names, in order.
        now: Unix time at which its head came, seconds.
        elapsed: seconds since the app was called.
        chosen_ttl: the lifetime that the view chose for it, seconds.
        refusal: why the view will not have it stored.
        max_body: bytes.
        targets: lower-case names of the targeted fields that we obey (RFC 9213).
        by_origin: other responses of this URL are known to have been chosen by `Origin`.
    """
    if refusal:
        return Verdict("view", lasting=True)
    # RFC 9111 §3: a final status, and one whose responses are not partial and not the request's own fault.
    if status < 200 or status in NEVER_STORED:
        return Verdict("status")
    # A field that servers refuse to send would make of one failure one for all (RFC 9110 §5.5).
    if not sendable(fields) or sum([len(name) + len(value) for name, value in fields]) > MAX_FIELDS:
        return Verdict("malformed")
    control = parse_response(fields, targets)
    # §5.2.2.3: where the status is understood, must-understand puts no-store out of force.
    if control.must_understand and status not in UNDERSTOOD:
        return Verdict("must-understand")
    if control.no_store and not control.must_understand:
        return Verdict("no-store", lasting=True)
    if control.private:
        return Verdict("private", lasting=True)
    # §3.5, which we extend to every kind of credential. What has to be validated each time is not shared by that alone:
    # the 304 that one user's request gets may be about a page of his own.
    public = control.public or (
        not control.no_cache and bool(control.s_maxage or (control.must_revalidate and control.max_age))
    )
    if request.credential and not public:
        return Verdict(request.credential, lasting=True)
    # §5.2.2.4: not to be reused without validation, which takes a validator of the app; no rule makes that a hit.
    if control.no_cache and not validators(fields, received=now):
        return Verdict("no-cache", lasting=True)
    vary = vary_names(fields)
    if b"*" in vary or len(vary) > MAX_VARY:
        return Verdict("vary", lasting=True)
    # The Fetch standard, "CORS protocol and HTTP caches": what allows one origin varies by `Origin`, said or not.
    if ORIGIN not in vary and ORIGIN not in policy.header_names:
        opened = open_to_origins(fields, request.field(ORIGIN))
        if opened is False or (opened is None and by_origin):
            vary = tuple(sorted((*vary, ORIGIN)))
    kept = storable(fields, control.withheld)
    drop = policy.drop_names
    # Spaces around a value are not part of it (RFC 9110 §5.5), and some servers refuse to send them.
    kept = tuple(
        [(n, v.strip(OWS)) for n, v in kept if n != b"set-cookie" or v.partition(b"=")[0].strip() not in drop]
    )
    if any(name in (b"set-cookie", b"set-cookie2") for name, _ in kept):
        return Verdict("set-cookie", lasting=True)
    if (joined(fields, b"content-type") or b"").lower().startswith(b"text/event-stream"):
        return Verdict("event-stream", lasting=True)
    lengths = {length.strip() for value in lines(fields, b"content-length") for length in value.split(b",")}
    length = lengths.pop() if len(lengths) == 1 else b""
    if lengths or (length and not length.isdigit()):
        return Verdict("incomplete")
    content_length = int(length[:18]) if length else None
    if content_length is not None and content_length > max_body:
        return Verdict("too-large", lasting=True)
    return _with_lifetime(
        status, fields, control, policy, now, elapsed, chosen_ttl,
        Verdict(public=public, vary=vary, content_length=content_length, fields=kept),
    )  # fmt: skip


def _with_lifetime(
    status: int,
    fields: Fields,
    control: CacheControl,
    policy: Policy,
    now: float,
    elapsed: float,
    chosen_ttl: float | None,
    verdict: Verdict,
) -> Verdict:
    ttl = policy.ttl_by_status.get(status, policy.ttl if status in STORED_BY_POLICY else None)
    heuristic = policy.heuristic if status in GUESSED or control.public else None
    lifetime, source = freshness(fields, control, received=now, ttl=ttl, heuristic=heuristic)
    app_decides = source not in (Source.POLICY, Source.HEURISTIC, Source.NONE)
    # What a view says of the page that it makes, it does not say of the error that came out instead.
    if chosen_ttl is not None and (status < 400 or source is not Source.NONE):
        lifetime, app_decides, source = chosen_ttl, False, Source.POLICY
    if source is Source.NONE and not control.no_cache:
        return Verdict("no-lifetime" if status in STORED_BY_POLICY else "status", lasting=status in STORED_BY_POLICY)
    # §4.2.3 counts the delay of the network. Here the app runs in this process, and what takes long is worth caching;
    # only an `Age` tells of caches behind the app, and then of a way that the response has come.
    age = initial_age(fields, requested=now - (elapsed if age_value(fields) else 0.0), received=now)
    windows = stale_windows(
        control,
        while_revalidate=policy.stale_while_revalidate or 0.0,
        if_error=policy.stale_if_error or 0.0,
    )
    if control.no_cache:
        lifetime = 0.0
    kept_stale = max(windows)
    if validators(fields, received=now):
        kept_stale = max(kept_stale, min(max(lifetime, LEAST_VALIDATABLE), MOST_VALIDATABLE) + age)
    if policy.client_directives and not control.forbids_stale:
        # A client may ask for a stale one (§5.2.1.2).
        kept_stale = max(kept_stale, min(max(lifetime, LEAST_VALIDATABLE), MOST_VALIDATABLE))
    if lifetime + kept_stale <= age:
        return Verdict("expired", lasting=app_decides)
    return verdict._replace(
        lifetime=lifetime,
        initial_age=age,
        app_decides=app_decides,
        stale=windows,
        kept_stale=kept_stale,
        validate_always=control.no_cache,
        may_stale=not control.forbids_stale,
    )


def vary_names(fields: Fields) -> tuple[bytes, ...]:
    """The request fields that `Vary` nominates in all its lines: lower-case, sorted, each once (RFC 9110 §12.5.5)."""
    value = joined(fields, b"vary")
    if not value:
        return ()
    return tuple(sorted({name.lower() for name in members(value)}))


def stored_fields(verdict: Verdict, status: int, body: bytes, policy: Policy) -> Fields:
    """The fields to store: those that may be, with the length that is now known and a validator where one lacks."""
    fields = verdict.fields
    names = {name for name, _ in fields}
    if b"content-length" not in names and status not in (204, 304):
        fields = (*fields, (b"content-length", b"%d" % len(body)))
    if b"etag" not in names and policy.etag and status == 200:
        fields = (*fields, (b"etag", make_etag(body, strong=policy.etag == "strong")))
    return fields


def head_agrees(stored: StoredResponse, head: Fields) -> bool:
    """Whether a 200 to HEAD is about the same representation as the stored response to GET (RFC 9111 §4.3.5)."""
    return conditional.head_agrees(stored.fields, len(stored.body), head)


def has_validator(fields: Fields) -> bool:
    """Whether a response says which representation it is about."""
    return any(name in (b"etag", b"last-modified") for name, _ in fields)


def value_of(fields: Fields, name: bytes) -> bytes:
    """The value of a field, empty where it is absent."""
    return joined(fields, name) or b""


def is_unsafe(method: str) -> bool:
    """RFC 9110 §9.2.1: whether the method may change something; one that is unknown may."""
    return method not in SAFE_METHODS


def invalidates(method: str, status: int) -> bool:
    """RFC 9111 §4.4: a non-error response to an unsafe method invalidates."""
    return is_unsafe(method) and 200 <= status < 400


def invalidated_by(request: Request, fields: Fields) -> list[str]:
    """The tags that a successful unsafe request invalidates (RFC 9111 §4.4).

    Its target, `Location` and `Content-Location` where they name the same origin, unless its rule leaves these out, and
    what its rule adds. URLs count by bucket of path, whatever their query.
    """
    path: str = request.path
    route = request.route
    tags = _targets(request, path, fields) if route.policy.invalidates_target else []
    tags += group_tags(request.scheme(), request.host(), fields, b"cache-group-invalidation")
    if route.policy.invalidates:
        tags += ["t:" + tag for tag in route.invalidates_for(route.params_for(path))]
    return tags


def _targets(request: Request, path: str, fields: Fields) -> list[str]:
    tags = [bucket_of(path)]
    here = origin(request.scheme(), request.host())
    for name in (b"location", b"content-location"):
        for value in lines(fields, name):
            try:
                url = urlsplit(urljoin(here + request.target().decode("latin-1"), value.decode("latin-1")))
            except ValueError:
                continue
            if origin(url.scheme, url.netloc.encode("latin-1", "replace")) == here:
                # RFC 9110 §4.2.3: an empty path is the same as `/`.
                tags.append(bucket_of(unquote(url.path) or "/"))
    return tags


def forward_for(bypass: str) -> tuple[str, str]:
    """`fwd` and `detail` of `Cache-Status` for a request in which the store takes no part (RFC 9211 §2.2)."""
    return ("method", "") if bypass == "method" else ("bypass", bypass)
