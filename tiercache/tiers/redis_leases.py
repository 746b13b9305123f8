"""Leases in Redis: who fills a key for the whole fleet, and word to those who wait for it.

A lease is a key beside the value that is being made, in the same slot of a Cluster:

    tc:{tc:<namespace>:<name>}:lease    <token>, and an asterisk behind it once somebody waits

Word goes over the bus, and only where somebody waits.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from tiercache.core.records import Wake
from tiercache.tiers.redis_calls import Commands, Driver, run

_ACQUIRE = """
local held = redis.call('GET', KEYS[1])
if held then
  if string.sub(held, -1) ~= '*' then redis.call('SET', KEYS[1], held .. '*', 'KEEPTTL') end
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RENEW = """
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] and held ~= ARGV[1] .. '*' then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] and held ~= ARGV[1] .. '*' then return 0 end
redis.call('UNLINK', KEYS[1])
return held == ARGV[1] and 1 or 2
"""
WAITED_FOR = 2


class _Tier(Driver, Protocol):
    """What `LeaseCommands` asks of the tier that it belongs to."""

    bus: str

    def _lease_key(self, name: str) -> str: ...


class LeaseCommands:
    """The leases of a tier. `name` is the value that is being made, `deadline` a moment on `time.monotonic()`."""

    def acquire(self: _Tier, name: str, token: str, ttl_ms: int, deadline: float) -> bool:
        """Take the lease for `ttl_ms` milliseconds. False: another token has it, and its holder is told of a waiter."""
        key = self._lease_key(name)
        return self._drive(deadline, _held(_ACQUIRE, key, token, ttl_ms), key)

    async def aacquire(self: _Tier, name: str, token: str, ttl_ms: int, deadline: float) -> bool:
        """`acquire` for the running event loop."""
        key = self._lease_key(name)
        return await self._adrive(deadline, _held(_ACQUIRE, key, token, ttl_ms), key)

    def renew(self: _Tier, name: str, token: str, ttl_ms: int, deadline: float) -> bool:
        """Have it last `ttl_ms` milliseconds from now. False: it is not this token's any more."""
        key = self._lease_key(name)
        return self._drive(deadline, _held(_RENEW, key, token, ttl_ms), key)

    async def arenew(self: _Tier, name: str, token: str, ttl_ms: int, deadline: float) -> bool:
        """`renew` for the running event loop."""
        key = self._lease_key(name)
        return await self._adrive(deadline, _held(_RENEW, key, token, ttl_ms), key)

    def release(self: _Tier, name: str, token: str, made: bool, deadline: float) -> None:
        """Give it back if it is still this token's, and send word where somebody waits."""
        key = self._lease_key(name)
        if self._drive(deadline, run(_RELEASE, (key,), token), key) == WAITED_FOR:
            self._drive(deadline, _publish(self.bus, Wake(name, made)))

    async def arelease(self: _Tier, name: str, token: str, made: bool, deadline: float) -> None:
        """`release` for the running event loop."""
        key = self._lease_key(name)
        if await self._adrive(deadline, run(_RELEASE, (key,), token), key) == WAITED_FOR:
            await self._adrive(deadline, _publish(self.bus, Wake(name, made)))


def _held(script: str, key: str, token: str, ttl_ms: int) -> Commands[bool]:
    reply = yield from run(script, (key,), token, max(1, ttl_ms))
    return bool(reply == 1)


def _publish(bus: str, wake: Wake) -> Commands[None]:
    # To every node of a Cluster: the subscribers of the bus hang on one of them.
    yield ("PUBLISH", bus, msgspec.msgpack.encode(wake))
