"""The messages that pass through: a request as the decisions see it, and a response as the tiers keep it.

Field names are lower-case bytes and values are bytes, in the order and number in which they came
(RFC 9110 §5.3: several lines of one name are not the same as none, and `Set-Cookie` cannot be joined).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields in order: (lower-case name, value), repeated names as they came."""


class Request:
    """What the engine asks of a request. `asgi.py` and `wsgi.py` each derive one that reads what the server gave.

    It is made for every request, hits included: nothing is copied or decoded before somebody asks for it.
    """

    __slots__ = (
        "bypass",
        "conditional",
        "credential",
        "current",
        "directives",
        "early",
        "isolated",
        "key",
        "method",
        "now",
        "path",
        "route",
        "special",
        "trusted",
    )

    kind: type[Any]
    """What is stored for it."""
    method: str
    """As sent; methods are case-sensitive (RFC 9110 §9.1)."""
    path: str
    """What routes are matched against: the path that the app sees, mount point included, without the query."""
    special: Collection[bytes]
    """Lower-case names of the fields present that need a closer look; empty for a plain request."""
    route: Any
    """The first rule that matches its path."""
    key: tuple[Any, ...]
    """Set by the engine, as is all that follows."""
    bypass: str
    """Why the store takes no part; empty where it does."""
    credential: str
    """The kind of credential that the request carries (`cookie`, `authorization`, …); empty for none."""
    conditional: str
    """`condition` or `range` where the request asks for less than the whole response, else empty."""
    current: bool
    """This process knows of every purge that the rule's `consistency` asks it to know of before it answers."""
    early: bool
    """What answers it is fresh, and to be made anew behind the answer."""
    isolated: bool
    """It was answered from this process's own fills, past trust in what others have purged."""
    directives: Any
    """The request's own `Cache-Control`, where the rule obeys it; None where it does not."""
    trusted: tuple[Any, ...]
    """Values of forwarding fields that count as part of the key."""
    now: float
    """When the store was last asked, on the process's own clock."""

    def full_key(self) -> tuple[Any, ...]:
        """The key where the whole URL counts and nothing else, in the face's own types: the query comes last."""
        raise NotImplementedError

    def scheme(self) -> str:
        raise NotImplementedError

    def host(self) -> bytes:
        raise NotImplementedError

    def target(self) -> bytes:
        """The path as the client sent it, where the server tells."""
        raise NotImplementedError

    def query(self) -> bytes:
        raise NotImplementedError

    def has_body(self) -> bool:
        """Whether the head announces content."""
        raise NotImplementedError

    def field(self, name: bytes) -> bytes | None:
        """The value of a field, several lines joined as RFC 9110 §5.3 allows (`Cookie` by `; `); None if absent."""
        raise NotImplementedError

    def mistakable(self) -> frozenset[bytes]:
        """Names that an app behind a gateway to CGI variables would read of fields that have another name.

        `X_Forwarded_Host` and `X-Forwarded-Host` are one variable there (CVE-2015-0219). Empty where the face itself
        reads fields in that way.
        """
        return frozenset()

    def values(self, names: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
        """The values of several fields, as `field` gives each."""
        return tuple([self.field(name) for name in names])


class StoredResponse(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One stored response, as it lies in L2 and as L1 serves it.

    Times are seconds on the clock of the shared tier (Unix time; Redis `TIME` where there is a Redis), so that
    processes whose own clocks disagree still agree on ages. New fields go to the end and need a default.
    """

    key: bytes
    """The whole key, variant included, that this answers; compared on every read from L2."""
    epoch: str
    number: int
    """The stamp: epoch and number of the ledger when the fill *began*."""
    tags: tuple[str, ...]
    """Ledger members that kill it: `t:` tags, the implied `p:` path, `u:` URL, `r:` route, `k:` bucket, and `v:` of the
    data that it was made with."""
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
    explicit: bool = False
    """Its lifetime is the app's own word, not a rule's."""
    public: bool = False
    """The app's own word that requests with credentials may share it (RFC 9111 §3.5)."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    """Seconds past `fresh_until` (RFC 5861), app and rule taken together."""
    may_stale: bool = True
    """No directive of the app forbids to use it stale (RFC 9111 §4.2.4)."""
    body: bytes = b""

    def with_fields(self, fields: Fields) -> StoredResponse:
        """The same with other fields."""
        return msgspec.structs.replace(self, fields=fields)

    def stale_from(self, moment: float) -> StoredResponse:
        """The same, but no longer fresh than until then."""
        return msgspec.structs.replace(self, fresh_until=min(self.fresh_until, moment))

    def spent(self, moment: float) -> StoredResponse:
        """The same, of no use but to be validated, and of none at all from then on."""
        return msgspec.structs.replace(
            self,
            fresh_until=min(self.fresh_until, self.created),
            keep_until=moment,
            stale_while_revalidate=0.0,
            stale_if_error=0.0,
            may_stale=False,
        )


Request.kind = StoredResponse
