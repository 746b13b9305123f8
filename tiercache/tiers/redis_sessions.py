"""Sessions of users in Redis: each one a hash, so that its keys are changed one by one.

    tc:{<namespace>:session:<digest>}      ":<key>" -> value; "@b" when it was begun, "@v" its token, "@t" its tags,
                                           "@m" that it goes on under another id
    tc:{<namespace>:tagged:<digest>}       set of the sessions that have a tag

Digests stand for the id, so that who reads Redis cannot take over a session, and for tags. What is looked up lives on
for the idle time, and never past the absolute one.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from tiercache.core.user_sessions import SessionChanges, StoredSession
from tiercache.tiers.redis_calls import Command, Commands, run

T = TypeVar("T")

_LOAD = """
local born = redis.call('HGET', KEYS[1], '@b')
if not born then return {} end
local now = redis.call('TIME')
local left = tonumber(ARGV[2]) - (now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(born))
if left <= 0 then
  redis.call('UNLINK', KEYS[1])
  return {}
end
if redis.call('HEXISTS', KEYS[1], '@m') == 0 then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(left, tonumber(ARGV[1]))))
end
return redis.call('HGETALL', KEYS[1])
"""
# ARGV: 1 idle, 2 absolute, 3 token, 4 tags, 5 when it was begun or '' for an update, 6 how many are removed, those, and
# pairs of what is written. What goes on under another id keeps its age.
_SAVE = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local born = redis.call('HGET', KEYS[1], '@b')
if ARGV[5] == '' then
  if not born or redis.call('HEXISTS', KEYS[1], '@m') == 1 then return 0 end
else
  born = ARGV[5] == 'now' and string.format('%.0f', ms) or ARGV[5]
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], '@b', born)
end
local left = tonumber(ARGV[2]) - (ms - tonumber(born))
if left <= 0 then
  redis.call('UNLINK', KEYS[1])
  return 0
end
local removed = tonumber(ARGV[6])
for i = 7, 6 + removed do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = 7 + removed, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], '@v', ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], '@t', ARGV[4]) end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(left, tonumber(ARGV[1]))))
return 1
"""
# What is left of it tells requests under way that it has moved, and when it was begun.
_MOVE = """
local born = redis.call('HGET', KEYS[1], '@b')
if not born then return '' end
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], '@b', born, '@m', '1', '@v', '')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return born
"""
_INDEX = """
redis.call('SADD', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""


class _Tier(Protocol):
    """What `SessionCommands` asks of the tier that it belongs to."""

    namespace: str

    def _drive(self, deadline: float, flow: Generator[Command, Any, T], key: str | None = None) -> T: ...

    async def _adrive(self, deadline: float, flow: Generator[Command, Any, T], key: str | None = None) -> T: ...


class SessionCommands:
    """The sessions of a tier, by id. `idle` and `absolute` are seconds, `deadline` a moment on `time.monotonic()`."""

    def load_session(self: _Tier, session: str, idle: float, absolute: float, deadline: float) -> StoredSession | None:
        """What there is; it lives on for `idle` from now."""
        key = _key(self.namespace, session)
        return self._drive(deadline, _load(key, idle, absolute), key)

    async def aload_session(
        self: _Tier, session: str, idle: float, absolute: float, deadline: float
    ) -> StoredSession | None:
        """`load_session` for the running event loop."""
        key = _key(self.namespace, session)
        return await self._adrive(deadline, _load(key, idle, absolute), key)

    def save_session(
        self: _Tier,
        session: str,
        changes: SessionChanges,
        token: str,
        idle: float,
        absolute: float,
        deadline: float,
        *,
        begun: str = "",
    ) -> bool:
        """Change a session that there is, or with `begun` begin one: "now", or what `move_session` brought. False: it
        is gone."""
        key = _key(self.namespace, session)
        for index in _indices(self.namespace, changes.tags):
            self._drive(deadline, run(_INDEX, (index,), digest(session), _ms(absolute)), index)
        return self._drive(deadline, _save(key, changes, token, idle, absolute, begun), key)

    async def asave_session(
        self: _Tier,
        session: str,
        changes: SessionChanges,
        token: str,
        idle: float,
        absolute: float,
        deadline: float,
        *,
        begun: str = "",
    ) -> bool:
        """`save_session` for the running event loop."""
        key = _key(self.namespace, session)
        for index in _indices(self.namespace, changes.tags):
            await self._adrive(deadline, run(_INDEX, (index,), digest(session), _ms(absolute)), index)
        return await self._adrive(deadline, _save(key, changes, token, idle, absolute, begun), key)

    def move_session(self: _Tier, session: str, grace: float, deadline: float) -> str:
        """Empty it, and say for `grace` seconds that it goes on elsewhere; when it was begun, "" if it is gone."""
        key = _key(self.namespace, session)
        return self._drive(deadline, _move(key, grace), key)

    async def amove_session(self: _Tier, session: str, grace: float, deadline: float) -> str:
        """`move_session` for the running event loop."""
        key = _key(self.namespace, session)
        return await self._adrive(deadline, _move(key, grace), key)

    def drop_session(self: _Tier, session: str, deadline: float) -> None:
        """End it."""
        key = _key(self.namespace, session)
        self._drive(deadline, _drop(key), key)

    async def adrop_session(self: _Tier, session: str, deadline: float) -> None:
        """`drop_session` for the running event loop."""
        key = _key(self.namespace, session)
        await self._adrive(deadline, _drop(key), key)

    def revoke_sessions(self: _Tier, tag: str, deadline: float) -> int:
        """End every session with this tag; how many there may have been."""
        index = _index(self.namespace, tag)
        members = self._drive(deadline, _members(index), index)
        for member in members:
            key = _place(self.namespace, member)
            self._drive(deadline, _drop(key), key)
            # After it: whoever breaks off here finds the rest once more.
            self._drive(deadline, _remove(index, member), index)
        return len(members)

    async def arevoke_sessions(self: _Tier, tag: str, deadline: float) -> int:
        """`revoke_sessions` for the running event loop."""
        index = _index(self.namespace, tag)
        members = await self._adrive(deadline, _members(index), index)
        for member in members:
            key = _place(self.namespace, member)
            await self._adrive(deadline, _drop(key), key)
            await self._adrive(deadline, _remove(index, member), index)
        return len(members)


def digest(text: str) -> str:
    """What stands for an id or a tag: not to be guessed back from an id, which is random."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _key(namespace: str, session: str) -> str:
    return _place(namespace, digest(session))


def _place(namespace: str, of: str) -> str:
    return f"tc:{{{namespace}:session:{of}}}"


def _index(namespace: str, tag: str) -> str:
    return f"tc:{{{namespace}:tagged:{digest(tag)}}}"


def _indices(namespace: str, tags: Sequence[str]) -> list[str]:
    return [_index(namespace, tag) for tag in tags]


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _load(key: str, idle: float, absolute: float) -> Commands[StoredSession | None]:
    reply = yield from run(_LOAD, (key,), _ms(idle), _ms(absolute))
    rows = dict(zip(reply[::2], reply[1::2], strict=True))
    if not rows:
        return None
    fields = {name[1:].decode(): value for name, value in rows.items() if name[:1] == b":"}
    tags = rows.get(b"@t", b"").decode()
    return StoredSession(
        fields, rows.get(b"@v", b"").decode(), tuple(tags.split("\n")) if tags else (), moved=b"@m" in rows
    )


def _save(
    key: str, changes: SessionChanges, token: str, idle: float, absolute: float, begun: str
) -> Commands[bool]:
    removed = [":" + name for name in changes.removed]
    written: list[str | bytes] = []
    for name, data in changes.written.items():
        written += [":" + name, data]
    tags = "\n".join(changes.tags)
    reply = yield from run(
        _SAVE, (key,), _ms(idle), _ms(absolute), token, tags, begun, len(removed), *removed, *written
    )
    return bool(reply)


def _move(key: str, grace: float) -> Commands[str]:
    born: bytes = yield from run(_MOVE, (key,), _ms(grace))
    return born.decode()


def _drop(key: str) -> Commands[None]:
    yield ("UNLINK", key)


def _members(index: str) -> Commands[list[str]]:
    reply = yield ("SMEMBERS", index)
    return sorted(one.decode() for one in reply)


def _remove(index: str, member: str) -> Commands[None]:
    yield ("SREM", index, member)
