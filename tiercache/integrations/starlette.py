"""Starlette and FastAPI: `app.add_middleware(TierCacheMiddleware, cache=cache)`.

A hit skips everything inside the middleware: the view, its login checks and its `Depends`. What was added later stands
outside (`add_middleware` puts each one around those before it) and still runs on every request.
"""

from __future__ import annotations

from collections.abc import Awaitable

from tiercache.asgi_fills import ASGIApp, Receive, Scope, Send
from tiercache.cache import TierCache
from tiercache.core.validation import redacted
from tiercache.errors import ConfigError


class TierCacheMiddleware:
    """The cache as a middleware class; pure ASGI, so that bodies stream and background tasks run as without it.

    Where it stands among the others decides what is stored:

    - `SessionMiddleware` inside (added before): what sets a session cookie is never stored. Outside, it would put its
      cookie on hits too.
    - `GZipMiddleware` inside: compressed bodies are stored, one per `Accept-Encoding`. Outside, every hit is compressed
      anew.
    - whatever decides who may see a page: outside, or not in front of a cached page at all.

    As middleware of the outermost app it sees the lifespan, listens from startup and lets go at shutdown; around a
    mounted app it begins with the first request. Rules match the whole path, mount point included.

    Args:
        app: the app inside, handed over by `add_middleware`.
        cache: the cache to put in front of it.

    Raises:
        ConfigError: `cache` is not a `TierCache`.
    """

    def __init__(self, app: ASGIApp, cache: TierCache) -> None:
        if not isinstance(cache, TierCache):
            raise ConfigError("TierCacheMiddleware: cache", redacted(cache), "a TierCache")
        self.app = app
        self._cached = cache.asgi(app)

    # Hands the awaitable on: a coroutine of its own around each hit would cost a tenth of it.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._cached(scope, receive, send)
