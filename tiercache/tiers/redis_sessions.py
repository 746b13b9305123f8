"""Sessions of users in Redis: each one a hash, so that its keys are changed one by one.

    tc:{<namespace>:session:<digest>}      ":<key>" -> value; "@b" when it was begun, "@v" its token, "@t" its tags,
                                           "@m" that it goes on under another id; or "@x" alone:
                                           it was revoked, and whoever is about to begin it comes too late
    tc:{<namespace>:tagged:<digest>}       set of the sessions that have a tag

Digests stand for the id, so that who reads Redis cannot take over a session, and for tags. What is looked up lives on
for the idle time, and never past the absolute one.
"""

from __future__ import annotations

from collections.abc import Generator
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from tiercache.core.user_sessions import Rotation, SessionChanges, StoredSession
from tiercache.tiers.redis_calls import Command, Commands, run

T = TypeVar("T")
Steps = Generator[tuple[str, Commands[Any]], Any, T]
"""Several flows of commands in turn, each with its key: in a Cluster they go to different servers."""

TURNS = 5
"""Times that a session which others change meanwhile is looked at anew while it is moved; then it is moved as it is."""
KILLED = 60.0
"""Seconds for which nobody can begin what was revoked: longer than any command is under way."""

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
# ARGV: 1 idle, 2 absolute, 3 token, 4 added tags, 5 when it was begun or '' for an update, 6 how many are removed,
# those, and pairs of what is written. What goes on under another id keeps its age.
_SAVE = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local born = redis.call('HGET', KEYS[1], '@b')
if ARGV[5] == '' then
  if not born or redis.call('HEXISTS', KEYS[1], '@m') == 1 then return 0 end
else
  if redis.call('HEXISTS', KEYS[1], '@x') == 1 then return 0 end
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
if ARGV[4] ~= '' then
  local tags = redis.call('HGET', KEYS[1], '@t') or ''
  for tag in string.gmatch(ARGV[4], '[^\\n]+') do
    if not string.find('\\n' .. tags .. '\\n', '\\n' .. tag .. '\\n', 1, true) then
      tags = tags == '' and tag or tags .. '\\n' .. tag
    end
  end
  redis.call('HSET', KEYS[1], '@t', tags)
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(left, tonumber(ARGV[1]))))
return 1
"""
# What is left of it tells requests under way that it has moved, and when it was begun. ARGV: 1 the token as of which it
# was copied, '' for any; 2 grace. Returns 'gone', 'changed' or 'moved'.
_LEAVE = """
local born = redis.call('HGET', KEYS[1], '@b')
if not born then return 'gone' end
if redis.call('HEXISTS', KEYS[1], '@m') == 1 then return 'moved' end
if ARGV[1] ~= '' and redis.call('HGET', KEYS[1], '@v') ~= ARGV[1] then return 'changed' end
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], '@b', born, '@m', '1', '@v', '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'moved'
"""
_KILL = """
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], '@x', '1')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
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
        begins: bool = False,
    ) -> bool:
        """Change a session that there is, or begin one. False: it is gone."""
        begun = "now" if begins else ""
        return _walk(self, deadline, _saving(self.namespace, session, changes, token, idle, absolute, begun))

    async def asave_session(
        self: _Tier,
        session: str,
        changes: SessionChanges,
        token: str,
        idle: float,
        absolute: float,
        deadline: float,
        *,
        begins: bool = False,
    ) -> bool:
        """`save_session` for the running event loop."""
        begun = "now" if begins else ""
        return await _awalk(self, deadline, _saving(self.namespace, session, changes, token, idle, absolute, begun))

    def rotate_session(
        self: _Tier,
        session: str,
        fresh: str,
        rotation: Rotation,
        token: str,
        idle: float,
        absolute: float,
        grace: float,
        deadline: float,
    ) -> bool:
        """Let it go on under another id, and say so under the old one for `grace` seconds. False: it is over."""
        flow = _rotating(self.namespace, session, fresh, rotation, token, idle, absolute, grace)
        return _walk(self, deadline, flow)

    async def arotate_session(
        self: _Tier,
        session: str,
        fresh: str,
        rotation: Rotation,
        token: str,
        idle: float,
        absolute: float,
        grace: float,
        deadline: float,
    ) -> bool:
        """`rotate_session` for the running event loop."""
        flow = _rotating(self.namespace, session, fresh, rotation, token, idle, absolute, grace)
        return await _awalk(self, deadline, flow)

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
        return _walk(self, deadline, _revoking(self.namespace, tag))

    async def arevoke_sessions(self: _Tier, tag: str, deadline: float) -> int:
        """`revoke_sessions` for the running event loop."""
        return await _awalk(self, deadline, _revoking(self.namespace, tag))


def _walk(tier: _Tier, deadline: float, flow: Steps[T]) -> T:
    try:
        key, commands = next(flow)
        while True:
            key, commands = flow.send(tier._drive(deadline, commands, key))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def _awalk(tier: _Tier, deadline: float, flow: Steps[T]) -> T:
    try:
        key, commands = next(flow)
        while True:
            key, commands = flow.send(await tier._adrive(deadline, commands, key))
    except StopIteration as stop:
        result: T = stop.value
        return result


def _saving(
    namespace: str, session: str, changes: SessionChanges, token: str, idle: float, absolute: float, begun: str
) -> Steps[bool]:
    # Before the session: a revocation finds all that there may be.
    for tag in changes.tags:
        index = _index(namespace, tag)
        yield index, run(_INDEX, (index,), digest(session), _ms(absolute))
    key = _key(namespace, session)
    saved: bool = yield key, _save(key, changes, token, idle, absolute, begun)
    return saved


def _rotating(
    namespace: str,
    session: str,
    fresh: str,
    rotation: Rotation,
    token: str,
    idle: float,
    absolute: float,
    grace: float,
) -> Steps[bool]:
    """Copy it, then leave the old one if it is still as it was copied: a Redis that dies in between leaves the session
    where its client looks for it, what others save meanwhile is taken along, and what is revoked meanwhile is found
    under one of the two ids."""
    old, new = _key(namespace, session), _key(namespace, fresh)
    for turn in range(TURNS):
        found: StoredSession | None = yield old, _load(old, idle, absolute)
        whole = rotation.becomes(found)
        if found is None and not whole:
            return False
        begun = "now" if found is None else found.begun
        saved: bool = yield from _saving(namespace, fresh, whole, token, idle, absolute, begun)
        if not saved or found is None or found.moved:
            return saved
        left: bytes = yield old, run(_LEAVE, (old,), found.token if turn + 1 < TURNS else "", _ms(grace))
        if left == b"moved":
            return True
        if left == b"gone":
            yield new, _drop(new)
    return False


def _revoking(namespace: str, tag: str) -> Steps[int]:
    index, ended = _index(namespace, tag), 0
    # Until there are none: a session that is moved meanwhile has been noted under its other id.
    while True:
        members: list[str] = yield index, _members(index)
        if not members:
            return ended
        for member in members:
            key = _place(namespace, member)
            yield key, run(_KILL, (key,), _ms(KILLED))
            # After it: whoever breaks off here finds the rest once more.
            yield index, _remove(index, member)
        ended += len(members)


def digest(text: str) -> str:
    """What stands for an id or a tag: not to be guessed back from an id, which is random."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _key(namespace: str, session: str) -> str:
    return _place(namespace, digest(session))


def _place(namespace: str, of: str) -> str:
    return f"tc:{{{namespace}:session:{of}}}"


def _index(namespace: str, tag: str) -> str:
    return f"tc:{{{namespace}:tagged:{digest(tag)}}}"


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
        fields,
        rows.get(b"@v", b"").decode(),
        tuple(tags.split("\n")) if tags else (),
        moved=b"@m" in rows,
        begun=rows[b"@b"].decode(),
    )


def _save(key: str, changes: SessionChanges, token: str, idle: float, absolute: float, begun: str) -> Commands[bool]:
    removed = [":" + name for name in changes.removed]
    written: list[str | bytes] = []
    for name, data in changes.written.items():
        written += [":" + name, data]
    tags = "\n".join(changes.tags)
    reply = yield from run(
        _SAVE, (key,), _ms(idle), _ms(absolute), token, tags, begun, len(removed), *removed, *written
    )
    return bool(reply)


def _drop(key: str) -> Commands[None]:
    yield ("UNLINK", key)


def _members(index: str) -> Commands[list[str]]:
    reply = yield ("SMEMBERS", index)
    return sorted(one.decode() for one in reply)


def _remove(index: str, member: str) -> Commands[None]:
    yield ("SREM", index, member)
