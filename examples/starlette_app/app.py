"""The shop in Starlette. Views that only read are plain functions: Starlette runs them in threads."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from examples.shop import pages
from examples.shop.database import Shop, parse_price
from examples.shop.stores import Stores
from examples.starlette_app.caching import cache, sessions
from tiercache import TierError
from tiercache.integrations.starlette import TierCacheMiddleware
from tiercache.integrations.starlette_sessions import SessionsMiddleware, session_of

MAKER = "Starlette"
shop = Shop()
stores = Stores(cache, shop)


@cache.cached(ttl="1m")
def front(request: Request) -> Response:
    # Purged when one of the prices in it changes, since they come from a store.
    return HTMLResponse(pages.front(stores.catalogue(), request.session.get("user"), MAKER))


def product(request: Request) -> Response:
    found = stores.product(request.path_params["id"])
    if found is None:
        raise HTTPException(404)
    return HTMLResponse(pages.product(*found, MAKER))


def dashboard(request: Request) -> Response:
    days = request.query_params.get("days", "7")
    if days not in ("1", "7", "30"):
        raise HTTPException(400, "days: 1, 7 or 30")
    return HTMLResponse(pages.dashboard(int(days), stores.turnover(int(days)), stores.most_viewed(), MAKER))


def market_data(request: Request) -> Response:
    # Cached as a page for 250 ms: a store behind it would gain nothing.
    return JSONResponse(shop.rates())


async def update_price(request: Request) -> Response:
    product_id = request.path_params["id"]
    cents = parse_price(await _posted(request, "price"))
    if cents is None:
        raise HTTPException(400, "price: euros such as 12.30")
    try:
        confirmed = await run_in_threadpool(stores.change_price, product_id, cents)
    except LookupError:
        raise HTTPException(404) from None
    headers = {"X-Purge": "confirmed" if confirmed else "queued"}
    return RedirectResponse(f"/products/{product_id}", 303, headers)


def viewed(request: Request) -> Response:
    try:
        return Response(status_code=204 if stores.count_view(request.path_params["id"]) else 404)
    except TierError as error:
        # Counted or not, nobody knows: counting it again could count it twice.
        raise HTTPException(503, "the view may not have been counted") from error


def account(request: Request) -> Response:
    return HTMLResponse(pages.account(request.session.get("user"), MAKER))


async def log_in(request: Request) -> Response:
    # A real shop asks for a password here.
    user = (await _posted(request, "user"))[:40] or "nobody"
    session = session_of(request)
    session["user"] = user
    # Under another id from here on: one that somebody has planted or seen before is worth nothing. The tag is what ends
    # all sessions of this user.
    session.rotate(f"user:{user}")
    return RedirectResponse("/account", 303)


async def leave(request: Request) -> Response:
    """Log out everywhere: in every browser, as seen by every process."""
    if user := request.session.get("user"):
        await sessions.arevoke(f"user:{user}")
    return RedirectResponse("/account", 303)


async def _posted(request: Request, name: str) -> str:
    return parse_qs((await request.body()).decode("utf-8", "replace")).get(name, [""])[0]


app = Starlette(
    routes=[
        Route("/", front),
        Route("/products/{id:int}", product),
        Route("/products/{id:int}/price", update_price, methods=["POST"]),
        Route("/products/{id:int}/views", viewed, methods=["POST"]),
        Route("/dashboard", dashboard),
        Route("/market-data", market_data),
        Route("/account", account),
        Route("/account", log_in, methods=["POST"]),
        Route("/account/leave", leave, methods=["POST"]),
    ]
)
app.add_middleware(SessionsMiddleware, sessions=sessions)
# Added last, so outermost: what sets a session cookie is seen here, and not stored.
app.add_middleware(TierCacheMiddleware, cache=cache)
