"""The site in FastAPI: a router with dependencies, beside Starlette's middleware."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

from tests.frameworks.apps.starlette_app import add_middleware
from tests.frameworks.site import Layout, Shop, say, user_of
from tiercache import TierCache

INSIDE_NEEDS: dict[str, Any] = {}


def token_owner(authorization: Annotated[str | None, Header()] = None) -> str:
    user = user_of(authorization)
    if user is None:
        raise HTTPException(401)
    return user


User = Annotated[str, Depends(token_owner)]


async def price_of(request: Request) -> int:
    return int(await request.body())


Price = Annotated[int, Depends(price_of)]


def build(cache: TierCache, layout: Layout) -> Any:
    shop = Shop()
    router = APIRouter(default_response_class=PlainTextResponse)

    @router.get("/products/{id}")
    def product(id: int) -> str:
        return shop.product(id)

    @router.post("/products/{id}")
    async def change(id: int, price: Price) -> str:
        shop.prices[id] = price
        return "changed"

    @router.post("/reprice/{id}")
    def reprice(id: int, price: Price) -> str:
        shop.prices[id] = price
        cache.purge(tags=[f"product:{id}"])
        return "changed"

    @router.post("/relink/{id}")
    async def relink(id: int, price: Price, request: Request) -> str:
        shop.prices[id] = price
        await cache.apurge(urls=[str(request.url_for("product", id=id))])
        return "changed"

    @router.get("/sync/{what}/{id}")
    def in_thread(what: str, id: str) -> str:
        say(what, id)
        return shop.page(f"sync {what} {id}")

    @router.get("/async/{what}/{id}")
    async def in_task(what: str, id: str) -> str:
        say(what, id)
        return shop.page(f"async {what} {id}")

    @router.get("/declared/{id}")
    @cache.cached(ttl="10m", tags=["declared:{id}"])
    async def declared(id: int) -> str:
        return shop.page(f"declared {id}")

    @router.get("/me")
    async def me(request: Request) -> str:
        return shop.page("me", f"hello {request.session.get('name', 'nobody')}")

    @router.post("/login/{name}")
    async def login(name: str, request: Request) -> str:
        request.session["name"] = name
        return "welcome"

    @router.get("/visits/{id}")
    async def visits(id: int, request: Request) -> str:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return shop.page("visits", f"of you: {request.session['visits']}")

    @router.get("/texts/{id}")
    async def text(id: int) -> str:
        return shop.long(id)

    @router.get("/streams/{id}")
    async def stream(id: int) -> StreamingResponse:
        return StreamingResponse(shop.pieces(id), media_type="text/plain")

    @router.get("/floods/{id}")
    async def flood(id: int) -> StreamingResponse:
        return StreamingResponse(shop.flood(id), media_type="text/plain")

    @router.get("/shared/{id}")
    async def shared(id: int) -> str:
        return shop.page(f"shared {id}")

    @router.get("/secrets/{id}")
    async def secret(id: int, user: User) -> str:
        return shop.page("secret", f"of {user}")

    @router.get("/missing/{id}")
    async def missing(id: int) -> str:
        raise HTTPException(404, shop.page("missing"))

    @router.get("/broken/{id}")
    async def broken(id: int) -> str:
        raise RuntimeError(shop.page("broken"))

    @router.get("/state")
    async def state() -> str:
        return shop.state(cache)

    @router.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("heard " + await websocket.receive_text())
        await websocket.close()

    app = FastAPI()
    app.include_router(router)
    add_middleware(app, cache, layout)
    return app
