"""What L1 holds: what is stored made ready to be served, and the marker of a URL whose responses vary.

Times here are on the process's own clock, so that a hit compares two numbers and converts nothing.
"""

from __future__ import annotations

from math import log
from typing import Any, Protocol

from tiercache.core.edge_headers import Edge
from tiercache.core.keys import Key
from tiercache.core.messages import StoredResponse
from tiercache.core.policy_kinds import PROBABILISTIC

_CERTAIN = 14.0
"""-ln of a chance of one in a million: sooner than this many times the cost before the end nobody refreshes."""


class Storable(Protocol):
    """What every stored thing says of itself, as it lies in L2. Times are on the clock of the shared tier."""

    @property
    def epoch(self) -> str: ...

    @property
    def number(self) -> int: ...

    @property
    def tags(self) -> tuple[str, ...]: ...

    @property
    def created(self) -> float: ...

    @property
    def fresh_until(self) -> float: ...

    @property
    def keep_until(self) -> float: ...

    @property
    def cost(self) -> float: ...

    @property
    def stale_while_revalidate(self) -> float: ...

    @property
    def stale_if_error(self) -> float: ...


class Kept:
    """One stored thing in L1: its stamp, its tags and its moments. After it was made only `checked` changes, by one
    assignment, and the moments at which it stops being of use, which come nearer when it is outdated."""

    __slots__ = (
        "began",
        "born",
        "checked",
        "cost",
        "created",
        "epoch",
        "error_until",
        "fresh_until",
        "if_error",
        "isolated_ttl",
        "keep_until",
        "lifetime",
        "mark",
        "number",
        "refresh_until",
        "soon",
        "tags",
        "while_revalidate",
    )

    public: bool = False
    """Whether requests with credentials may share it (RFC 9111 §3.5)."""
    vary: tuple[tuple[bytes, bytes | None], ...] = ()
    """The request fields that it was selected by, with their values (RFC 9111 §4.1)."""
    may_stale: bool = True
    """Whether it may be used stale (RFC 9111 §4.2.4)."""
    to_origins: bool | None = True
    """Whether it answers a request with an `Origin` that its key selects it for; None: it says nothing of origins."""

    def __init__(
        self,
        stored: Storable,
        *,
        offset: float,
        isolated_ttl: float,
        mark: int,
        began: float,
        early: float | str | None = None,
    ) -> None:
        self.epoch = stored.epoch
        self.number = stored.number
        self.tags = stored.tags
        self.created = stored.created
        """On the clock of the shared tier: of two with one key, the later is the newer, whoever made it."""
        self.born = stored.created - offset
        self.fresh_until = stored.fresh_until - offset
        self.lifetime = stored.fresh_until - stored.created
        """Seconds, as it was stored."""
        self.cost = stored.cost if early == PROBABILISTIC else 0.0
        """Seconds that the fill took, where they decide when it is refreshed early."""
        if early is None:
            self.soon = self.fresh_until
        elif isinstance(early, str):
            self.soon = self.fresh_until - stored.cost * _CERTAIN
        else:
            self.soon = self.born + early * (self.fresh_until - self.born)
        self.while_revalidate = stored.stale_while_revalidate
        self.if_error = stored.stale_if_error
        self.refresh_until = self.fresh_until + self.while_revalidate
        self.error_until = self.fresh_until + self.if_error
        self.keep_until = stored.keep_until - offset
        self.isolated_ttl = isolated_ttl
        self.mark = mark
        """Where in this process's own record its fill began; -1 for what another process filled."""
        self.began = began
        self.checked = -1
        """The version of the ledger at which it was last found alive."""

    def early_due(self, now: float, chance: float) -> bool:
        """Whether a fresh entry whose `soon` has come is to be made anew behind the answers.

        With a cost, by chance (0 to 1, uniform): probabilistic early expiration with beta 1 (XFetch; Vattani,
        Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015).
        """
        return self.cost == 0.0 or now - self.cost * log(chance or 1e-9) >= self.fresh_until

    def outdate(self, at: float, *, history_lost: bool = False) -> None:
        """Count as stale from `at` on, as if the lifetime had ended then. With `history_lost`, nothing but the time for
        which it may be served while it is revalidated is left of it.

        Moments only move forward to the present, so that threads that do this at once agree.
        """
        self.fresh_until = fresh_until = min(self.fresh_until, at)
        self.soon = min(self.soon, at)
        self.refresh_until = min(self.refresh_until, fresh_until + self.while_revalidate)
        self.error_until = min(self.error_until, fresh_until + self.if_error)
        if history_lost:
            self.keep_until = min(self.keep_until, self.refresh_until)
            self.error_until = min(self.error_until, self.refresh_until)


class Entry(Kept):
    """One stored response in L1. After it was made only `wire` changes, by one assignment, and what `Kept` says."""

    __slots__ = ("body", "edge", "may_stale", "public", "response", "status", "to_origins", "vary", "wire")

    def __init__(
        self,
        response: StoredResponse,
        edge: Edge,
        *,
        offset: float,
        isolated_ttl: float,
        mark: int,
        began: float,
        early: float | str | None = None,
        to_origins: bool | None = True,
    ) -> None:
        super().__init__(response, offset=offset, isolated_ttl=isolated_ttl, mark=mark, began=began, early=early)
        self.response = response
        self.status = response.status
        self.body = response.body
        self.edge = edge
        """What is sent of it, and how that changes with its age."""
        self.public = response.public
        self.vary = response.vary
        self.may_stale = response.may_stale
        self.to_origins = to_origins
        self.wire: tuple[int, Any] = (-1, None)
        """(age in seconds, what the face sends at that age): made once a second, not once a hit."""


class Variants:
    """The marker under the key of a URL that varies: by which request fields, and which variants this process keeps."""

    __slots__ = ("full", "kept", "names", "shared", "size")

    def __init__(self, names: tuple[bytes, ...], *, shared: bool, size: int = 0) -> None:
        self.names = names
        self.size = size
        """Bytes, the keys below included: they stay here when their entries have gone."""
        self.kept: dict[Key, int] = {}
        """Keys of the variants in L1 with their sizes, oldest first; the cap of variants per URL counts these."""
        self.full = False
        """Whether the cap has been reached: further variants stay out of L2."""
        self.shared = shared
        """Whether L2 is known to hold a marker with the same names."""
