"""Which shared tier the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiercache.config import Settings
from tiercache.errors import ConfigError

if TYPE_CHECKING:
    from tiercache.tiers.apart import ApartTier
    from tiercache.tiers.redis import RedisTier
    from tiercache.tiers.redis_credentials import CredentialProvider


def shared_tier(settings: Settings, credentials: CredentialProvider | None) -> RedisTier | ApartTier | None:
    """The tier, which connects when first used; None where there is to be none.

    Raises `ConfigError` for what cannot work, and for a tier whose libraries are not installed.
    """
    redis_url = settings.ledger if settings.apart else settings.url
    if redis_url is None and credentials is not None:
        wanted = "a url beside them, or none of the two" if settings.url is None else "a ledger beside them, or none"
        raise ConfigError("TierCache: credentials", type(credentials), wanted)
    ledger = None
    if redis_url is not None:
        from tiercache.tiers.redis import RedisTier

        setting = "ledger" if settings.apart else "url"
        ledger = RedisTier(
            redis_url, settings.namespace, credentials=credentials, pool_size=settings.pool_size, setting=setting
        )
    if settings.url is None or not settings.apart:
        return ledger
    try:
        from tiercache.tiers.memcached import MemcachedValues
    except ImportError as error:
        wanted = f"the extra for it installed: pip install 'tiercache[memcached]' ({error})"
        raise ConfigError("TierCache: url", "memcached://", wanted) from error
    from tiercache.tiers.apart import ApartTier
    from tiercache.tiers.own_ledger import OwnLedger

    values = MemcachedValues(settings.url, settings.namespace, pool_size=settings.pool_size)
    return ApartTier(values, ledger or OwnLedger(), alone=ledger is None)


def check_urls(settings: Settings) -> None:
    """Raises `ConfigError` for a URL that cannot work. Needs no extra."""
    from tiercache.tiers import memcached_urls, redis_urls

    if settings.url is not None:
        (memcached_urls if settings.apart else redis_urls).parse_url(settings.url)
    if settings.ledger is not None:
        redis_urls.parse_url(settings.ledger, "ledger")
