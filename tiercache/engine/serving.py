"""How an entry becomes an answer: its fields at the age it has now, a 304, a part, or the head alone."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from tiercache.core.conditional import Condition, evaluate, not_modified_fields
from tiercache.core.decisions import REASONS, forward_for
from tiercache.core.edge_headers import Edge
from tiercache.core.entries import Entry, Kept
from tiercache.core.messages import Request
from tiercache.core.ranges import ByteRange, Unsatisfiable, partial_fields, select_range
from tiercache.core.status_field import NAME as CACHE_STATUS
from tiercache.core.status_field import collapsed_value, forwarded_value, hit_value, substituted_value
from tiercache.engine.events import Stats

Pairs = list[tuple[bytes, bytes]]


E = TypeVar("E", bound=Kept)


class Answer(NamedTuple, Generic[E]):
    """What the store answers with."""

    entry: E
    detail: str
    """The tier that had it, `l1` or `l2`, or how it came to answer: `isolated`, `validated`, `stale-if-error`."""
    collapsed: bool = False
    forward_status: str | None = None
    """The app was asked and this is what it said; empty where it raised. None: it was not asked."""
    stored: bool = False
    forward: str = "stale"
    """Why the app was asked."""


class Reply(NamedTuple):
    """A response in the terms of no face: `headers` is fresh, and the receiver's to change."""

    status: int
    reason: bytes
    headers: Pairs
    body: bytes


class Presenter:
    """Writes answers; holds the settings of what they say about the cache."""

    def __init__(self, stats: Stats, *, age: bool, cache_status: bool) -> None:
        self._stats = stats
        self._age = age
        self._cache_status = cache_status
        bypassing = {reason: forwarded_value(*forward_for(reason), stored=False) for reason in REASONS}
        self._bypassing = {reason: (CACHE_STATUS, value) for reason, value in bypassing.items()}

    def fields(self, entry: Entry, age: int, status: bytes) -> Pairs:
        """The fields of an entry at an age in whole seconds, with the given `Cache-Status`."""
        edge = entry.edge
        # Below 0 where the clocks of two processes have not met yet.
        age = max(age, 0)
        headers: Pairs = [*edge.fixed, *edge.lines(age if self._age else 0)]
        if self._age:
            headers.append((b"age", b"%d" % age))
        if self._cache_status:
            headers.append((CACHE_STATUS, status))
        return headers

    def hit_fields(self, entry: Entry, age: int, now: float) -> Pairs:
        """The fields of a hit in L1. They change once a second, so that faces keep what they make of them."""
        return self.fields(entry, age, hit_value(entry.fresh_until - now, "l1"))

    def answer(self, answer: Answer[Entry], request: Request, now: float) -> Reply:
        """The answer to a request from an entry, with its conditions and its range looked at (RFC 9110 §13, §14)."""
        entry = answer.entry
        response = entry.response
        stats = self._stats
        ttl = entry.fresh_until - now
        if ttl <= 0:
            stats.stale += 1
        if answer.forward_status is not None:
            status_value = substituted_value(
                ttl, answer.detail, answer.forward_status, stored=answer.stored, forward=answer.forward
            )
        elif answer.collapsed:
            stats.collapsed += 1
            status_value = collapsed_value(ttl)
        else:
            # However it was found: past trust it may be older than the bound allows, and says so.
            detail = "isolated" if request.isolated and answer.detail == "l1" else answer.detail
            status_value = hit_value(ttl, detail)
            if answer.detail == "l2":
                stats.hits_l2 += 1
            else:
                stats.hits_l1 += 1
        headers = self.fields(entry, int(now - entry.born), status_value)
        status, body, reason = response.status, response.body, response.reason
        if request.conditional:
            outcome = evaluate(request.method, request.field, response.fields, status=status, received=response.created)
            if outcome is Condition.NOT_MODIFIED:
                stats.not_modified += 1
                return Reply(304, b"Not Modified", list(not_modified_fields(tuple(headers))), b"")
            part = select_range(
                request.method, request.field, response.fields, len(body), status=status, received=response.created
            )
            if isinstance(part, ByteRange):
                headers = list(partial_fields(tuple(headers), part))
                return Reply(206, b"Partial Content", headers, body[part.start : part.end])
            if isinstance(part, Unsatisfiable):
                own = (b"age", CACHE_STATUS, b"date")
                headers = [pair for pair in headers if pair[0] in own]
                # Strict servers expect a type on every status that may have content.
                headers += [(b"content-type", b"text/plain"), (b"content-range", part.content_range)]
                headers.append((b"content-length", b"0"))
                return Reply(416, b"Range Not Satisfiable", headers, b"")
        if request.method == "HEAD":
            body = b""
        return Reply(status, reason, headers, body)

    def failed(self, failure: str) -> Reply:
        """Neither the store nor the app answers: the client asked for the store alone (RFC 9111 §5.2.1.7), the app has
        enough to do (RFC 9110 §15.6.4), or takes too long (§15.6.5)."""
        # Strict servers expect a type on every status that may have content.
        headers: Pairs = [(b"content-type", b"text/plain"), (b"content-length", b"0"), (b"cache-control", b"no-store")]
        if self._cache_status:
            headers.append((CACHE_STATUS, b"tiercache; detail=" + failure.encode()))
        if failure == "overload":
            return Reply(503, b"Service Unavailable", [*headers, (b"retry-after", b"1")], b"")
        return Reply(504, b"Gateway Timeout", headers, b"")

    def bypassing(self, reason: str) -> tuple[bytes, bytes] | None:
        """The `Cache-Status` line of a response in which the store took no part; None where none is wanted."""
        return self._bypassing[reason] if self._cache_status else None

    def forwarded(self, forward: str, detail: str, *, stored: bool = False) -> tuple[bytes, bytes] | None:
        """The `Cache-Status` line of a response that comes from the app; None where none is wanted."""
        if not self._cache_status:
            return None
        return CACHE_STATUS, forwarded_value(forward, detail, stored=stored)

    def outgoing(self, raw: Pairs, edge: Edge | None, age: float, line: tuple[bytes, bytes] | None) -> Pairs:
        """The fields of the app's own response as they leave: as they came, but for what L0 is told of a shared one."""
        headers = raw
        if edge is not None:
            # The app's own Age stays: on a forwarded response it is what is known of its way here.
            replaced = edge.replaced - {b"age"}
            headers = [pair for pair in raw if pair[0].lower() not in replaced]
            headers += edge.lines(int(age) if self._age else 0)
        if line is not None:
            headers = [*headers, line]
        return headers
