"""Django: one cache per process, made from `settings.TIERCACHE`, and purges that wait for the commit.

    TIERCACHE = {"URL": "redis://localhost:6379/0", "ROUTES": {"/products/{id:int}/": {"ttl": "10m"}}}

    application = cache.wsgi(get_wsgi_application())        # or cache.asgi(get_asgi_application())

A hit is answered before Django is reached: no middleware, no view, no `login_required` runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Unpack, cast

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core import checks
from django.utils.functional import SimpleLazyObject

from tiercache.cache import TierCache
from tiercache.config import CacheSettings
from tiercache.core.validation import redacted
from tiercache.engine.locks import ForkableLock
from tiercache.engine.purging import PurgeSettings
from tiercache.errors import ConfigError
from tiercache.integrations import django_models
from tiercache.integrations.keys import read_keys

SETTING: Final = "TIERCACHE"
_lock = ForkableLock()
_made: list[TierCache] = []


def make_cache(config: object) -> TierCache:
    """A cache from what `settings.TIERCACHE` holds: every setting of `TierCache` in upper case, and `ROUTES`.

    Raises:
        ConfigError: a key that does not exist, or a value or rule that cannot work.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(SETTING, redacted(config), "a dict, e.g. {'URL': 'redis://localhost:6379/0', 'ROUTES': {}}")
    settings, routes = read_keys(config, lambda key: f"{SETTING}[{key!r}]")
    made = TierCache(settings.pop("url", None), **cast("CacheSettings", settings))
    for template, rule in routes.items():
        made.route(template, **rule)
    return made


def _the_cache() -> TierCache:
    # Two threads may be the first: with a cache each, a purge in one would not be heard by the other.
    with _lock:
        if not _made:
            _made.append(make_cache(getattr(django_settings, SETTING, {})))
        return _made[0]


cache = cast("TierCache", SimpleLazyObject(_the_cache))
"""The cache of this process. Made when it is first used, so that it may be imported anywhere, settings included."""


def purge_on_commit(*, using: str | None = None, **what: Unpack[PurgeSettings]) -> None:
    """Purge when the transaction under way commits; at once where there is none. A rollback drops the purge.

    Earlier would be too early: a request between the purge and the commit would store the old row again. This is
    `tiercache.integrations.django_models.purge_on_commit` for the cache of this process.

    Args:
        using: the database, where it is not the default one.
        what: as for `TierCache.purge`.

    Raises:
        ConfigError: nothing to purge is named, or something that is none; here, and not behind the commit.
        PurgeError: called on a running event loop, which has no transaction to wait for: `await cache.apurge(...)`.
    """
    django_models.purge_on_commit(cache, using=using, **what)


def _check(app_configs: Any, **options: Any) -> list[Any]:
    try:
        make_cache(getattr(django_settings, SETTING, {}))
    except ConfigError as error:
        return [checks.Error(str(error), id="tiercache.E001")]
    return []


class TierCacheConfig(AppConfig):  # type: ignore[misc]
    """For `INSTALLED_APPS`, where `manage.py check` is to say what is wrong with `settings.TIERCACHE`. Not needed else.

    It is named whole: `"tiercache.integrations.django.TierCacheConfig"`.
    """

    name = "tiercache.integrations.django"
    label = "tiercache"
    verbose_name = "tiercache"

    def ready(self) -> None:
        checks.register(_check)
