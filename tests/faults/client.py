"""The HTTP client of the checker: as little as it takes to know when what was sent, and what came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from tests.faults.terms import HOST

PATIENCE = 10.0
"""Seconds that a client waits for an app that is up: far more than any wait for Redis may take."""


class BadReply(Exception):
    """What came is not HTTP, or not all of it."""


class Reply(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes
    sent: float
    received: float


class Connection:
    """One connection to a local server at a time, kept alive and made anew where the server has closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, target: str, fields: Mapping[str, str] | None = None, patience: float = PATIENCE) -> Reply:
        """Raises OSError, TimeoutError or `BadReply`."""
        return await self.ask("GET", target, fields or {}, patience)

    async def ask(self, method: str, target: str, fields: Mapping[str, str], patience: float = PATIENCE) -> Reply:
        """A request without content. Raises as `get` does."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        message = f"{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n".encode()
        try:
            async with asyncio.timeout(patience):
                used = self._streams is not None
                try:
                    return await self._exchange(message)
                except (ConnectionError, EOFError):
                    # A server may close an idle connection at any time; RFC 9112 §9.3.1 lets a client try again.
                    if not used:
                        raise
                    self.close()
                    return await self._exchange(message)
        except EOFError as error:
            self.close()
            raise BadReply("it broke off") from error
        except BaseException:
            self.close()
            raise

    async def _exchange(self, message: bytes) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        sent = time.monotonic()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        try:
            status, length = int(first.split(" ")[1]), int(fields["content-length"])
        except (IndexError, KeyError, ValueError):
            raise BadReply(f"its head is {head!r}") from None
        body = await reader.readexactly(length)
        received = time.monotonic()
        if fields.get("connection") == "close":
            self.close()
        return Reply(status, fields, body, sent, received)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
