"""The block that explains one request: its lines, from the steps that were noted.

Values of credentials, cookies and what else looks secret stand as `~` and six digits: the same value has the same
digits for as long as the process lives, and nothing leads back from them.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from tiercache.config.effective import DEFAULT, effective_policy, shown
from tiercache.core.decisions import REASONS
from tiercache.core.keys import picked_cookies, picked_query
from tiercache.core.kinds import as_text
from tiercache.core.messages import Request, StoredResponse
from tiercache.core.policy import Policy
from tiercache.core.redaction import secret_name
from tiercache.core.sections import SECTIONS
from tiercache.engine import tracing
from tiercache.engine.admitting import variants
from tiercache.engine.effects import Acquire, Fetch, Invalidate, Keep, Release, Sync, Wait
from tiercache.engine.events import one_line
from tiercache.engine.flights import LATE
from tiercache.engine.tracing import Step, Trace

if TYPE_CHECKING:
    from tiercache.engine.engine import Engine

Pairs = list[tuple[bytes, bytes]]
BEHIND: Final = "behind an answer, "
"""Begins the block of a fill that has no client."""
_WIDTH: Final = 9
_BROWSER: Final = (b"cache-control", b"age", b"expires", b"etag", b"last-modified", b"vary")
_CDN: Final = (
    b"cdn-cache-control", b"cloudflare-cdn-cache-control", b"surrogate-control", b"cache-tag", b"surrogate-key",
)  # fmt: skip
_USELESS: Final = (tracing.LOOKED, tracing.FOUND_UNUSABLE)
_SALT: Final = secrets.token_bytes(16)
_REASON: Final = re.compile(r"detail=([\w-]+)")
_TTL: Final = re.compile(r"ttl=(-?\d+)")


def took(seconds: float) -> str:
    """A time that has passed, in three digits."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def block(engine: Engine, trace: Trace, method: str, target: str, status: int, fields: Pairs) -> str:
    """All that is known of a request, with the head of its response: status 0 where there was none."""
    passed = took(time.perf_counter() - trace.began)
    head = f"{method} {_plain(target)}: {status or 'no response'}, {passed}"
    return engine.redact.known("\n".join([head, *_lines(engine, trace, method, target, status, fields)]))


def _lines(
    engine: Engine, trace: Trace, method: str, target: str, status: int, fields: Pairs
) -> Iterator[str]:
    request: Request | None = trace.request
    route = engine.routes.match(target) if request is None else request.route
    if not engine.enabled:
        yield _line("answer", "from the app: caching is switched off")
        return
    declared = next((step.subject.take.fill.declared for step in trace.steps if step.what == tracing.STORED), None)
    yield _line("rule", route.template if route.is_rule else "none matches: the app's own headers decide")
    if route.is_rule:
        for name, value in effective_policy(route).items():
            if value.source != DEFAULT:
                yield _line("", f"{name} {_plain(value.shown)} ({value.source})")
    if declared is not None:
        for row in Policy.settings():
            if row.name in declared.given and (row.name not in route.policy.given or row.name == "tags"):
                yield _line("", f"{row.name} {_plain(shown(row, getattr(declared, row.name)))} (decorator)")
    if request is not None and not request.bypass:
        yield from _key(engine, request)
    useless = ""
    for step in trace.steps:
        text = _step(engine, step)
        if text is None or (step.what in _USELESS and step.outcome == useless):
            continue  # the same entry, looked at once more
        useless = step.outcome if step.what in _USELESS else ""
        yield _line(*text)
    yield from _not_asked(engine, trace, request)
    if not status:
        asked = "this was done for the store" if method.startswith(BEHIND) else "the app raised, or the client left"
        yield _line("answer", f"none: {asked}")
        return
    said = next((value.decode("latin-1") for name, value in reversed(fields) if name.lower() == b"cache-status"), "")
    yield _line("answer", _answer(trace, request, route.policy, status, said))
    if said:
        yield _line("", f"cache-status: {_plain(said)}")
    for label, names in (("browser", _BROWSER), ("CDN", _CDN)):
        told = [f"{name.decode('latin-1')}: {_told(name, value)}" for name, value in _named(fields, names)]
        if told:
            yield _line(label, "; ".join(told))


def _named(fields: Pairs, names: tuple[bytes, ...]) -> Pairs:
    return [(name.lower(), value) for name, value in fields if name.lower() in names]


def _line(label: str, text: str) -> str:
    return f"  {label:<{_WIDTH}} {text}"


def _plain(text: object) -> str:
    """As one line, without what looks like a secret."""
    return one_line(text)


def _told(name: bytes, value: bytes) -> str:
    text = value.decode("latin-1")
    # Names of fields, credentials among them, and no values.
    return one_line(text, str) if name == b"vary" else _plain(text)


def digest(value: bytes | str) -> str:
    """What stands for a value that must not be shown."""
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return "~" + blake2b(data, key=_SALT, digest_size=3).hexdigest()


# -- the key ---------------------------------------------------------------------------------------------------------


def _key(engine: Engine, request: Request) -> Iterator[str]:
    policy = request.route.policy
    app, version = engine.prefix
    host = request.host().decode("latin-1")
    named = [f"app {app!r}"] * bool(app) + [f"version {version!r}"] * bool(version)
    yield _line("key", ", ".join([*named, f"{request.scheme()}://{_plain(host)}{_plain(request.path)}"]))
    yield _line("", f"query {_query(request, policy)}")
    if policy.header_list:
        pairs = zip(policy.header_list, request.values(policy.header_list), strict=True)
        yield _line("", "headers " + ", ".join(f"{n.decode()}: {_header(engine, n, v)}" for n, v in pairs))
    if policy.cookie_names:
        values = picked_cookies(request.field(b"cookie") or b"", policy.cookie_names)
        told = zip(policy.cookie_names, values, strict=True)
        yield _line("", "cookies " + ", ".join(f"{n.decode()}={'absent' if v is None else digest(v)}" for n, v in told))
    if request.trusted:
        told_by = zip(engine.rules.trusted, request.trusted, strict=True)
        yield _line("", "trusted " + ", ".join(f"{n.decode()}: {_header(engine, n, v)}" for n, v in told_by))
    known = variants(engine, request.key)
    if known is not None:
        pairs = zip(known.names, engine.selecting(request, known.names), strict=True)
        yield _line("", "variant " + ", ".join(f"{n.decode()}: {_header(engine, n, v)}" for n, v in pairs))


def _header(engine: Engine, name: bytes, value: bytes | None) -> str:
    if value is None:
        return "absent"
    if name == b"cookie" or name in engine.rules.credentials.headers or secret_name(name.decode()):
        return digest(value)
    return _plain(value.decode("latin-1"))


def _query(request: Request, policy: Policy) -> str:
    if policy.query == "ignore":
        return "does not count"
    query: Any = request.query()
    pieces = query.split(b"&") if query else []
    said = ""
    if policy.query is not None:
        picked = picked_query(query, policy.query_names)
        # A query with ; counts whole.
        pieces = list(picked) if isinstance(picked, tuple) else [picked]
        said = f" (what counts: {', '.join(policy.query)})"
    return ("&".join([_parameter(piece) for piece in pieces]) or "empty") + said


def _parameter(piece: bytes) -> str:
    name, equals, value = piece.decode("latin-1").partition("=")
    return f"{_plain(name)}{equals}{digest(value) if secret_name(name) else _plain(value)}"


# -- the steps -------------------------------------------------------------------------------------------------------


def _step(engine: Engine, step: Step) -> tuple[str, str] | None:
    subject, outcome = step.subject, step.outcome
    if step.what == tracing.LOOKED:
        if subject.bypass:
            return None  # the answer says why
        return "L1", f"{outcome} ({took(step.took)})"
    if step.what == tracing.FOUND_UNUSABLE:
        return "", f"what was found is of no use: {outcome}"
    if step.what == tracing.CALLED:
        asked = ", to validate what is stored (RFC 9111 §4.3.1)" if subject.stale is not None else ""
        return "app", f"called at {took(step.at)}{asked}"
    if step.what == tracing.HEAD:
        return "", f"its head came at {took(step.at)}: {outcome}"
    if step.what == tracing.STORED:
        return "stored", _stored(engine, subject, outcome)
    if step.what == tracing.REFUSED:
        why = subject.take.fill.refusal if outcome == "view" and subject.take is not None else ""
        return "stored", f"not: {_reason(outcome)}" + (f", because {_plain(why)}" if why else "")
    return _effect(step, subject, outcome)


def _effect(step: Step, effect: Any, outcome: Any) -> tuple[str, str] | None:
    failed = ""
    if isinstance(outcome, BaseException):
        failed = "failed, " + _plain(f"{type(outcome).__name__}: {outcome}")
    so_long = f"({took(step.took)})"
    if isinstance(effect, Fetch):
        found = "nothing" if outcome is None else f"{len(outcome)} bytes" if isinstance(outcome, bytes) else ""
        return "L2", f"read: {failed or found} {so_long}"
    if isinstance(effect, Keep):
        return "L2", f"write of {len(effect.value)} bytes: {failed or 'done'} {so_long}"
    if isinstance(effect, Sync):
        return "ledger", f"sync: {failed or 'answered'} {so_long}"
    if isinstance(effect, Invalidate):
        return "ledger", f"purge of {len(effect.members)} members: {failed or 'confirmed'} {so_long}"
    if isinstance(effect, Acquire):
        return "lease", f"asked for: {failed or ('taken' if outcome else 'another process has it')} {so_long}"
    if isinstance(effect, Release):
        return "lease", f"given back: {failed or 'done'} {so_long}"
    if isinstance(effect, Wait):
        return "waited", f"for another request under way: {'in vain' if outcome is LATE else 'over'} {so_long}"
    return None


def _stored(engine: Engine, exchange: Any, response: StoredResponse) -> str:
    policy, fill = exchange.take.policy, exchange.take.fill
    tiers = [name for name, used in (("L1", policy.l1), ("L2", policy.l2 and engine.shared is not None)) if used]
    if fill.ttl is not None:
        by = "the view's ttl()"
    elif response.explicit:
        by = "the app's own word, RFC 9111 §4.2.1"
    elif "ttl" not in exchange.request.route.policy.given and fill.declared is not None:
        by = "the decorator"
    else:
        by = "the rule"
    text = f"in {' and '.join(tiers) or 'no tier'} for {_s(response.fresh_until - response.created)} ({by})"
    for name, window in (
        ("while it is revalidated, RFC 5861 §3", response.stale_while_revalidate),
        ("if the app fails, RFC 5861 §4", response.stale_if_error),
    ):
        if window and response.may_stale:
            text += f", stale for {_s(window)} more {name}"
    tags = [_plain(tag[2:]) for tag in response.tags if tag.startswith("t:")]
    return f"{text}; tags: {', '.join(tags) or 'none of its own'}"


def _s(seconds: float) -> str:
    return as_text("s", round(seconds, 3))


def _not_asked(engine: Engine, trace: Trace, request: Request | None) -> Iterator[str]:
    """Why nothing was heard of L2, where one might expect it."""
    asked = any(step.what == "Fetch" for step in trace.steps)
    called = any(step.what == tracing.CALLED for step in trace.steps)
    if request is None or asked or not called:
        return
    if engine.shared is None:
        why = "there is none (no url)"
    elif not request.route.policy.l2:
        why = "the rule does not use it"
    elif not engine.trusted():
        why = "it cannot be reached, or this process has not caught up"
    elif engine.breaker.open:
        why = "the circuit breaker is open"
    else:
        why = "what this URL answered a moment ago was not for sharing"
    yield _line("L2", f"not asked: {why}")


# -- the answer ------------------------------------------------------------------------------------------------------


def _answer(trace: Trace, request: Request | None, policy: Policy, status: int, said: str) -> str:
    """`said` is our word in `Cache-Status`, where there is one."""
    reason = _REASON.search(said)
    detail = reason[1] if reason else ""
    if request is None or request.bypass:
        why = "route" if request is None else request.bypass
        if request is None and policy.cache:
            return "from the app"
        return f"from the app, the store took no part: {_reason(why)}"
    text = _hit(said, detail, status) if "; hit" in said else _forwarded(said, detail)
    if not said and any(step.what == tracing.LOOKED and step.outcome == "fresh" for step in trace.steps):
        text = "from L1"
    return text


def _hit(said: str, detail: str, status: int) -> str:
    left = _TTL.search(said)
    seconds = int(left[1]) if left else 0
    places = {"l1": "from L1", "l2": "from L2", "isolated": "from L1, cut off from the shared tier"}
    where = places.get(detail, "stored")
    if seconds >= 0:
        text = f"{where}, fresh for another {_s(seconds)} (RFC 9111 §4.2)"
    else:
        text = f"{where}, stale for {_s(-seconds)} (RFC 9111 §4.2.4, RFC 5861)"
    if status == 304:
        text += "; as 304 made here (RFC 9111 §4.3.2)"
    elif status == 206:
        text += "; a part of it (RFC 9110 §14)"
    return text


def _forwarded(said: str, detail: str) -> str:
    if "fwd=bypass" in said or "fwd=request" in said:
        return f"from the app, the store took no part: {_reason(detail)}"
    if detail == "stale-if-error":
        return "stale, in place of an error (RFC 5861 §4)"
    if detail == "validated":
        return "stored, and confirmed by the app (RFC 9111 §4.3.3)"
    if "collapsed" in said:
        return "of another request that was under way"
    if detail in ("overload", "timeout", "only-if-cached"):
        return f"neither from the store nor from the app: {detail}"
    return "from the app"


def _reason(reason: str) -> str:
    meaning, section = REASONS.get(reason, ""), SECTIONS.get(reason, "")
    return f"{meaning or reason} ({reason}{'; ' if section else ''}{section})"
