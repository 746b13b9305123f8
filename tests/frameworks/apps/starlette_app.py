"""The site in Starlette, its middleware added before the cache or after."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.authentication import requires as needs
from starlette.exceptions import HTTPException
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.frameworks.site import ORIGINS, SECRET, Layout, Shop, say, user_of
from tiercache import TierCache
from tiercache.integrations.starlette import TierCacheMiddleware

INSIDE_NEEDS: dict[str, Any] = {}


class Users(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        user = user_of(conn.headers.get("authorization"))
        return None if user is None else (AuthCredentials(["user"]), SimpleUser(user))


def add_middleware(app: Starlette, cache: TierCache, layout: Layout) -> None:
    """Those added later stand outside of those before."""
    if layout == "outside":
        app.add_middleware(TierCacheMiddleware, cache=cache)
    app.add_middleware(AuthenticationMiddleware, backend=Users())
    app.add_middleware(SessionMiddleware, secret_key=SECRET)
    app.add_middleware(GZipMiddleware)
    app.add_middleware(CORSMiddleware, allow_origins=ORIGINS)
    if layout == "inside":
        app.add_middleware(TierCacheMiddleware, cache=cache)


def build(cache: TierCache, layout: Layout) -> Any:
    shop = Shop()

    def product(request: Request) -> Response:
        return PlainTextResponse(shop.product(request.path_params["id"]))

    async def change(request: Request) -> Response:
        shop.prices[request.path_params["id"]] = int(await request.body())
        return PlainTextResponse("changed")

    async def reprice(request: Request) -> Response:
        await change(request)
        await cache.apurge(tags=[f"product:{request.path_params['id']}"])
        return PlainTextResponse("changed")

    async def relink(request: Request) -> Response:
        await change(request)
        await cache.apurge(urls=[str(request.url_for("product", id=request.path_params["id"]))])
        return PlainTextResponse("changed")

    def in_thread(request: Request) -> Response:
        say(request.path_params["what"], request.path_params["id"])
        return PlainTextResponse(shop.page(request.url.path))

    async def in_task(request: Request) -> Response:
        say(request.path_params["what"], request.path_params["id"])
        return PlainTextResponse(shop.page(request.url.path))

    @cache.cached(ttl="10m", tags=["declared:{id}"])
    async def declared(request: Request) -> Response:
        return PlainTextResponse(shop.page(request.url.path))

    async def me(request: Request) -> Response:
        return PlainTextResponse(shop.page("me", f"hello {request.session.get('name', 'nobody')}"))

    async def login(request: Request) -> Response:
        request.session["name"] = request.path_params["name"]
        return PlainTextResponse("welcome")

    async def visits(request: Request) -> Response:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return PlainTextResponse(shop.page("visits", f"of you: {request.session['visits']}"))

    async def text(request: Request) -> Response:
        return PlainTextResponse(shop.long(request.path_params["id"]))

    async def stream(request: Request) -> Response:
        return StreamingResponse(shop.pieces(request.path_params["id"]), media_type="text/plain")

    async def flood(request: Request) -> Response:
        return StreamingResponse(shop.flood(request.path_params["id"]), media_type="text/plain")

    async def shared(request: Request) -> Response:
        return PlainTextResponse(shop.page(request.url.path))

    @needs("user", status_code=401)
    async def secret(request: Request) -> Response:
        return PlainTextResponse(shop.page("secret", f"of {request.user.display_name}"))

    async def missing(request: Request) -> Response:
        raise HTTPException(404, shop.page("missing"))

    async def broken(request: Request) -> Response:
        raise RuntimeError(shop.page("broken"))

    async def state(request: Request) -> Response:
        return PlainTextResponse(shop.state(cache))

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("heard " + await websocket.receive_text())
        await websocket.close()

    app = Starlette(
        routes=[
            Route("/products/{id:int}", product, methods=["GET"]),
            Route("/products/{id:int}", change, methods=["POST"]),
            Route("/reprice/{id:int}", reprice, methods=["POST"]),
            Route("/relink/{id:int}", relink, methods=["POST"]),
            Route("/sync/{what}/{id}", in_thread),
            Route("/async/{what}/{id}", in_task),
            Route("/declared/{id}", declared),
            Route("/me", me),
            Route("/login/{name}", login, methods=["POST"]),
            Route("/visits/{id}", visits),
            Route("/texts/{id}", text),
            Route("/streams/{id}", stream),
            Route("/floods/{id}", flood),
            Route("/shared/{id}", shared),
            Route("/secrets/{id}", secret),
            Route("/missing/{id}", missing),
            Route("/broken/{id}", broken),
            Route("/state", state),
            WebSocketRoute("/echo", echo),
        ]
    )
    add_middleware(app, cache, layout)
    return app
