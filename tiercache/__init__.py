"""Multi-level caching for Python web applications: CDN, process memory and Redis as one chain."""

from __future__ import annotations

from tiercache.cache import TierCache
from tiercache.core.policy import Policy
from tiercache.engine.fill import no_store, tag, ttl
from tiercache.engine.purging import PurgeReceipt
from tiercache.errors import (
    CodecError,
    ConfigError,
    LostPartition,
    PurgeError,
    PurgeUnconfirmed,
    QueueFull,
    TierCacheError,
    TierError,
    TierRejected,
    TierUnavailable,
    WriteError,
)

__version__ = "0.1.0"

__all__ = [
    "CodecError",
    "ConfigError",
    "LostPartition",
    "Policy",
    "PurgeError",
    "PurgeReceipt",
    "PurgeUnconfirmed",
    "QueueFull",
    "TierCache",
    "TierCacheError",
    "TierError",
    "TierRejected",
    "TierUnavailable",
    "WriteError",
    "no_store",
    "tag",
    "ttl",
]
