"""What is put under load: an app, by itself or with one caching library around it, set up in one way."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

VARIABLE = "LOAD_CONFIG"
Face = Literal["asgi", "wsgi"]
_MODULES = {"cashews": "cashews", "fastapi-cache2": "fastapi_cache", "flask-caching": "flask_caching"}


@dataclass(frozen=True, slots=True)
class Config:
    """What a worker is told: the library, its settings, where Redis and the origin are."""

    library: str
    rule: Mapping[str, Any]
    cache: Mapping[str, Any]
    redis: str
    origin: str

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Self:
        return cls(**json.loads(os.environ[VARIABLE]))


@dataclass(frozen=True, slots=True)
class Subject:
    """One line of a table.

    `rule` goes to the route or decorator, `cache` to the cache itself; both are that library's own words.
    """

    name: str
    face: Face
    library: str = "none"
    rule: Mapping[str, Any] = field(default_factory=dict)
    cache: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{'Flask' if self.face == 'wsgi' else 'FastAPI'}, {self.name}"

    @property
    def installed(self) -> bool:
        module = _MODULES.get(self.library)
        return module is None or importlib.util.find_spec(module) is not None


def bare(face: Face) -> Subject:
    return Subject("no cache", face)


def tiercache(face: Face, name: str, cache: Mapping[str, Any] | None = None, **rule: Any) -> Subject:
    return Subject(f"tiercache, {name}" if name else "tiercache", face, "tiercache", rule, cache or {})


def cashews(name: str, cache: Mapping[str, Any] | None = None, **rule: Any) -> Subject:
    """`early`, in seconds, makes it `cache.early`."""
    return Subject(f"cashews, {name}" if name else "cashews", "asgi", "cashews", rule, cache or {})


def fastapi_cache(seconds: int) -> Subject:
    return Subject("fastapi-cache2", "asgi", "fastapi-cache2", {"expire": seconds})


def flask_caching(seconds: int) -> Subject:
    return Subject("Flask-Caching", "wsgi", "flask-caching", {"timeout": seconds})
