"""What became of a request, read from its response; from that of any client that has headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import http_sf

from tiercache.core.decisions import REASONS

_NAME = "cache-status"
_ADVICE = {
    "cookie": 'send the request without cookies, or see cookies="ignore" and ignore_cookies',
    "authorization": "send the request without Authorization, or have the app mark the response as public",
    "credential": "send the request without that field",
    "route": "the rule that matches says cache=False; the first rule that matches decides",
    "nested": "put the cache around the app once: by add_middleware or by cache.asgi, and not by both",
    "remembered": "a rule with a ttl for this URL; without one its last answer counts for a minute",
    "no-lifetime": "a rule with a ttl, or Cache-Control by the view",
    "set-cookie": "the view, or something inside the cache, sets a cookie; see drop_cookies",
    "incomplete": "read the response to its end before the next request",
    "forwarded": "send the request without X-Forwarded- fields, or see trust_forwarded",
    "private": "the view, or something inside the cache, says private",
    "status": "only some statuses are stored; see ttl_by_status",
    "method": "only GET and HEAD are answered from the store",
}
_NOTHING_SAID = (
    "the response has no Cache-Status of tiercache: the app is not wrapped in a cache (or the client calls the app "
    "inside of it), caching is disabled (TIERCACHE_DISABLED, enabled=False), or cache_status=False"
)


class Outcome(NamedTuple):
    """What `Cache-Status` says of a request (RFC 9211)."""

    hit: bool
    forward: str
    """Why the app was asked: `miss`, `stale`, `vary-miss`, `bypass`, `method`, `request`; empty: it was not."""
    stored: bool
    collapsed: bool
    ttl: int | None
    """Seconds that the response stays fresh; below 0: it is stale."""
    detail: str
    """The tier of a hit, or the reason why the store took no part or did not store."""
    said: str
    """The whole field."""

    @property
    def stale(self) -> bool:
        """Whether what was served had expired."""
        return self.ttl is not None and self.ttl <= 0 and (self.hit or bool(self.detail))

    @property
    def in_words(self) -> str:
        """What happened, for a message."""
        if self.hit:
            return f"it was a{' stale' if self.stale else ''} hit ({self.detail}, ttl {self.ttl})"
        if self.forward in ("bypass", "method"):
            return f"the store took no part: {REASONS.get(self.detail or self.forward, self.detail)}"
        if self.collapsed:
            return "it waited for the fill of another request"
        if not self.forward:
            return f"neither the store nor the app answered: {self.detail}"
        if self.stored:
            return f"the app answered (fwd={self.forward}), and its response was stored"
        why = REASONS.get(self.detail, self.detail or "no reason is given")
        return f"the app answered (fwd={self.forward}), and its response was not stored: {why}"


def outcome_of(response: Any) -> Outcome | None:
    """What tiercache says of a request, None where it says nothing. With several caches of tiercache, the outermost.

    `response` is what a client returns: of httpx, requests, the test clients of Starlette, FastAPI, Flask and Django,
    or anything that has `headers`.
    """
    said = ", ".join(_values(getattr(response, "headers", response)))
    if not said:
        return None
    try:
        caches: Any = http_sf.parse(said.encode("latin-1"), tltype="list")
    except ValueError:
        return None
    for name, parameters in reversed(caches):
        if str(name) == "tiercache":
            return Outcome(
                hit=parameters.get("hit") is True,
                forward=str(parameters.get("fwd", "")),
                stored=parameters.get("stored") is True,
                collapsed=parameters.get("collapsed") is True,
                ttl=parameters.get("ttl"),
                detail=str(parameters.get("detail", "")),
                said=said,
            )
    return None


def _values(headers: Any) -> list[str]:
    """The lines of `Cache-Status`, whatever kind of mapping the headers are, or a list of pairs."""
    for several in ("get_list", "getlist", "get_all"):
        found = getattr(headers, several, None)
        if found is not None:
            return [str(value) for value in found(_NAME) or ()]
    pairs: Iterable[tuple[Any, Any]] = headers.items() if isinstance(headers, Mapping) else headers
    return [_text(value) for name, value in pairs if _text(name).lower() == _NAME]


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


# pytest shows the line of the test, and not these.


def _required(response: Any, wanted: str) -> Outcome:
    __tracebackhide__ = True
    outcome = outcome_of(response)
    if outcome is None:
        raise AssertionError(_message(response, wanted, _NOTHING_SAID, None))
    return outcome


def _message(response: Any, wanted: str, seen: str, outcome: Outcome | None) -> str:
    lines = [f"{wanted}, but {seen}"]
    said = outcome.said if outcome else ", ".join(_values(getattr(response, "headers", response)))
    lines.append(f"  Cache-Status: {said or '(none)'}")
    asked = _asked(response)
    if asked:
        lines.append(f"  request: {asked}")
    status = getattr(response, "status_code", None)
    if status is not None:
        lines.append(f"  status: {status}")
    advice = _ADVICE.get(outcome.detail or outcome.forward) if outcome else None
    if advice:
        lines.append(f"  what helps: {advice}")
    return "\n".join(lines)


def _asked(response: Any) -> str:
    """Method and URL of the request, where the response knows them."""
    try:
        request = response.request
    except (AttributeError, RuntimeError):  # the latter is httpx, of a response that was made by hand
        return ""
    if isinstance(request, Mapping):  # Django: the environ
        return f"{request.get('REQUEST_METHOD')} {request.get('PATH_INFO')}"
    method, url = getattr(request, "method", None), getattr(request, "url", None)
    return f"{method} {url}" if method and url else ""


def _check(response: Any, wanted: str, outcome: Outcome, holds: bool) -> None:
    __tracebackhide__ = True
    if not holds:
        raise AssertionError(_message(response, wanted, outcome.in_words, outcome))


def _known(reason: str | None) -> None:
    if reason is not None and reason not in REASONS:
        close = get_close_matches(reason, REASONS, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{reason!r} is no reason that tiercache gives{hint} There are: {', '.join(REASONS)}")


def assert_hit(response: Any, *, tier: str | None = None, stale: bool | None = None) -> None:
    """The response came from the store, and the app was not called.

    Args:
        response: as for `outcome_of`.
        tier: the one it came from, `"l1"` or `"l2"`; `"isolated"` for L1 while the shared tier is away; None: any.
        stale: whether it had expired; None: either.
    """
    __tracebackhide__ = True
    if tier not in (None, "l1", "l2", "isolated"):
        raise ValueError(f"tier={tier!r}: accepted are 'l1', 'l2', 'isolated' and None")
    kind = "" if stale is None else " stale" if stale else " fresh"
    wanted = f"expected a{kind} hit" + (f" in {tier}" if tier else "")
    outcome = _required(response, wanted)
    fits = outcome.hit and tier in (None, outcome.detail) and stale in (None, outcome.stale)
    _check(response, wanted, outcome, fits)


def assert_miss(response: Any, *, reason: str | None = None, stored: bool | None = None) -> None:
    """The store had nothing that answers the request, and the app did.

    Args:
        response: as for `outcome_of`.
        reason: why the response was not stored, e.g. `"set-cookie"`; None: any, or none. Implies `stored=False`.
        stored: whether it was; None: either.
    """
    __tracebackhide__ = True
    _known(reason)
    if reason is not None and stored:
        raise ValueError(f"reason={reason!r}, stored=True: a response that is stored has no reason why it is not")
    wanted = "expected a miss"
    if reason is not None:
        wanted += f" that is not stored because of {reason!r}"
    elif stored is not None:
        wanted += " that is stored" if stored else " that is not stored"
    outcome = _required(response, wanted)
    missed = outcome.forward in ("miss", "stale", "vary-miss", "request") and not outcome.collapsed
    # Told of a stored response that was served all the same: validated, or in place of an error.
    missed = missed and (outcome.stored or outcome.ttl is None)
    fits = missed and reason in (None, outcome.detail) and stored in (None, outcome.stored)
    _check(response, wanted, outcome, fits and not (reason is not None and outcome.stored))


def assert_bypass(response: Any, *, reason: str | None = None) -> None:
    """The store took no part: the app answered, and nothing was looked up or stored.

    Args:
        response: as for `outcome_of`.
        reason: e.g. `"cookie"`; None: any.
    """
    __tracebackhide__ = True
    _known(reason)
    wanted = "expected that the store takes no part" + (f" because of {reason!r}" if reason else "")
    outcome = _required(response, wanted)
    given = outcome.detail or outcome.forward
    fits = outcome.forward in ("bypass", "method") and reason in (None, given)
    _check(response, wanted, outcome, fits)
