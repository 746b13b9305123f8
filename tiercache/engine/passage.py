"""The passage of one request, for what L1 cannot answer by itself: what a response and a value of data have in common.

Its first half, `opening.open_exchange`, asks L2 and the fills under way. Then whoever drives it makes what is missing,
within `begin` and `admit`, and in the end `close` gives back what the passage holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from tiercache.core.entries import Kept
from tiercache.core.messages import Request
from tiercache.engine import flows, leases
from tiercache.engine.effects import Flow
from tiercache.engine.flights import RELEASED, Flight
from tiercache.engine.leases import Lease

if TYPE_CHECKING:
    from tiercache.engine.engine import Engine

E = TypeVar("E", bound=Kept)


class Passage(Generic[E]):
    """The state of one request between its arrival and its end."""

    __slots__ = (
        "_room",
        "ask_behind",
        "detail",
        "engine",
        "error",
        "failure",
        "flight",
        "forward",
        "lease",
        "recording",
        "refresh",
        "request",
        "share",
        "stale",
        "when_over",
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
        """Whether a copy of what is made is being kept."""
        self.refresh = False
        """The answer was stale: the same passage is to be gone on with behind it, on a request of the cache's own."""
        self.failure = ""
        """Why neither the store nor the app answers: the client wants the store alone (`only-if-cached`), the app has
        enough to do (`overload`), takes too long (`timeout`), or has failed for one who shares that (`error`)."""
        self.error: BaseException | None = None
        """What the app raised for whoever waits for it together."""
        self.lease: Lease | None = None
        """The lease that this request holds for the fleet."""
        self.ask_behind: Callable[[Any], None]
        """Calls the app for another passage behind this one, on the same request; set by the face."""
        self._room = False
        self.when_over: Callable[[], None] | None = None
        """Called when what the app sends is of no more use to the store."""
        self.stale: E | None = None
        """What is stored and has to be validated, or may stand in for an error."""
        self.share: Any = None
        """What is to be written to L2 behind the answer."""

    kind: type[E]
    """What it is answered with."""

    # -- what differs --------------------------------------------------------------------------------------------------

    def hit(self) -> E | None:
        """What L1 answers with now, by all the checks of a hit."""
        raise NotImplementedError

    def scrub(self, stale: E | None) -> bool:
        """Whether the cache can ask in the client's place at all."""
        raise NotImplementedError

    def status_of(self, entry: E) -> str:
        """What the app said, as `Cache-Status` has it."""
        return ""

    # -- before the app ----------------------------------------------------------------------------------------------

    def take_room(self) -> bool:
        """Take a place among the fills of the route; it is given back by `abandon`."""
        self._room = self._room or self.engine.limits.may_fill(self.request.route)
        return self._room

    def hand_over(self) -> Self:
        """Another passage of the same request that takes over the fill and all that belongs to it."""
        other = self.another()
        other.recording, other.flight, other.stale = self.recording, self.flight, self.stale
        other.forward, other.lease, other._room = self.forward, self.lease, self._room
        self.recording, self.flight, self.lease, self._room = False, None, None, False
        return other

    def another(self) -> Self:
        """A passage of the same request that has not begun."""
        return type(self)(self.engine, self.request)

    def wanted(self) -> bool:
        """Whether somebody else waits for what this fill makes."""
        return self.flight is not None and self.flight.outcome is None and self.flight.followers > 0

    # -- while the app answers ---------------------------------------------------------------------------------------

    def may_hide(self, stale: E) -> bool:
        """RFC 5861 §4, or the same asked by the client."""
        # As any reader: what was purged meanwhile is dead, and trust may have run out while the app was at it.
        if not self.engine.selectable(stale, self.request):
            return False
        now = self.request.now
        if now < stale.error_until:
            return True
        directives = self.request.directives
        allowed = None if directives is None else directives.stale_if_error
        return allowed is not None and stale.may_stale and now - stale.fresh_until <= allowed

    def cool(self) -> None:
        """The app has failed behind an answer that hides it: leave it alone for a while."""
        pause = self.request.route.policy.retry_after_error
        if pause:
            self.engine.cooling.add(self.request.key, pause)

    def abandon(self) -> None:
        """Nobody wants it any more, or it came to nothing: keep nothing, hold nobody up."""
        self._over()
        if self.flight is not None:
            self.flight.finish(RELEASED)

    def _over(self) -> None:
        self.recording = False
        if self._room:
            self._room = False
            self.engine.limits.filled(self.request.route)
        if self.when_over is not None:
            self.when_over()

    # -- behind the answer -------------------------------------------------------------------------------------------

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
        """`close` where no flow can run any more: nothing of this passage outlives it in this process."""
        self.abandon()
        self.share = None
        lease, self.lease = self.lease, None
        leases.forget(self.engine, lease)

    def give_back(self, *, made: bool) -> Flow[None]:
        """Return the lease, if there is one; `made` tells whether L2 has something now for those who wait for it."""
        lease, self.lease = self.lease, None
        if lease is not None:
            yield from leases.release(self.engine, lease, made=made)


class Failure:
    """The outcome of a flight whose app call failed: where a stale answer may hide that, or where all that wait are to
    have the error."""

    __slots__ = ("error", "stale")

    def __init__(self, stale: Any, error: BaseException | None = None) -> None:
        self.stale = stale
        self.error = error

    def covers(self, passage: Passage[Any]) -> bool:
        """Whether the stale answer is one for this follower too."""
        stale = self.stale
        return stale is not None and passage.engine.selectable(stale, passage.request) and passage.may_hide(stale)
