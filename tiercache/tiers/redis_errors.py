"""What redis-py and the operating system raise, said in tiercache's own terms: the one place where that happens."""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from tiercache.errors import TierError, TierRejected, TierUnavailable

FOREIGN = (RedisError, OSError)
"""What an operation may raise that is not ours; the built-in `TimeoutError` is an `OSError`."""

OF_A_CLUSTER = {
    "ASK": AskError,
    "CLUSTERDOWN": ClusterDownError,
    "MASTERDOWN": MasterDownError,
    "MOVED": MovedError,
    "TRYAGAIN": TryAgainError,
}
"""The first words of what a node of a Cluster answers that cannot serve a key, and what each is raised as."""
_HTTP = re.compile(r"""got "[H<]"|: b['"](?:HTTP/|<)""")
"""The parsers tell the first byte (hiredis) or quote the line: of a status line, or of a page without one."""
_PERMISSIONS = (
    "~tc:* &tc:* +get +set +unlink +eval +evalsha +info +time +publish +subscribe +ping +hset +hget +hgetall +hdel "
    "+pexpire +zadd +zmscore +zrem +zcard +zcount +zrange +zrangebyscore +zremrangebyscore"
)
PERMISSIONS = {
    "server": _PERMISSIONS,
    "sentinel": f"{_PERMISSIONS} +role",
    "cluster": f"{_PERMISSIONS} +cluster|slots +asking +spublish +ssubscribe",
}
"""What a user of Redis must be allowed, as rules of `ACL SETUSER`, by the kind of URL. Redis 6.2 has no sharded bus
(`spublish`, `ssubscribe`)."""


def translate(error: BaseException, where: str, permissions: str = _PERMISSIONS) -> TierError:
    """The `TierError` for an error of redis-py or the system. `where` names the server, never the password.

    `TierUnavailable` is what may pass by itself; `TierRejected` needs somebody to change something, and says what.
    """
    text = str(error) or type(error).__name__
    # Errors inside a script arrive as text before Redis 7: "ERR Error running script ...: -OOM command not allowed".
    if "authentication required" in text.lower():
        return TierRejected(f"Redis at {where} asks for a password and the URL has none: redis://:PASSWORD@host")
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return TierRejected(f"Redis at {where} refused the user or password that it was given ({text})")
    if isinstance(error, NoPermissionError) or "executing the script can't" in text or "ACL failure" in text:
        return TierRejected(f"the user at {where} lacks a permission ({text}); tiercache needs: {permissions}")
    if isinstance(error, OutOfMemoryError) or "OOM command" in text:
        return TierRejected(f"Redis at {where} is full: raise maxmemory, or let maxmemory-policy evict ({text})")
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return TierRejected(f"Redis at {where} is a read-only replica: the URL must lead to the primary ({text})")
    if isinstance(error, AskError):
        return TierRejected(f"Redis at {where} is a node of a Cluster: use redis+cluster:// ({text})")
    if isinstance(error, BusyLoadingError | ClusterDownError | TryAgainError) or no_longer_primary(error):
        return TierUnavailable(f"Redis at {where} is not ready: {text}")
    if unknown_command(error):
        return TierRejected(
            f"Redis at {where} lacks a command ({text}); the invalidation ledger needs Lua scripting (EVAL, EVALSHA), "
            "which some hosted plans and `rename-command` switch off"
        )
    if isinstance(error, NoScriptError):
        return TierRejected(f"Redis at {where} does not hold the script: {text}")
    if isinstance(error, ResponseError):
        return TierRejected(f"Redis at {where} answered: {text}")
    if isinstance(error, InvalidResponse):
        hint = "; it looks like an HTTP server, so the port is likely wrong" if _HTTP.search(text) else ""
        return TierRejected(f"what answers at {where} does not speak the Redis protocol{hint}: {text}")
    if is_timeout(error):
        return TierUnavailable(f"Redis at {where} did not answer in time ({text})")
    return TierUnavailable(f"Redis at {where} cannot be reached: {text}")


def is_timeout(error: BaseException) -> bool:
    """Whether the time ran out, rather than the connection."""
    return isinstance(error, RedisTimeoutError | TimeoutError)


def unknown_command(error: BaseException | None) -> bool:
    """Whether the server does not have the command at all, or had it taken away."""
    return isinstance(error, ResponseError) and "unknown command" in str(error).lower()


def no_longer_primary(error: BaseException) -> bool:
    """Whether a primary says that it may not act as one: demoted, cut off from its replicas, or without its master."""
    return isinstance(error, ResponseError) and any(
        word in str(error) for word in ("READONLY", "NOREPLICAS", "MASTERDOWN")
    )


def spoils_connection(error: ResponseError) -> bool:
    """Whether a server that answers so should be looked up anew: a primary that became a replica stays connected."""
    return isinstance(error, ReadOnlyError | ClusterDownError) or no_longer_primary(error)
