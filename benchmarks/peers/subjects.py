"""What stands side by side: bare apps, plain routes, tiercache, and the caches of others.

A subject answers `/item` with a small JSON document that says which call of the handler made it, so that an answer
tells by itself whether it was cached, in process as behind any server. Each cache is set up as its own documentation
does it, as lean as that allows: its own store in memory, or its own store in Redis.

Caches of values, in place of responses, stand beside each other likewise: functions that give such a document.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.shared import PATIENT
from tiercache import TierCache

Face = Literal["asgi", "wsgi", "sync", "async"]
"""Of responses, and of the values of functions."""
Kind = Literal["bare", "alike", "plain", "tiercache", "peer", "front"]
"""Alike is a bare app whose answers carry the field lines of a hit; a front is a process that stands before the app."""
Value = Callable[..., Any]
"""Calls a function whose values are kept. Where it is async, what it gives has to be awaited, and it may be given
another key."""
MEMORY = ""
"""The store of a subject that keeps what it has in the process; any other is the URL of a Redis."""
PATH = "/item"
AT_ONCE = 32
"""Hits that are under way at once, each of a key of its own, where that is measured."""
TTL = 3600
FIELDS_OF_A_HIT = (
    ("etag", 'W/"tc-dehJ2a5FtGU8y5IJ"'),
    ("cache-control", "max-age=0, must-revalidate"),
    ("age", "0"),
    ("cache-status", "tiercache; hit; ttl=3599; detail=l1"),
)
"""What a hit of tiercache carries besides the app's own fields: the lines alone cost a server in Python some time."""
PATIENCE = 5.0
"""Seconds in which a subject has to begin to do what it is there for."""


class NotMeasured(Exception):
    """A subject cannot be set up or does not do what it is there for; the message is the reason, for the table."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subject keeps what it has: MEMORY, or the URL of a Redis; and what has to be closed after it."""

    url: str
    closing: ExitStack
    closing_async: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    """To be called on the loop that the subject ran on."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One line of the tables. `make` names a function in `asgi_subjects`, `sync_subjects` or so, by its face."""

    name: str
    face: Face
    kind: Kind
    make: str
    distribution: str = ""
    """What has to be installed, and whose version is shown."""
    remark: str = ""
    """What a reader has to know of its store in memory."""
    listens: bool = False
    """Whether it waits for its client to go away while it makes an answer."""

    @property
    def caches(self) -> bool:
        return self.kind in ("tiercache", "peer", "front")

    @property
    def slug(self) -> str:
        return f"{self.face}.{self.make}"

    def app(self, place: Place) -> Any:
        """The app, over a store in memory or in Redis.

        Raises:
            NotMeasured: it is not installed, or does not run with what is.
        """
        module = importlib.import_module(f"benchmarks.peers.{self.face}_subjects")
        try:
            return getattr(module, self.make)(place)
        except ImportError as error:
            raise NotMeasured(f"not installed ({error})" if self.version == "" else _said(error)) from error
        except Exception as error:  # whatever a peer does not get along with here is a line of the table
            raise NotMeasured(_said(error)) from error

    @property
    def version(self) -> str:
        """Of what is installed; empty if it is not, or where there is nothing to have one."""
        try:
            return importlib.metadata.version(self.distribution) if self.distribution else ""
        except importlib.metadata.PackageNotFoundError:
            return ""


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


ASGI = (
    Subject("bare ASGI app", "asgi", "bare", "bare"),
    Subject("tiercache", "asgi", "tiercache", "tiercache", "tiercache"),
    Subject("bare ASGI app, the fields of a hit", "asgi", "alike", "alike"),
    Subject("Starlette, plain route", "asgi", "plain", "starlette", "starlette"),
    Subject("Litestar, plain route", "asgi", "plain", "litestar", "litestar"),
    Subject("FastAPI, plain route", "asgi", "plain", "fastapi", "fastapi"),
    Subject("Django, plain view (ASGI)", "asgi", "plain", "django", "django", listens=True),
    Subject("asgi-caches", "asgi", "peer", "asgi_caches", "asgi-caches"),
    Subject("starlette-caches", "asgi", "peer", "starlette_caches", "starlette-caches"),
    Subject("Litestar, response cache", "asgi", "peer", "litestar_cached", "litestar"),
    Subject("cashews, in Starlette", "asgi", "peer", "cashews", "cashews"),
    Subject("fastapi-cache2", "asgi", "peer", "fastapi_cache", "fastapi-cache2"),
    Subject("hishel", "asgi", "peer", "hishel", "hishel", remark="in SQLite, in memory"),
    Subject("Django, cache middleware (ASGI)", "asgi", "peer", "django_cached", "django", listens=True),
)
WSGI = (
    Subject("bare WSGI app", "wsgi", "bare", "bare"),
    Subject("tiercache", "wsgi", "tiercache", "tiercache", "tiercache"),
    Subject("bare WSGI app, the fields of a hit", "wsgi", "alike", "alike"),
    Subject("Flask, plain route", "wsgi", "plain", "flask", "flask"),
    Subject("Django, plain view", "wsgi", "plain", "django", "django"),
    Subject("Flask-Caching", "wsgi", "peer", "flask_caching", "flask-caching"),
    Subject("Django, cache middleware", "wsgi", "peer", "django_cached", "django"),
)
SUBJECTS = {subject.slug: subject for subject in (*ASGI, *WSGI)}
SYNC = (
    Subject("a dict", "sync", "bare", "bare"),
    Subject("tiercache, memoize", "sync", "tiercache", "tiercache", "tiercache"),
    Subject("functools.lru_cache", "sync", "plain", "lru_cache", remark="no lifetime, one process"),
    Subject("dogpile.cache", "sync", "peer", "dogpile", "dogpile.cache"),
    Subject("Flask-Caching, memoize", "sync", "peer", "flask_caching", "flask-caching"),
)
ASYNC = (
    Subject("a dict", "async", "bare", "bare"),
    Subject("tiercache, memoize", "async", "tiercache", "tiercache", "tiercache"),
    Subject("cashews", "async", "peer", "cashews", "cashews"),
    Subject("aiocache", "async", "peer", "aiocache", "aiocache"),
)


def tiercache_in(place: Place) -> TierCache:
    """A cache over that place."""
    cache = TierCache(place.url or None, namespace=f"peers-{os.getpid()}", **PATIENT)
    place.closing.callback(cache.close)
    return cache


def tiers_of(place: Place) -> list[str]:
    """That place and no other."""
    return ["l2"] if place.url else ["l1"]


def tiercache_rule(place: Place) -> TierCache:
    """A cache with one rule, that keeps what it has in that place and in no other."""
    cache = tiercache_in(place)
    cache.route(PATH, ttl=TTL, tiers=tiers_of(place))
    return cache


class Handler:
    """The handler behind every subject: it counts its calls and says in each answer which one made it."""

    def __init__(self) -> None:
        self.calls = 0

    def product(self) -> dict[str, Any]:
        self.calls += 1
        return {"id": 1, "name": "A lamp", "price": 4900, "made": self.calls, "about": "x" * 120}


def made(body: bytes) -> int:
    """Which call of the handler made an answer; 0 where no handler is behind it."""
    return int(json.loads(body)["made"]) if body.startswith(b"{") else 0


def judge_answers(subject: Subject, ask: Callable[[], bytes]) -> None:
    """Ask a few times and see that the subject hits, or calls its handler each time, as its kind demands.

    Raises:
        NotMeasured: it does not.
    """
    first, *later = [made(ask()) for _ in range(4)]
    if subject.caches and (later != [first] * 3 or not first):
        raise NotMeasured(f"does not hit: its answers were made by the calls {[first, *later]}")
    if subject.kind == "plain" and subject.face in ("asgi", "wsgi") and later != [first + 1, first + 2, first + 3]:
        raise NotMeasured(f"is not plain: its answers were made by the calls {[first, *later]}")


def settle(subject: Subject, ask: Callable[[], bytes]) -> None:
    """The same once it has come to that: a cache may join its Redis, or write what it stores, behind its first answers.

    Raises:
        NotMeasured: it does not, or does not answer at all.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            judge_answers(subject, ask)
        except NotMeasured:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
        except Exception as error:  # raised by the app itself, in process
            raise NotMeasured(f"does not answer: {_said(error)}") from error
        else:
            return


@functools.cache
def bare_body() -> bytes:
    """What the bare apps send: as long as the others' answers, and nobody's call."""
    return b"x" * len(json.dumps(Handler().product(), separators=(",", ":")))
