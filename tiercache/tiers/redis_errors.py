"""What redis-py and the operating system raise, said in tiercache's own terms: the one place where that happens."""

from __future__ import annotations

import re

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
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

_HTTP = re.compile(r"""got "[H<]"|: b['"](?:HTTP/|<)""")
"""The parsers tell the first byte (hiredis) or quote the line: of a status line, or of a page without one."""
_PERMISSIONS = (
    "~tc:* &tc:* +get +set +unlink +eval +evalsha +info +time +publish +subscribe +ping +hset +hgetall +hdel "
    "+zadd +zrem +zcard +zrange +zrangebyscore +zremrangebyscore"
)


def translate(error: BaseException, where: str) -> TierError:
    """The `TierError` for an error of redis-py or the system. `where` names the server, never the password.

    `TierUnavailable` is what may pass by itself; `TierRejected` needs somebody to change something, and says what.
    """
    text = str(error) or type(error).__name__
    # Errors inside a script arrive as text before Redis 7: "ERR Error running script ...: -OOM command not allowed".
    if "authentication required" in text.lower():
        return TierRejected(f"Redis at {where} asks for a password and the URL has none: redis://:PASSWORD@host")
    if isinstance(error, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return TierRejected(f"Redis at {where} refused the user or password of the URL ({text})")
    if isinstance(error, NoPermissionError) or "executing the script can't" in text or "ACL failure" in text:
        return TierRejected(f"the user at {where} lacks a permission ({text}); tiercache needs: {_PERMISSIONS}")
    if isinstance(error, OutOfMemoryError) or "OOM command" in text:
        return TierRejected(f"Redis at {where} is full: raise maxmemory, or let maxmemory-policy evict ({text})")
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return TierRejected(f"Redis at {where} is a read-only replica: the URL must name the primary ({text})")
    if isinstance(error, BusyLoadingError | ClusterDownError | TryAgainError):
        return TierUnavailable(f"Redis at {where} is not ready: {text}")
    if "unknown command" in text.lower():
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


def spoils_connection(error: ResponseError) -> bool:
    """Whether a server that answers so should be looked up anew: a primary that became a replica stays connected."""
    return isinstance(error, ReadOnlyError | ClusterDownError) or "READONLY" in str(error)
