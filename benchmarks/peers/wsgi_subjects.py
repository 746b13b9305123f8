"""The WSGI apps that stand side by side. Each is imported only when it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication

from flask import Flask

from benchmarks.apps import constant_wsgi
from benchmarks.peers.subjects import FIELDS_OF_A_HIT, PATH, TTL, Handler, Place, bare_body, tiercache_rule


def bare(place: Place) -> WSGIApplication:
    return constant_wsgi(len(bare_body()))


def alike(place: Place) -> WSGIApplication:
    return constant_wsgi(len(bare_body()), *FIELDS_OF_A_HIT)


def flask(place: Place) -> Flask:
    return _flask(lambda app, view: view)


def _flask(around: Callable[[Flask, Any], Any]) -> Flask:
    handler = Handler()

    def item() -> dict[str, Any]:
        return handler.product()

    app = Flask("peers")
    app.add_url_rule(PATH, view_func=around(app, item), endpoint="item")
    return app


def tiercache(place: Place) -> WSGIApplication:
    return tiercache_rule(place).wsgi(flask(place))


def flask_caching(place: Place) -> Flask:
    from flask_caching import Cache

    def around(app: Flask, view: Any) -> Any:
        in_redis = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": place.url}
        return Cache(app, config=in_redis if place.url else {"CACHE_TYPE": "SimpleCache"}).cached(timeout=TTL)(view)

    return _flask(around)


def django(place: Place) -> WSGIApplication:
    return _django(place, cached=False)


def django_cached(place: Place) -> WSGIApplication:
    return _django(place, cached=True)


def _django(place: Place, *, cached: bool) -> WSGIApplication:
    from django.core.handlers.wsgi import WSGIHandler

    from benchmarks.peers import django_site

    with django_site.configured(place.url, cached=cached):
        return WSGIHandler()  # type: ignore[no-any-return]
