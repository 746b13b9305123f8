"""One request's passage, for what L1 cannot answer by itself.

The adapter calls the app and feeds the exchange what happens, in this order:

    opening.open_exchange()   a flow: an answer from the store, or None: the app is to be called
    begin()      just before the call; the fill that views speak to
    conditions() how the request differs that the app is to see: it may be asked to validate what is stored
    started()    status and fields are known: what to send of them, and whether this will be stored;
                 or `substitute` is set: what the app sends is dropped, and this answer goes out
    chunk()      for each piece of the body
    complete()   the body has ended as it should
    failed()     the app raised before it answered: a stale answer in place of the error, or None
    abandon()    the response broke off: nothing is stored
    close()      a flow, behind the response: writes to L2

Whatever fails in here is counted and swallowed; the app's answer always goes out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tiercache.core.conditional import validators
from tiercache.core.edge_headers import Edge
from tiercache.core.entries import Entry
from tiercache.core.fields import NEVER_STORED
from tiercache.core.messages import Fields, Request, StoredResponse
from tiercache.engine import admitting, flows, leases, validating
from tiercache.engine.effects import Flow
from tiercache.engine.engine import DECLARED_FOR, Engine
from tiercache.engine.events import remark
from tiercache.engine.fill import Fill
from tiercache.engine.flights import RELEASED, Flight
from tiercache.engine.leases import Lease
from tiercache.engine.recording import Recording
from tiercache.engine.serving import Answer

CONDITIONS = frozenset({b"if-none-match", b"if-modified-since"})

NO_STORE = Edge((), b"no-store", None, None, frozenset({b"cache-control", b"expires", b"cdn-cache-control"}))
"""What L0 is told of a response that the view will not have stored."""


class Exchange:
    """The state of one request between its arrival and its end."""

    __slots__ = (
        "_room",
        "again",
        "ask_behind",
        "detail",
        "engine",
        "failure",
        "flight",
        "forward",
        "lease",
        "recording",
        "refresh",
        "request",
        "scrubbed",
        "share",
        "stale",
        "substitute",
        "take",
        "when_over",
        "will_store",
    )

    def __init__(self, engine: Engine, request: Request) -> None:
        self.engine = engine
        self.request = request
        self.forward = "miss"
        """RFC 9211 §2.2: why the request went to the app."""
        self.detail = ""
        self.flight: Flight | None = None
        """The flight that this request leads."""
        self.recording = False
        """Whether a copy of the response is being kept."""
        self.will_store = False
        """Whether the head may say `stored`."""
        self.refresh = False
        """The answer was stale: the same exchange is to be gone on with behind it, on a request of the cache's own."""
        self.failure = ""
        """Why neither the store nor the app answers: the client wants the store alone (`only-if-cached`), the app has
        enough to do (`overload`), or takes too long (`timeout`)."""
        self.lease: Lease | None = None
        """The lease that this request holds for the fleet."""
        self.ask_behind: Callable[[Exchange], None]
        """Calls the app for another exchange behind this one, on the same request; set by the face."""
        self._room = False
        self.substitute: Answer | None = None
        """What goes out in place of what the app sends."""
        self.again = False
        """The app's answer was about something else than it was asked: it is to be asked once more, plainly."""
        self.when_over: Callable[[], None] | None = None
        """Called when what the app sends is of no more use to the store."""
        self.take: Recording | None = None
        self.stale: Entry | None = None
        """What is stored and has to be validated, or may stand in for an error."""
        self.scrubbed: Fields | None = None
        """The fields of the request by which the cache itself refreshes what this one was answered with."""
        self.share: StoredResponse | None = None
        """What is to be written to L2 behind the response."""

    # -- before the app ----------------------------------------------------------------------------------------------

    def take_room(self) -> bool:
        """Take a place among the fills of the route; it is given back by `abandon`."""
        self._room = self._room or self.engine.limits.may_fill(self.request.route)
        return self._room

    def hand_over(self) -> Exchange:
        """Another exchange of the same request that takes over the fill and all that belongs to it."""
        other = Exchange(self.engine, self.request)
        other.recording, other.flight, other.stale = self.recording, self.flight, self.stale
        other.forward, other.lease, other._room = self.forward, self.lease, self._room
        self.recording, self.flight, self.lease, self._room = False, None, None, False
        return other

    def begin(self) -> Fill:
        """Note the stamp, before the app is called."""
        self.again = False
        self.take = Recording(self.engine, self.request)
        # After the stamp: what is purged before it must not come back as validated, and what is purged later kills what
        # this fill makes.
        if self.stale is not None and not self.engine.ledger.alive(self.stale):
            self.stale = None
        self.engine.stats.misses += 1
        return self.take.fill

    def conditions(self) -> Fields | None:
        """The conditions that the app is to see in place of the client's; None: the request goes to it as it came.

        A client's own condition is about what the client has. Forwarded with a fill, it could leave us with a 304 and
        nothing to store.
        """
        if not self.recording:
            return None
        stale = self.stale
        if stale is not None:
            return validators(stale.response.fields, received=stale.response.created)
        return () if self.request.conditional else None

    @property
    def observing(self) -> bool:
        """Whether the response is to be fed in here, to be stored or to tell of what is."""
        return self.recording or (self.stale is not None and self.request.method == "HEAD")

    def wanted(self) -> bool:
        """Whether somebody else waits for what this fill makes."""
        return self.flight is not None and self.flight.outcome is None and self.flight.followers > 0

    @property
    def limit(self) -> int:
        """Bytes that a stored body may have."""
        return self.engine.settings.max_body if self.take is None else self.take.limit

    @property
    def announced(self) -> int | None:
        """Bytes that the body of the response being recorded is to have, where its head says so."""
        return None if self.take is None or self.take.verdict is None else self.take.verdict.content_length

    def has_all(self) -> bool:
        """Whether every byte of a body of known length has been recorded, though the app has not said that it ends."""
        return self.recording and self.take is not None and self.take.size == self.announced

    @property
    def age(self) -> float:
        """Seconds that the response was old when it came."""
        return 0.0 if self.take is None or self.take.verdict is None else self.take.verdict.initial_age

    # -- while the app answers ---------------------------------------------------------------------------------------

    def started(self, status: int, reason: bytes, fields: Fields) -> Edge | None:
        """The head of the response has come. What L0 is told, if this is an answer to share.

        Args:
            status: as in the status line.
            reason: the reason phrase where the face has one.
            fields: lower-case names, in order.
        """
        try:
            if self.request.method == "HEAD":
                validating.head(self, status, fields)
            return self._started(status, reason, fields) if self.recording else None
        except Exception as error:
            self._swallow(error)
            return None

    def _started(self, status: int, reason: bytes, fields: Fields) -> Edge | None:
        engine, take, stale = self.engine, self.take, self.stale
        assert take is not None
        if stale is not None:
            if status == 304:
                validating.validated(self, stale, fields)
                return None
            if status >= 500 and self.may_hide(stale):
                self._hide(stale, str(status))
                return None
        verdict = take.start(status, reason, fields)
        if verdict.refusal:
            if self.refresh and status >= 500:
                self._cool()
            self.refuse(verdict.refusal, lasting=verdict.lasting)
            return NO_STORE if take.fill.refusal else None
        if self.refresh and not {*verdict.vary} <= {name for name, _ in self.scrubbed or ()} | {
            name for name in verdict.vary if self.request.field(name) is None
        }:
            # It varies by something that the client sent and our own request did not.
            self.refuse("vary")
            return None
        # Without a length the head cannot tell. Where the last answer turned out not to be stored, nothing is claimed.
        self.will_store = verdict.content_length is not None or self.request.key not in engine.unshareable
        if verdict.lifetime <= verdict.initial_age and self.flight is not None:
            # It is kept to be validated, or used stale: nobody who waits can be answered with it as it is.
            self.flight.finish(RELEASED)
        if self.forward == "bypass" and self.detail == self.request.credential:
            # Of a request with a credential only the app's word could tell that the store takes part.
            self.forward, self.detail = "miss", ""
        stored = {name for name, _ in verdict.fields} | NEVER_STORED
        if any(name not in stored for name, _ in fields):
            # What is not stored of it is meant for this client alone, so that this is no answer for L0 to share.
            return None
        return engine.edge(fields, take.policy, lifetime=verdict.lifetime, app_decides=verdict.app_decides)

    def may_hide(self, stale: Entry) -> bool:
        """RFC 5861 §4, or the same asked by the client."""
        # As any reader: what was purged meanwhile is dead, and trust may have run out while the app was at it.
        if not self.engine.selectable(stale, self.request):
            return False
        now = self.request.now
        if now < stale.error_until:
            return True
        directives = self.request.directives
        allowed = None if directives is None else directives.stale_if_error
        return allowed is not None and stale.response.may_stale and now - stale.fresh_until <= allowed

    def _hide(self, stale: Entry, status: str) -> None:
        """Answer stale in place of an error, and whoever waits for this fill likewise."""
        self.substitute = Answer(stale, "stale-if-error", forward_status=status)
        self.recording = False
        self._cool()
        if self.flight is not None:
            self.flight.finish(Failure(stale))

    def _cool(self) -> None:
        """The app has failed behind an answer that hides it: leave it alone for a while."""
        pause = self.request.route.policy.retry_after_error
        if pause:
            self.engine.cooling.add(self.request.key, pause)

    def failed(self, error: Exception) -> Answer | None:
        """The app raised before it answered: what goes out in place of the error, if anything may."""
        stale = self.stale
        if self.refresh:
            self._cool()
        if not self.recording or stale is None or not self.may_hide(stale):
            return None
        self.engine.complaints.swallow("app failed, answered stale", f"{type(error).__name__}: {error}")
        self._hide(stale, "")
        return self.substitute

    def chunk(self, data: bytes) -> None:
        """A piece of the body. It is copied only while it may still be stored."""
        if self.recording and data and self.take is not None and self.substitute is None and not self.take.add(data):
            self.refuse("too-large", lasting=True)

    def complete(self) -> None:
        """The body has ended as it should: store it in L1 and land the flight."""
        if not self.recording or self.substitute is not None or self.again:
            return
        try:
            assert self.take is not None
            outcome = self.take.finish()
            if isinstance(outcome, str):
                self.refuse(outcome, lasting=outcome == "view")
            else:
                self.admit(outcome)
        except Exception as error:
            self._swallow(error)

    def admit(self, response: StoredResponse) -> Entry:
        engine, request, take = self.engine, self.request, self.take
        assert take is not None
        entry = admitting.admit(engine, request, response, mark=take.fill.mark, began=take.fill.began)
        self._over()
        engine.unshareable.discard(request.key)
        if take.fill.declared is not None and not request.route.is_rule:
            engine.declared.add(request.key, DECLARED_FOR)
        engine.stats.stored += 1
        engine.breaker.took(response.cost)
        if take.policy.l2 and engine.shared is not None:
            variants = admitting.variants(engine, request.key) if response.vary else None
            if variants is None or not variants.full:
                self.share = response
        if self.flight is not None:
            self.flight.finish(entry)
        return entry

    def abandon(self) -> None:
        """The response broke off, the app failed, or nobody wants it any more: keep nothing, hold nobody up."""
        if self.refresh and self.recording and self.take is not None and self.take.verdict is not None:
            # It came to nothing after its head.
            self._cool()
        self._over()
        if self.take is not None:
            self.take.drop()
        if self.flight is not None:
            self.flight.finish(RELEASED)

    def _over(self) -> None:
        self.recording = False
        if self._room:
            self._room = False
            self.engine.limits.filled(self.request.route)
        if self.when_over is not None:
            self.when_over()

    def refuse(self, reason: str, *, lasting: bool = False) -> None:
        """Do not store the response, for one of `decisions.REASONS`, and let go whoever waits for it."""
        if not self.recording:
            return
        engine = self.engine
        engine.stats.refused[reason] += 1
        if reason == "view" and self.take is not None:
            # In the log alone: `Cache-Status` is for clients, and names the kind of reason.
            remark("not stored", self.request.path, self.take.fill.refusal)
        if lasting:
            expected = self.request.route.is_rule or (self.take is not None and self.take.fill.declared is not None)
            engine.remember_unshareable(self.request, expected=expected)
        if self.detail in ("", "isolated"):
            self.detail = reason
        self.will_store = False
        self.abandon()

    def _swallow(self, error: Exception) -> None:
        self.engine.complaints.swallow("response not stored", f"{type(error).__name__}: {error}")
        self.will_store = False
        self.abandon()

    # -- behind the response -----------------------------------------------------------------------------------------

    def close(self) -> Flow[None]:
        """What is left to do when the client has its answer."""
        self.abandon()
        engine, share, made = self.engine, self.share, False
        try:
            if share is not None:
                # Others in the fleet wait for what a lease is held for: without this write each of them calls the app.
                alone = self.lease is None
                until = time.monotonic() + engine.settings.l2_budget if alone else leases.deadline(engine)
                made = yield from flows.keep(engine, self.request, share, until)
        except BaseException:
            self.forsake()
            raise
        finally:
            self.share = None
        yield from self.give_back(made=made)

    def forsake(self) -> None:
        """`close` where no flow can run any more: nothing of this exchange outlives it in this process."""
        self.abandon()
        self.share = None
        lease, self.lease = self.lease, None
        leases.forget(self.engine, lease)

    def let_go(self) -> Flow[None]:
        """The head says that there is nothing to share: wake those who wait in other processes now, not at the end."""
        if not self.recording:
            yield from self.give_back(made=False)

    def give_back(self, *, made: bool) -> Flow[None]:
        """Return the lease, if there is one; `made` tells whether L2 has something now for those who wait for it."""
        lease, self.lease = self.lease, None
        if lease is not None:
            yield from leases.release(self.engine, lease, made=made)


class Failure:
    """The outcome of a flight whose app call failed where a stale response may hide that."""

    __slots__ = ("stale",)

    def __init__(self, stale: Entry) -> None:
        self.stale = stale

    def covers(self, exchange: Exchange) -> bool:
        """Whether the stale response answers this follower too."""
        return exchange.engine.selectable(self.stale, exchange.request) and exchange.may_hide(self.stale)
