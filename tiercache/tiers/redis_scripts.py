"""The ledger in Redis: three Lua scripts, and how their questions and answers travel.

The whole ledger is one sorted set, so that an eviction or a restart loses it whole or not at all:

    e:<epoch>   -1            identity of this history, random
    i:<run_id>  -2            the server process that holds it
    q           -(10 + head)  last number given out
    f           -(10 + floor) whatever began before this number is dead
    h:<tag>     number        last hard purge of a tag
    h:v:<store>:<digest>      the same of a key of data, 2**52 higher: by themselves, since there may be any number
    h:w:<store>:<bucket>      the last of those that have been folded (see `core.records`)
    s:<tag>     number        last soft purge of a tag
    b:<rule>    number        last ban of a path

A history that may have lost its end must not be continued: a process that has seen number 10 would take a new 7 for
old news. So every script starts with the guard, which begins a new epoch when there is no ledger, when another
server process holds it than the one that wrote it (restart from a snapshot, failover), or when the caller has seen
numbers that the ledger does not know.

Scores are Lua doubles and exact up to 2**53, so that there are 2**52 numbers. They are formatted with `%.0f`, because
Lua's own conversion keeps 14 digits only; for the same reason answers are MessagePack and not `cjson`, which also
rounds to 14 digits and cannot tell an empty list from an empty map. msgspec reads a page of 2,000 records in a fraction
of the time that 4,000 separate Redis replies take.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from redis.exceptions import NoScriptError

from tiercache.core.records import (
    BATCH,
    KEYS_KEPT,
    TAGS_KEPT,
    Message,
    Row,
    Stamp,
    SyncPage,
    SyncRequest,
    Wake,
)
from tiercache.errors import TierRejected
from tiercache.tiers.redis_calls import Command

MAX_MEMBERS = BATCH
"""Members that one number may carry: one `ZADD` of them stays far below Lua's limit on arguments."""
PAGE = 2_000
_KINDS = frozenset({"h:", "s:", "b:"})
MEMBER_ROW_KEPT = 600
"""Seconds that the row of a process which no longer syncs is kept."""


T = TypeVar("T")

_GUARD = """
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or false
local epoch, owner, head, floor
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(0', 'WITHSCORES')
for i = 1, #rows, 2 do
  local member, score = rows[i], tonumber(rows[i + 1])
  local kind = string.sub(member, 1, 2)
  if kind == 'e:' then epoch = string.sub(member, 3)
  elseif kind == 'i:' then owner = string.sub(member, 3)
  elseif member == 'q' then head = -10 - score
  elseif member == 'f' then floor = -10 - score
  end
end
if not (epoch and owner and head and floor)
    or (run and owner ~= run)
    or (ARGV[2] == epoch and tonumber(ARGV[3]) > head) then
  redis.call('UNLINK', KEYS[1])
  epoch, owner, head, floor = ARGV[1], run or '?', 0, 0
  redis.call('ZADD', KEYS[1], -1, 'e:' .. epoch, -2, 'i:' .. owner, -10, 'q', -10, 'f')
end
local above = 4503599627370496
"""

# The members of keys lie by themselves, so that the oldest of them are found at once, and however many come, none of
# the others has to go. Folded they are nobody's news: who has missed nothing has them still, and who asks for what came
# after a number finds that of their bucket; a writer of one is told that number as the last of its key.
# A purge of everything leaves no record behind it: what it would kill is below the floor already.
_PURGE = """
local number = head + 1
local members, previous = {}, {}
if ARGV[5] == '1' then
  floor = number
  redis.call('UNLINK', KEYS[1])
  redis.call('ZADD', KEYS[1], -1, 'e:' .. epoch, -2, 'i:' .. owner,
    string.format('%.0f', -10 - number), 'q', string.format('%.0f', -10 - floor), 'f')
else
  local score, score_of_key = string.format('%.0f', number), string.format('%.0f', above + number)
  local of_key = '^h:v:.+:' .. string.rep('[0-9a-f]', 32) .. '$'
  local pairs_, is_key = {}, {}
  for i = 10, #ARGV do
    members[#members + 1] = ARGV[i]
    is_key[#members] = string.find(ARGV[i], of_key)
    pairs_[#pairs_ + 1] = is_key[#members] and score_of_key or score
    pairs_[#pairs_ + 1] = ARGV[i]
  end
  local function number_of(member)
    return tonumber(redis.call('ZMSCORE', KEYS[1], member)[1] or '0')
  end
  local function bucket_of(key)
    return 'h:w:' .. string.sub(key, 5, -30)
  end
  for i, before in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(members))) do
    local at = before and tonumber(before) or is_key[i] and number_of(bucket_of(members[i])) or 0
    previous[i] = at >= above and at - above or at
  end
  redis.call('ZADD', KEYS[1], string.format('%.0f', -10 - number), 'q', unpack(pairs_))
  local size, keys = redis.call('ZCARD', KEYS[1]), redis.call('ZCOUNT', KEYS[1], above, '+inf')
  local folding = math.min(keys - tonumber(ARGV[9]), 2000)
  if folding > 0 then
    local first = size - keys
    local oldest = redis.call('ZRANGE', KEYS[1], first, first + folding - 1, 'WITHSCORES')
    local names = {}
    for i = 1, #oldest, 2 do
      local bucket, at = bucket_of(oldest[i]), tonumber(oldest[i + 1]) - above
      names[#names + 1] = oldest[i]
      if at > number_of(bucket) then redis.call('ZADD', KEYS[1], string.format('%.0f', at), bucket) end
    end
    redis.call('ZREM', KEYS[1], unpack(names))
    size, keys = redis.call('ZCARD', KEYS[1]), keys - folding
  end
  local excess = size - keys - 4 - tonumber(ARGV[6])
  if excess > 0 then
    local cut = redis.call('ZRANGE', KEYS[1], 3 + excess, 3 + excess, 'WITHSCORES')
    floor = tonumber(cut[2])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], 1, cut[2])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], above, string.format('%.0f', above + floor))
    redis.call('ZADD', KEYS[1], string.format('%.0f', -10 - floor), 'f')
  end
end
local ack = ARGV[7] == '1'
redis.call(ARGV[8], ARGV[4], cmsgpack.pack({epoch, number, head, floor, members, ack}))
return cmsgpack.pack({run and true or false, {epoch, number, head, floor, members, ack, previous}})
"""

# It writes before it reads, so that a replica refuses it: an answer that lags must not renew anybody's trust.
# The rows of the fleet may be evicted, or be older than the ledger where a replica has taken over. So the field `@`
# says in which epoch and when they were begun: whoever has trust has synced within the bound, and so has a row here
# once they are older than that.
# The row past the page tells whether the last number of the page is whole; a number is never cut in two, because
# the reader would ask on from the middle of it. Tags and keys have a page each, as far as the shorter of the two goes.
_SYNC = """
local now = redis.call('TIME')
local at = string.format('%s.%06d', now[1], tonumber(now[2]))
local since = redis.call('HGET', KEYS[2], '@')
if not since or string.match(since, '%S+$') ~= epoch then
  since = at .. ' ' .. epoch
  redis.call('HSET', KEYS[2], '@', since)
end
local row = string.format('%s %s %s %s', at, ARGV[2] == '' and '-' or ARGV[2], ARGV[9], ARGV[7])
if redis.call('HSET', KEYS[2], ARGV[5], row) == 1 then
  local rows = redis.call('HGETALL', KEYS[2])
  for i = 1, #rows, 2 do
    local last = tonumber(string.match(rows[i + 1], '^[%d.]+') or '0')
    if rows[i] ~= '@' and last < tonumber(now[1]) - tonumber(ARGV[6]) then redis.call('HDEL', KEYS[2], rows[i]) end
  end
end
local fleet = ARGV[8] == '1' and redis.call('HGETALL', KEYS[2]) or {}
local page = tonumber(ARGV[4])
local from = floor
if ARGV[2] == epoch and tonumber(ARGV[3]) > floor then from = tonumber(ARGV[3]) end
local last = head
local function rows_of(base, ending)
  local rows = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', base + from), ending,
    'WITHSCORES', 'LIMIT', 0, page + 1)
  if #rows > 2 * page then
    local cut = rows[#rows]
    if tonumber(rows[2]) == tonumber(cut) then
      rows = redis.call('ZRANGEBYSCORE', KEYS[1], cut, cut, 'WITHSCORES')
      last = math.min(last, tonumber(cut) - base)
    else
      last = math.min(last, tonumber(cut) - base - 1)
    end
  end
  return rows
end
local tags, keys = rows_of(0, string.format('(%.0f', above)), rows_of(above, '+inf')
local members, numbers = {}, {}
local function take(rows, base)
  for i = 1, #rows, 2 do
    local number = tonumber(rows[i + 1]) - base
    if number > last then break end
    members[#members + 1] = rows[i]
    numbers[#numbers + 1] = number
  end
end
take(tags, 0)
take(keys, above)
return cmsgpack.pack({run and true or false, epoch, head, floor, tonumber(now[1]), tonumber(now[2]),
  members, numbers, last, last >= head, since, fleet})
"""


class _Source(NamedTuple):
    text: bytes
    sha: str

    @classmethod
    def of(cls, text: str) -> _Source:
        raw = text.encode()
        # Redis names scripts by their SHA-1; nothing secret hangs on it.
        return cls(raw, hashlib.sha1(raw, usedforsecurity=False).hexdigest())


class Script:
    """One script in the two dialects: with the flags line of Redis 7, and for servers that cannot read it.

    An invalidation must get through when memory is full. Redis 7 has `allow-oom` for that. Older servers let a
    script go on once it has written something, and removing a member that is not there counts as a write.
    """

    __slots__ = ("flagged", "plain")

    def __init__(self, body: str) -> None:
        self.flagged = _Source.of("#!lua flags=allow-oom\n" + _GUARD + body)
        self.plain = _Source.of("redis.call('ZREM', KEYS[1], '')\n" + _GUARD + body)


PURGE = Script(_PURGE)
SYNC = Script(_SYNC)


class _PurgeReply(msgspec.Struct, array_like=True):
    guarded: bool
    message: Message


class _SyncReply(msgspec.Struct, array_like=True):
    guarded: bool
    epoch: str
    head: int
    floor: int
    seconds: int
    micros: int
    members: tuple[str, ...]
    numbers: tuple[int, ...]
    last: int
    complete: bool
    since: str
    fleet: tuple[str, ...]


_read_message = msgspec.msgpack.Decoder(Message).decode
_read_purge = msgspec.msgpack.Decoder(_PurgeReply).decode
_read_sync = msgspec.msgpack.Decoder(_SyncReply).decode


_read_wake = msgspec.msgpack.Decoder(Wake).decode
_PAIR = b"\x92"
"""How MessagePack begins an array of two, as a `Wake` is; a `Message` has more."""


def read_message(data: bytes) -> Message | Wake:
    """One message of the bus. Raises `TierRejected` for anything else that was published there."""
    try:
        return _read_wake(data) if data[:1] == _PAIR else _read_message(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TierRejected("something that is not an invalidation was published on the bus") from error


class LedgerScripts:
    """The ledger of one namespace, as flows: each yields Redis commands and is sent their replies.

    A refused command is thrown in as the `TierRejected` that the tier would raise, with the error of redis-py as its
    cause.
    """

    def __init__(self, namespace: str, *, limit: int = TAGS_KEPT, keys: int = KEYS_KEPT, page: int = PAGE) -> None:
        # The braces put the three into one slot of a Cluster.
        self.ledger = f"tc:{{{namespace}}}:ledger"
        self.members = f"tc:{{{namespace}}}:members"
        self.bus = f"tc:{{{namespace}}}:bus"
        self.limit = limit
        self.keys = keys
        self.page = page
        self.guarded = True
        """False once the server would not tell its run_id: a restart from a snapshot then goes unnoticed."""
        self.publish = "PUBLISH"
        self._flagged = True

    def purge(
        self, members: Sequence[str], everything: bool, seen: Stamp | None, *, ack: bool = False
    ) -> Generator[Command, bytes, list[Message]]:
        """Raise these members to a new number, or the floor to it. One message per 1,000 members.

        With `ack`, whoever hears of the last one syncs at once, so that its row tells of it.
        """
        stamp = seen or Stamp("", 0)
        for member in members:
            # The set holds the ledger's own epoch, owner, head and floor too.
            if member[:2] not in _KINDS:
                raise ValueError(f"not a ledger member: {member!r}")
        if everything:
            chunks: list[Sequence[str]] = [()]
        else:
            chunks = [members[i : i + MAX_MEMBERS] for i in range(0, len(members), MAX_MEMBERS)]
        messages: list[Message] = []
        for position, chunk in enumerate(chunks, 1):
            try:
                encoded = [member.encode() for member in chunk]
            except UnicodeEncodeError as error:
                raise TierRejected(f"a ledger member cannot be written as UTF-8: {error.object!r}") from error
            fresh = secrets.token_hex(8)
            flags = ("1" if everything else "0", self.limit, "1" if ack and position == len(chunks) else "0")
            reply = yield from self._call(
                PURGE,
                (self.ledger,),
                (fresh, stamp.epoch, stamp.number, self.bus, *flags, self.publish, self.keys, *encoded),
            )
            answer = _decode(_read_purge, reply)
            self.guarded = answer.guarded
            messages.append(answer.message)
            # A message of another epoch says that what we had seen is gone; the next chunk belongs to the new one.
            stamp = Stamp(answer.message.epoch, answer.message.number)
        return messages

    def sync(
        self, request: SyncRequest, process_id: str, bound: float, *, fleet: bool = False
    ) -> Generator[Command, bytes, SyncPage]:
        """One page of what `request` has not seen, and with `fleet` the rows of all processes; writes the row of this
        one, with its staleness bound in seconds.
        """
        row = (process_id, MEMBER_ROW_KEPT, f"{bound:.6f}", "1" if fleet else "0", request.applied)
        reply = yield from self._call(
            SYNC,
            (self.ledger, self.members),
            (secrets.token_hex(8), request.epoch, request.seen, self.page, *row),
        )
        answer = _decode(_read_sync, reply)
        self.guarded = answer.guarded
        return SyncPage(
            epoch=answer.epoch,
            head=answer.head,
            floor=answer.floor,
            time=answer.seconds + answer.micros / 1e6,
            records=tuple(zip(answer.members, answer.numbers, strict=True)),
            last=answer.last,
            complete=answer.complete,
            rows=_rows(answer.fleet) if fleet else None,
            since=float(answer.since.split()[0]),
        )

    def leave(self, process_id: str) -> Generator[Command, bytes, None]:
        """Remove the row of a process that trusts nothing any more."""
        yield ("HDEL", self.members, process_id)

    def _call(self, script: Script, keys: Command, args: Command) -> Generator[Command, bytes, bytes]:
        while True:
            flagged = self._flagged
            source = script.flagged if flagged else script.plain
            try:
                return (yield ("EVALSHA", source.sha, len(keys), *keys, *args))
            except TierRejected as error:
                if not isinstance(error.__cause__, NoScriptError):
                    raise
            try:
                return (yield ("EVAL", source.text, len(keys), *keys, *args))
            except TierRejected as error:
                # Asking the server by trying covers forks and proxies whose version number means something else.
                if not flagged or not _unreadable_flags(error):
                    raise
                self._flagged = False


def _rows(fleet: Sequence[str]) -> tuple[Row, ...]:
    rows = []
    for process_id, text in zip(fleet[::2], fleet[1::2], strict=True):
        if process_id == "@":
            continue
        try:
            time, epoch, number, bound = text.split()
            rows.append(Row(process_id, float(time), epoch, int(number), float(bound)))
        except ValueError as error:
            raise TierRejected("the table of processes holds something that tiercache did not write") from error
    return tuple(rows)


def _unreadable_flags(error: TierRejected) -> bool:
    text = str(error.__cause__).lower()
    return "compiling script" in text or "shebang" in text or "flag" in text


def _decode(read: Callable[[bytes], T], reply: bytes) -> T:
    try:
        return read(reply)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise TierRejected("the ledger holds something that tiercache did not write") from error
