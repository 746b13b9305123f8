"""A request as plain values, for the tests of decisions about requests; and the lines of a response in short."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tiercache.core.messages import Fields, Request
from tiercache.core.routes import Route


class Asked(Request):
    """A `GET` of `http://shop.example/p/1` where nothing else is said; names of fields in lower case."""

    def __init__(
        self,
        fields: dict[bytes, bytes] | None = None,
        *,
        method: str = "GET",
        scheme: str = "http",
        host: bytes = b"shop.example",
        path: str = "/p/1",
        target: bytes | None = None,
        query: bytes = b"",
        body: bool = False,
        special: Collection[bytes] | None = None,
        credential: str = "",
        mistakable: frozenset[bytes] = frozenset(),
        template: str = "/p/{id}",
        **settings: Any,
    ) -> None:
        self.method, self.path = method, path
        self._fields = {b"host": host, **(fields or {})}
        self.special = frozenset(fields or {}) if special is None else special
        self.route = Route.parse(template, settings)
        self.bypass = self.conditional = ""
        self.isolated = False
        self.credential = credential
        self.trusted = ()
        self.directives = None
        self._target = path.encode() if target is None else target
        self._url = (scheme, host, query, body)
        self._mistakable = mistakable

    def scheme(self) -> str:
        return self._url[0]

    def host(self) -> bytes:
        return self._url[1]

    def target(self) -> bytes:
        return self._target

    def query(self) -> bytes:
        return self._url[2]

    def has_body(self) -> bool:
        return self._url[3]

    def field(self, name: bytes) -> bytes | None:
        return self._fields.get(name)

    def mistakable(self) -> frozenset[bytes]:
        return self._mistakable


def lines_of(*lines: str) -> Fields:
    """`"Vary: Accept"` as a field."""
    pairs = [line.encode("latin-1").partition(b": ") for line in lines]
    return tuple([(name.lower(), value) for name, _, value in pairs])
