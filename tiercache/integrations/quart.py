"""Quart: `QuartTierCache(app)`, or `init_app` for apps that a factory makes, with settings from `app.config`.

A hit is answered before Quart is reached: no view, no `before_request`, no login check runs.
"""

from __future__ import annotations

from typing import Any, cast

from quart import Quart, current_app, has_app_context

from tiercache.cache import TierCache
from tiercache.integrations.extension import AppExtension


class QuartTierCache(AppExtension):
    """The cache around one Quart app, or around each of those that `init_app` is given.

    Every setting of `TierCache` is a key of `app.config`: `TIERCACHE_URL`, `TIERCACHE_NAMESPACE`, `TIERCACHE_L1_SIZE`
    and so on. `TIERCACHE_ROUTES` maps templates to the settings of their rules, in order. The cache of an app is
    `app.extensions["tiercache"]`; with no `cache` given, each app gets one of its own.

    `cached` and `route` may be used before `init_app`, for blueprints and factories; `purge` afterwards.

    Args:
        app: the app to begin with; None: `init_app` follows.
        cache: a cache that has its settings already; None: made from `app.config`.

    Raises:
        ConfigError: see `init_app`; or `cache` is not a `TierCache`.
    """

    _name = "QuartTierCache"

    def _wrap(self, app: Quart, cache: TierCache) -> None:
        # Quart's types are those of hypercorn, which no other middleware has.
        inside: Any = app.asgi_app
        app.asgi_app = cast("Any", cache.asgi(inside))  # type: ignore[method-assign]

    def _current(self) -> Quart | None:
        return current_app if has_app_context() else None
