"""What the app's word about a stored response changes: a 304 in answer to our validator, or the answer to a HEAD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiercache.core import decisions
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
    detail = "validated"
    if isinstance(outcome, str):
        _discard(exchange, stale)
        exchange.substitute = Answer(stale, detail, forward_status="304")
        exchange.refuse(outcome)
        return
    entry = exchange.admit(outcome)
    exchange.substitute = Answer(entry, detail, forward_status="304", stored=True)


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
