"""What knows the truth: when the app was called and when each purge was asked for and returned.

"Older" means that the app call began before the purge was asked for; staleness runs from the return of the purge to
the decision to serve.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.simulator.site import BOUND, Page
from tests.simulator.world import Violation, World

if TYPE_CHECKING:
    from tests.simulator.process import Process
    from tiercache.core.entries import Entry

ROUNDING = 1e-6
"""Seconds: virtual moments are floats around a million."""


class Call:
    """One call of the app that may be stored."""

    __slots__ = ("began", "by", "number", "page", "shown", "tags", "version")

    def __init__(self, number: int, page: Page, began: float, by: str) -> None:
        self.number = number
        self.page = page
        self.began = began
        self.by = by
        self.tags: set[str] = {*page.tags}
        self.version = 0
        self.shown = 0
        """The version of the value that it shows."""

    def __repr__(self) -> str:
        return f"call {self.number} of {self.page} (began {self.began - 1_000_000:.3f} in {self.by})"


class Purge:
    """One purge as its caller knows it."""

    __slots__ = (
        "acknowledged",
        "barrier",
        "by",
        "everything",
        "invoked",
        "members",
        "paths",
        "returned",
        "soft",
        "tags",
        "version",
    )

    def __init__(
        self, by: str, invoked: float, *, tags: tuple[str, ...], paths: tuple[str, ...], everything: bool, soft: bool
    ) -> None:
        self.by = by
        self.invoked = invoked
        self.tags = frozenset(tags)
        self.paths = paths
        self.everything = everything
        self.soft = soft
        self.members: tuple[str, ...] = ()
        self.version = 0
        """Of the value whose write is behind it."""
        self.returned: float | None = None
        """When the shared tier had confirmed it: to the caller, or later to the queue."""
        self.barrier: float | None = None
        """When the caller was told that the fleet has it."""
        self.acknowledged: frozenset[str] = frozenset()
        """Who has told that it applies it, as far as the caller knows."""

    def covers(self, call: Call) -> bool:
        return self.everything or call.page.path in self.paths or not self.tags.isdisjoint(call.tags)

    def __repr__(self) -> str:
        what = "everything" if self.everything else " ".join([*sorted(self.tags), *self.paths])
        return f"{'soft' if self.soft else 'hard'} purge of {what} by {self.by} (asked {self.invoked - 1_000_000:.3f})"


class Client:
    """A visitor with a session: the purges that its own requests have made."""

    __slots__ = ("busy", "mark", "purges")

    def __init__(self) -> None:
        self.busy = False
        self.mark: bytes | None = None
        self.purges: list[Purge] = []


class Oracle:
    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Call] = []
        self.purges: list[Purge] = []
        self.writes: dict[str, list[Purge]] = defaultdict(list)
        self.worst = 0.0
        """Longest staleness served with trust, in seconds."""

    def call(self, page: Page, by: str) -> Call:
        made = Call(len(self.calls), page, self.world.now, by)
        self.calls.append(made)
        return made

    def purge(self, purge: Purge) -> None:
        self.purges.append(purge)

    def of(self, entry: Entry) -> Call:
        for name, value in entry.response.fields:
            if name == b"x-call":
                return self.calls[int(value)]
        raise AssertionError(f"what made this? {entry.response.fields}")

    def served(self, process: Process, entry: Entry, how: str, arrived: float, purges: frozenset[Purge]) -> None:
        """An answer of the store is about to leave, to a request that came at `arrived` and brings word of `purges`."""
        world, engine = self.world, process.engine
        seen = world.seen
        own = process.clock()
        trusted = own < engine.ledger.trusted_until
        fresh = own < entry.fresh_until
        seen["served " + how] += 1
        seen["reads"] += 1
        call = self.of(entry)
        page = call.page
        if world.trace is not None:
            state = ("trusted" if trusted else "isolated") + (" fresh" if fresh else " stale")
            world.log(f"{process.name}: serves {call} from {how}, {state}")
        if not trusted:
            seen["served isolated"] += 1
            if entry.mark < 0:
                raise Violation(f"{process.name}, isolated, serves what it has not filled itself: {call}")
        lost = entry.epoch != engine.ledger.stamp().epoch
        if lost and (fresh or not process.fleet.keep_lost or not page.swr):
            raise Violation(f"{process.name} serves {call} of another history: {entry.epoch}")
        for purge in reversed(self.purges):
            if purge.invoked <= call.began:
                break
            if not purge.covers(call):
                continue
            self._judge(process, call, purge, how, arrived, purge in purges, trusted=trusted, fresh=fresh, lost=lost)
        if page.shows:
            seen["pages of data"] += 1
            for purge in self.writes[page.shows]:
                if purge.version > call.shown:
                    self._judge(process, call, purge, how, arrived, False, trusted=trusted, fresh=fresh, lost=lost)

    def served_value(
        self, process: Process, call: Call, version: int, writes: list[Purge], how: str, arrived: float
    ) -> None:
        """A value is about to be used. What is older is told by its version: each write makes the next one."""
        self.world.seen["values from " + how] += 1
        trusted = process.clock() < process.engine.ledger.trusted_until
        for purge in writes:
            if purge.version > version:
                self._judge(process, call, purge, how, arrived, False, trusted=trusted, fresh=True, lost=False)

    def _judge(
        self,
        process: Process,
        call: Call,
        purge: Purge,
        how: str,
        arrived: float,
        own: bool,
        *,
        trusted: bool,
        fresh: bool,
        lost: bool,
    ) -> None:
        now, page, returned = self.world.now, call.page, purge.returned
        if purge.soft and not fresh:
            # It is stale from when this process has learned of it, and stays of use as any stale response does.
            self.world.seen["served outdated"] += 1
            return
        told = process.told.get(purge)
        if told is not None and now > told + ROUNDING:
            raise self._wrong(process, call, purge, how, "has purged that itself")
        if own and page.consistency == "session":
            raise self._wrong(process, call, purge, how, "has been asked by the session that purged it")
        if returned is None or lost:
            # With `on_lost_history="stale"` what the lost history may have held against it is let go, by choice.
            return
        late = now - returned
        if page.consistency == "strong" and arrived > returned + ROUNDING:
            raise self._wrong(process, call, purge, how, "has got the request after that")
        if purge.barrier is not None and now > purge.barrier + ROUNDING:
            if trusted:
                raise self._wrong(process, call, purge, how, "has trust after the barrier")
            if process.engine.process_id in purge.acknowledged:
                raise self._wrong(process, call, purge, how, "had acknowledged it")
        if trusted and not purge.soft and late > self.worst:
            self.worst = late
        # Who has asked and had no answer is isolated. Who merely stood still has to ask first.
        isolated = not trusted and process.unanswered >= process.engine.ledger.last_good_sync
        allowed = max(BOUND, page.isolated) if isolated else BOUND
        if late > allowed + ROUNDING:
            raise self._wrong(process, call, purge, how, f"is {late:.3f} s late, where {allowed:.3f} s are allowed")

    def _wrong(self, process: Process, call: Call, purge: Purge, how: str, why: str) -> Violation:
        returned = "never" if purge.returned is None else f"{purge.returned - 1_000_000:.3f}"
        return Violation(
            f"at {self.world.now - 1_000_000:.3f} {process.name} serves {call} from {how} against {purge}, "
            f"returned {returned}: it {why}"
        )


def spec_alive(entry: Any, epoch: str, floor: int, members: dict[str, int], banned: Any) -> bool:
    """What the ledger says of an entry, written once more from its layout."""
    if entry.epoch != epoch or entry.number < floor:
        return False
    if any(members.get("h:" + tag, 0) > entry.number for tag in entry.tags):
        return False
    # Once the key of a value is folded, its number is kept under the first three of its digits.
    keys = [tag for tag in entry.tags if tag.startswith("v:") and len(tag) > 32]
    if any(members.get(f"h:w:{tag[2:-32]}{tag[-32:-29]}", 0) > entry.number for tag in keys):
        return False
    return not any(
        number > entry.number and member.startswith("b:") and banned(member, tag[2:])
        for member, number in members.items()
        for tag in entry.tags
        if tag.startswith("p:")
    )
