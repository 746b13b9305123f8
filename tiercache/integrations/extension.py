"""What the extensions for Flask and Quart have in common: `TIERCACHE_` keys, `init_app`, one cache for each app."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Never, Unpack, cast
from weakref import WeakSet

from tiercache.cache import TierCache, View
from tiercache.config import CacheSettings
from tiercache.core.event_rules import EventRule, EventSettings
from tiercache.core.policy import Policy
from tiercache.core.policy_settings import PolicySettings
from tiercache.core.routes import Route, RouteTable
from tiercache.core.validation import redacted
from tiercache.engine.declare import declares_from
from tiercache.engine.emitting import checked
from tiercache.engine.purging import PurgeReceipt, PurgeSettings
from tiercache.errors import ConfigError
from tiercache.integrations.keys import read_keys

PREFIX = "TIERCACHE_"
_log = logging.getLogger("tiercache.config")


class AppExtension:
    """The cache around one app, or around each of those that `init_app` is given. A subclass knows the framework."""

    _name: ClassVar[str]
    """How errors name it."""

    def __init__(self, app: Any = None, cache: TierCache | None = None) -> None:
        if cache is not None and not isinstance(cache, TierCache):
            raise ConfigError(f"{self._name}: cache", redacted(cache), "a TierCache; None: made from app.config")
        self._given = cache
        # Weak: a test run makes many apps, and each cache is held by its own app.
        self._caches: WeakSet[TierCache] = WeakSet() if cache is None else WeakSet([cache])
        self._apps: WeakSet[Any] = WeakSet()
        self._rules = RouteTable()
        self._events: list[EventRule] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Put the cache around the app. What it is wrapped in before stands inside, later outside.

        Raises:
            ConfigError: a `TIERCACHE_` key that does not exist, a value or rule that cannot work, keys beside a given
                `cache`, or an app that has a cache already.
        """
        if isinstance(app, TierCache) or not isinstance(getattr(app, "extensions", None), dict):
            accepted = f"the app, and then the cache: {self._name}(app, cache)"
            raise ConfigError(f"{self._name}: app", redacted(app), accepted)
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
            for event in self._events:
                cache.events.add(checked(cache.routes, event))
        elif settings:
            key = PREFIX + next(iter(settings)).upper()
            raise ConfigError(
                key, "set", "absent: the cache that was given has its settings already; only TIERCACHE_ROUTES"
            )
        for template, rule in routes.items():
            cache.route(template, **rule)
        if cache is not self._given:
            self._caches.add(cache)
        self._apps.add(app)
        self._wrap(app, cache)
        app.extensions["tiercache"] = cache

    @property
    def cache(self) -> TierCache:
        """The cache of the current app; without an app context, the one cache that there is.

        Raises:
            ConfigError: there is none yet, or there are several and no app context says which.
        """
        app = self._current()
        if app is not None:
            cache: TierCache | None = app.extensions.get("tiercache")
            if cache is not None:
                return cache
        if len(self._caches) != 1:
            raise ConfigError(
                f"{self._name}.cache",
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
        declared = declares_from(bare, settings)

        def decorate(view: View) -> View:
            if any(view in app.view_functions.values() for app in self._apps):
                # No error: it may be meant to stand under another path as well, and to be cached there alone.
                _log.warning(
                    "cached: %s has been registered already, as it was: what the path calls is not cached. "
                    "Put `cached` below the decorator with the path",
                    getattr(view, "__qualname__", view),
                )
            return declared(view)

        return decorate

    # -- invalidation ------------------------------------------------------------------------------------------------

    def purge(self, **what: Unpack[PurgeSettings]) -> PurgeReceipt:
        """Invalidate in every tier of every process of the namespace: `TierCache.purge`.

        Raises:
            PurgeUnconfirmed: the shared tier has not confirmed it. It holds in this process and is queued.
            PurgeError: called on a running event loop: `await apurge(...)` there.
            ConfigError: nothing to purge is named, or no app says in which cache.
        """
        return self.cache.purge(**what)

    async def apurge(self, **what: Unpack[PurgeSettings]) -> PurgeReceipt:
        """`purge` for async views."""
        return await self.cache.apurge(**what)

    def on(self, event: str, /, **settings: Unpack[EventSettings]) -> None:
        """Say what an event of the application purges, in every app: `TierCache.on`. May be used before `init_app`.

        Raises:
            ConfigError: a setting that cannot work, or nothing to purge.
        """
        if self._given is not None:
            self._given.on(event, **settings)
            return
        rule = checked(self._rules, EventRule.of(event, cast("dict[str, Any]", settings)))
        self._events.append(rule)
        for cache in self._caches:
            cache.events.add(rule)

    def emit(self, event: str, /, **arguments: object) -> PurgeReceipt:
        """Purge what `on` says of an event, after the commit: `TierCache.emit`.

        Raises:
            PurgeUnconfirmed, PurgeError: as for `purge`.
            ConfigError: an event that has not been declared, an argument that is missing or no value, or no app says
                in which cache.
        """
        return self.cache.emit(event, **arguments)

    async def aemit(self, event: str, /, **arguments: object) -> PurgeReceipt:
        """`emit` for async views."""
        return await self.cache.aemit(event, **arguments)

    # -- the framework ---------------------------------------------------------------------------------------------

    def _wrap(self, app: Any, cache: TierCache) -> None:
        raise NotImplementedError

    def _current(self) -> Any | None:
        """The app at work here, if any."""
        raise NotImplementedError

    if not TYPE_CHECKING:  # a type checker should go on refusing these names

        def __getattr__(self, name: str) -> Never:
            # Stores belong to one cache, and begin with it: an extension may have none yet, or several.
            hint = ""
            if hasattr(TierCache, name):
                hint = (
                    f"; it is one of TierCache: cache = TierCache(...), {self._name}(app, cache) and cache.{name}, or "
                    "app.extensions['tiercache'] once there is an app"
                )
            raise AttributeError(f"{self._name} has no {name!r}{hint}", name=name, obj=self)


def _from_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings and rules that an app's configuration holds; errors name the keys as they stand there."""
    own = {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}
    return read_keys(own, lambda key: PREFIX + key)
