"""The state of one process, and the plain function that answers from L1.

`Engine.hit` is the hot path: no I/O, no await, no lock, no generator. Whatever it cannot answer goes through an
`Exchange`, which may ask the world.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any

from tiercache.config import Settings
from tiercache.core.admission import RequestRules, examine
from tiercache.core.cache_control import parse_request
from tiercache.core.conditional import GENERATED_PREFIX
from tiercache.core.credentials import Credentials
from tiercache.core.directives import accepts
from tiercache.core.entries import Entry, Kept, Variants
from tiercache.core.keys import Key, picked_cookies, picked_query, selecting
from tiercache.core.ledger import Ledger
from tiercache.core.messages import Request, StoredResponse
from tiercache.core.origins import ORIGIN
from tiercache.core.policy import Policy
from tiercache.core.policy_settings import BOUNDED, SESSION, STRONG
from tiercache.core.redaction import Redactor, passwords_of
from tiercache.core.routes import Route, RouteTable
from tiercache.core.server_time import ServerTime
from tiercache.engine import session
from tiercache.engine.breaker import Breaker
from tiercache.engine.clocks import boot_clock
from tiercache.engine.events import Complaints, Stats
from tiercache.engine.fill import complain_to, current_fill
from tiercache.engine.flights import Flights, Wakes
from tiercache.engine.limits import Limits
from tiercache.engine.memo import Memo
from tiercache.engine.origins import Origins
from tiercache.engine.ports import Clock, LocalStore, PurgeWatcher, SharedStore
from tiercache.engine.serving import Presenter
from tiercache.errors import TierError

EARLY_PAUSE = 1.0
"""Seconds until another request may be chosen to have an entry made anew before its end."""
DECLARED_FOR = 86_400.0
"""Seconds for which a decorator's word for a URL is remembered: until then its answers are expected to be stored."""
UNSHAREABLE_FOR = 60.0
"""Seconds for which a URL seen to be unshareable is neither looked up in L2 nor waited for."""


class Engine:
    """Everything that the requests of one process share."""

    def __init__(
        self,
        settings: Settings,
        routes: RouteTable,
        memory: LocalStore,
        shared: SharedStore | None,
        size_of: Callable[..., int],
        *,
        clock: Clock = boot_clock,
        wall: Clock = time.time,
    ) -> None:
        self.routes = routes
        self.size_of = size_of
        self.rules = RequestRules(
            Credentials(settings.credential_headers, settings.ignore_cookies),
            tuple(name.encode() for name in settings.trust_forwarded),
        )
        self.targets = tuple(name.lower().encode() for name in settings.targets)
        self.prefix = (settings.app, settings.version)
        self.stats = Stats()
        self.presenter = Presenter(self.stats, age=settings.age, cache_status=settings.cache_status)
        self.sessions = False
        """Whether some rule asks for session consistency, so that clients are told of their purges."""
        self.purge_watcher: PurgeWatcher | None = None
        """Told of each invalidation that is asked for here: the members of the ledger, and whether it is everything."""
        self.begin(settings, memory, shared, clock=clock, wall=wall)

    def begin(
        self, settings: Settings, memory: LocalStore, shared: SharedStore | None, *, clock: Clock, wall: Clock
    ) -> None:
        """Know nothing of what was, and go on with these stores and clocks. Not while requests are under way.

        Of the settings, those hold on that say how requests are read and answers written: the faces know them.
        """
        self.settings = settings
        self.enabled = settings.enabled
        self.memory = memory
        self._lookup = memory.lookup
        self.shared = shared
        self.clock = clock
        self.wall = wall
        self.stats.reset()
        passwords = (*passwords_of(settings.url), *passwords_of(settings.ledger))
        secrets_known = (*passwords, *filter(None, [settings.session_secret]))
        self.redact = Redactor(settings.credential_headers, secrets_known)
        self.complaints = Complaints(self.stats, clock, self.redact)
        complain_to(self.complaints)
        self.flights = Flights()
        self.unshareable: Memo[Key] = Memo(clock)
        self.declared: Memo[Key] = Memo(clock)
        """URLs whose views a decorator has spoken for."""
        self.cooling: Memo[Key] = Memo(clock)
        """URLs whose app has just failed where something stale hides it: it is left alone for a while."""
        self.passing: Memo[tuple[Key, str]] = Memo(clock)
        self.origins = Origins(clock)
        self.ledger = Ledger(
            bound=settings.staleness_bound,
            epoch="~" + secrets.token_hex(8),
            shared=shared is not None,
            keep_lost=settings.on_lost_history == "stale",
        )
        if shared is not None:
            self.ledger.namespace = (settings.url, settings.namespace)
        self.process_id = secrets.token_hex(8)
        """The name by which the fleet knows this process."""
        self.server_time = ServerTime(wall() - clock())
        self.failing = False
        """Whether the last sync with the shared tier failed."""
        self._late = False
        """Whether the one before may have failed only because this process stood still."""
        self.breaker = Breaker(settings.l2_slow)
        self.wakes = Wakes()
        self.leases: dict[str, str] = {}
        """Name and token of the leases that this process holds."""
        self.limits = Limits()
        self.lock = threading.Lock()
        """For what is read and changed in one step; held for nothing that waits."""
        self._policies: dict[tuple[Route, Policy], Policy] = {}

    # -- the L1 hit ------------------------------------------------------------------------------------------------

    def hit(self, request: Request) -> Entry | None:
        """The entry of L1 that answers this request now, or None. Sets the key and bypass of the request."""
        method = request.method
        if method != "GET" and method != "HEAD":
            request.bypass = "method"
            return None
        policy: Policy = request.route.policy
        if not policy.cache:
            request.bypass = "route"
            return None
        if request.special:
            examine(request, policy, self.rules)
            if request.bypass:
                return None
        if policy.plain_key and not request.trusted:
            request.key = key = request.full_key()
        else:
            request.key = key = self._picked_key(request, policy)
        if policy.attentive and not self._attend(request, policy):
            return None
        entry = self._lookup(key)
        if entry is None:
            return None
        if entry.__class__ is Variants:
            names = entry.names
            entry = self._lookup((key, names, selecting(request, names, policy.normal_names)))
            if entry is None:
                return None
        request.now = now = self.clock()
        ledger = self.ledger
        # Trust before version: a sync that ends an isolation between the two reads must not lend its trust to an
        # entry that it has just killed.
        trusted = now < ledger.trusted_until
        if entry.checked != ledger.version and not ledger.alive(entry):
            return None
        # After the check, which outdates what was purged softly.
        if now >= entry.soon and not self.still_fresh(request, entry):
            return None
        if not trusted:
            if not self._isolated(request, entry):
                return None
            request.isolated = True
        if request.special:
            if request.credential and not entry.public:
                return None
            if ORIGIN in request.special and not self.origins.may_have(entry, request):
                return None
        if policy.client_directives and not accepts(request.directives, entry, now):
            return None
        found: Entry = entry
        return found

    def _attend(self, request: Request, policy: Policy) -> bool:
        """Whether L1 may answer at once, where the rule has it ask more of a request than its key."""
        if policy.client_directives:
            # RFC 9111 §5.2.1, where the rule says so.
            request.directives = parse_request(request.field(b"cache-control"), request.field(b"pragma"))
            if request.directives.no_store:
                request.bypass = "client"
                return False
        if policy.consistency == SESSION and self.shared is not None:
            # Most clients have made no purge, or one that is known here: neither needs to ask the ledger itself. What
            # tells of one is watched for, so that a plain request tells of none.
            stamp = session.asked(self, request) if request.special else None
            request.current = request.current or stamp is None or self.ledger.reached(stamp)
        return policy.consistency == BOUNDED or request.current or self.shared is None

    def still_fresh(self, request: Request, entry: Kept) -> bool:
        """Whether an entry whose `soon` has come answers as if it had not. One request at a time is chosen to have it
        made anew."""
        now = request.now
        if now >= entry.fresh_until:
            return False
        if not entry.early_due(now, random.random()):
            return True
        entry.soon = min(entry.fresh_until, now + EARLY_PAUSE)
        request.early = True
        return False

    def _isolated(self, request: Request, entry: Kept) -> bool:
        """Past trust, and the shared tier does not answer: may this process's own fill be served on?

        A lapse without a failed attempt means that this process itself stood still; it must catch up first.
        """
        return (
            self.failing
            and request.route.policy.consistency != STRONG
            and self.ledger.isolated_ok(entry, request.now, entry.isolated_ttl)
        )

    def _picked_key(self, request: Request, policy: Policy) -> Key:
        """The key where a rule picks what counts. Its parts stand in fixed places, so that no two rules' keys meet."""
        query: Any = request.query()
        if policy.query == "ignore":
            query = None
        elif policy.query is not None:
            query = picked_query(query, policy.query_names)
        cookies: Any = None
        if policy.cookie_names:
            cookies = picked_cookies(request.field(b"cookie") or b"", policy.cookie_names)
        values = request.values(policy.header_list) if policy.header_list else ()
        trusted = (self.rules.trusted, request.trusted) if request.trusted else None
        picked: Key = (query, policy.picks, values, cookies, trusted)
        return request.full_key()[:-1] + picked  # unpacking would go by a list

    def passes_by(self, request: Request) -> bool:
        """For a request that L1 does not answer: whether the store takes no part in it at all, and counts it then."""
        if not request.bypass:
            fill = current_fill()
            if fill is not None and not fill.over and fill.ledger is self.ledger and fill.within(request.key):
                # It would wait for the fill that has called it.
                request.bypass = "nested"
            elif (request.key, request.credential) in self.passing:
                request.bypass = request.credential or "remembered"
            else:
                return False
        self.stats.bypassed[request.bypass] += 1
        return True

    def remember_unshareable(self, request: Request, *, expected: bool) -> None:
        """For a while, neither look this URL up in L2 nor wait for it.

        Where a rule or a decorator expects its answers to be stored, they are looked at all the same, and the first
        that may be stored is. Where only the app's own words could make one so, and for requests with credentials,
        the store steps aside altogether.
        """
        self.declared.discard(request.key)
        if expected and not request.credential:
            self.unshareable.add(request.key, UNSHAREABLE_FOR)
        else:
            self.passing.add((request.key, request.credential), UNSHAREABLE_FOR)

    def expects(self, request: Request) -> bool:
        """Whether answers of this URL are expected to be stored: a rule or a decorator says so, or one has been, since
        the client has our own validator of it.
        """
        return (
            request.route.is_rule
            or request.key in self.declared
            or GENERATED_PREFIX in (request.field(b"if-none-match") or b"")
        )

    # -- what the slower paths ask -----------------------------------------------------------------------------------

    def usable(self, entry: Kept, request: Request) -> bool:
        """Whether an entry that somebody else brought answers this request: the checks of any reader."""
        return self.selectable(entry, request) and self.fresh(entry, request)

    def fresh(self, entry: Kept, request: Request) -> bool:
        """Whether a selectable entry answers as it is."""
        return (
            request.now < entry.fresh_until
            and (request.directives is None or accepts(request.directives, entry, request.now))
            and self.answers(entry, request)
        )

    def answers(self, entry: Kept, request: Request) -> bool:
        """Whether an entry, of whatever age, says to the origin that asks what the app would."""
        return ORIGIN not in request.special or self.origins.may_have(entry, request)

    def find(self, request: Request) -> Any | None:
        """What L1 holds for this request and no purge has killed, fresh or not: an entry of the request's kind."""
        found = self._lookup(request.key)
        if found is None:
            return None
        if isinstance(found, Variants):
            names = found.names
            found = self._lookup((request.key, names, self.selecting(request, names)))
        return found if isinstance(found, Kept) and self.selectable(found, request) else None

    def selectable(self, entry: Kept, request: Request) -> bool:
        """Whether an entry is of this URL, for this request, and alive; how old it may be is another question."""
        request.now = now = self.clock()
        trusted = now < self.ledger.trusted_until
        request.isolated = not trusted
        return (
            (entry.checked == self.ledger.version or self.ledger.alive(entry))
            # After the check, which shortens what is left of an entry whose history is lost.
            and now < entry.keep_until
            and (trusted or self._isolated(request, entry))
            and (not request.credential or entry.public)
            and (entry.to_origins is not False or ORIGIN not in request.special)
            and (request.route.policy.consistency == BOUNDED or entry.epoch == self.ledger.stamp().epoch)
            and self.selects(entry, request)
        )

    @staticmethod
    def selecting(request: Request, names: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
        """The values by which a variant is chosen, so spelt that what means the same is the same (RFC 9111 §4.1)."""
        return selecting(request, names, request.route.policy.normal_names)

    def selects(self, stored: StoredResponse | Kept, request: Request) -> bool:
        """RFC 9111 §4.1: the response's own `Vary` decides, whatever key it was found under."""
        if not stored.vary:
            return True
        names = tuple([name for name, _ in stored.vary])
        return self.selecting(request, names) == tuple([value for _, value in stored.vary])

    def trusted(self) -> bool:
        """Whether this process knows of every purge up to the staleness bound."""
        return self.clock() < self.ledger.trusted_until

    def must_catch_up(self) -> bool:
        """Trust has lapsed although nothing failed: this process has just begun, was forked, or stood still."""
        return not self.failing and self.clock() >= self.ledger.trusted_until

    def sync_failed(self, error: Exception, *, late: bool = False) -> None:
        """The shared tier did not answer a sync: from the end of trust on this process is isolated.

        `late`: long after it should have. Then the process itself may have stood still, and the answer have come
        meanwhile: it must catch up before it serves, and only the next failure in a row tells of the shared tier.
        """
        if late and not self._late and self.ledger.last_good_sync > -inf:
            self._late = True
            return
        self.failing = True
        problem = error if isinstance(error, TierError) else f"{type(error).__name__}: {error}"
        self.complaints.swallow("shared tier unreachable, serving from L1 alone", problem)

    def sync_succeeded(self) -> None:
        self._late = False
        if self.failing:
            self.failing = False
            self.complaints.settle("shared tier unreachable, serving from L1 alone", "it answers again")

    def policy_for(self, route: Route, declared: Policy | None) -> Policy:
        """What holds for a response: what the rule gives, then what a decorator beside the view declared."""
        if declared is None:
            return route.policy
        pair = (route, declared)
        policy = self._policies.get(pair)
        if policy is None:
            if len(self._policies) > 1_000:
                self._policies.clear()
            policy = self._policies[pair] = Policy.merge(route.policy, declared)
        return policy

    def max_body(self, policy: Policy) -> int:
        """Bytes."""
        return self.settings.max_body if policy.max_body is None else policy.max_body

    def rename(self) -> str:
        """Be another process to the fleet from now on; the name until now."""
        gone, self.process_id = self.process_id, secrets.token_hex(8)
        return gone

    def after_fork(self) -> None:
        """In a forked child: what the parent's other threads held at that moment is not to be trusted or waited for."""
        self.rename()
        self.flights, self.wakes = Flights(), Wakes()
        self.lock = threading.Lock()
        self.leases, self.limits = {}, Limits()
        self.breaker.after_fork()
        self.complaints.after_fork()
        self.failing = False
        self.memory.reset_after_fork()
        self.ledger.after_fork()
        if self.shared is not None:
            self.shared.reset_after_fork()
