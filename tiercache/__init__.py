"""Multi-level caching for Python web applications: CDN, process memory and Redis as one chain."""

from __future__ import annotations

from tiercache.cache import TierCache
from tiercache.core.policy import Policy
from tiercache.core.values import Codec
from tiercache.core.write_batch import QueuedWrite, WriteBatch
from tiercache.engine.fill import Carrying, carry, no_store, tag, ttl
from tiercache.engine.purging import PurgeReceipt
from tiercache.errors import (
    CodecError,
    ConfigError,
    DataError,
    LoadRefused,
    LoadTimeout,
    LostPartition,
    PurgeError,
    PurgeUnconfirmed,
    QueueFull,
    SessionUnavailable,
    TierCacheError,
    TierError,
    TierRejected,
    TierTooLarge,
    TierUnavailable,
    WriteError,
)

__version__ = "0.1.0"

__all__ = [
    "Carrying",
    "Codec",
    "CodecError",
    "ConfigError",
    "DataError",
    "LoadRefused",
    "LoadTimeout",
    "LostPartition",
    "Policy",
    "PurgeError",
    "PurgeReceipt",
    "PurgeUnconfirmed",
    "QueueFull",
    "QueuedWrite",
    "SessionUnavailable",
    "TierCache",
    "TierCacheError",
    "TierError",
    "TierRejected",
    "TierTooLarge",
    "TierUnavailable",
    "WriteBatch",
    "WriteError",
    "carry",
    "no_store",
    "tag",
    "ttl",
]
