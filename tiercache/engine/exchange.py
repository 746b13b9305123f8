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

from tiercache.core.admission import scrubbed
from tiercache.core.conditional import validators
from tiercache.core.edge_headers import Edge
from tiercache.core.entries import Entry
from tiercache.core.fields import NEVER_STORED
from tiercache.core.messages import Fields, Request, StoredResponse
from tiercache.core.origins import ORIGIN
from tiercache.engine import admitting, tracing, validating
from tiercache.engine.effects import Flow
from tiercache.engine.engine import DECLARED_FOR, Engine
from tiercache.engine.events import remark
from tiercache.engine.fill import Fill
from tiercache.engine.flights import RELEASED
from tiercache.engine.passage import Failure, Passage
from tiercache.engine.recording import Recording
from tiercache.engine.serving import Answer

CONDITIONS = frozenset({b"if-none-match", b"if-modified-since"})

NO_STORE = Edge((), b"no-store", None, None, frozenset({b"cache-control", b"expires", b"cdn-cache-control"}))
"""What L0 is told of a response that the view will not have stored."""


class Exchange(Passage[Entry]):
    """The state of one HTTP request between its arrival and its end."""

    __slots__ = ("again", "scrubbed", "substitute", "take", "will_store")
    kind = Entry

    def __init__(self, engine: Engine, request: Request) -> None:
        super().__init__(engine, request)
        self.will_store = False
        """Whether the head may say `stored`."""
        self.substitute: Answer[Entry] | None = None
        """What goes out in place of what the app sends."""
        self.again = False
        """The app's answer was about something else than it was asked: it is to be asked once more, plainly."""
        self.take: Recording | None = None
        self.scrubbed: Fields | None = None
        """The fields of the request by which the cache itself refreshes what this one was answered with."""

    # -- before the app ----------------------------------------------------------------------------------------------

    def hit(self) -> Entry | None:
        return self.engine.hit(self.request)

    def status_of(self, entry: Entry) -> str:
        return str(entry.status)

    def scrub(self, stale: Entry | None) -> bool:
        request = self.request
        variants = admitting.variants(self.engine, request.key)
        if variants is not None:
            names = variants.names
        else:
            names = () if stale is None else tuple([name for name, _ in stale.vary])
        self.scrubbed = scrubbed(request, request.route.policy, self.engine.rules, names)
        return self.scrubbed is not None

    def begin(self) -> Fill:
        """Note the stamp, before the app is called."""
        self.again = False
        self.take = Recording(self.engine, self.request)
        # After the stamp: what is purged before it must not come back as validated, and what is purged later kills what
        # this fill makes.
        if self.stale is not None and not self.engine.ledger.alive(self.stale):
            self.stale = None
        self.engine.stats.misses += 1
        tracing.note(tracing.CALLED, self)
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

    @property
    def limit(self) -> int:
        """Bytes that a stored body may have."""
        return self.engine.settings.max_body if self.take is None else self.take.limit

    @property
    def announced(self) -> int | None:
        """Bytes that the body of the response being recorded is to have, where its head says so."""
        return None if self.take is None or self.take.verdict is None else self.take.verdict.content_length

    @property
    def dropped(self) -> bool:
        """Whether what the app still sends is of no use to the store, nor to anybody who waits."""
        return self.take is not None and self.take.dropped

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
            tracing.note(tracing.HEAD, self, status)
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
                self.cool()
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
        if take.outdated:
            # A CDN can do no better than come again.
            return NO_STORE
        return admitting.edge(
            engine,
            fields,
            take.policy,
            lifetime=verdict.lifetime,
            app_decides=verdict.app_decides,
            by_origin=ORIGIN in verdict.vary,
        )

    def _hide(self, stale: Entry, status: str) -> None:
        """Answer stale in place of an error, and whoever waits for this fill likewise."""
        self.substitute = Answer(stale, "stale-if-error", forward_status=status)
        self.recording = False
        self.cool()
        if self.flight is not None:
            self.flight.finish(Failure(stale))

    def failed(self, error: Exception) -> Answer[Entry] | None:
        """The app raised before it answered: what goes out in place of the error, if anything may."""
        stale = self.stale
        if self.refresh:
            self.cool()
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
        entry = admitting.admit(engine, request, response, mark=take.fill.mark, began=take.began)
        self._over()
        engine.origins.answered(entry, request, engine.clock())
        tracing.note(tracing.STORED, self, response)
        engine.unshareable.discard(request.key)
        if take.fill.declared is not None and not request.route.is_rule:
            engine.declared.add(request.key, DECLARED_FOR)
        engine.stats.stored += 1
        engine.breaker.took(response.cost)
        if take.policy.l2 and engine.shared is not None:
            variants = admitting.variants(engine, request.key) if response.vary else None
            # The one for requests without any of these fields is one, however many values of them clients invent.
            plain = all(value is None for _, value in response.vary)
            if plain or variants is None or not variants.full:
                self.share = response
        if self.flight is not None:
            self.flight.finish(entry)
        return entry

    def abandon(self) -> None:
        """The response broke off, the app failed, or nobody wants it any more: keep nothing, hold nobody up."""
        if self.refresh and self.recording and self.take is not None and self.take.verdict is not None:
            # It came to nothing after its head.
            self.cool()
        if self.take is not None:
            self.take.drop()
        super().abandon()

    def _over(self) -> None:
        if self.take is not None:
            self.take.fill.over = True
        super()._over()

    def refuse(self, reason: str, *, lasting: bool = False) -> None:
        """Do not store the response, for one of `decisions.REASONS`, and let go whoever waits for it."""
        if not self.recording:
            return
        engine = self.engine
        engine.stats.refused[reason] += 1
        tracing.note(tracing.REFUSED, self, reason)
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

    def let_go(self) -> Flow[None]:
        """The head says that there is nothing to share: wake those who wait in other processes now, not at the end."""
        if not self.recording and self.share is None:
            yield from self.give_back(made=False)
