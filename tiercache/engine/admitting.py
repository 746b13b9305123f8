"""How a stored response comes into L1, and what this process knows of the variants of a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiercache.core.edge_headers import Edge, edge_for
from tiercache.core.entries import Entry, Variants
from tiercache.core.keys import MAX_SELECTING, Key, variant_key
from tiercache.core.messages import Fields, Request, StoredResponse
from tiercache.core.origins import ORIGIN, open_to_origins
from tiercache.core.policy import Policy
from tiercache.core.stores import Get
from tiercache.core.values import Body, Held, StoredValue, body_from

if TYPE_CHECKING:
    from tiercache.engine.engine import Engine

MARKER_KEPT = 86_400.0
"""Seconds that L1 remembers by which fields a URL varies."""


def admit(
    engine: Engine,
    request: Request,
    response: StoredResponse,
    *,
    mark: int = -1,
    began: float = 0.0,
    encoded: int = 0,
) -> Entry:
    """Make an L1 entry of a stored response and, where the route uses L1, put it where later requests look.

    `mark` and `began` are of the fill if it was this process's own; `encoded` is the length of what came from L2.
    """
    declared = None if response.declared is None else Policy.from_declared(response.declared)
    policy = engine.policy_for(request.route, declared)
    names = tuple([name for name, _ in response.vary])
    by_origin = ORIGIN in names
    to_origins = True if by_origin or ORIGIN in policy.header_names else open_to_origins(response.fields)
    sent = edge(
        engine,
        response.fields,
        policy,
        lifetime=response.fresh_until - response.created,
        app_decides=response.explicit,
        # A release that did not count it as varying may have stored it.
        by_origin=by_origin or to_origins is False,
    )
    # What this process wrote it reads back as it meant it; others may have learned the shared clock less well.
    offset = engine.server_time.low if mark >= 0 else engine.server_time.high
    entry = Entry(
        response,
        sent,
        offset=offset,
        isolated_ttl=policy.isolated_ttl,
        mark=mark,
        began=began,
        early=policy.early_refresh,
        to_origins=to_origins,
    )
    engine.origins.met(entry)
    key = request.key
    if names:
        known = learn(engine, key, names)
        key = variant_key(key, known.names, engine.selecting(request, known.names))
        _count(engine, known, key)
    if policy.l1:
        engine.memory.store(key, entry, engine.size_of(key, entry, encoded), entry.keep_until)
    return entry


def edge(
    engine: Engine, fields: Fields, policy: Policy, *, lifetime: float, app_decides: bool, by_origin: bool
) -> Edge:
    """What of a shareable response L0 is told. `by_origin`: the `Origin` of the request has chosen it."""
    keyed = (*policy.header_list, b"cookie") if policy.cookie_names else policy.header_list
    if by_origin and ORIGIN not in keyed:
        keyed = (*keyed, ORIGIN)
    return edge_for(
        fields,
        browser_ttl=policy.browser_ttl,
        cdn_ttl=policy.cdn_ttl,
        lifetime=lifetime,
        app_decides=app_decides,
        lacks_date=b"date" not in dict(fields),
        keyed=keyed,
        personal=bool(policy.cookie_names) or not engine.rules.credentials.headers.isdisjoint(keyed),
    )


def admit_value(
    engine: Engine,
    request: Get,
    stored: StoredValue,
    body: Body | None = None,
    *,
    mark: int = -1,
    began: float = 0.0,
) -> Held:
    """`admit` for a value of data. Without a `body` it comes from L2: `CodecError` if it is none of its store."""
    rule = request.route
    policy: Policy = rule.policy
    came = body is None
    if body is None:
        body = body_from(stored.form, rule.unpacked(stored, engine.max_body(policy)), rule.codec)
    entry = held(engine, request, stored, body, mark=mark, began=began)
    if came:
        request.has_read(entry, body.whole)
    if policy.l1:
        engine.memory.store(request.key, entry, engine.size_of(request.key, entry), entry.keep_until)
    return entry


def held(engine: Engine, request: Request, stored: StoredValue, body: Body, *, mark: int, began: float) -> Held:
    """A value as L1 would hold it."""
    rule = request.route
    return Held(
        stored,
        body,
        rule.codec,
        offset=engine.server_time.low if mark >= 0 else engine.server_time.high,
        isolated_ttl=rule.policy.isolated_ttl,
        mark=mark,
        began=began,
        early=rule.policy.early_refresh,
    )


def variants(engine: Engine, key: Key) -> Variants | None:
    """The marker of a URL that is known to vary."""
    found = engine.memory.lookup(key)
    return found if isinstance(found, Variants) else None


def learn(engine: Engine, key: Key, names: tuple[bytes, ...], *, shared: bool = False) -> Variants:
    """Remember that a URL varies by these request fields, beside those known before; the marker of both."""
    with engine.lock:
        known = variants(engine, key)
        if known is not None:
            union = tuple(sorted({*known.names, *names}))
            if len(union) > MAX_SELECTING:
                # The fields change from answer to answer: what is known of them helps nobody.
                union = names
            if union == known.names:
                known.shared = known.shared or (shared and union == names)
                return known
        else:
            union = names
        marker = Variants(union, shared=shared and union == names, size=engine.size_of(key, union) + 256)
        engine.memory.store(key, marker, marker.size, engine.clock() + MARKER_KEPT)
        return marker


def _count(engine: Engine, known: Variants, key: Key) -> None:
    """A page that varies by something with endless values must not push everything else out."""
    memory = engine.memory
    with engine.lock:
        kept = known.kept
        if key in kept:
            return
        if len(kept) >= engine.settings.max_variants:
            oldest = next(iter(kept))
            known.size -= kept.pop(oldest)
            known.full = True
            memory.discard(oldest)
        kept[key] = size = engine.size_of(key, None)
        known.size += size
        if memory.lookup(key[0]) is known:
            memory.store(key[0], known, known.size, engine.clock() + MARKER_KEPT)
