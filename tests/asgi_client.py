"""A client for ASGI apps that sees single messages, reads slowly, goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

GUARD = 20.0
TEXT = [(b"content-type", b"text/plain")]
Line = tuple[bytes, bytes]


def scope_for(path: str = "/p/1", method: str = "GET", headers: Iterable[Line] = (), **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"x"), *headers],
        **more,
    }


class Visit:
    """One request, in a task of its own."""

    def __init__(self, app: Any, path: str = "/p/1", *, reads: bool = True, content: bytes = b"", **more: Any) -> None:
        self.messages: list[Any] = []
        self.reading = asyncio.Event()
        if reads:
            self.reading.set()
        self._news = asyncio.Condition()
        self._requests: list[Any] = [{"type": "http.request", "body": content, "more_body": False}]
        self._gone = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(app(scope_for(path, **more), self._receive, self._send))

    async def _receive(self) -> Any:
        if self._requests:
            return self._requests.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reading.wait()
        self.messages.append(message)
        async with self._news:
            self._news.notify_all()

    def go_away(self) -> None:
        """As uvicorn tells it: by a message, and what is sent is dropped."""
        self._gone.set()
        self.reading.set()

    async def has(self, count: int) -> None:
        async with asyncio.timeout(GUARD), self._news:
            await self._news.wait_for(lambda: len(self.messages) >= count)

    async def done(self) -> Visit:
        async with asyncio.timeout(GUARD):
            await self.task
        return self

    async def cancelled(self) -> None:
        self.task.cancel()
        async with asyncio.timeout(GUARD):
            await asyncio.gather(self.task, return_exceptions=True)
        assert self.task.cancelled()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    def header(self, name: bytes) -> bytes | None:
        found = [value for key, value in self.messages[0]["headers"] if key == name]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def outcome(self) -> bytes:
        parts = (self.header(b"cache-status") or b"").split(b"; ")
        return b"; ".join(part for part in parts if not part.startswith(b"ttl="))


async def visit(app: Any, path: str = "/p/1", **more: Any) -> Visit:
    return await Visit(app, path, **more).done()


async def until(condition: Any) -> None:
    async with asyncio.timeout(GUARD):
        while not condition():
            await asyncio.sleep(0.001)


def followers_of(cache: Any) -> int:
    return sum(flight.followers for flight in cache._engine.flights._by_key.values())
