"""What each app here serves, whatever framework it is written in.

| path | |
|---|---|
| `GET /products/{id}` | the price, from a sync view; tagged by its rule |
| `POST /products/{id}` | sets the price, and says nothing to the cache |
| `POST /reprice/{id}` | sets the price and purges the tag; with a database, when the transaction commits |
| `POST /relink/{id}` | sets the price and purges the URL of the product, as the framework itself makes it |
| `GET /sync/{what}/{id}`, `GET /async/{what}/{id}` | a view that speaks to the cache: see `say` |
| `GET /declared/{id}` | a view with `@cache.cached` and no rule |
| `GET /me`, `POST /login/{name}`, `GET /visits/{id}` | read a session, begin one, count in it |
| `GET /texts/{id}` | long enough to be compressed |
| `GET /streams/{id}` | a body in pieces |
| `GET /floods/{id}` | a body in pieces that no socket holds as a whole |
| `GET /shared/{id}` | readable by other origins |
| `GET /secrets/{id}` | for a user with a token, 401 without |
| `GET /missing/{id}`, `GET /broken/{id}` | the framework's own 404; a view that raises |
| `/echo` | a websocket, where there are such |

Each body tells how often the app was called for its path, so that an answer from the store is seen for what it is.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

import tiercache
from tiercache import TierCache

Layout = Literal["inside", "outside"]
"""Where the framework's own middleware for sessions, compression, CORS and users stands, seen from the cache."""
SECRET = "only for these tests, and long enough for every framework's taste"
ORIGINS = ["https://a.example", "https://b.example"]
TOKENS = {"token-of-ann": "ann", "token-of-bob": "bob"}
PIECES = 5
FLOOD = 30
"""Pieces of 32 kB."""
RULES: dict[str, dict[str, Any]] = {
    "/products/{id:int}": {"ttl": "10m", "tags": ["product:{id}"]},
    "/sync/{rest:path}": {"ttl": "10m"},
    "/async/{rest:path}": {"ttl": "10m"},
    "/me": {"ttl": "10m"},
    "/visits/{id}": {"ttl": "10m"},
    "/texts/{id}": {"ttl": "10m"},
    "/streams/{id}": {"ttl": "10m"},
    "/floods/{id}": {"ttl": "10m"},
    "/shared/{id}": {"ttl": "10m"},
    "/secrets/{id}": {"ttl": "10m"},
    "/missing/{id}": {"ttl": "10m"},
    "/broken/{id}": {"ttl": "10m"},
}


def add_rules(cache: TierCache, prefix: str = "", needs: Mapping[str, dict[str, Any]] = MappingProxyType({})) -> None:
    """The rules of the site below a mount point, with what else some of them need."""
    for template, settings in RULES.items():
        cache.route(prefix + template, **{**settings, **needs.get(template, {})})


class Shop:
    """What the views share: prices, and how often each was asked."""

    def __init__(self) -> None:
        self.prices: dict[int, int] = {}
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def page(self, name: str, text: str = "") -> str:
        with self._lock:
            self._calls[name] += 1
            return f"{name} call {self._calls[name]} {text}".rstrip()

    def product(self, id: int) -> str:
        return self.page(f"product {id}", f"costs {self.prices.get(id, 1)}")

    def long(self, id: int | str) -> str:
        return self.page(f"text {id}", "word " * 800)

    def pieces(self, id: int | str) -> Iterator[bytes]:
        name = self.page(f"stream {id}")
        for number in range(PIECES):
            yield f"{name} piece {number} ".encode() * 100

    def flood(self, id: int | str) -> Iterator[bytes]:
        name = self.page(f"flood {id}")
        for number in range(FLOOD):
            yield f"{name} piece {number} ".ljust(32_000, ".").encode()

    def state(self, cache: TierCache) -> str:
        """What the tests want to know of this process."""
        listeners = [thread.name for thread in threading.enumerate()].count("tiercache-listener")
        return json.dumps({"stats": cache.stats(), "listeners": listeners})


def say(what: str, id: int | str) -> None:
    """What a view says of the response that it makes."""
    if what == "tagged":
        tiercache.tag(f"said:{id}")
    elif what == "kept-out":
        tiercache.no_store("a test says so")
    else:
        assert what == "brief"
        tiercache.ttl("90s")


def user_of(authorization: str | None) -> str | None:
    """The user of an `Authorization` field."""
    scheme, _, token = (authorization or "").partition(" ")
    return TOKENS.get(token) if scheme == "Bearer" else None
