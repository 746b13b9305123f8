"""How long a stored response is fresh, how old it is, and how long it may be used stale (RFC 9111 §4.2, RFC 5861).

All times are Unix times in seconds, all durations are seconds. Dates in fields are compared with `received`, the
moment at which the response was complete, read from the clock of the process that received it: that is the clock
which the app below it reads too. What comes out are durations, good on any clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from tiercache.core.cache_control import CacheControl, delta_seconds
from tiercache.core.dates import parse_date
from tiercache.core.fields import OWS, lines, single
from tiercache.core.messages import Fields

HEURISTIC_LIMIT = 86_400.0
"""The longest lifetime that is ever guessed: one day."""

DATE_RESOLUTION = 1.0
"""A `Date` is up to this much older than the moment that it stands for, having whole seconds only."""


class Source(StrEnum):
    """Where a freshness lifetime comes from, in order of precedence (RFC 9111 §4.2.1, RFC 9213 §2.2)."""

    TARGETED = "targeted"
    S_MAXAGE = "s-maxage"
    MAX_AGE = "max-age"
    EXPIRES = "expires"
    POLICY = "policy"
    HEURISTIC = "heuristic"
    NONE = "none"


_EXPLICIT = frozenset({Source.TARGETED, Source.S_MAXAGE, Source.MAX_AGE, Source.EXPIRES})


class Freshness(NamedTuple):
    """A freshness lifetime in seconds, and where it comes from."""

    lifetime: float
    source: Source

    @property
    def explicit(self) -> bool:
        """Whether the app itself stated it."""
        return self.source in _EXPLICIT


class StaleWindows(NamedTuple):
    """For how many seconds after it became stale a response may be used; 0: not at all."""

    while_revalidate: float
    if_error: float


def date_value(fields: Fields, received: float) -> float:
    """When the response was made, by its own `Date`; `received` where it has no valid one (RFC 9110 §6.6.1)."""
    value = single(fields, b"date")
    date = parse_date(value, received) if value is not None else None
    return received if date is None else date


def _expires_lifetime(expires: list[bytes], fields: Fields, received: float) -> float:
    dates = [parse_date(value, received) for value in expires]
    # 9111 §5.3: an invalid date, above all "0", is in the past. §4.2.1: of several that differ none counts.
    if dates[0] is None or any(date != dates[0] for date in dates):
        return 0.0
    return max(0.0, dates[0] - date_value(fields, received))


def _heuristic_lifetime(fields: Fields, received: float, fraction: float) -> float | None:
    value = single(fields, b"last-modified")
    modified = parse_date(value, received) if value is not None else None
    if modified is None:
        return None
    unchanged = date_value(fields, received) - modified
    return min(max(0.0, unchanged) * fraction, HEURISTIC_LIMIT)


def freshness(
    fields: Fields,
    control: CacheControl,
    *,
    received: float,
    ttl: float | None = None,
    heuristic: float | None = None,
) -> Freshness:
    """The freshness lifetime of a response (RFC 9111 §4.2.1): the first source that has a word to say.

    `control` are its directives, as `parse_response` gives them. `ttl` is the lifetime that a policy gives to
    responses which say nothing themselves. `heuristic` is the share of the time since the last modification to guess
    with (§4.2.2; 0.1 is typical), None to guess nothing; whether the status allows a guess is for the
    caller to say. A lifetime of 0 is stale from the start.
    """
    if control.s_maxage is not None:
        return Freshness(control.s_maxage, Source.TARGETED if control.target else Source.S_MAXAGE)
    if control.max_age is not None:
        return Freshness(control.max_age, Source.TARGETED if control.target else Source.MAX_AGE)
    if not control.target and (expires := lines(fields, b"expires")):
        return Freshness(_expires_lifetime(expires, fields, received), Source.EXPIRES)
    if ttl is not None:
        return Freshness(ttl, Source.POLICY)
    if heuristic is not None and (guess := _heuristic_lifetime(fields, received, heuristic)) is not None:
        return Freshness(guess, Source.HEURISTIC)
    return Freshness(0.0, Source.NONE)


def age_value(fields: Fields) -> int:
    """The `Age` that a response came with, 0 where there is none that is valid (RFC 9111 §5.1).

    The first member of the first line counts and no other, even if it is invalid.
    """
    for value in lines(fields, b"age"):
        for member in value.split(b","):
            if stripped := member.strip(OWS):
                return delta_seconds(stripped) or 0
    return 0


def initial_age(fields: Fields, *, requested: float, received: float) -> float:
    """The corrected initial age of a response (RFC 9111 §4.2.3): how old it was when it was `received`.

    `fields` are those that the app sent, so a `Date` among them tells when the *app* made the response. One that
    lies further back than it took to receive the response shows that it was kept somewhere on the way by something
    that adds no `Age`: the higher of the two estimates counts. Without a `Date`, nothing but `Age` and the delay is
    known; a `Date` that a server adds later is of no interest here.
    """
    corrected_age = age_value(fields) + max(0.0, received - requested)
    apparent_age = received - date_value(fields, received) - DATE_RESOLUTION
    return max(apparent_age, corrected_age)


def stale_windows(
    control: CacheControl,
    *,
    while_revalidate: float = 0.0,
    if_error: float = 0.0,
) -> StaleWindows:
    """How long a response may be used stale (RFC 9111 §4.2.4, RFC 5861).

    The arguments are the windows of the policy; each is used only where the app gives none of that kind itself, and
    forbids none. `must-revalidate`, `proxy-revalidate` and an unqualified `no-cache` forbid it altogether.
    `s-maxage` forbids it too (§5.2.2.10), except for a window that the same response states: the app's own word is
    the explicit permission of §4.2.4, a policy is not.
    """
    if control.must_revalidate or control.proxy_revalidate or control.no_cache:
        return StaleWindows(0.0, 0.0)
    if control.s_maxage is not None:
        while_revalidate = if_error = 0.0
    return StaleWindows(
        while_revalidate if control.stale_while_revalidate is None else control.stale_while_revalidate,
        if_error if control.stale_if_error is None else control.stale_if_error,
    )
