"""What leaves towards L0: the browser and the CDN in front.

`browser_ttl` leaves as `max-age`, `cdn_ttl` as `CDN-Cache-Control` (RFC 9213), both counted from now: the recipient
subtracts `Age` (RFC 9111 §4.2.3), so it is added here. A browser cannot be purged; where a rule gives only `ttl` it is
told to revalidate each time, which costs it a 304. All this stands on shareable answers only.
"""

from __future__ import annotations

import re

from tiercache.core.messages import Fields

REVALIDATE = b"max-age=0, must-revalidate"
STEERING = frozenset({b"age", b"cache-control", b"cdn-cache-control", b"expires"})
"""Fields that caches go by and that may be replaced."""
_MAX_AGE = re.compile(rb"(?i)^\s*max-age\s*=")
_S_MAXAGE = re.compile(rb"(?i)^s-maxage\s*=")
_QUOTED_COMMA = re.compile(rb',(?=(?:[^"]*"[^"]*")*[^"]*$)')

_SETS: dict[frozenset[bytes], frozenset[bytes]] = {}


class Edge:
    """The fields of one response as L0 gets them: those that never change, and those that depend on its age."""

    __slots__ = ("browser", "cdn", "directives", "fixed", "more", "replaced")

    def __init__(
        self,
        fixed: Fields,
        directives: bytes | None,
        browser: float | None,
        cdn: float | None,
        replaced: frozenset[bytes],
        more: Fields = (),
    ) -> None:
        self.fixed = fixed
        self.directives = directives
        """Start of the `Cache-Control` to send; None leaves the app's own."""
        self.browser = browser
        """Seconds to add to the age for `max-age`; None: `directives` says it all."""
        self.cdn = cdn
        self.replaced = replaced
        """Lower-case names of app fields that are not sent as they came."""
        self.more = more
        """Fields that the app did not send, whatever the age."""

    def lines(self, age: int) -> list[tuple[bytes, bytes]]:
        """The fields that are added to those of the app when the response is sent at this age, in seconds."""
        lines = [*self.more]
        if self.directives is not None:
            value = self.directives
            if self.browser is not None:
                value = b"%bmax-age=%d" % (value + b", " if value else b"", age + self.browser)
            lines.append((b"cache-control", value))
        if self.cdn is not None:
            lines.append((b"cdn-cache-control", b"max-age=%d" % (age + self.cdn)))
        return lines


def edge_for(
    fields: Fields,
    *,
    browser_ttl: float | None,
    cdn_ttl: float | None,
    lifetime: float,
    app_decides: bool,
    lacks_date: bool,
    keyed: tuple[bytes, ...] = (),
    personal: bool = False,
) -> Edge:
    """Decide what of a shareable response leaves towards L0.

    Args:
        fields: the response's fields as the app sent them.
        browser_ttl, cdn_ttl: seconds, where the rule gives them.
        lifetime: freshness lifetime in seconds, as computed for our own store.
        app_decides: the app itself gave an explicit lifetime.
        lacks_date: the app sent no `Date`. The server then adds one of its own to every answer, and an absolute
            `Expires` beside it would count the time spent here twice; it leaves as the equivalent `max-age`.
        keyed: request fields that a rule puts into our key. L0 knows nothing of our keys: it is told by `Vary`.
        personal: a cookie or another credential is among them. Then the answer is for one user, and no CDN may keep it
            unless the app itself says `public` or `s-maxage` beside its lifetime.
    """
    if personal:
        cdn_ttl = None
    if browser_ttl is None and not app_decides and not keyed and STEERING.isdisjoint([name for name, _ in fields]):
        # As it is for most: the app says nothing about caches, and a rule says how long.
        return Edge(fields, REVALIDATE, None, cdn_ttl, STEERING)
    names = frozenset(name for name, _ in fields)
    replaced = {b"age"}
    directives: bytes | None = None
    browser: float | None = None
    own = [
        member.strip()
        for name, value in fields
        if name == b"cache-control"
        for member in _QUOTED_COMMA.split(value)
        if member.strip()
    ]
    kept = [member for member in own if not _MAX_AGE.match(member)]
    if personal:
        kept = [b"private", *(k for k in kept if k.lower() not in (b"public", b"private"))]
    if browser_ttl is not None:
        replaced |= {b"cache-control", b"expires"}
        if browser_ttl > 0:
            directives, browser = b", ".join(kept), browser_ttl
        else:
            directives = b", ".join([*(k for k in kept if k.lower() != b"must-revalidate"), REVALIDATE])
    elif not app_decides:
        replaced |= {b"cache-control", b"expires"}
        # Another lifetime than the app's is in force: its own must not outlive it in front.
        kept = [k for k in kept if not _S_MAXAGE.match(k)]
        directives = b", ".join([*(k for k in kept if k.lower() != b"must-revalidate"), REVALIDATE])
    else:
        # The app's own lifetime leaves as it is. Only its own word can let shared caches have what is one user's.
        shares = any(member.lower() == b"public" or _S_MAXAGE.match(member) for member in own)
        said = own if shares or not personal else [b"private", *(m for m in own if m.lower() != b"private")]
        if lacks_date and b"expires" in names:
            replaced.add(b"expires")
            if not any(_MAX_AGE.match(member) for member in own):
                said = [*said, b"max-age=%d" % lifetime]
        if said != own:
            replaced.add(b"cache-control")
            directives = b", ".join(said)
    if cdn_ttl is not None:
        replaced.add(b"cdn-cache-control")
    # A few sets serve all entries.
    dropped = frozenset(replaced)
    dropped = _SETS.setdefault(dropped, dropped)
    fixed = tuple([pair for pair in fields if pair[0] not in dropped])
    more: Fields = ()
    if keyed:
        told = {name.strip().lower() for name, value in fields if name == b"vary" for name in value.split(b",")}
        untold = [name for name in keyed if name not in told]
        if untold:
            more = ((b"vary", b", ".join(untold)),)
    return Edge(fixed, directives, browser, cdn_ttl, dropped, more)
