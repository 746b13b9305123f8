"""The settings of a cache, from code, TOML and environment, by one validator."""

from __future__ import annotations

from tiercache.config.settings import (
    DEBUG_VARIABLE,
    DISABLED_VARIABLE,
    FORWARDING_HEADERS,
    CacheSettings,
    Settings,
    SourcedSettings,
    switched_on,
)

__all__ = [
    "DEBUG_VARIABLE",
    "DISABLED_VARIABLE",
    "FORWARDING_HEADERS",
    "CacheSettings",
    "Settings",
    "SourcedSettings",
    "switched_on",
]
