"""The shop in Flask."""

from __future__ import annotations

import os

from flask import Blueprint, Flask, abort, current_app, jsonify, redirect, request, session
from werkzeug import Response

import tiercache
from examples.flask_app.caching import CONFIG, cache, product_changed
from examples.shop import pages
from examples.shop.database import Shop, parse_price

MAKER = "Flask"
views = Blueprint("shop", __name__)


def shop() -> Shop:
    found: Shop = current_app.extensions["shop"]
    return found


@views.get("/")
@cache.cached(ttl="1m")
def front() -> str:
    products = shop().products()
    # The list shows their prices, so it goes when one of them changes.
    tiercache.tag(*(f"product:{product.id}" for product in products))
    return pages.front(products, session.get("user"), MAKER)


@views.get("/products/<int:product_id>")
def product(product_id: int) -> str:
    found = shop().product(product_id)
    if found is None:
        abort(404)
    return pages.product(found, MAKER)


@views.get("/dashboard")
def dashboard() -> str:
    days = request.args.get("days", "7")
    if days not in ("1", "7", "30"):
        abort(400, "days: 1, 7 or 30")
    return pages.dashboard(int(days), shop().turnover(int(days)), MAKER)


@views.get("/market-data")
def market_data() -> Response:
    return jsonify(shop().rates())


@views.post("/products/<int:product_id>/price")
def update_price(product_id: int) -> Response:
    cents = parse_price(request.form.get("price", ""))
    if cents is None:
        abort(400, "price: euros such as 12.30")
    if not shop().set_price(product_id, cents):
        abort(404)
    confirmed = product_changed(product_id)
    response = redirect(f"/products/{product_id}", 303)
    response.headers["X-Purge"] = "confirmed" if confirmed else "queued"
    return response


@views.get("/account")
def account() -> str:
    return pages.account(session.get("user"), MAKER)


@views.post("/account")
def sign_in() -> Response:
    session["user"] = request.form.get("user", "")[:40] or "nobody"
    return redirect("/account", 303)


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(CONFIG, SECRET_KEY=os.environ.get("SHOP_SECRET", "only for trying it out"))
    app.extensions["shop"] = Shop()
    app.register_blueprint(views)
    cache.init_app(app)
    return app
