"""One response on its way through: what is kept of it, and the stored response that it becomes.

It begins with the stamp and ends as a stored response, as one that freshens another, or as a reason why neither.
"""

from __future__ import annotations

import random
from math import inf

from tiercache.core import decisions
from tiercache.core.admission import origins
from tiercache.core.conditional import freshen, selected_for_update
from tiercache.core.keys import bucket_of, canonical, group_tags, url_tag, variant_key
from tiercache.core.messages import Fields, Request, StoredResponse
from tiercache.core.origins import ORIGIN
from tiercache.core.policy import Policy
from tiercache.engine import admitting
from tiercache.engine.engine import Engine
from tiercache.engine.fill import Fill


class Recording:
    """The copy of one response, made while it passes."""

    __slots__ = (
        "_body",
        "_engine",
        "_generated",
        "_head",
        "_request",
        "dropped",
        "fill",
        "limit",
        "policy",
        "size",
        "verdict",
    )

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine = engine
        self._request = request
        ledger = engine.ledger
        # Before the app is called: a fill that an invalidation overtakes is dead. The mark first: a bar put up between
        # the two reads then counts as later than this fill.
        mark = ledger.mark
        self.fill = Fill(ledger.stamp(), mark, engine.clock(), (request.key,), ledger)
        self.policy: Policy = request.route.policy
        self.limit = engine.max_body(self.policy)
        """Bytes that a stored body may have; the policy in force decides when the head has come."""
        self.verdict: decisions.Verdict | None = None
        self._head: tuple[int, bytes] = (0, b"")
        self._generated = 0.0
        self._body: list[bytes] = []
        self.size = 0
        self.dropped = False
        """Nothing of it will be stored."""

    def start(self, status: int, reason: bytes, fields: Fields) -> decisions.Verdict:
        """The head has come: whether this will be stored."""
        verdict = self._judge(status, fields)
        if not verdict.refusal:
            self.verdict = verdict
            self._head = (status, reason)
        return verdict

    def _judge(self, status: int, fields: Fields) -> decisions.Verdict:
        engine, fill = self._engine, self.fill
        self.policy = engine.policy_for(self._request.route, fill.declared)
        self.limit = engine.max_body(self.policy)
        now = engine.clock()
        known = admitting.variants(engine, self._request.key)
        verdict = decisions.may_store(
            self._request,
            status,
            fields,
            self.policy,
            now=engine.wall(),
            elapsed=now - fill.began,
            chosen_ttl=fill.ttl,
            refusal=fill.refusal,
            max_body=self.limit,
            targets=engine.targets,
            by_origin=known is not None and ORIGIN in known.names,
        )
        if not verdict.refusal and engine.rules.ambiguous(self._request, self.policy, verdict.vary):
            verdict = decisions.Verdict("ambiguous")
        self._generated = now - verdict.initial_age
        return verdict

    def add(self, data: bytes) -> bool:
        """A piece of the body. False: there is more of it than may be stored."""
        self.size += len(data)
        if self.size > self.limit:
            return False
        self._body.append(bytes(data))
        return True

    def drop(self) -> None:
        """Let go of the copy."""
        self._body = []
        self.dropped = True

    def finish(self) -> StoredResponse | str:
        """The body has ended as it should: the response to store, or the reason why there is none."""
        verdict = self.verdict
        # RFC 9111 §3.3: it broke off, or it is not what its head says.
        if verdict is None or verdict.content_length not in (None, self.size):
            return "incomplete"
        if self.fill.refusal:
            return "view"
        if self.fill.foreign and self.policy.follow_data:
            return "data"
        status, reason = self._head
        body = b"".join(self._body)
        return self._response(
            verdict, status, reason, decisions.stored_fields(verdict, status, body, self.policy), body
        )

    def freshened(self, stale: StoredResponse, update: Fields) -> StoredResponse | str | None:
        """What a 304 makes of the stored response that was to be validated (RFC 9111 §4.3.4).

        A reason where it may no longer be stored, though it answers this request; None where the 304 means another.
        """
        now = self._engine.wall()
        if not selected_for_update([stale.fields], update, received=now, sole=True):
            return None
        fields = freshen(stale.fields, update, targets=self._engine.targets)
        # What the 304 brought beside the fields of the response counts for this once: its Age, its Date.
        verdict = self._judge(stale.status, (*fields, *[pair for pair in update if pair[0] == b"age"]))
        if verdict.refusal:
            return verdict.refusal
        if self.fill.foreign and self.policy.follow_data:
            return "data"
        self.fill.tags.update(tag[2:] for tag in stale.tags if tag.startswith("t:"))
        self.fill.followed.update(tag for tag in stale.tags if tag.startswith("v:"))
        return self._response(verdict, stale.status, stale.reason, fields, stale.body)

    def _response(
        self, verdict: decisions.Verdict, status: int, reason: bytes, fields: Fields, body: bytes
    ) -> StoredResponse:
        engine, request, fill = self._engine, self._request, self.fill
        # What the app wants validated each time stays so, whatever the view adds after the head.
        lifetime = verdict.lifetime if fill.ttl is None or verdict.validate_always else fill.ttl
        if self.policy.jitter and not verdict.app_decides and fill.ttl is None:
            lifetime *= 1 - self.policy.jitter * random.random()
        if self.outdated:
            # What was made with stale data is as stale.
            lifetime = min(lifetime, max(0.0, fill.limit - self._generated))
        created = self._generated + engine.server_time.low
        key = request.key
        if verdict.vary:
            names = admitting.learn(engine, key, verdict.vary).names
            key = variant_key(key, names, engine.selecting(request, names))
        return StoredResponse(
            key=canonical(key),
            epoch=fill.stamp.epoch,
            number=fill.stamp.number,
            tags=self._tags(fields),
            status=status,
            reason=reason,
            fields=fields,
            created=created,
            fresh_until=created + lifetime,
            keep_until=created + lifetime + verdict.kept_stale,
            cost=engine.clock() - fill.began,
            vary=tuple(zip(verdict.vary, engine.selecting(request, verdict.vary), strict=True)),
            etag=decisions.value_of(fields, b"etag"),
            last_modified=decisions.value_of(fields, b"last-modified"),
            declared=None if fill.declared is None else fill.declared.to_declared(),
            explicit=verdict.app_decides,
            public=verdict.public,
            stale_while_revalidate=verdict.stale.while_revalidate,
            stale_if_error=verdict.stale.if_error,
            may_stale=verdict.may_stale,
            body=body,
        )

    @property
    def outdated(self) -> bool:
        """Whether it has been made with data that was stale."""
        return self.fill.limit < inf and self.policy.follow_data

    @property
    def began(self) -> float:
        """From when on it may be served in isolation."""
        return self.fill.since if self.policy.follow_data else self.fill.began

    def _tags(self, fields: Fields) -> tuple[str, ...]:
        request, route = self._request, self._request.route
        path = request.path
        own = (*route.tags_for(route.params_for(path)), *self.fill.tags)
        implied = ["p:" + path, bucket_of(path)]
        for scheme, host in origins(request, self._engine.rules):
            implied.append(url_tag(scheme, host, request.target(), request.query()))
        if route.is_rule:
            implied.append("r:" + route.template)
        implied += group_tags(request.scheme(), request.host(), fields, b"cache-groups")
        if self.policy.follow_data:
            implied += self.fill.followed
        return tuple(dict.fromkeys([*["t:" + tag for tag in own], *implied]))
