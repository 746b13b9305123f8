"""`debug=True`: one readable block for each request, with every decision and what it was taken from.

Nothing here is in the way of a cache that is not asked to explain: it has another engine and other faces.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tiercache.core.entries import Entry, Kept, Variants
from tiercache.core.messages import Request
from tiercache.engine import tracing
from tiercache.engine.block import BEHIND, block, took
from tiercache.engine.engine import Engine
from tiercache.engine.tracing import Trace
from tiercache.engine.troubles import EXPLAIN

if TYPE_CHECKING:
    from tiercache.engine.exchange import Exchange

_log = logging.getLogger(EXPLAIN)


class ExplainedEngine(Engine):
    """An engine that notes how it looks into L1."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Whoever switched it on wants to see it, whatever the level of all the other loggers is.
        if _log.level == logging.NOTSET:
            _log.setLevel(logging.DEBUG)

    def hit(self, request: Request) -> Entry | None:
        trace = tracing.current.get()
        began = time.perf_counter()
        entry = super().hit(request)
        if trace is not None:
            trace.request = request
            outcome = "fresh" if entry is not None else self._why_not(request)
            trace.add(tracing.LOOKED, request, outcome, time.perf_counter() - began)
        return entry

    def selectable(self, entry: Kept, request: Request) -> bool:
        selectable = super().selectable(entry, request)
        trace = tracing.current.get()
        if trace is not None and not selectable:
            trace.add(tracing.FOUND_UNUSABLE, entry, self._useless(entry, request))
        return selectable

    def _why_not(self, request: Request) -> str:
        """Why L1 does not answer."""
        if request.bypass:
            return "not asked"
        policy = request.route.policy
        found = self._lookup(request.key)
        if isinstance(found, Variants):
            found = self._lookup((request.key, found.names, self.selecting(request, found.names)))
            if found is None:
                return "other variants of this URL, not this one"
        if not isinstance(found, Entry):
            return "nothing under this key" if policy.l1 else "not used by the rule"
        now = self.clock()
        if not self.ledger.alive(found):
            return self._useless(found, request)
        if now >= found.fresh_until:
            return f"expired {took(now - found.fresh_until)} ago"
        if request.early:
            return "fresh, and to be made anew before its end"
        if policy.consistency != "bounded" and self.shared is not None and not request.current:
            return f"fresh, but consistency='{policy.consistency}' asks the shared tier first"
        return self._useless(found, request)

    def _useless(self, entry: Kept, request: Request) -> str:
        """Why an entry does not answer, whatever its age."""
        if not self.ledger.alive(entry):
            return f"purged since, or of another history (its fill began at number {entry.number})"
        if request.credential and not entry.public:
            return f"not for a request with a credential ({request.credential})"
        if not self.trusted():
            return "what others have purged is not known: the shared tier cannot be reached, or not yet"
        if not self.answers(entry, request):
            return "it says nothing of origins (CORS), and the app may allow this one"
        return "not for this request"


class Explanation:
    """Of one request: what is noted while it is current, and in the end its block in the log."""

    def __init__(self, engine: Engine, method: str, target: str) -> None:
        self._engine = engine
        self._method = method
        self._target = target
        self.trace = Trace()
        self.head: tuple[int, Iterable[Any]] = (0, ())
        """Status and fields of the response, as they leave; 0 where there is none."""

    @contextmanager
    def current(self) -> Iterator[None]:
        """What happens inside is noted."""
        token = tracing.current.set(self.trace)
        try:
            yield
        finally:
            tracing.current.reset(token)

    def write(self) -> None:
        """Write the block. Whatever fails in that is no business of the request."""
        if not _log.isEnabledFor(logging.DEBUG):
            return
        try:
            status, raw = self.head
            fields = [(_bytes(name), _bytes(value)) for name, value in raw]
            text = block(self._engine, self.trace, self._method, self._target, status, fields)
            if _log.hasHandlers():
                _log.debug("%s", text)
            else:
                # As Python does with warnings where nobody has configured logging.
                sys.stderr.write(text + "\n")
        except Exception as error:
            self._engine.complaints.swallow("request not explained", f"{type(error).__name__}: {error}")


def _bytes(value: Any) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else bytes(value)


@contextmanager
def behind(exchange: Exchange) -> Iterator[None]:
    """The same for a fill behind an answer, which has no response to send."""
    if not isinstance(exchange.engine, ExplainedEngine):
        yield
        return
    explanation = Explanation(exchange.engine, f"{BEHIND}GET", exchange.request.path)
    explanation.trace.request = exchange.request
    try:
        with explanation.current():
            yield
    finally:
        explanation.write()
