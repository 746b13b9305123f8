"""Whoever asks an app for pages: within the process, or over the wire. Each keeps no cookies unless told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import httpx

GUARD = 30.0
BASE = "http://shop.example"


class Page:
    """What a visitor has got."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.content = response.content
        """Decoded, where it came compressed."""
        self.text = response.content.decode()

    @property
    def outcome(self) -> str:
        """`Cache-Status` without its `ttl`."""
        said: str = self.headers["cache-status"]
        return "; ".join(part for part in said.split("; ") if not part.startswith("ttl="))

    @property
    def hit(self) -> bool:
        return self.outcome.startswith("tiercache; hit")

    @property
    def stored(self) -> bool:
        return self.outcome.endswith("; stored")

    def varies(self) -> set[str]:
        lines = self.headers.get_list("vary", split_commas=True)
        return {name.strip().lower() for name in lines}

    @property
    def cookie(self) -> str:
        """What the answer's `Set-Cookie` lines ask a browser to send."""
        return "; ".join(line.partition(";")[0] for line in self.headers.get_list("set-cookie"))


class Visitor:
    """Asks for pages under a prefix, if the site is mounted below one; `cut` where a proxy takes it off again."""

    def __init__(self, prefix: str = "", *, cut: bool = False) -> None:
        self.prefix = prefix
        self._sent_prefix = "" if cut else prefix

    def get(self, path: str, method: str = "GET", content: bytes = b"", **fields: str) -> Page:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        # httpx would ask for gzip by itself.
        headers.setdefault("accept-encoding", "identity")
        if method == "POST":
            headers["content-type"] = "text/plain"
        return Page(self._ask(method, self._sent_prefix + path, headers, content or None))

    def post(self, path: str, content: bytes | str = b"x", **fields: str) -> Page:
        page = self.get(path, "POST", content.encode() if isinstance(content, str) else content, **fields)
        assert page.status in (200, 201), page.text
        return page

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/state").text)
        return found

    def _ask(self, method: str, path: str, headers: dict[str, str], content: bytes | None) -> httpx.Response:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what was held."""


class WSGIVisitor(Visitor):
    def __init__(self, app: Any, mount: str = "") -> None:
        # The transport gives all of the path as PATH_INFO, as if a proxy had cut the mount point off.
        super().__init__(mount, cut=True)
        self._transport = httpx.WSGITransport(app, raise_app_exceptions=False, script_name=mount)

    def _ask(self, method: str, path: str, headers: dict[str, str], content: bytes | None) -> httpx.Response:
        with httpx.Client(transport=self._transport, base_url=BASE) as client:
            return client.request(method, path, headers=headers, content=content)


class ASGIVisitor(Visitor):
    """Runs the app on a loop of its own, with the lifespan around."""

    def __init__(self, app: Any, root_path: str = "", *, cut: bool = False) -> None:
        super().__init__(root_path, cut=cut)
        self._runner = asyncio.Runner()
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root_path)
        self._app = app
        self._said: asyncio.Queue[str]
        self._told: list[str] = []
        self._lifespan: asyncio.Task[None] | None = self.run(self._begin())

    def run(self, awaitable: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(GUARD):
                return await awaitable

        return self._runner.run(bounded())

    async def _begin(self) -> asyncio.Task[None] | None:
        self._said = asyncio.Queue()
        await self._said.put("lifespan.startup")
        started = asyncio.Event()

        async def receive() -> Any:
            return {"type": await self._said.get()}

        async def send(message: Any) -> None:
            self._told.append(message["type"])
            started.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        task = asyncio.get_running_loop().create_task(self._app(scope, receive, send))
        waiting = asyncio.ensure_future(started.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            # Django has none: a server takes the exception for that.
            assert isinstance(task.exception(), ValueError), task
            return None
        assert self._told == ["lifespan.startup.complete"]
        return task

    async def _end(self) -> None:
        if self._lifespan is not None:
            await self._said.put("lifespan.shutdown")
            await self._lifespan
            assert self._told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    def _ask(self, method: str, path: str, headers: dict[str, str], content: bytes | None) -> httpx.Response:
        return self.run(self._asking(method, path, headers, content))  # type: ignore[no-any-return]

    async def _asking(self, method: str, path: str, headers: dict[str, str], content: bytes | None) -> httpx.Response:
        async with httpx.AsyncClient(transport=self._transport, base_url=BASE) as client:
            return await client.request(method, path, headers=headers, content=content)

    def websocket(self, path: str, words: str) -> str:
        return self.run(self._talk(path, words))  # type: ignore[no-any-return]

    async def _talk(self, path: str, words: str) -> str:
        heard: list[str] = []
        to_app: list[Any] = [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": words},
        ]
        answered = asyncio.Event()

        async def receive() -> Any:
            if to_app:
                return to_app.pop(0)
            await answered.wait()
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            if message["type"] == "websocket.send":
                heard.append(message["text"])
                answered.set()

        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"shop.example"), (b"origin", b"https://a.example")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "subprotocols": [],
        }
        await self._app(scope, receive, send)
        return "".join(heard)

    def close(self) -> None:
        self.run(self._end())
        self._runner.close()


class WireVisitor(Visitor):
    """Over TCP, to a server at a port of this machine."""

    def __init__(self, port: int, prefix: str = "", *, cut: bool = False, http2: bool = False) -> None:
        super().__init__(prefix, cut=cut)
        self.port = port
        self.http2 = http2
        # Without TLS, HTTP/2 is known beforehand (RFC 9113 §3.3): nothing else is offered then.
        # A connection for each request: servers close those on which an app has failed, and do not say so before.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(http1=not http2, http2=http2, timeout=GUARD, trust_env=False, limits=limits)

    def _ask(self, method: str, path: str, headers: dict[str, str], content: bytes | None) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        response = self._client.request(method, url, headers={"host": "shop.example", **headers}, content=content)
        self._client.cookies.clear()
        assert response.http_version == ("HTTP/2" if self.http2 else "HTTP/1.1")
        return response

    def close(self) -> None:
        self._client.close()
