"""A Django site of one view, with Django's cache middleware and nothing else, or without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path

from benchmarks.peers.subjects import PATH, TTL, Handler

_CACHE = ["django.middleware.cache.UpdateCacheMiddleware", "django.middleware.cache.FetchFromCacheMiddleware"]
_handler = Handler()


def item(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_handler.product())


urlpatterns = [path(PATH.removeprefix("/"), item)]


@contextmanager
def configured(store: str, *, cached: bool) -> Iterator[None]:
    """The settings under which a handler is made: it reads the middleware, and they their cache, as it begins."""
    backend = "redis.RedisCache" if store else "locmem.LocMemCache"
    caches = {"default": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": store or "peers"}}
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            CACHES=caches,
            CACHE_MIDDLEWARE_SECONDS=TTL,
            LOGGING_CONFIG=None,
            MIDDLEWARE=[],
            ROOT_URLCONF=__name__,
            SECRET_KEY="signs nothing",
        )
        django.setup()
    before = settings.MIDDLEWARE
    settings.CACHES = caches
    _forget_caches()
    settings.MIDDLEWARE = _CACHE if cached else []
    try:
        yield
    finally:
        settings.MIDDLEWARE = before


def _forget_caches() -> None:
    """Let the next reader of `CACHES` see it anew, as Django's own tests do."""
    from asgiref.local import Local
    from django.core.cache import caches, close_caches

    close_caches()
    caches._settings = caches.settings = caches.configure_settings(None)
    caches._connections = Local()
