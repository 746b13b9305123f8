"""The WSGI app under load: one Flask view over the origin, as it is or cached by the library that is on trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, abort

from benchmarks.load.origin import Origin, OriginFailed
from benchmarks.load.subjects import Config
from tiercache import TierCache
from tiercache.integrations.flask import FlaskTierCache

View = Callable[[str], Any]
TEMPLATE = "/items/<key>"


def make() -> Flask:
    config = Config.from_environment()
    origin = Origin(config.origin)

    def item(key: str) -> dict[str, Any]:
        try:
            return origin.fetch(key)
        except OriginFailed:
            return abort(503)

    app = Flask("load")
    app.add_url_rule("/ready", view_func=lambda: {"ready": True}, endpoint="ready")
    app.add_url_rule(TEMPLATE, view_func=_LIBRARIES[config.library](app, item, config), endpoint="item")
    return app


def _bare(app: Flask, item: View, config: Config) -> View:
    return item


def _tiercache(app: Flask, item: View, config: Config) -> View:
    cache = TierCache(config.redis, namespace="load", **config.cache)
    cache.route("/items/{key}", **config.rule)
    FlaskTierCache(app, cache)
    return item


def _flask_caching(app: Flask, item: View, config: Config) -> View:
    from flask_caching import Cache

    cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": config.redis, **config.cache})
    decorated: View = cache.cached(**config.rule)(item)
    return decorated


_LIBRARIES: dict[str, Callable[[Flask, View, Config], View]] = {
    "none": _bare,
    "tiercache": _tiercache,
    "flask-caching": _flask_caching,
}
