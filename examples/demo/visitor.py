"""A visitor: HTTP to one worker, over one connection that is kept open."""

from __future__ import annotations

import http.client
import time
from typing import NamedTuple
from urllib.parse import urlencode

HOST = "shop.example"
"""The one name of the shop. It is part of what a stored page is found by, so every worker must be asked under it."""


class Reply(NamedTuple):
    status: int
    cache_status: str
    """The Cache-Status field (RFC 9211), without the name of the cache."""
    purge: str
    text: str
    sent: float
    received: float
    """`time.perf_counter()` seconds."""
    cookie: str = ""
    """What a browser would send from here on, as `name=value`; empty where nothing was set."""

    @property
    def milliseconds(self) -> float:
        return (self.received - self.sent) * 1000


class Visitor:
    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def get(self, path: str, cookie: str = "") -> Reply:
        try:
            return self._ask("GET", path, None, cookie)
        except (http.client.RemoteDisconnected, ConnectionError):
            # A server may close a connection that was idle; reading again does no harm.
            return self._ask("GET", path, None, cookie)

    def post(self, path: str, cookie: str = "", **fields: str) -> Reply:
        return self._ask("POST", path, urlencode(fields), cookie)

    def _ask(self, method: str, path: str, body: str | None, cookie: str) -> Reply:
        headers = {"Host": HOST}
        if cookie:
            headers["Cookie"] = cookie
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        sent = time.perf_counter()
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            text = response.read().decode()
        except BaseException:
            self._connection.close()
            raise
        received = time.perf_counter()
        status = response.getheader("Cache-Status", "").removeprefix("tiercache; ")
        told = response.getheader("Set-Cookie", "").partition(";")[0]
        return Reply(response.status, status, response.getheader("X-Purge", ""), text, sent, received, told)

    def close(self) -> None:
        self._connection.close()
