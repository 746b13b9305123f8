"""Validators and what is done with them (RFC 9110 §8.8, §13, §15.4.5; RFC 9111 §3.2, §4.3).

Three parts: conditions of clients that a stored response can answer, the request that validates a stored response,
and what an answer to it changes.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from hashlib import blake2b
from math import ceil
from typing import NamedTuple

from tiercache.core.cache_control import parse_response
from tiercache.core.dates import parse_date
from tiercache.core.fields import NEVER_STORED, OWS, members, nominated, single, storable
from tiercache.core.freshness import date_value
from tiercache.core.messages import Fields

Accessor = Callable[[bytes], bytes | None]
"""`Request.field`: the value of a field, several lines joined; None if absent."""

STRONG_DATE_MARGIN = 60
"""Seconds that a modification must lie before `Date` for its time to identify one representation.

RFC 9110 §8.8.2.2 asks for one second and enough difference to rule out that two clocks disagree; its predecessors
put that at a minute.
"""

GENERATED_PREFIX = b'"tc-'
"""How the entity tags begin that are made here. The app knows nothing of them, so they are never sent to it."""

_ETAG_FORM = rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")'
_ETAG = re.compile(_ETAG_FORM)
_ETAG_OR_OTHER = re.compile(rb"[ \t,]*+(?:%b(?=[ \t]*(?:,|\Z))|[^,]*+)" % _ETAG_FORM)

_SELECTED_STATUS = 200
_CONDITIONAL_METHODS = ("GET", "HEAD")


class ETag(NamedTuple):
    """An entity tag (RFC 9110 §8.8.3): its quotation marks are part of the tag."""

    tag: bytes
    weak: bool

    def matches_weakly(self, other: ETag) -> bool:
        """Weak comparison (§8.8.3.2): the same opaque tag."""
        return self.tag == other.tag

    def matches_strongly(self, other: ETag) -> bool:
        """Strong comparison (§8.8.3.2): the same opaque tag, and neither is weak."""
        return self.tag == other.tag and not self.weak and not other.weak


def parse_etag(value: bytes | None) -> ETag | None:
    """An entity tag; None where the value is absent or is none (unquoted, `w/`, …): it then matches nothing."""
    match = _ETAG.fullmatch(value.strip(OWS)) if value is not None else None
    return None if match is None else ETag(match[2], match[1] is not None)


def etag_of(fields: Fields) -> ETag | None:
    """The entity tag of a response; None without a valid one, or where several lines disagree."""
    return parse_etag(single(fields, b"etag"))


def etags_in(value: bytes) -> Iterator[ETag]:
    """The entity tags of a list (RFC 9110 §13.1.2). Members that are none are skipped; tags may contain commas."""
    for match in _ETAG_OR_OTHER.finditer(value):
        if match[2] is not None:
            yield ETag(match[2], match[1] is not None)


def make_etag(body: bytes, *, strong: bool = False) -> bytes:
    """An entity tag for a body that has none: the same in every process and release of Python.

    Weak by default: compression outside of the cache would else send two bodies under one strong tag.
    """
    digest = urlsafe_b64encode(blake2b(body, digest_size=12).digest())
    tag = GENERATED_PREFIX + digest + b'"'
    return tag if strong else b"W/" + tag


def is_generated(etag: bytes) -> bool:
    """Whether an entity tag is one of `make_etag`."""
    return etag.removeprefix(b"W/").startswith(GENERATED_PREFIX)


def modified_of(fields: Fields, received: float) -> int | None:
    """`Last-Modified` as Unix time; None without a valid one, or where several lines disagree."""
    value = single(fields, b"last-modified")
    return parse_date(value, received) if value is not None else None


def is_strong_date(fields: Fields, modified: int, received: float) -> bool:
    """Whether the `Last-Modified` of a response identifies one representation (RFC 9110 §8.8.2.2)."""
    return date_value(fields, received) - modified >= STRONG_DATE_MARGIN


# --- Conditions of clients -------------------------------------------------------------------------------------------


class Condition(Enum):
    """What the conditions of a request ask of a stored response that could answer it."""

    SEND = "send"
    """The whole of it: there is no condition, or it holds, or it does not apply."""
    NOT_MODIFIED = "not modified"
    """A 304."""
    ORIGIN = "origin"
    """The app: a cache must not evaluate this condition (RFC 9111 §4.3.2)."""


def evaluate(
    method: str,
    field: Accessor,
    stored: Fields,
    *,
    status: int = _SELECTED_STATUS,
    received: float,
) -> Condition:
    """Evaluate the conditions of a request against the stored response chosen for it (RFC 9111 §4.3.2, 9110 §13.2).

    `status` and `stored` are those of the stored response, `received` is when it came. Ranges come after this:
    `Range` and `If-Range` count only where the answer is `SEND`.
    """
    # 9111 §4.3.2: `If-Match` and `If-Unmodified-Since` guard a change, of which only the origin can tell.
    if field(b"if-match") is not None or field(b"if-unmodified-since") is not None:
        return Condition.ORIGIN
    if_none_match = field(b"if-none-match")
    if method not in _CONDITIONAL_METHODS:
        return Condition.SEND if if_none_match is None else Condition.ORIGIN
    # 9110 §13.2.1: conditions do not turn a redirect or an error into a 304.
    if status != _SELECTED_STATUS:
        return Condition.SEND
    if if_none_match is not None:
        # 9110 §13.2.2: `If-Modified-Since` is not looked at, even where no tag matches.
        return Condition.NOT_MODIFIED if _none_match_fails(if_none_match, stored) else Condition.SEND
    if_modified_since = field(b"if-modified-since")
    if if_modified_since is None:
        return Condition.SEND
    since = parse_date(if_modified_since, received)
    if since is None:  # 9110 §13.1.3: an invalid date is ignored
        return Condition.SEND
    modified = modified_of(stored, received)
    if modified is None:
        if single(stored, b"last-modified") is not None:  # there, but no date: it says nothing about a change
            return Condition.SEND
        # 9111 §4.3.2: else the `Date`, else the time of receipt. It has not changed since then as far as we know.
        modified = ceil(date_value(stored, received))
    return Condition.NOT_MODIFIED if modified <= since else Condition.SEND


def _none_match_fails(value: bytes, stored: Fields) -> bool:
    if value.strip(OWS) == b"*":  # 9110 §13.1.2: any current representation, and there is one
        return True
    current = etag_of(stored)
    return current is not None and any(current.matches_weakly(tag) for tag in etags_in(value))


_KEPT_CONTENT_FIELDS = frozenset(
    {b"content-location", b"content-security-policy", b"content-security-policy-report-only"}
)
_DIGESTS = frozenset({b"digest", b"repr-digest"})


def not_modified_fields(fields: Fields) -> Fields:
    """The fields of a 304 made from a stored response (RFC 9110 §15.4.5).

    All that a 200 would carry but metadata of the representation, which the client has: `Content-*` other than
    `Content-Location` and the security policies, and `Last-Modified` where an `ETag` says more. Fields that steer
    other caches (`Cache-Control`, `Vary`, targeted fields, tags) and the browser stay.
    """
    has_etag = any(name == b"etag" for name, _ in fields)
    return tuple(
        [
            (name, value)
            for name, value in fields
            if not (name.startswith(b"content-") and name not in _KEPT_CONTENT_FIELDS)
            and name not in _DIGESTS
            and not (name == b"last-modified" and has_etag)
        ]
    )


# --- Validating a stored response ------------------------------------------------------------------------------------


def validators(stored: Fields, *, received: float) -> Fields:
    """The conditions that validate a stored response: `If-None-Match`, `If-Modified-Since` or both (9111 §4.3.1).

    Made from the validators of the app alone; the entity tags of `make_etag` mean nothing to it. Empty where there
    are none: then a request cannot validate the response, only replace it.
    """
    conditions: list[tuple[bytes, bytes]] = []
    etag = single(stored, b"etag")
    if etag and not is_generated(etag):
        conditions.append((b"if-none-match", etag))
    modified = single(stored, b"last-modified")
    if modified is not None and parse_date(modified, received) is not None:
        conditions.append((b"if-modified-since", modified))
    return tuple(conditions)


def selected_for_update(
    stored: Sequence[Fields],
    update: Fields,
    *,
    received: float,
    sole: bool = False,
) -> tuple[int, ...]:
    """Which of the stored responses a 304 updates (RFC 9111 §4.3.4), as indices; empty for none.

    `stored` are those that could have been chosen for the request. `sole` says that there is one, and that the
    request named its validators and no others: then a 304 that repeats none of them can only mean this one, although
    it ought to have repeated them (RFC 9110 §15.4.5).
    """
    tag = etag_of(update)
    if tag is not None:
        matching = [n for n, one in enumerate(stored) if (own := etag_of(one)) is not None and own.tag == tag.tag]
        if tag.weak:
            return _most_recent(stored, matching, received)
        # A strong validator that matches none forbids the update: this 304 is about something else.
        return tuple([n for n in matching if (own := etag_of(stored[n])) is not None and own.matches_strongly(tag)])
    modified = modified_of(update, received)
    if modified is not None:
        matching = [n for n, one in enumerate(stored) if modified_of(one, received) == modified]
        if is_strong_date(update, modified, received):
            return tuple(matching)
        return _most_recent(stored, matching, received)
    if len(stored) == 1 and (sole or (etag_of(stored[0]) is None and modified_of(stored[0], received) is None)):
        return (0,)
    return ()


def _most_recent(stored: Sequence[Fields], indices: Sequence[int], received: float) -> tuple[int, ...]:
    if not indices:
        return ()
    return (max(indices, key=lambda n: date_value(stored[n], received)),)


NOT_UPDATED = frozenset(
    {
        b"content-length",  # 9111 §3.2: it describes the message, and the 304 has no content
        b"content-range",  # 9111 §3.2: processed and removed where a partial response is received
        # 9111 §3.2 lets a cache protect the integrity of what it keeps. The body stays, so what tells how to read it
        # stays: frameworks put a default type on an answer without content, and an outer layer its own coding.
        b"content-encoding",
        b"content-type",
        # The update was sent for one client and is kept for all of them.
        b"set-cookie",
        b"set-cookie2",
    }
)
"""Fields of a stored response that neither a 304 nor a HEAD changes, besides those that are never stored."""


def freshen(stored: Fields, update: Fields, *, targets: Sequence[bytes] = ()) -> Fields:
    """The fields of a stored response after a 304 or a HEAD response about it (RFC 9111 §3.2, §4.3.4, §4.3.5).

    Each field of the update replaces all stored lines of that name; what it does not carry stays, except `Date`: an
    update without one was made when it was received, and the old one would make it look older. Fields that a
    qualified `no-cache` or `private` lists afterwards are removed. `targets` as for `parse_response`.
    """
    excluded = NOT_UPDATED | NEVER_STORED | nominated(update)
    added = [field for field in update if field[0] not in excluded]
    replaced = {name for name, _ in added} | {b"date"}
    merged = (*[field for field in stored if field[0] not in replaced], *added)
    return storable(merged, parse_response(merged, targets).withheld)


def head_agrees(stored: Fields, length: int, head: Fields) -> bool:
    """Whether a 200 to HEAD describes the stored response to GET (RFC 9111 §4.3.5).

    If it does, it updates it (`freshen`); if not, the stored response has to be considered stale. `length` is that of
    the stored content. Every validator and length that the response to HEAD carries has to agree.
    """
    received_etag = single(head, b"etag")
    if received_etag is not None:
        stored_etag = single(stored, b"etag")
        if stored_etag is None:
            return False
        ours, theirs = parse_etag(stored_etag), parse_etag(received_etag)
        if received_etag != stored_etag and (ours is None or theirs is None or not ours.matches_weakly(theirs)):
            return False
    elif any(name == b"etag" for name, _ in head):  # several that differ
        return False
    if (modified := single(head, b"last-modified")) is not None and modified != single(stored, b"last-modified"):
        return False
    sizes = {size.lstrip(b"0") for name, value in head if name == b"content-length" for size in members(value)}
    return sizes <= {(b"%d" % length).lstrip(b"0")}
