"""The shop in Starlette. Views that only read are plain functions: Starlette runs them in threads."""

from __future__ import annotations

import os
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

import tiercache
from examples.shop import pages
from examples.shop.database import Shop, parse_price
from examples.starlette_app.caching import cache, product_changed
from tiercache.integrations.starlette import TierCacheMiddleware

MAKER = "Starlette"
shop = Shop()


@cache.cached(ttl="1m")
def front(request: Request) -> Response:
    products = shop.products()
    # The list shows their prices, so it goes when one of them changes.
    tiercache.tag(*(f"product:{product.id}" for product in products))
    return HTMLResponse(pages.front(products, request.session.get("user"), MAKER))


def product(request: Request) -> Response:
    found = shop.product(request.path_params["id"])
    if found is None:
        raise HTTPException(404)
    return HTMLResponse(pages.product(found, MAKER))


def dashboard(request: Request) -> Response:
    days = request.query_params.get("days", "7")
    if days not in ("1", "7", "30"):
        raise HTTPException(400, "days: 1, 7 or 30")
    return HTMLResponse(pages.dashboard(int(days), shop.turnover(int(days)), MAKER))


def market_data(request: Request) -> Response:
    return JSONResponse(shop.rates())


async def update_price(request: Request) -> Response:
    product_id = request.path_params["id"]
    cents = parse_price(await _posted(request, "price"))
    if cents is None:
        raise HTTPException(400, "price: euros such as 12.30")
    if not await run_in_threadpool(shop.set_price, product_id, cents):
        raise HTTPException(404)
    confirmed = await product_changed(product_id)
    headers = {"X-Purge": "confirmed" if confirmed else "queued"}
    return RedirectResponse(f"/products/{product_id}", 303, headers)


def account(request: Request) -> Response:
    return HTMLResponse(pages.account(request.session.get("user"), MAKER))


async def sign_in(request: Request) -> Response:
    request.session["user"] = (await _posted(request, "user"))[:40] or "nobody"
    return RedirectResponse("/account", 303)


async def _posted(request: Request, name: str) -> str:
    return parse_qs((await request.body()).decode("utf-8", "replace")).get(name, [""])[0]


app = Starlette(
    routes=[
        Route("/", front),
        Route("/products/{id:int}", product),
        Route("/products/{id:int}/price", update_price, methods=["POST"]),
        Route("/dashboard", dashboard),
        Route("/market-data", market_data),
        Route("/account", account),
        Route("/account", sign_in, methods=["POST"]),
    ]
)
app.add_middleware(SessionMiddleware, secret_key=os.environ.get("SHOP_SECRET", "only for trying it out"))
# Added last, so outermost: what sets a session cookie is seen here, and not stored.
app.add_middleware(TierCacheMiddleware, cache=cache)
