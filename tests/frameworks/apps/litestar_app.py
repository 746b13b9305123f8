"""The site in Litestar: the cache as a plugin, or put around the app."""

from __future__ import annotations

import warnings
from typing import Any

from litestar import Litestar, Request, WebSocket, get, post, route, websocket
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, NotFoundException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult, DefineMiddleware
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.response import Stream

from tests.frameworks.around import asgi_outside
from tests.frameworks.site import ORIGINS, SECRET, Layout, Shop, say, user_of
from tiercache import TierCache
from tiercache.integrations.litestar import TierCachePlugin

INSIDE_NEEDS: dict[str, Any] = {"/texts/{id}": {"headers": ["accept-encoding"]}}
"""Its compression says `Vary` only of what it has compressed. With the plugin its CORS stands outside."""


class Users(AbstractAuthenticationMiddleware):
    async def authenticate_request(self, connection: ASGIConnection) -> AuthenticationResult:
        return AuthenticationResult(user=user_of(connection.headers.get("authorization")), auth=None)


def only_users(connection: ASGIConnection, handler: Any) -> None:
    if connection.user is None:
        raise NotAuthorizedException


def build(cache: TierCache, layout: Layout) -> Any:
    shop = Shop()

    # Routing comes before the plugin's cache, and knows no HEAD that no handler is for.
    @route("/products/{id:int}", http_method=["GET", "HEAD"], sync_to_thread=True, name="product")
    def product(id: int) -> str:
        return shop.product(id)

    @post("/products/{id:int}")
    async def change(id: int, request: Request) -> str:
        shop.prices[id] = int(await request.body())
        return "changed"

    @post("/reprice/{id:int}")
    async def reprice(id: int, request: Request) -> str:
        shop.prices[id] = int(await request.body())
        await cache.apurge(tags=[f"product:{id}"])
        return "changed"

    @post("/relink/{id:int}")
    async def relink(id: int, request: Request) -> str:
        shop.prices[id] = int(await request.body())
        await cache.apurge(urls=[request.url_for("product", id=id)])
        return "changed"

    @get("/sync/{what:str}/{id:str}", sync_to_thread=True)
    def in_thread(what: str, id: str) -> str:
        say(what, id)
        return shop.page(f"sync {what} {id}")

    @get("/async/{what:str}/{id:str}")
    async def in_task(what: str, id: str) -> str:
        say(what, id)
        return shop.page(f"async {what} {id}")

    @get("/declared/{id:int}")
    @cache.cached(ttl="10m", tags=["declared:{id}"])
    async def declared(id: int) -> str:
        return shop.page(f"declared {id}")

    @get("/me")
    async def me(request: Request) -> str:
        return shop.page("me", f"hello {request.session.get('name', 'nobody')}")

    @post("/login/{name:str}")
    async def login(name: str, request: Request) -> str:
        request.session["name"] = name
        return "welcome"

    @get("/visits/{id:int}")
    async def visits(id: int, request: Request) -> str:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return shop.page("visits", f"of you: {request.session['visits']}")

    @get("/texts/{id:int}")
    async def text(id: int) -> str:
        return shop.long(id)

    @get("/streams/{id:int}", media_type="text/plain")
    async def stream(id: int) -> Stream:
        return Stream(shop.pieces(id))

    @get("/floods/{id:int}", media_type="text/plain")
    async def flood(id: int) -> Stream:
        return Stream(shop.flood(id))

    @get("/shared/{id:int}")
    async def shared(id: int) -> str:
        return shop.page(f"shared {id}")

    @get("/secrets/{id:int}", guards=[only_users])
    async def secret(id: int, request: Request) -> str:
        return shop.page("secret", f"of {request.user}")

    @get("/missing/{id:int}")
    async def missing(id: int) -> str:
        raise NotFoundException(shop.page("missing"))

    @get("/broken/{id:int}")
    async def broken(id: int) -> str:
        raise RuntimeError(shop.page("broken"))

    @get("/state")
    async def state() -> str:
        return shop.state(cache)

    @websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("heard " + await socket.receive_text())
        await socket.close()

    handlers = [
        product, change, reprice, relink, in_thread, in_task, declared, me, login, visits, text, stream, flood, shared,
        secret, missing, broken, state, echo,
    ]  # fmt: skip
    # Newer versions deprecate parameters by name alone, which is all that older ones have.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        app = application(cache, handlers, inside=layout == "inside")
    return app if layout == "inside" else asgi_outside(app)


def application(cache: TierCache, handlers: list[Any], *, inside: bool) -> Litestar:
    # In cookies: those kept on the server set one on every answer, and then nothing may be stored.
    sessions = CookieBackendConfig(secret=SECRET[:16].encode())
    users = DefineMiddleware(Users)
    return Litestar(
        handlers,
        # The first stands outermost.
        middleware=[sessions.middleware, users] if inside else [sessions.middleware, users, cache.asgi],
        plugins=[TierCachePlugin(cache)] if inside else [],
        cors_config=CORSConfig(allow_origins=ORIGINS) if inside else None,
        compression_config=CompressionConfig(backend="gzip") if inside else None,
        on_startup=[] if inside else [cache.start],
        on_shutdown=[] if inside else [cache.aclose],
        # It would be that of the whole process.
        logging_config=None,
    )


