"""The routes of the app under test, and what each of them promises: read by the app and by those who judge it."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

BOUND = 1.0
"""The staleness bound D of the fleet, in seconds."""
HOST = "chaos.test"
IDS = range(8)
SESSION_MARK = "tiercache-session"


class Terms(NamedTuple):
    """One route."""

    settings: dict[str, Any]
    """As given to `cache.route`."""
    isolated_ttl: float
    stale_for: float = 0.0
    """Seconds for which a soft purge still lets the old answer out while a new one is made."""
    consistency: str = "bounded"
    slow: bool = False
    """Some fills take long enough for purges to come in between."""
    varies: bool = False
    validates: bool = False
    kept: bool = False
    """Purged only with everything, to see that a return flushes nothing."""


def _terms(isolated_ttl: float, stale_for: float = 0.0, consistency: str = "bounded", **more: Any) -> Terms:
    settings = {"ttl": "1h", "isolated_ttl": isolated_ttl, **more.pop("settings", {})}
    if stale_for:
        settings["stale_while_revalidate"] = stale_for
    if consistency != "bounded":
        settings["consistency"] = consistency
    return Terms(settings, isolated_ttl, stale_for, consistency, **more)


ROUTES = {
    "b": _terms(0),
    "i": _terms(3),
    "v": _terms(3, slow=True, varies=True),
    "l": _terms(3, settings={"tiers": ["l1"]}),
    "w": _terms(0, stale_for=2.0, validates=True, settings={"ttl": "1s"}),
    "s": _terms(0, consistency="strong"),
    "e": _terms(3, consistency="session"),
    "k": _terms(10, kept=True),
}
KEYS = tuple(f"/{route}/{i}" for route in ROUTES for i in IDS)
"""Paths; each has a version at the origin."""
SHOPPED = tuple(key for key in KEYS if not ROUTES[key[1]].kept)
KEPT = tuple(key for key in KEYS if ROUTES[key[1]].kept)
LANGUAGES = ("a", "b")


def terms_of(key: str) -> Terms:
    return ROUTES[key[1]]


def make_body(key: str, language: str, version: int, began: float) -> bytes:
    """A body that names what it is and is as long as its key says, so that no part of another can pass for it."""
    head = f"{key} {language} {version} {began:.9f}\n".encode()
    seed = zlib.crc32(head)
    length = 200 + zlib.crc32(key.encode()) % 12_000
    body = head + (b"%08x" % seed) * (length // 8)
    return body + b"%08x" % zlib.crc32(body)


def wrong_with(body: bytes, key: str, language: str, version: int) -> str:
    """What is wrong with a body that should be of this key and version; empty if nothing is."""
    if len(body) < 8 or b"%08x" % zlib.crc32(body[:-8]) != body[-8:]:
        return "the checksum does not fit"
    words = body.partition(b"\n")[0].decode("latin-1").split(" ")
    if words[:2] != [key, language]:
        return f"it is of {' '.join(words[:2])}"
    if words[2] != str(version):
        return f"it is of version {words[2]}, and the head of version {version}"
    return ""
