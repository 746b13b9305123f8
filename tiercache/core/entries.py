"""What L1 holds: a stored response made ready to be served, and the marker of a URL whose responses vary.

Times here are on the process's own clock, so that a hit compares two numbers and converts nothing.
"""

from __future__ import annotations

from math import log
from typing import Any

from tiercache.core.edge_headers import Edge
from tiercache.core.keys import Key
from tiercache.core.messages import StoredResponse
from tiercache.core.policy_kinds import PROBABILISTIC

_CERTAIN = 14.0
"""-ln of a chance of one in a million: sooner than this many times the cost before the end nobody refreshes."""


class Entry:
    """One stored response in L1. After it was made only `checked` and `wire` change, each by one assignment, and the
    moments at which it stops being of use, which come nearer when it is outdated."""

    __slots__ = (
        "began",
        "body",
        "born",
        "checked",
        "cost",
        "edge",
        "epoch",
        "error_until",
        "fresh_until",
        "isolated_ttl",
        "keep_until",
        "mark",
        "number",
        "public",
        "refresh_until",
        "response",
        "soon",
        "status",
        "tags",
        "wire",
    )

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
    ) -> None:
        self.response = response
        self.status = response.status
        self.body = response.body
        self.edge = edge
        """What is sent of it, and how that changes with its age."""
        self.epoch = response.epoch
        self.number = response.number
        self.tags = response.tags
        self.born = response.created - offset
        self.fresh_until = response.fresh_until - offset
        self.cost = response.cost if early == PROBABILISTIC else 0.0
        """Seconds that the fill took, where they decide when it is refreshed early."""
        if early is None:
            self.soon = self.fresh_until
        elif isinstance(early, str):
            self.soon = self.fresh_until - response.cost * _CERTAIN
        else:
            self.soon = self.born + early * (self.fresh_until - self.born)
        self.refresh_until = self.fresh_until + response.stale_while_revalidate
        self.error_until = self.fresh_until + response.stale_if_error
        self.keep_until = response.keep_until - offset
        self.isolated_ttl = isolated_ttl
        self.public = response.public
        self.mark = mark
        """Where in this process's own record its fill began; -1 for what another process filled."""
        self.began = began
        self.checked = -1
        """The version of the ledger at which it was last found alive."""
        self.wire: tuple[int, Any] = (-1, None)
        """(age in seconds, what the face sends at that age): made once a second, not once a hit."""

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
        response = self.response
        self.fresh_until = fresh_until = min(self.fresh_until, at)
        self.soon = min(self.soon, at)
        self.refresh_until = min(self.refresh_until, fresh_until + response.stale_while_revalidate)
        self.error_until = min(self.error_until, fresh_until + response.stale_if_error)
        if history_lost:
            self.keep_until = min(self.keep_until, self.refresh_until)
            self.error_until = min(self.error_until, self.refresh_until)


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
