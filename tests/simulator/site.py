"""The site that the simulated processes serve: its routes and keys, a request, and the stores that need no memory.

Bounds are those of the defaults, except that times are short, so that more happens in few virtual seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from tiercache.config import Settings
from tiercache.core.keys import Key
from tiercache.core.messages import Request
from tiercache.core.routes import Route, RouteTable

BOUND = 1.0
SWR = 1.5
LONG_SWR = 4.0


class Page:
    """One URL: its tags, and what its route promises."""

    def __init__(self, path: str, tags: tuple[str, ...], *, shows: str = "", **policy: Any) -> None:
        self.path = path
        self.tags = tags
        self.policy = policy
        self.consistency = policy.get("consistency", "bounded")
        self.swr: float = policy.get("stale_while_revalidate", 0.0)
        self.isolated: float = policy["isolated_ttl"]
        self.shows = shows
        """The value of data that it is made with."""

    def __repr__(self) -> str:
        return self.path


PAGES = (
    Page("/shop/plain", ("a",), ttl=60, isolated_ttl=2.5, stale_if_error=30),
    Page("/shop/never-isolated", ("a", "b"), ttl=60, isolated_ttl=0),
    Page("/shop/stale", ("b",), ttl=60, isolated_ttl=2.5, stale_while_revalidate=SWR),
    Page("/news/short", ("b", "c"), ttl=0.4, isolated_ttl=1.5, stale_while_revalidate=LONG_SWR),
    Page("/news/strong", ("a", "c"), ttl=60, isolated_ttl=2.5, consistency="strong"),
    Page("/news/session", ("c",), ttl=60, isolated_ttl=2.5, consistency="session"),
    Page("/data/page", ("a",), ttl=60, isolated_ttl=1.5, shows="d1"),
)
LAST_PAGE = Page("/last", (), ttl=60, isolated_ttl=1)
"""Asked for when everything is over."""
TAGS = ("a", "b", "c")
BANS = (
    ("prefix", "/shop/", ("/shop/plain", "/shop/never-isolated", "/shop/stale")),
    ("glob", "/*/s*", ("/shop/stale", "/news/short", "/news/strong", "/news/session")),
    ("prefix", "/news/s", ("/news/short", "/news/strong", "/news/session")),
    ("glob", "/**n", ("/shop/plain", "/news/session")),
)
"""Kind, rule, and the paths that it covers, written down by hand."""


@cache
def routes() -> RouteTable:
    table = RouteTable()
    for page in (*PAGES, LAST_PAGE):
        table.add(Route.parse(page.path, {**page.policy, "tags": list(page.tags)}))
    return table


def covered_by_ban(member: str, path: str) -> bool:
    """By the table above, so that it does not share its mistakes with the code."""
    return any(member == f"b:{kind[0]}:{rule}" and path in paths for kind, rule, paths in BANS)


def settings(**more: Any) -> Settings:
    return Settings(url="redis://simulated", **more)


class Asked(Request):
    """A plain GET."""

    __slots__ = ("fields",)

    def __init__(self, page: Page, fields: dict[bytes, bytes] | None = None, special: Collection[bytes] = ()) -> None:
        self.method = "GET"
        self.path = page.path
        self.route = routes().match(page.path)
        self.fields = fields or {}
        # As the faces do with what is watched for, which the mark of a session is.
        self.special = {*special, *self.fields}
        self.bypass = self.credential = self.conditional = ""
        self.isolated = self.current = self.early = False
        self.directives = None
        self.trusted = ()
        self.now = 0.0

    def full_key(self) -> tuple[Any, ...]:
        return ("", "http", b"site", self.path, b"")

    def scheme(self) -> str:
        return "http"

    def host(self) -> bytes:
        return b"site"

    def target(self) -> bytes:
        return self.path.encode()

    def query(self) -> bytes:
        return b""

    def has_body(self) -> bool:
        return False

    def field(self, name: bytes) -> bytes | None:
        return self.fields.get(name)


class Shelf:
    """L1 as a plain dict. What it holds is forgotten when an action says so."""

    def __init__(self) -> None:
        self.items: dict[Key, Any] = {}
        self.lookup = self.items.get

    def store(self, key: Key, value: Any, size: int, keep_until: float) -> bool:
        self.items[key] = value
        return True

    def discard(self, key: Key) -> bool:
        return self.items.pop(key, None) is not None

    def clear(self) -> None:
        self.items.clear()

    def reset_after_fork(self) -> None:
        pass


def no_size(*parts: Any) -> int:
    return 1
