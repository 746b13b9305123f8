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
from typing import Any, NamedTuple, TypeVar

from tiercache.core.user_sessions import Lifetime, Rotation, SessionChanges, StoredSession
from tiercache.tiers.redis_calls import Commands, Driver, run

T = TypeVar("T")
TURNS = 5
"""Times that a session which others change meanwhile is looked at anew while it is moved; then it is moved as it is."""
KILLED = 60.0
"""Seconds for which nobody can begin what was revoked: longer than any command is under way."""
_NOW, _BEFORE = "now", ""
"""When a session was begun, as `_SAVE` is told of one that begins, and of one that there has to be."""

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
# ARGV: 1 idle, 2 absolute, 3 token, 4 added tags, 5 when it was begun, 'now', or '' for an update, 6 how many are
# removed, those, and pairs of what is written. What goes on under another id keeps its age.
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


class Step(NamedTuple):
    """Commands for the server that has a key: an effect of the engine's flows. In a Cluster each goes to its own."""

    tier: Driver
    key: str
    commands: Commands[Any]
    deadline: float

    def run(self) -> Any:
        return self.tier._drive(self.deadline, self.commands, self.key)

    async def arun(self) -> Any:
        return await self.tier._adrive(self.deadline, self.commands, self.key)


Steps = Generator[Step, Any, T]


class RedisSessions:
    """The sessions of a tier, by id, as flows. `deadline` is a moment on `time.monotonic()`."""

    def __init__(self, tier: Driver) -> None:
        self._tier = tier
        self._namespace = tier.namespace

    def load(self, session: str, lifetime: Lifetime, deadline: float) -> Steps[StoredSession | None]:
        """What there is; it lives on for the idle time from now."""
        key = self._key(session)
        found: StoredSession | None = yield self._step(key, _load(key, lifetime), deadline)
        return found

    def begin(
        self, session: str, changes: SessionChanges, token: str, lifetime: Lifetime, deadline: float
    ) -> Steps[bool]:
        """Begin a session. False: it has been revoked already."""
        return self._write(session, changes, token, lifetime, _NOW, deadline)

    def save(
        self, session: str, changes: SessionChanges, token: str, lifetime: Lifetime, deadline: float
    ) -> Steps[bool]:
        """Change a session that there is. False: it is gone."""
        return self._write(session, changes, token, lifetime, _BEFORE, deadline)

    def _write(
        self, session: str, changes: SessionChanges, token: str, lifetime: Lifetime, begun: str, deadline: float
    ) -> Steps[bool]:
        # Before the session: a revocation finds all that there may be.
        for tag in changes.tags:
            index = self._index(tag)
            yield self._step(index, run(_INDEX, (index,), digest(session), _ms(lifetime.absolute)), deadline)
        key = self._key(session)
        saved: bool = yield self._step(key, _save(key, changes, token, lifetime, begun), deadline)
        return saved

    def rotate(
        self,
        session: str,
        fresh: str,
        rotation: Rotation,
        token: str,
        lifetime: Lifetime,
        grace: float,
        deadline: float,
    ) -> Steps[bool]:
        """Let it go on under another id, and say so under the old one for `grace` seconds. False: it is over.

        Copy it, then leave the old one if it is still as it was copied: a Redis that dies in between leaves the session
        where its client looks for it, what others save meanwhile is taken along, and what is revoked meanwhile is found
        under one of the two ids.
        """
        old, new = self._key(session), self._key(fresh)
        for turn in range(TURNS):
            found = yield from self.load(session, lifetime, deadline)
            whole = rotation.becomes(found)
            if found is None and not whole:
                return False
            begun = _NOW if found is None else found.begun
            saved = yield from self._write(fresh, whole, token, lifetime, begun, deadline)
            if not saved or found is None or found.moved:
                return saved
            as_of = found.token if turn + 1 < TURNS else ""
            left: bytes = yield self._step(old, run(_LEAVE, (old,), as_of, _ms(grace)), deadline)
            if left == b"moved":
                return True
            if left == b"gone":
                yield self._step(new, _drop(new), deadline)
        return False

    def drop(self, session: str, deadline: float) -> Steps[None]:
        """End it."""
        key = self._key(session)
        yield self._step(key, _drop(key), deadline)

    def revoke(self, tag: str, deadline: float) -> Steps[int]:
        """End every session with this tag; how many there may have been."""
        index, ended = self._index(tag), 0
        # Until there are none: a session that is moved meanwhile has been noted under its other id.
        while True:
            members: list[str] = yield self._step(index, _members(index), deadline)
            if not members:
                return ended
            for member in members:
                key = self._place(member)
                yield self._step(key, run(_KILL, (key,), _ms(KILLED)), deadline)
                # After it: whoever breaks off here finds the rest once more.
                yield self._step(index, _remove(index, member), deadline)
            ended += len(members)

    def _step(self, key: str, commands: Commands[Any], deadline: float) -> Step:
        return Step(self._tier, key, commands, deadline)

    def _key(self, session: str) -> str:
        return self._place(digest(session))

    def _place(self, of: str) -> str:
        return f"tc:{{{self._namespace}:session:{of}}}"

    def _index(self, tag: str) -> str:
        return f"tc:{{{self._namespace}:tagged:{digest(tag)}}}"


def digest(text: str) -> str:
    """What stands for an id or a tag: not to be guessed back from an id, which is random."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _load(key: str, lifetime: Lifetime) -> Commands[StoredSession | None]:
    reply = yield from run(_LOAD, (key,), *map(_ms, lifetime))
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


def _save(key: str, changes: SessionChanges, token: str, lifetime: Lifetime, begun: str) -> Commands[bool]:
    removed = [":" + name for name in changes.removed]
    written: list[str | bytes] = []
    for name, data in changes.written.items():
        written += [":" + name, data]
    tags = "\n".join(changes.tags)
    reply = yield from run(
        _SAVE, (key,), *map(_ms, lifetime), token, tags, begun, len(removed), *removed, *written
    )
    return bool(reply)


def _drop(key: str) -> Commands[None]:
    yield ("UNLINK", key)


def _members(index: str) -> Commands[list[str]]:
    reply = yield ("SMEMBERS", index)
    return sorted(one.decode() for one in reply)


def _remove(index: str, member: str) -> Commands[None]:
    yield ("SREM", index, member)
