"""What L1 holds: a stored response made ready to be served, and the marker of a URL whose responses vary.

Times here are on the process's own clock, so that a hit compares two numbers and converts nothing.
"""

from __future__ import annotations

from typing import Any

from tiercache.core.edge_headers import Edge
from tiercache.core.keys import Key
from tiercache.core.messages import StoredResponse


class Entry:
    """One stored response in L1. Only `checked` and `wire` change after it was made, and each by one assignment."""

    __slots__ = (
        "began",
        "body",
        "born",
        "checked",
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
