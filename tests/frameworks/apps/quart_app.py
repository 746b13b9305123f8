"""The site in Quart; its sessions, hooks and quart-cors are always inside."""

from __future__ import annotations

import gzip
from typing import Any

from quart import Blueprint, Quart, Response, abort, g, request, session, url_for, websocket
from quart_cors import cors

from tests.frameworks.around import asgi_outside
from tests.frameworks.site import ORIGINS, SECRET, Layout, Shop, say, user_of
from tiercache import TierCache
from tiercache.integrations.quart import QuartTierCache

INSIDE_NEEDS: dict[str, Any] = {}


async def compressed(response: Response) -> Response:
    """What Quart leaves to its users: no extension for it is kept up."""
    response.vary.add("Accept-Encoding")
    # Not a stream: that would be read to its end here.
    if "gzip" in request.accept_encodings and (response.content_length or 0) > 500:
        response.set_data(gzip.compress(await response.get_data(as_text=False)))
        response.content_encoding = "gzip"
    return response


def build(cache: TierCache, layout: Layout) -> Any:
    shop = Shop()
    site = Blueprint("site", __name__)
    tiered = QuartTierCache(cache=cache)

    @site.before_request
    async def identify() -> None:
        g.user = user_of(request.headers.get("Authorization"))

    @site.get("/products/<int:id>")
    def product(id: int) -> str:
        return shop.product(id)

    @site.post("/products/<int:id>")
    async def change(id: int) -> str:
        shop.prices[id] = int(await request.get_data())
        return "changed"

    @site.post("/reprice/<int:id>")
    async def reprice(id: int) -> str:
        shop.prices[id] = int(await request.get_data())
        await tiered.apurge(tags=[f"product:{id}"])
        return "changed"

    @site.post("/relink/<int:id>")
    async def relink(id: int) -> str:
        shop.prices[id] = int(await request.get_data())
        await tiered.apurge(urls=[url_for("site.product", id=id, _external=True)])
        return "changed"

    @site.get("/sync/<what>/<id>")
    def in_thread(what: str, id: str) -> str:
        say(what, id)
        return shop.page(request.path)

    @site.get("/async/<what>/<id>")
    async def in_task(what: str, id: str) -> str:
        say(what, id)
        return shop.page(request.path)

    @site.get("/declared/<int:id>")
    @tiered.cached(ttl="10m", tags=["declared:{id}"])
    async def declared(id: int) -> str:
        return shop.page(request.path)

    @site.get("/me")
    async def me() -> str:
        return shop.page("me", f"hello {session.get('name', 'nobody')}")

    @site.post("/login/<name>")
    async def login(name: str) -> str:
        session["name"] = name
        return "welcome"

    @site.get("/visits/<int:id>")
    async def visits(id: int) -> str:
        session["visits"] = session.get("visits", 0) + 1
        return shop.page("visits", f"of you: {session['visits']}")

    @site.get("/texts/<int:id>")
    async def text(id: int) -> str:
        return shop.long(id)

    @site.get("/streams/<int:id>")
    async def stream(id: int) -> Response:
        return Response(shop.pieces(id), mimetype="text/plain")

    @site.get("/floods/<int:id>")
    async def flood(id: int) -> Response:
        return Response(shop.flood(id), mimetype="text/plain")

    @site.get("/shared/<int:id>")
    async def shared(id: int) -> str:
        return shop.page(request.path)

    @site.get("/secrets/<int:id>")
    async def secret(id: int) -> str:
        if g.user is None:
            abort(401)
        return shop.page("secret", f"of {g.user}")

    @site.get("/missing/<int:id>")
    async def missing(id: int) -> str:
        abort(404, shop.page("missing"))

    @site.get("/broken/<int:id>")
    async def broken(id: int) -> str:
        raise RuntimeError(shop.page("broken"))

    @site.get("/state")
    async def state() -> str:
        return shop.state(cache)

    @site.websocket("/echo")
    async def echo() -> None:
        await websocket.send("heard " + await websocket.receive())

    app = Quart("site")
    app.config.update(SECRET_KEY=SECRET)
    if layout == "inside":
        site.after_request(compressed)
        app = cors(app, allow_origin=ORIGINS)
    app.register_blueprint(site)
    tiered.init_app(app)
    if layout == "outside":
        app.asgi_app = asgi_outside(app.asgi_app)
    return app
