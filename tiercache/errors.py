"""Everything that tiercache raises, as one tree.

    TierCacheError
    ├── ConfigError            a setting, rule or template that cannot work; raised when the app starts
    ├── PurgeError             an invalidation that could not be carried out as asked
    │   └── PurgeUnconfirmed   applied in this process and queued, but the shared tier has not confirmed it
    ├── WriteError             a write that was not carried out as asked
    │   ├── QueueFull          the database is too far behind: the write was not taken
    │   ├── LostPartition      another worker writes these by now: nothing was written
    │   └── SessionUnavailable what a request has changed of its session could not be saved
    ├── DataError              a store of data was used in a way that cannot work, or a value could not be had
    │   ├── LoadTimeout        the load takes longer than `fill_timeout`, and nothing stale stands in
    │   └── LoadRefused        as many loads as `max_fills` allows are under way, and nothing stale stands in
    ├── TierError              a tier did not do what it was asked; never reaches a request
    │   ├── TierUnavailable    refused, cut off, out of time, or out of connections
    │   └── TierRejected       answered with an error: wrong password, no scripting, out of memory
    │       └── TierTooLarge   the value is larger than what the tier takes
    └── CodecError             bytes that are not a value of ours; counted as a miss

Errors of redis, httpx and the like never leave tiercache bare: the tier that uses the library translates them,
with the original as `__cause__`.
"""

from __future__ import annotations


class TierCacheError(Exception):
    """The root: `except TierCacheError` catches all that tiercache raises of its own."""


class ConfigError(TierCacheError, ValueError):
    """A setting that cannot work. The message names the setting, the value and what is accepted."""

    def __init__(self, setting: str, value: object, accepted: str, *, code: str = "not-accepted") -> None:
        super().__init__(f"{setting}: {value!r} is not accepted; accepted: {accepted}")
        self.setting = setting
        self.value = value
        self.accepted = accepted
        self.code = code
        """What kind of trouble it is, as `tiercache check` calls it."""


class PurgeError(TierCacheError):
    """An invalidation could not be carried out as asked."""


class PurgeUnconfirmed(PurgeError):
    """The purge holds in this process and is queued for the rest of the fleet, which has not confirmed it yet."""


class WriteError(TierCacheError):
    """A write was not carried out as asked."""


class QueueFull(WriteError):
    """A write-behind store has no room for more: the database is too far behind, and the write was not taken."""


class LostPartition(WriteError):
    """Another worker has taken over what this one was writing. Raised by what guards the database; nothing was
    written."""

    def __init__(self, message: str, fence: int = 0) -> None:
        super().__init__(message)
        self.fence = fence
        """The fencing token that the database has seen."""


class SessionUnavailable(WriteError):
    """The store of sessions did not answer, and what a request has changed of its session is not saved."""


class DataError(TierCacheError):
    """A store of data was used in a way that cannot work, or a value could not be had."""


class LoadTimeout(DataError, TimeoutError):
    """The load takes longer than its store's `fill_timeout`, and there is nothing stale to stand in. It goes on, and
    what it brings is stored."""


class LoadRefused(DataError):
    """As many loads are under way as the store's `max_fills` allows, and there is nothing stale to stand in."""


class TierError(TierCacheError):
    """A shared tier did not do what it was asked."""


class TierUnavailable(TierError):
    """The tier could not be reached, or not in time."""


class TierRejected(TierError):
    """The tier answered, and the answer was an error."""


class TierTooLarge(TierRejected):
    """The value is larger than what the tier takes. It is not stored."""


class CodecError(TierCacheError, ValueError):
    """Bytes that this version cannot read as a stored value: corrupt, foreign, truncated or of another version."""
