"""What the app's word about a stored response changes: a 304 in answer to our validator, or the answer to a HEAD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiercache.core import decisions
from tiercache.core.conditional import freshen
from tiercache.core.edge_headers import Edge
from tiercache.core.entries import Entry
from tiercache.core.keys import variant_key
from tiercache.core.messages import Fields, StoredResponse
from tiercache.engine import admitting
from tiercache.engine.recording import Recording
from tiercache.engine.serving import Answer

if TYPE_CHECKING:
    from tiercache.engine.exchange import Exchange

AT_ONCE = 0.002
"""Seconds: the least that L2 can be told to keep something, twice over."""


def validated(exchange: Exchange, stale: Entry, fields: Fields) -> None:
    """RFC 9111 §4.3.3, §4.3.4: the app says that what is stored still holds."""
    take = exchange.take
    assert take is not None
    outcome = take.freshened(stale.response, fields) if exchange.engine.ledger.alive(stale) else None
    if outcome is None:
        # The 304 is about something else, or what it confirms has been purged meanwhile.
        exchange.again, exchange.stale = True, None
        return
    cookies = [pair for pair in fields if pair[0] in (b"set-cookie", b"set-cookie2")]
    if isinstance(outcome, str):
        _discard(exchange, stale)
        freshened = freshen(stale.response.fields, fields, targets=exchange.engine.targets)
        mine = _for_one(exchange, stale.response, (*freshened, *cookies))
        exchange.substitute = Answer(mine, "validated", forward_status="304")
        exchange.refuse(outcome)
        return
    entry = exchange.admit(outcome)
    if cookies:
        entry = _for_one(exchange, outcome, (*outcome.fields, *cookies))
    exchange.substitute = Answer(entry, "validated", forward_status="304", stored=True)


def _for_one(exchange: Exchange, response: StoredResponse, fields: Fields) -> Entry:
    """What is not for others, as the app says it: an entry that is kept nowhere, and nothing of ours for L0."""
    edge = Edge(fields, None, None, None, frozenset())
    offset = exchange.engine.server_time.low
    return Entry(response.with_fields(fields), edge, offset=offset, isolated_ttl=0.0, mark=-1, began=0.0)


def head(exchange: Exchange, status: int, fields: Fields) -> None:
    """RFC 9111 §4.3.5: what the app says of a page updates the stored one, or shows that it has changed."""
    stale = exchange.stale
    if stale is None or status != 200 or stale.response.status != 200:
        return
    if not decisions.head_agrees(stale.response, fields):
        _outdate(exchange, stale)
        return
    take = exchange.take = exchange.take or Recording(exchange.engine, exchange.request)
    outcome = take.freshened(stale.response, fields) if decisions.has_validator(fields) else None
    if isinstance(outcome, StoredResponse):
        exchange.admit(outcome)


def _discard(exchange: Exchange, entry: Entry) -> None:
    """Let go of it in every tier. L2 has nothing that deletes: what is put in its place expires at once."""
    engine, request = exchange.engine, exchange.request
    key = request.key
    variants = admitting.variants(engine, key)
    if variants is not None:
        key = variant_key(key, variants.names, engine.selecting(request, variants.names))
    engine.memory.discard(key)
    if request.route.policy.l2 and engine.shared is not None:
        exchange.share = entry.response.spent(engine.clock() + engine.server_time.low + AT_ONCE)


def _outdate(exchange: Exchange, entry: Entry) -> None:
    """Count it as stale from now on, whoever finds it: the next request for it validates or replaces it."""
    engine = exchange.engine
    now = engine.clock()
    if entry.fresh_until <= now:
        return
    response = entry.response.stale_from(now + engine.server_time.low)
    admitting.admit(engine, exchange.request, response, mark=entry.mark, began=entry.began)
    if exchange.request.route.policy.l2 and engine.shared is not None:
        exchange.share = response
