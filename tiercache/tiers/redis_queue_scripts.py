"""The queues of write-behind stores in Redis: one for each partition, all of it in one slot of a Cluster.

    tc:{<namespace>:<store>:<partition>}:jobs       stream, `<number>-1`: what the database does not have yet, in order
                                        :pending    hash, name -> "<history> <number> <body>": the newest of each key
                                        :recent     sorted set, write id -> number: a write that is sent twice is one
                                        :dead       hash, "<history>:<number>" -> a letter ("<name> <time>
                                                    <attempts> <length> <error><body>"); "k:<name>" -> the number of
                                                    the last write of that key since one of its letters was buried
                                        :meta       hash: h history, r run_id, q last number, f token of the last owner,
                                                    n fence of the last owner, c how many pending have been cleared
                                        :owner      token of the worker that writes to the database, with a time to live

and for the whole of a store `tc:{<namespace>:<store>}:workers`, a sorted set of tokens by the time at which they are
missed, and `:layout`, the number of partitions.

Numbers name a write only within a history: a server that takes over, or one that is restarted from its disk, may have
lost the end of the queue and would give out the same numbers again. As in the ledger, another `run_id` begins another
history. That is why whoever removes something says which history it means.

A value may be any bytes but for the first: `n` is followed by a whole number in decimal digits, which `add` adds to.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from tiercache.core.write_queue import (
    Added,
    Base,
    Durability,
    Job,
    Letter,
    Pending,
    Place,
    QueueState,
    Receipt,
    Sum,
    Write,
)
from tiercache.errors import TierRejected
from tiercache.tiers.redis_calls import Commands, run

RECENT = 10_000
"""Writes of a partition that are recognised when they are sent once more: many more than go on within one deadline."""
MOST = 2**53 - 1
"""The largest sum: numbers of Lua are exact up to here."""

_KEYS = ("jobs", "meta", "pending", "recent", "dead")

_HISTORY = """
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or '?'
local known = redis.call('HMGET', KEYS[2], 'h', 'r')
local history = known[1]
if not history or known[2] ~= run then
  history = ARGV[1]
  redis.call('HSET', KEYS[2], 'h', history, 'r', run)
end
local now = redis.call('TIME')
local at = string.format('%s.%06d', now[1], tonumber(now[2]))
local function put(id, name, body)
  local number = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'q', 1))
  redis.call('XADD', KEYS[1], number .. '-1', 'h', history, 'n', name, 'b', body, 't', at)
  redis.call('HSET', KEYS[3], name, history .. ' ' .. number .. ' ' .. body)
  redis.call('ZADD', KEYS[4], number, id)
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - tonumber(ARGV[3]))
  if redis.call('HEXISTS', KEYS[5], 'k:' .. name) == 1 then redis.call('HSET', KEYS[5], 'k:' .. name, number) end
  return number
end
"""
# A write that is sent once more because its answer was lost is found by its id, and answered with its number.
_PUT = """
local numbers, fresh = {}, {}
for i = 4, #ARGV, 3 do
  local before = redis.call('ZSCORE', KEYS[4], ARGV[i])
  if not before then fresh[#fresh + 1] = i end
  numbers[(i - 1) / 3] = before or false
end
if redis.call('XLEN', KEYS[1]) + #fresh > tonumber(ARGV[2]) then return {0} end
for _, i in ipairs(fresh) do numbers[(i - 1) / 3] = put(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return {1, history, numbers}
"""
# ARGV: 4 id, 5 name, 6 what to add, 7 the sum in the database or '', 8 how many had been cleared before it was read
_ADD = """
local before = redis.call('HGET', KEYS[3], ARGV[5])
local sum = before and string.match(before, '^%S+ %d+ n(-?%d+)$')
local known = redis.call('ZSCORE', KEYS[4], ARGV[4])
if known then return {1, history, known, sum or ''} end
if before and not sum then return {3} end
if not before then
  local cleared = redis.call('HGET', KEYS[2], 'c') or '0'
  if ARGV[7] == '' or ARGV[8] ~= cleared then return {2, cleared} end
  sum = ARGV[7]
end
local total = tonumber(sum) + tonumber(ARGV[6])
if math.abs(total) > 9007199254740991 then return {4} end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return {0} end
local text = string.format('%.0f', total)
return {1, history, put(ARGV[4], ARGV[5], 'n' .. text), text}
"""
_ATTEND = """
local now = redis.call('TIME')
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', ms))
redis.call('ZADD', KEYS[1], string.format('%.0f', ms + ARGV[2]), ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
_LAYOUT = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""
_TAKE = """
local held = redis.call('GET', KEYS[2])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local fence, least = tonumber(redis.call('HGET', KEYS[1], 'n') or '0'), tonumber(ARGV[3])
if redis.call('HGET', KEYS[1], 'f') ~= ARGV[1] or fence <= least then
  fence = math.max(fence, least) + 1
  redis.call('HSET', KEYS[1], 'f', ARGV[1], 'n', string.format('%.0f', fence))
end
return fence
"""
_GIVE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
return 0
"""
# A job is removed only if it is of the history that is meant: its number may have been given out once more. What is
# pending goes with the job that brought it, and not if there is a newer one.
_REMOVE = """
if redis.call('HGET', KEYS[2], 'f') ~= ARGV[1] then return -1 end
local function remove(history, number, name)
  local row = redis.call('XRANGE', KEYS[1], number .. '-1', number .. '-1')[1]
  if not row or row[2][2] ~= history then return 0 end
  redis.call('XDEL', KEYS[1], number .. '-1')
  local prefix = history .. ' ' .. number .. ' '
  local newest = redis.call('HGET', KEYS[3], name)
  if newest and string.sub(newest, 1, #prefix) == prefix then
    redis.call('HDEL', KEYS[3], name)
    redis.call('HINCRBY', KEYS[2], 'c', 1)
  end
  return 1
end
"""
_ACK = """
local removed = 0
for i = 2, #ARGV, 3 do removed = removed + remove(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return removed
"""
_BURY = """
local row = redis.call('XRANGE', KEYS[1], ARGV[3] .. '-1', ARGV[3] .. '-1')[1]
if remove(ARGV[2], ARGV[3], ARGV[4]) == 0 then return 0 end
local head = table.concat({ARGV[4], redis.call('TIME')[1], ARGV[6], #ARGV[5]}, ' ')
redis.call('HSET', KEYS[5], ARGV[2] .. ':' .. ARGV[3], head .. ' ' .. ARGV[5] .. row[2][6])
redis.call('HSETNX', KEYS[5], 'k:' .. ARGV[4], '0')
local newest = redis.call('HGET', KEYS[3], ARGV[4])
if newest then redis.call('HSET', KEYS[5], 'k:' .. ARGV[4], string.match(newest, '^%S+ (%d+) ')) end
return 1
"""
_UNBURY = """
local function unbury(field)
  redis.call('HDEL', KEYS[5], field)
  for _, one in ipairs(redis.call('HKEYS', KEYS[5])) do
    if string.sub(one, 1, 2) ~= 'k:' then return end
  end
  redis.call('UNLINK', KEYS[5])
end
"""
# ARGV: 4 the letter, 5 whether to bring it back though its key has been written since
_REPLAY = _UNBURY + """
local letter = redis.call('HGET', KEYS[5], ARGV[4])
if not letter then return {-1} end
local name, length, from = string.match(letter, '^(%S+) %d+ %d+ (%d+) ()')
local since = redis.call('HGET', KEYS[5], 'k:' .. name)
if ARGV[5] ~= '1' and since and since ~= '0' then return {3} end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return {0} end
unbury(ARGV[4])
return {1, history, {put(ARGV[4], name, string.sub(letter, from + tonumber(length)))}}
"""
_DROP = _UNBURY + """
if redis.call('HEXISTS', KEYS[5], ARGV[1]) == 0 then return 0 end
unbury(ARGV[1])
return 1
"""

FULL, DONE, BASE, CONFLICT, TOO_LARGE, GONE = 0, 1, 2, 3, 4, -1
_REPLAYED = {FULL: "full", DONE: "done", CONFLICT: "superseded", GONE: "gone"}




def keys_of(namespace: str, place: Place) -> tuple[str, ...]:
    """All in one slot of a Cluster."""
    return tuple([f"tc:{{{namespace}:{place.store}:{place.partition}}}:{kind}" for kind in _KEYS])


def owner_of(keys: Sequence[str]) -> str:
    """The key that says who writes to the database."""
    return keys[0].removesuffix("jobs") + "owner"


def _named(job: Job) -> tuple[str, int, str]:
    return job.receipt.history, job.receipt.number, job.name


def _field(receipt: Receipt) -> str:
    return f"{receipt.history}:{receipt.number}"


def put(keys: Sequence[str], writes: Sequence[Write], limit: int) -> Commands[list[Receipt] | None]:
    """Queue all of these or none; None where there is no room."""
    args = [part for write in writes for part in write]
    reply = yield from run(_HISTORY + _PUT, keys, secrets.token_hex(8), limit, RECENT, *args)
    if reply[0] == FULL:
        return None
    history = reply[1].decode()
    return [Receipt(history, int(number)) for number in reply[2]]


def add(keys: Sequence[str], write: Sum, limit: int, base: Base | None) -> Commands[Added]:
    """Queue the sum of what is pending, or else of the base, and a number."""
    id_, name, number = write
    known, cleared = ("", "") if base is None else (str(base.total), base.cleared)
    reply = yield from run(
        _HISTORY + _ADD, keys, secrets.token_hex(8), limit, RECENT, id_, name, number, known, cleared
    )
    if reply[0] == DONE:
        return Added(Receipt(reply[1].decode(), int(reply[2])), int(reply[3]) if reply[3] else None)
    if reply[0] == CONFLICT:
        raise TierRejected("what is pending under this key is no number")
    if reply[0] == TOO_LARGE:
        raise TierRejected(f"the sum would be beyond {MOST}")
    return Added(full=True) if reply[0] == FULL else Added(cleared=reply[1].decode())


def pending(keys: Sequence[str], names: Sequence[str]) -> Commands[list[Pending | None]]:
    """The newest write of each key that the database does not have."""
    reply = yield ("HMGET", keys[2], *names)
    return [None if row is None else _pending(row) for row in reply]


def _pending(row: bytes) -> Pending:
    try:
        history, number, body = row.split(b" ", 2)
        return Pending(Receipt(history.decode(), int(number)), body)
    except ValueError as error:
        raise TierRejected("the queue holds something that tiercache did not write") from error


def workers_of(namespace: str, store: str) -> str:
    """The key of those who write for a store."""
    return f"tc:{{{namespace}:{store}}}:workers"


def layout_of(namespace: str, store: str) -> str:
    """The key of the number of partitions."""
    return f"tc:{{{namespace}:{store}}}:layout"


def attend(key: str, token: str, ttl_ms: int) -> Commands[list[str]]:
    """Be one of the workers; the tokens of all, sorted."""
    reply = yield from run(_ATTEND, (key,), token, max(1, ttl_ms))
    return sorted(one.decode() for one in reply)


def depart(key: str, token: str) -> Commands[None]:
    """Be none of them any more."""
    yield ("ZREM", key, token)


def layout(key: str, partitions: int) -> Commands[int]:
    """The number of partitions that the store was begun with."""
    reply = yield from run(_LAYOUT, (key,), partitions)
    try:
        return int(reply)
    except ValueError as error:
        raise TierRejected("the queue holds something that tiercache did not write") from error


def forget(key: str) -> Commands[None]:
    """Remove what is kept for a store as a whole."""
    yield ("UNLINK", key)


def take(keys: Sequence[str], token: str, ttl_ms: int, above: int) -> Commands[int | None]:
    """Own the partition, or go on to; the fencing token, which is another one for each owner and above `above`."""
    fence: int = yield from run(_TAKE, (keys[1], owner_of(keys)), token, max(1, ttl_ms), above)
    return fence or None


def give(keys: Sequence[str], token: str) -> Commands[None]:
    """Own it no longer."""
    yield from run(_GIVE, (owner_of(keys),), token)


def ack(keys: Sequence[str], token: str, jobs: Sequence[Job]) -> Commands[bool]:
    """Remove what the database has; False where the token is no longer the owner's."""
    named = [part for job in jobs for part in _named(job)]
    removed: int = yield from run(_REMOVE + _ACK, keys[:3], token, *named)
    return removed >= 0


def bury(keys: Sequence[str], token: str, job: Job, error: str, attempts: int) -> Commands[bool]:
    """Move a job to the letters; False where the token is no longer the owner's."""
    done: int = yield from run(_REMOVE + _BURY, keys, token, *_named(job), error, attempts)
    return done >= 0


def replay(keys: Sequence[str], receipt: Receipt, limit: int, *, force: bool) -> Commands[str]:
    """Queue a letter once more: "done", "full", "gone" or "superseded"."""
    args = (secrets.token_hex(8), limit, RECENT, _field(receipt), "1" if force else "0")
    reply = yield from run(_HISTORY + _REPLAY, keys, *args)
    return _REPLAYED[reply[0]]


def drop(keys: Sequence[str], receipt: Receipt) -> Commands[bool]:
    """Throw a letter away; whether there was one."""
    return bool((yield from run(_DROP, keys, _field(receipt))))


def jobs(keys: Sequence[str], count: int, after: int) -> Commands[list[Job]]:
    """The oldest ones behind number `after`, in order."""
    reply = yield ("XRANGE", keys[0], f"{after + 1}-0", "+", "COUNT", count)
    found = []
    try:
        for place, row in reply:
            fields = dict(zip(row[::2], row[1::2], strict=True))
            number = int(place.partition(b"-")[0])
            receipt = Receipt(fields[b"h"].decode(), number)
            found.append(Job(receipt, fields[b"n"].decode(), fields[b"b"], float(fields[b"t"])))
    except (KeyError, ValueError) as error:
        raise TierRejected("the queue holds something that tiercache did not write") from error
    return found


def letters(keys: Sequence[str]) -> Commands[list[Letter]]:
    """What has been kept aside, oldest first."""
    reply = yield ("HGETALL", keys[4])
    rows = dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply
    found = []
    try:
        for field, letter in rows.items():
            history, _, number = field.decode().partition(":")
            if history == "k":
                continue
            name, at, attempts, length, rest = letter.split(b" ", 4)
            error, body = rest[: int(length)], rest[int(length) :]
            since = rows.get(b"k:" + name, b"0")
            found.append(
                Letter(
                    Receipt(history, int(number)),
                    name.decode(),
                    body,
                    error.decode("utf-8", "replace"),
                    float(at),
                    int(attempts),
                    superseded=since != b"0",
                )
            )
    except ValueError as error:
        raise TierRejected("the queue holds something that tiercache did not write") from error
    return sorted(found, key=lambda letter: (letter.at, letter.receipt.number))


def state(keys: Sequence[str]) -> Commands[QueueState]:
    """How far the database is behind."""
    queued = yield ("XLEN", keys[0])
    unwritten = yield ("HLEN", keys[2])
    aside = yield from letters(keys)
    first = yield from jobs(keys, 1, 0)
    return QueueState(queued, unwritten, len(aside), first[0].at if first else None)


def durability() -> Commands[Durability]:
    """What the server says of how it keeps what it acknowledges."""
    said: dict[str, str] = {}
    for section in ("server", "memory", "persistence"):
        try:
            text = yield ("INFO", section)
        except TierRejected:
            continue
        lines = text.decode("utf-8", "replace").splitlines()
        said |= {name: value for name, _, value in (line.partition(":") for line in lines if ":" in line)}
    fsync = None
    try:
        reply = yield ("CONFIG", "GET", "appendfsync")
        fsync = (reply[1] if isinstance(reply, list) else reply[b"appendfsync"]).decode()
    except (TierRejected, LookupError):  # not allowed, as a rule where the server is somebody else's business
        pass
    limit, log = said.get("maxmemory"), said.get("aof_enabled")
    return Durability(
        None if limit is None else int(limit), said.get("maxmemory_policy"), None if log is None else log == "1", fsync
    )
