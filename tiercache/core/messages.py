"""The messages that pass through: a request as the decisions see it, and a response as the tiers keep it.

Field names are lower-case bytes and values are bytes, in the order and number in which they came
(RFC 9110 §5.3: several lines of one name are not the same as none, and `Set-Cookie` cannot be joined).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields in order: (lower-case name, value), repeated names as they came."""


class Request(Protocol):
    """What the engine asks of a request; `asgi.py` and `wsgi.py` each make one without copying what they wrap."""

    method: str
    """As sent; methods are case-sensitive (RFC 9110 §9.1)."""
    path: str
    """What routes are matched against: the path that the app sees, mount point included, without the query."""

    @property
    def scheme(self) -> str: ...

    @property
    def host(self) -> bytes: ...

    @property
    def raw_path(self) -> bytes: ...

    @property
    def query(self) -> bytes: ...

    def field(self, name: bytes) -> bytes | None:
        """The value of a field, several lines joined as RFC 9110 §5.3 allows (`Cookie` by `; `); None if absent."""

    def names(self) -> Iterable[bytes]:
        """The lower-case names of the fields present."""


class StoredResponse(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One stored response, as it lies in L2 and as L1 serves it.

    Times are seconds on the clock of the shared tier (Unix time; Redis `TIME` where there is a Redis), so that
    processes whose own clocks disagree still agree on ages. New fields go to the end and need a default.
    """

    key: bytes
    """The whole key, variant included, that this answers; compared on every read from L2 (DESIGN section 4)."""
    epoch: str
    number: int
    """The stamp: epoch and number of the ledger when the fill *began*."""
    tags: tuple[str, ...]
    """Ledger members that kill it: `t:` tags, and the implied `p:` path, `u:` URL, `r:` route, `k:` bucket."""
    status: int
    reason: bytes
    """The reason phrase where the face has one (WSGI), else empty."""
    fields: Fields
    """End-to-end fields as the app sent them; what L0 is told is added when it is served."""
    created: float
    """When it was generated: the moment at which its age is 0, upstream `Age` included (RFC 9111 §4.2.3)."""
    fresh_until: float
    keep_until: float
    """End of any use, stale uses included; the tiers may drop it then."""
    cost: float
    """Seconds that the fill took, from the call of the app to the end of the body."""
    vary: tuple[tuple[bytes, bytes | None], ...] = ()
    """The nominated request fields and the values that this response was selected by; None: absent."""
    etag: bytes = b""
    last_modified: bytes = b""
    declared: dict[str, Any] | None = None
    """The policy that a decorator declared during the fill; None where a rule alone decided."""
    body: bytes = b""
