"""What a request's own `Cache-Control` asks of a stored response (RFC 9111 §5.2.1), where a rule obeys it.

By default it is not obeyed: it is advice, and any client could pass the cache by with it.
"""

from __future__ import annotations

from tiercache.core.cache_control import RequestDirectives
from tiercache.core.entries import Kept


def accepts(directives: RequestDirectives, entry: Kept, now: float) -> bool:
    """Whether a fresh stored response is good enough for the client. `now` is on the process's own clock."""
    if directives.no_cache:
        return False
    if directives.max_age is not None and now - entry.born > directives.max_age:
        return False
    return directives.min_fresh is None or entry.fresh_until - now >= directives.min_fresh


def accepts_refreshing(directives: RequestDirectives | None) -> bool:
    """Whether the client takes a stale one while it is refreshed: who names limits has not asked for that (§5.2.1)."""
    return directives is None or not (
        directives.no_cache or directives.max_age is not None or directives.min_fresh is not None
    )


def accepts_stale(directives: RequestDirectives, entry: Kept, now: float) -> bool:
    """Whether the client takes a stale one as it is (§5.2.1.2), and the app has not forbidden it (§4.2.4)."""
    if directives.max_stale is None or directives.no_cache or not entry.may_stale:
        return False
    if directives.max_age is not None and now - entry.born > directives.max_age:
        return False
    return now - entry.fresh_until <= directives.max_stale
