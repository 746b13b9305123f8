"""The shop in Flask."""

from __future__ import annotations

import os

from flask import Blueprint, Flask, abort, current_app, jsonify, redirect, request
from werkzeug import Response

from examples.flask_app.caching import CONFIG, cache
from examples.shop import pages
from examples.shop.database import Shop, parse_price
from examples.shop.stores import Stores
from tiercache import TierError
from tiercache.integrations.flask_sessions import FlaskSessions, session
from tiercache.integrations.sessions import Sessions

MAKER = "Flask"
views = Blueprint("shop", __name__)


def stores() -> Stores:
    found: Stores = current_app.extensions["stores"]
    return found


@views.get("/")
@cache.cached(ttl="1m")
def front() -> str:
    # Purged when one of the prices in it changes, since they come from a store.
    return pages.front(stores().catalogue(), session.get("user"), MAKER)


@views.get("/products/<int:product_id>")
def product(product_id: int) -> str:
    found = stores().product(product_id)
    if found is None:
        abort(404)
    return pages.product(*found, MAKER)


@views.get("/dashboard")
def dashboard() -> str:
    days = request.args.get("days", "7")
    if days not in ("1", "7", "30"):
        abort(400, "days: 1, 7 or 30")
    return pages.dashboard(int(days), stores().turnover(int(days)), stores().most_viewed(), MAKER)


@views.get("/market-data")
def market_data() -> Response:
    # Cached as a page for 250 ms: a store behind it would gain nothing.
    found: Shop = current_app.extensions["shop"]
    return jsonify(found.rates())


@views.post("/products/<int:product_id>/price")
def update_price(product_id: int) -> Response:
    cents = parse_price(request.form.get("price", ""))
    if cents is None:
        abort(400, "price: euros such as 12.30")
    try:
        confirmed = stores().change_price(product_id, cents)
    except LookupError:
        abort(404)
    response = redirect(f"/products/{product_id}", 303)
    response.headers["X-Purge"] = "confirmed" if confirmed else "queued"
    return response


@views.post("/products/<int:product_id>/views")
def viewed(product_id: int) -> tuple[str, int]:
    try:
        return "", 204 if stores().count_view(product_id) else 404
    except TierError:
        # Counted or not, nobody knows: counting it again could count it twice.
        abort(503, "the view may not have been counted")


@views.get("/account")
def account() -> str:
    return pages.account(session.get("user"), MAKER)


@views.post("/account")
def log_in() -> Response:
    # A real shop asks for a password here.
    user = request.form.get("user", "")[:40] or "nobody"
    session["user"] = user
    # Under another id from here on: one that somebody has planted or seen before is worth nothing. The tag is what ends
    # all sessions of this user.
    session.rotate(f"user:{user}")
    return redirect("/account", 303)


@views.post("/account/leave")
def leave() -> Response:
    """Log out everywhere: in every browser, as seen by every process."""
    if user := session.get("user"):
        sessions: Sessions = current_app.extensions["sessions"]
        sessions.revoke(f"user:{user}")
    return redirect("/account", 303)


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(CONFIG)
    app.register_blueprint(views)
    cache.init_app(app)
    held = app.extensions["tiercache"]
    shop = app.extensions["shop"] = Shop()
    app.extensions["stores"] = Stores(held, shop)
    # The sessions of users lie in Redis beside the pages, and in this process where there is none. A cookie of its own:
    # the two shops may stand under one host, and what each keeps in a session is its own affair.
    secret = os.environ.get("SHOP_SECRET", "only for trying it out")
    sessions = app.extensions["sessions"] = Sessions(held, secret=secret, cookie="flask-session")
    FlaskSessions(app, sessions)
    return app
