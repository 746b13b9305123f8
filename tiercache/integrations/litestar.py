"""Litestar: `Litestar(..., plugins=[TierCachePlugin(cache)])`.

A hit skips everything inside the cache: the handler, its guards and its dependencies.
"""

from __future__ import annotations

from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin

from tiercache.cache import TierCache
from tiercache.core.validation import redacted
from tiercache.errors import ConfigError


class TierCachePlugin(InitPlugin):  # type: ignore[misc]
    """The cache as the outermost middleware of a Litestar app, which it starts and stops with.

    `cors_config` then stands outside, as it should: it writes `Vary` anew, and inside the cache would not learn what an
    answer depends on besides (`cache.asgi(app)` has that fault). `compression_config`, `csrf_config`, guards and the
    `middleware` of the app stand inside. For middleware outside, leave this plugin out and name `cache.asgi` in the
    list yourself: `middleware=[Outside, cache.asgi, Inside]`.

    Args:
        cache: the cache to put in front of the app's handlers.

    Raises:
        ConfigError: `cache` is not a `TierCache`.
    """

    def __init__(self, cache: TierCache) -> None:
        if not isinstance(cache, TierCache):
            raise ConfigError("TierCachePlugin", redacted(cache), "a TierCache")
        self.cache = cache

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Called by Litestar."""
        app_config.middleware.insert(0, self.cache.asgi)
        app_config.on_startup.append(self.cache.start)
        app_config.on_shutdown.append(self.cache.aclose)
        return app_config
