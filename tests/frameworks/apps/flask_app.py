"""The site in Flask: a blueprint, `url_for`, the extensions that people use; Flask's own hooks are always inside."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, abort, g, request, session, url_for
from flask_compress import Compress
from flask_cors import CORS

from tests.frameworks.around import wsgi_outside
from tests.frameworks.site import ORIGINS, SECRET, Layout, Shop, say, user_of
from tiercache import TierCache
from tiercache.integrations.flask import FlaskTierCache

INSIDE_NEEDS: dict[str, Any] = {}


def build(cache: TierCache, layout: Layout) -> Any:
    shop = Shop()
    site = Blueprint("site", __name__)
    tiered = FlaskTierCache(cache=cache)

    @site.before_request
    def identify() -> None:
        g.user = user_of(request.headers.get("Authorization"))

    @site.get("/products/<int:id>")
    def product(id: int) -> str:
        return shop.product(id)

    @site.post("/products/<int:id>")
    def change(id: int) -> str:
        shop.prices[id] = int(request.data)
        return "changed"

    @site.post("/reprice/<int:id>")
    def reprice(id: int) -> str:
        change(id)
        tiered.purge(tags=[f"product:{id}"])
        return "changed"

    @site.post("/relink/<int:id>")
    def relink(id: int) -> str:
        change(id)
        tiered.purge(urls=[url_for("site.product", id=id, _external=True), url_for(".product", id=id)])
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
    def declared(id: int) -> str:
        return shop.page(request.path)

    @site.get("/me")
    def me() -> str:
        return shop.page("me", f"hello {session.get('name', 'nobody')}")

    @site.post("/login/<name>")
    def login(name: str) -> str:
        session["name"] = name
        return "welcome"

    @site.get("/visits/<int:id>")
    def visits(id: int) -> str:
        session["visits"] = session.get("visits", 0) + 1
        return shop.page("visits", f"of you: {session['visits']}")

    @site.get("/texts/<int:id>")
    def text(id: int) -> Response:
        return Response(shop.long(id), mimetype="text/plain")

    @site.get("/streams/<int:id>")
    def stream(id: int) -> Response:
        return Response(shop.pieces(id), mimetype="text/plain")

    @site.get("/floods/<int:id>")
    def flood(id: int) -> Response:
        return Response(shop.flood(id), mimetype="text/plain")

    @site.get("/shared/<int:id>")
    def shared(id: int) -> str:
        return shop.page(request.path)

    @site.get("/secrets/<int:id>")
    def secret(id: int) -> str:
        if g.user is None:
            abort(401)
        return shop.page("secret", f"of {g.user}")

    @site.get("/missing/<int:id>")
    def missing(id: int) -> str:
        abort(404, shop.page("missing"))

    @site.get("/broken/<int:id>")
    def broken(id: int) -> str:
        raise RuntimeError(shop.page("broken"))

    @site.get("/state")
    def state() -> str:
        return shop.state(cache)

    app = Flask("site")
    app.config.update(SECRET_KEY=SECRET, COMPRESS_MIMETYPES=["text/plain", "text/html"])
    app.register_blueprint(site)
    if layout == "inside":
        Compress(app)
        CORS(app, origins=ORIGINS, always_send=False)
    tiered.init_app(app)
    if layout == "outside":
        app.wsgi_app = wsgi_outside(app.wsgi_app)  # type: ignore[method-assign]
    return app
