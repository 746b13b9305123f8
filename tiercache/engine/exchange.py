"""One request's passage, for what L1 cannot answer by itself.

The adapter calls the app and feeds the exchange what happens, in this order:

    open()       a flow: an answer from the store, or None: the app is to be called
    begin()      just before the call; the fill that views speak to
    started()    status and fields are known: what to send of them, and whether this will be stored
    chunk()      for each piece of the body
    complete()   the body has ended as it should
    abandon()    or it has not: nothing is stored
    close()      a flow, behind the response: writes to L2, invalidations

Whatever fails in here is counted and swallowed; the app's answer always goes out.
"""

from __future__ import annotations

import time
from collections.abc import Hashable

from tiercache.core import decisions
from tiercache.core.edge_headers import Edge
from tiercache.core.fields import NEVER_STORED
from tiercache.core.keys import bucket_of, canonical, url_tag, variant_key
from tiercache.core.messages import Fields, Request, StoredResponse
from tiercache.core.policy import Policy
from tiercache.engine import flows
from tiercache.engine.effects import Flow, Wait
from tiercache.engine.engine import Engine
from tiercache.engine.fill import Fill
from tiercache.engine.flights import LATE, RELEASED, RETRY, Flight
from tiercache.engine.serving import Answer

ATTEMPTS = 3
"""How often a follower joins again when what its leader brought was not for it, before it calls the app."""


class Exchange:
    """The state of one request between its arrival and its end."""

    __slots__ = (
        "_body",
        "_fill",
        "_generated",
        "_head",
        "_policy",
        "_share",
        "_size",
        "_verdict",
        "detail",
        "engine",
        "flight",
        "forward",
        "limit",
        "recording",
        "request",
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
        self._fill: Fill | None = None
        self._verdict: decisions.Verdict | None = None
        self._policy: Policy = request.route.policy
        self.limit = engine.settings.max_body
        """Bytes that a stored body may have; the policy in force decides when the head has come."""
        self._head: tuple[int, bytes] = (0, b"")
        self._generated = 0.0
        self._body: list[bytes] = []
        self._size = 0
        self._share: StoredResponse | None = None

    # -- before the app ----------------------------------------------------------------------------------------------

    def open(self) -> Flow[Answer | None]:
        """Ask L2 and the fills under way. None: call the app."""
        engine, request = self.engine, self.request
        deadline = time.monotonic() + engine.settings.l2_budget
        if engine.must_catch_up() and (yield from flows.catch_up(engine, deadline)):
            entry = engine.hit(request)
            if entry is not None:
                return Answer(entry, "l1")
        unshareable = request.key in engine.unshareable
        if request.conditional or request.credential or request.method == "HEAD":
            # Nobody waits for somebody else's page, nor for one that would be cut down for him.
            entry = None if unshareable else (yield from flows.fetch(engine, request, deadline))
            if entry is not None:
                return Answer(entry, "l2")
            self.forward = "bypass" if request.credential else "request" if request.conditional else "miss"
            self.detail = request.credential or request.conditional
            if self.detail:
                engine.stats.bypassed[self.detail] += 1
            self.recording = request.method == "GET" and not request.conditional
            return None
        if unshareable:
            self.recording = True
            return None
        answer = yield from self._open_shared(deadline)
        self.recording = answer is None
        return answer

    def _open_shared(self, deadline: float) -> Flow[Answer | None]:
        engine, request = self.engine, self.request
        patience = time.monotonic() + engine.settings.lease_wait
        for _ in range(ATTEMPTS):
            flight, leads = engine.flights.join(self._flight_key())
            if leads:
                self.flight = flight
                try:
                    # A flight may have landed between our look into L1 and our joining.
                    entry, tier = engine.hit(request), "l1"
                    if entry is None:
                        entry, tier = (yield from flows.fetch(engine, request, deadline)), "l2"
                except BaseException:
                    flight.finish(RETRY)
                    raise
                if entry is None:
                    return None
                flight.finish(entry)
                return Answer(entry, tier)
            try:
                outcome = yield Wait(flight, patience)
            finally:
                flight.leave()
            if outcome is LATE or outcome is RELEASED:
                return None
            if outcome is not RETRY and engine.usable(outcome, request):
                return Answer(outcome, "l1", collapsed=True)
        return None

    def _flight_key(self) -> Hashable:
        """Requests for different variants do not wait for each other, once it is known that there are any."""
        key = self.request.key
        variants = self.engine.variants(key)
        return key if variants is None else variant_key(key, variants.names, self.request.values(variants.names))

    def begin(self) -> Fill:
        """Note the stamp. It must be read before the app is called: a fill that an invalidation overtakes is dead."""
        ledger = self.engine.ledger
        # The mark first: a bar put up between the two reads then counts as later than this fill.
        mark = ledger.mark
        self._fill = Fill(ledger.stamp(), mark, self.engine.clock())
        self.engine.stats.misses += 1
        return self._fill

    def wanted(self) -> bool:
        """Whether somebody else waits for what this fill makes."""
        return self.flight is not None and self.flight.outcome is None and self.flight.followers > 0

    @property
    def age(self) -> float:
        """Seconds that the response was old when it came."""
        return 0.0 if self._verdict is None else self._verdict.initial_age

    # -- while the app answers ---------------------------------------------------------------------------------------

    def started(self, status: int, reason: bytes, fields: Fields) -> Edge | None:
        """The head of the response has come. What L0 is told, if this is an answer to share.

        Args:
            status: as in the status line.
            reason: the reason phrase where the face has one.
            fields: lower-case names, in order.
        """
        if not self.recording:
            return None
        try:
            return self._started(status, reason, fields)
        except Exception as error:
            self._swallow(error)
            return None

    def _started(self, status: int, reason: bytes, fields: Fields) -> Edge | None:
        engine, fill = self.engine, self._fill
        assert fill is not None
        self._policy = policy = engine.policy_for(self.request.route, fill.declared)
        self.limit = engine.max_body(policy)
        verdict = decisions.may_store(
            self.request,
            status,
            fields,
            policy,
            now=engine.wall(),
            elapsed=engine.clock() - fill.began,
            chosen_ttl=fill.ttl,
            refusal=fill.refusal,
            max_body=self.limit,
            targets=engine.targets,
        )
        if verdict.refusal:
            self.refuse(verdict.refusal, lasting=verdict.lasting)
            return None
        self._verdict = verdict
        self._head = (status, reason)
        self._generated = engine.clock() - verdict.initial_age
        self.will_store = True
        # Of a request with a credential only the app's word could tell that the store takes part.
        self.forward, self.detail = "miss", ""
        stored = {name for name, _ in verdict.fields} | NEVER_STORED
        if any(name not in stored for name, _ in fields):
            # What is not stored of it is meant for this client alone, so that this is no answer for L0 to share.
            return None
        return engine.edge(fields, policy, lifetime=verdict.lifetime, app_decides=verdict.app_decides)

    def chunk(self, data: bytes) -> None:
        """A piece of the body. It is copied only while it may still be stored."""
        if not self.recording or not data:
            return
        self._size += len(data)
        if self._size > self.limit:
            self.refuse("too-large", lasting=True)
            return
        self._body.append(bytes(data))

    def complete(self) -> None:
        """The body has ended as it should: store it in L1 and land the flight."""
        if not self.recording:
            return
        try:
            self._complete()
        except Exception as error:
            self._swallow(error)

    def _complete(self) -> None:
        fill, verdict = self._fill, self._verdict
        assert fill is not None
        announced = None if verdict is None else verdict.content_length
        # RFC 9111 §3.3: it broke off, or it is not what its head says.
        if verdict is None or (announced is not None and announced != self._size):
            self.refuse("incomplete")
            return
        if fill.refusal:
            self.refuse("view", lasting=True)
            return
        engine, request = self.engine, self.request
        response = self._response(fill, verdict)
        entry = engine.admit(request, response, mark=fill.mark, began=fill.began)
        self.recording = False
        engine.unshareable.discard(request.key)
        engine.stats.stored += 1
        if self._policy.l2 and engine.shared is not None:
            variants = engine.variants(request.key) if response.vary else None
            if variants is None or not variants.full:
                self._share = response
        if self.flight is not None:
            self.flight.finish(entry)

    def _response(self, fill: Fill, verdict: decisions.Verdict) -> StoredResponse:
        engine, request = self.engine, self.request
        status, reason = self._head
        body = b"".join(self._body)
        fields = decisions.stored_fields(verdict, status, body, self._policy)
        lifetime = verdict.lifetime if fill.ttl is None else fill.ttl
        created = self._generated + engine.unix_offset
        key = request.key
        if verdict.vary:
            names = engine.learn(key, verdict.vary).names
            key = variant_key(key, names, request.values(names))
        return StoredResponse(
            key=canonical(key),
            epoch=fill.stamp.epoch,
            number=fill.stamp.number,
            tags=self._tags(fill),
            status=status,
            reason=reason,
            fields=fields,
            created=created,
            fresh_until=created + lifetime,
            keep_until=created + lifetime + max(verdict.stale),
            cost=engine.clock() - fill.began,
            vary=tuple([(name, request.field(name)) for name in verdict.vary]),
            etag=decisions.value_of(fields, b"etag"),
            last_modified=decisions.value_of(fields, b"last-modified"),
            declared=None if fill.declared is None else fill.declared.to_declared(),
            explicit=verdict.app_decides,
            public=verdict.public,
            stale_while_revalidate=verdict.stale.while_revalidate,
            stale_if_error=verdict.stale.if_error,
            body=body,
        )

    def _tags(self, fill: Fill) -> tuple[str, ...]:
        request, route = self.request, self.request.route
        path = request.path
        own = (*route.tags_for(route.params_for(path)), *fill.tags)
        url = url_tag(request.scheme(), request.host(), request.target(), request.query())
        implied = ["p:" + path, bucket_of(path), url]
        if route.is_rule:
            implied.append("r:" + route.template)
        return (*dict.fromkeys("t:" + tag for tag in own), *implied)

    def abandon(self) -> None:
        """The response broke off, the app failed, or nobody wants it any more: keep nothing, hold nobody up."""
        self.recording = False
        self._body = []
        if self.flight is not None:
            self.flight.finish(RELEASED)

    def refuse(self, reason: str, *, lasting: bool = False) -> None:
        """Do not store the response, for one of `decisions.REASONS`, and let go whoever waits for it."""
        if not self.recording:
            return
        engine = self.engine
        engine.stats.refused[reason] += 1
        if lasting:
            expected = self.request.route.is_rule or (self._fill is not None and self._fill.declared is not None)
            engine.remember_unshareable(self.request, expected=expected)
        self.detail = self.detail or reason
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
        if self._share is not None:
            deadline = time.monotonic() + self.engine.settings.l2_budget
            yield from flows.keep(self.engine, self.request, self._share, deadline)
