"""The site in Falcon, through WSGI and ASGI: resources, and Falcon's middleware, which is always inside."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import falcon
import falcon.asgi
from itsdangerous import BadSignature, URLSafeSerializer

from tests.frameworks.around import asgi_outside, wsgi_outside
from tests.frameworks.site import ORIGINS, SECRET, Layout, Shop, say, user_of
from tiercache import TierCache

INSIDE_NEEDS: dict[str, Any] = {}
COOKIE = "session"
_signed = URLSafeSerializer(SECRET)


class Sessions:
    """What Falcon leaves to its users; and who asks."""

    def process_request(self, req: Any, resp: Any) -> None:
        try:
            req.context.session = _signed.loads(req.cookies.get(COOKIE, ""))
        except BadSignature:
            req.context.session = {}
        req.context.before = dict(req.context.session)
        req.context.user = user_of(req.get_header("Authorization"))

    def process_response(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
        if req.path.endswith("/me") or req.context.session:
            resp.append_header("Vary", "Cookie")
        if req.context.session != req.context.before:
            resp.set_cookie(COOKIE, _signed.dumps(req.context.session), secure=False)

    async def process_request_async(self, req: Any, resp: Any) -> None:
        self.process_request(req, resp)

    async def process_response_async(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
        self.process_response(req, resp, resource, req_succeeded)


class Compressed:
    def process_response(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
        resp.append_header("Vary", "Accept-Encoding")
        if resp.text and len(resp.text) > 500 and "gzip" in (req.get_header("Accept-Encoding") or ""):
            resp.data, resp.text = gzip.compress(resp.text.encode()), None
            resp.set_header("Content-Encoding", "gzip")

    async def process_response_async(self, req: Any, resp: Any, resource: Any, req_succeeded: bool) -> None:
        self.process_response(req, resp, resource, req_succeeded)


class Resources:
    """One method for each page; Falcon takes them by suffix."""

    def __init__(self, cache: TierCache) -> None:
        self.cache = cache
        self.shop = Shop()
        # Bound when the cache is there: the decorator is a method of it.
        self.on_get_declared = cache.cached(ttl="10m", tags=["declared:{id}"])(self._declared)

    def _declared(self, req: Any, resp: Any, id: int) -> None:
        resp.text = self.shop.page(req.path)

    def on_get_product(self, req: Any, resp: Any, id: int) -> None:
        resp.text = self.shop.product(id)

    def on_get_sync(self, req: Any, resp: Any, what: str, id: str) -> None:
        say(what, id)
        resp.text = self.shop.page(req.path)

    on_get_async = on_get_sync

    def on_post_product(self, req: Any, resp: Any, id: int) -> None:
        self.shop.prices[id] = int(req.bounded_stream.read())

    def on_post_reprice(self, req: Any, resp: Any, id: int) -> None:
        self.on_post_product(req, resp, id)
        self.cache.purge(tags=[f"product:{id}"])

    def on_post_relink(self, req: Any, resp: Any, id: int) -> None:
        self.on_post_product(req, resp, id)
        self.cache.purge(urls=[f"{req.prefix}/products/{id}"])

    def on_get_me(self, req: Any, resp: Any) -> None:
        resp.text = self.shop.page("me", f"hello {req.context.session.get('name', 'nobody')}")

    def on_post_login(self, req: Any, resp: Any, name: str) -> None:
        req.context.session["name"] = name

    def on_get_visits(self, req: Any, resp: Any, id: int) -> None:
        session = req.context.session
        session["visits"] = session.get("visits", 0) + 1
        resp.text = self.shop.page("visits", f"of you: {session['visits']}")

    def on_get_text(self, req: Any, resp: Any, id: int) -> None:
        resp.text = self.shop.long(id)

    def on_get_stream(self, req: Any, resp: Any, id: int) -> None:
        resp.stream = self.shop.pieces(id)

    def on_get_flood(self, req: Any, resp: Any, id: int) -> None:
        resp.stream = self.shop.flood(id)

    def on_get_shared(self, req: Any, resp: Any, id: int) -> None:
        resp.text = self.shop.page(req.path)

    def on_get_secret(self, req: Any, resp: Any, id: int) -> None:
        if req.context.user is None:
            raise falcon.HTTPUnauthorized
        resp.text = self.shop.page("secret", f"of {req.context.user}")

    def on_get_missing(self, req: Any, resp: Any, id: int) -> None:
        raise falcon.HTTPNotFound(title=self.shop.page("missing"))

    def on_get_broken(self, req: Any, resp: Any, id: int) -> None:
        raise RuntimeError(self.shop.page("broken"))

    def on_get_state(self, req: Any, resp: Any) -> None:
        resp.text = self.shop.state(self.cache)


async def asynchronous(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class AsyncResources(Resources):
    """The same as coroutines, but for what runs in a thread."""

    async def _declared(self, req: Any, resp: Any, id: int) -> None:
        super()._declared(req, resp, id)

    async def on_get_product(self, req: Any, resp: Any, id: int) -> None:
        resp.text = self.shop.product(id)

    async def on_get_sync(self, req: Any, resp: Any, what: str, id: str) -> None:
        # Falcon's own `sync_to_async` leaves the context behind, and with it the cache's.
        await asyncio.to_thread(say, what, id)
        resp.text = self.shop.page(req.path)

    async def on_get_async(self, req: Any, resp: Any, what: str, id: str) -> None:
        super().on_get_async(req, resp, what, id)

    async def on_post_product(self, req: Any, resp: Any, id: int) -> None:
        self.shop.prices[id] = int(await req.stream.read())

    async def on_post_reprice(self, req: Any, resp: Any, id: int) -> None:
        await self.on_post_product(req, resp, id)
        await self.cache.apurge(tags=[f"product:{id}"])

    async def on_post_relink(self, req: Any, resp: Any, id: int) -> None:
        await self.on_post_product(req, resp, id)
        await self.cache.apurge(urls=[f"{req.prefix}/products/{id}"])

    async def on_get_me(self, req: Any, resp: Any) -> None:
        super().on_get_me(req, resp)

    async def on_post_login(self, req: Any, resp: Any, name: str) -> None:
        super().on_post_login(req, resp, name)

    async def on_get_visits(self, req: Any, resp: Any, id: int) -> None:
        super().on_get_visits(req, resp, id)

    async def on_get_text(self, req: Any, resp: Any, id: int) -> None:
        super().on_get_text(req, resp, id)

    async def on_get_stream(self, req: Any, resp: Any, id: int) -> None:
        resp.stream = asynchronous(self.shop.pieces(id))

    async def on_get_flood(self, req: Any, resp: Any, id: int) -> None:
        resp.stream = asynchronous(self.shop.flood(id))

    async def on_get_shared(self, req: Any, resp: Any, id: int) -> None:
        super().on_get_shared(req, resp, id)

    async def on_get_secret(self, req: Any, resp: Any, id: int) -> None:
        super().on_get_secret(req, resp, id)

    async def on_get_missing(self, req: Any, resp: Any, id: int) -> None:
        super().on_get_missing(req, resp, id)

    async def on_get_broken(self, req: Any, resp: Any, id: int) -> None:
        super().on_get_broken(req, resp, id)

    async def on_get_state(self, req: Any, resp: Any) -> None:
        super().on_get_state(req, resp)

    async def on_websocket(self, req: Any, ws: Any) -> None:
        await ws.accept()
        await ws.send_text("heard " + await ws.receive_text())
        await ws.close()


PATHS = {
    "product": "/products/{id:int}",
    "reprice": "/reprice/{id:int}",
    "relink": "/relink/{id:int}",
    "sync": "/sync/{what}/{id}",
    "async": "/async/{what}/{id}",
    "declared": "/declared/{id:int}",
    "me": "/me",
    "login": "/login/{name}",
    "visits": "/visits/{id:int}",
    "text": "/texts/{id:int}",
    "stream": "/streams/{id:int}",
    "flood": "/floods/{id:int}",
    "shared": "/shared/{id:int}",
    "secret": "/secrets/{id:int}",
    "missing": "/missing/{id:int}",
    "broken": "/broken/{id:int}",
    "state": "/state",
}


def build(face: Literal["asgi", "wsgi"], cache: TierCache, layout: Layout) -> Any:
    middleware: list[Any] = [Sessions()]
    if layout == "inside":
        middleware = [falcon.CORSMiddleware(allow_origins=ORIGINS), Compressed(), Sessions()]
    asynchronous = face == "asgi"
    app = falcon.asgi.App(middleware=middleware) if asynchronous else falcon.App(middleware=middleware)
    resources = AsyncResources(cache) if asynchronous else Resources(cache)
    for suffix, path in PATHS.items():
        app.add_route(path, resources, suffix=suffix)
    if asynchronous:
        app.add_route("/echo", resources)
    cached = cache.asgi(app) if asynchronous else cache.wsgi(app)
    if layout == "inside":
        return cached
    return asgi_outside(cached) if asynchronous else wsgi_outside(cached)
