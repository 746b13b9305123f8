"""Flask: `FlaskTierCache(app)`, or `init_app` for apps that a factory makes, with settings from `app.config`.

A hit is answered before Flask is reached: no view, no `before_request`, no login check runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Never, Unpack, cast
from weakref import WeakSet

from flask import Flask, current_app, has_app_context

from tiercache.cache import TierCache, View
from tiercache.config import CacheSettings, Settings
from tiercache.core.policy import Policy
from tiercache.core.policy_settings import PolicySettings
from tiercache.core.routes import Route, RouteTable
from tiercache.core.validation import redacted, refuse_unknown
from tiercache.engine.declare import declares_from
from tiercache.engine.purging import PurgeReceipt
from tiercache.errors import ConfigError

PREFIX = "TIERCACHE_"
ROUTES = PREFIX + "ROUTES"
_OF_ROUTES = frozenset(row.name for row in Policy.settings())
_ROWS = {PREFIX + row.name.upper(): row for row in Settings.settings()}


class FlaskTierCache:
    """The cache around one Flask app, or around each of those that `init_app` is given.

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

    def __init__(self, app: Flask | None = None, cache: TierCache | None = None) -> None:
        if cache is not None and not isinstance(cache, TierCache):
            raise ConfigError("FlaskTierCache: cache", redacted(cache), "a TierCache; None: made from app.config")
        self._given = cache
        # Weak: a test run makes many apps, and each cache is held by its own app.
        self._caches: WeakSet[TierCache] = WeakSet() if cache is None else WeakSet([cache])
        self._rules = RouteTable()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Put the cache around `app.wsgi_app`. What the app is wrapped in before stands inside, later outside.

        Raises:
            ConfigError: a `TIERCACHE_` key that does not exist, a value or rule that cannot work, keys beside a given
                `cache`, or an app that has a cache already.
        """
        if "tiercache" in app.extensions:
            raise ConfigError(
                "init_app", app.name, "an app without a cache: this one has one already, in app.extensions['tiercache']"
            )
        settings, routes = _from_config(app.config)
        cache = self._given
        if cache is None:
            cache = TierCache(settings.pop("url", None), **cast("CacheSettings", settings))
            for route in self._rules:
                cache.routes.add(route)
        elif settings:
            key = PREFIX + next(iter(settings)).upper()
            raise ConfigError(
                key, "set", "absent: the cache that FlaskTierCache was given has its settings; only TIERCACHE_ROUTES"
            )
        for template, rule in routes.items():
            cache.route(template, **rule)
        if cache is not self._given:
            self._caches.add(cache)
        app.wsgi_app = cache.wsgi(app.wsgi_app)  # type: ignore[method-assign]
        app.extensions["tiercache"] = cache

    @property
    def cache(self) -> TierCache:
        """The cache of the current app; without an app context, the one cache that there is.

        Raises:
            ConfigError: there is none yet, or there are several and no app context says which.
        """
        if has_app_context():
            cache: TierCache | None = current_app.extensions.get("tiercache")
            if cache is not None:
                return cache
        if len(self._caches) != 1:
            raise ConfigError(
                "FlaskTierCache.cache",
                f"{len(self._caches)} caches",
                "use after init_app(app); within app.app_context() where several apps have been initialised",
            )
        return next(iter(self._caches))

    # -- what is cached ----------------------------------------------------------------------------------------------

    def route(self, template: str, policy: Policy | None = None, **settings: Unpack[PolicySettings]) -> None:
        """Add a rule for the paths of every app: see `TierCache.route`.

        Rules given here before `init_app` come before those of `TIERCACHE_ROUTES`.

        Raises:
            ConfigError: a template or setting that cannot work, no setting, or a rule that an earlier one shadows.
        """
        if self._given is not None:
            self._given.route(template, policy, **settings)
            return
        route = Route.of(template, policy, settings)
        self._rules.add(route)
        for cache in self._caches:
            cache.routes.add(route)

    def cached(self, *bare: Never, **settings: Unpack[PolicySettings]) -> Callable[[View], View]:
        """Declare a policy beside a view: `TierCache.cached`. Stands below `@app.route`, next to the function.

        Raises:
            ConfigError: a setting that cannot work here.
        """
        return declares_from(bare, settings)

    # -- invalidation ------------------------------------------------------------------------------------------------

    def purge(
        self,
        *,
        tags: str | Iterable[str] | None = None,
        urls: str | Iterable[str] | None = None,
        route: str | Iterable[str] | None = None,
        everything: bool = False,
    ) -> PurgeReceipt:
        """Invalidate in every tier of every process of the namespace: `TierCache.purge`.

        Raises:
            PurgeUnconfirmed: the shared tier has not confirmed it. It holds in this process and is queued.
            PurgeError: called on a running event loop: `await apurge(...)` there.
            ConfigError: nothing to purge is named, or no app says in which cache.
        """
        return self.cache.purge(tags=tags, urls=urls, route=route, everything=everything)

    async def apurge(
        self,
        *,
        tags: str | Iterable[str] | None = None,
        urls: str | Iterable[str] | None = None,
        route: str | Iterable[str] | None = None,
        everything: bool = False,
    ) -> PurgeReceipt:
        """`purge` for async views."""
        return await self.cache.apurge(tags=tags, urls=urls, route=route, everything=everything)


def _from_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings and rules that an app's configuration holds; errors name the keys as they stand there."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if not key.startswith(PREFIX) or key == ROUTES:
            continue
        row = _ROWS.get(key)
        if row is None and key[len(PREFIX) :].lower() in _OF_ROUTES:
            rule = {"/products/{id}": {key[len(PREFIX) :].lower(): value}}
            raise ConfigError(key, redacted(value), f"this setting in a rule, such as {ROUTES} = {redacted(str(rule))}")
        if row is None:
            refuse_unknown("", key, value, [*_ROWS, ROUTES])
        settings[row.name] = Settings.converted(row.name, key, value)
    routes = config.get(ROUTES) or {}
    if not isinstance(routes, Mapping) or not all(isinstance(rule, Mapping) for rule in routes.values()):
        raise ConfigError(ROUTES, routes, "a dict from templates to settings, e.g. {'/products/{id}': {'ttl': '10m'}}")
    return settings, dict(routes)
