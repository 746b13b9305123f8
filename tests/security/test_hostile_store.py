"""What lies in the shared tier is data from outside: at worst it is a counted miss, and the app answers.

RFC 9111 §7 leaves the store to the implementation. Whoever can write to Redis can put a well-formed page there (see
the threat model); nobody can break a process, keep it from hearing purges, or split a response by it.
"""

from __future__ import annotations

import math
import random
import threading
from typing import Any
from zlib import crc32

import msgspec
import pytest
import redis

from tests.parity.conftest import World
from tests.parity.faces import GUARD, Face, Origin, Reply
from tiercache.core import codec
from tiercache.core.codec import VaryMarker
from tiercache.core.messages import StoredResponse

TEXT = ("Content-Type", "text/plain")


def eventually(condition: Any) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to that")


def framed(kind: int, meta: bytes, body: bytes = b"", version: int = codec.VERSION) -> bytes:
    """A value whose checksum and lengths are right, whatever is in it."""
    lengths = codec._LENGTHS.pack(kind, len(meta), len(body))
    check = crc32(body, crc32(meta, crc32(lengths)))
    return codec._PREFIX.pack(codec._MAGIC, version, check) + lengths + meta + body


def rewritten(value: bytes, **changes: Any) -> bytes:
    """A stored response with some of its fields changed to anything at all."""
    response = codec.decode(value)
    assert isinstance(response, StoredResponse)
    fields = {name: getattr(response, name) for name in response.__struct_fields__} | {"body": b""} | changes
    body = fields["body"] or response.body
    fields["body"] = b""
    return framed(codec.KIND_RESPONSE, msgspec.msgpack.encode(list(fields.values())), body)


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
SPLIT = b"x\r\nSet-Cookie: session=evil"
CHANGES: dict[str, dict[str, Any]] = {
    "time nan": {"fresh_until": math.nan},
    "time inf": {"keep_until": math.inf},
    "time -inf": {"created": -math.inf},
    "cost nan": {"cost": math.nan},
    "far future": {"keep_until": 1e300},
    "times out of order": {"fresh_until": 9e9, "keep_until": 1.0},
    "number negative": {"number": -1},
    "number huge": {"number": 2**64 - 1},
    "number text": {"number": "7"},
    "epoch bytes": {"epoch": b"\xff"},
    "epoch missing": {"epoch": None},
    "status 0": {"status": 0},
    "status 206": {"status": 206},
    "status 304": {"status": 304},
    "status 204 with a body": {"status": 204},
    "status 999": {"status": 999},
    "key of another": {"key": b"other"},
    "header name": {"fields": ((b"x y", b"1"),)},
    "header name empty": {"fields": ((b"", b"1"),)},
    "header name upper": {"fields": ((b"X-Y", b"1"),)},
    "header value split": {"fields": ((b"x", SPLIT),)},
    "header value nul": {"fields": ((b"x", b"a\0b"),)},
    "header value control": {"fields": ((b"x", b"a\x01b"),)},
    "set-cookie": {"fields": ((b"set-cookie", b"session=evil"),)},
    "set-cookie2": {"fields": ((b"set-cookie2", b"session=evil"),)},
    "transfer-encoding": {"fields": ((b"transfer-encoding", b"chunked"),)},
    "connection": {"fields": ((b"connection", b"upgrade"),)},
    "content-length": {"fields": ((b"content-length", b"5000"),)},
    "content-length twice": {"fields": ((b"content-length", b"8"), (b"content-length", b"9"))},
    "reason split": {"reason": SPLIT},
    "etag split": {"etag": SPLIT},
    "vary of thousands": {"vary": tuple((b"x-%d" % n, None) for n in range(5_000))},
    "vary on a name that is none": {"vary": ((b"a b", None),)},
    "declared list": {"declared": [1, 2]},
    "tags of numbers": {"tags": (1, 2)},
    "fields not pairs": {"fields": ((b"x",),)},
}
HARMLESS: dict[str, dict[str, Any]] = {
    "declared unknown": {"declared": {"evil": 1}},
    "declared key": {"declared": {"query": "ignore", "cookies": "ignore"}},
    "declared ttl": {"declared": {"ttl": -1}},
    "declared nested": {"declared": {"ttl": DEEP}},
    "declared huge": {"declared": {"ttl": 2**63, "max_body": "9" * 5_000 + "MiB"}},
    "declared types": {"declared": {"tags": [{}], "tiers": {"a": 1}, "etag": [1], "ttl_by_status": {"200": DEEP}}},
    "tags odd": {"tags": ("", "\x00", "t:\n", "é\u202e", "h:" * 1_000)},
    "made in the future": {"created": 4e9, "fresh_until": 4e9, "keep_until": 4e9},
}


class Fleet:
    """A process that has filled, and one that reads what somebody has put in place of it."""

    def __init__(self, world: World, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.filler = world.face(Origin(Reply(b"original")), url)
        self.reader = world.face(Origin(Reply(b"from app")), url)
        self.filler.get("/p/1")
        (self.name,) = [key for key in self.client.keys("tc:*") if self.client.type(key) == b"string"]
        self.value: bytes = self.client.get(self.name)  # type: ignore[assignment]
        self.reader.get("/other")

    def put(self, value: bytes) -> None:
        self.client.set(self.name, value)

    def forget(self) -> None:
        self.reader.cache._engine.memory.clear()  # type: ignore[attr-defined]

    def refuses(self, value: bytes) -> None:
        self.put(value)
        self.forget()
        before = self.reader.cache.stats()["swallowed"].get("unreadable value in L2", 0)
        response = self.reader.get("/p/1")
        assert (response.status, response.body) == (200, b"from app")
        assert not response.hit
        assert self.reader.cache.stats()["swallowed"]["unreadable value in L2"] == before + 1


@pytest.fixture
def fleet(world: World, redis_url: str) -> Any:
    fleet = Fleet(world, redis_url)
    yield fleet
    fleet.client.close()


def test_a_value_with_a_right_checksum_and_a_wrong_meaning(fleet: Fleet) -> None:
    for change in CHANGES.values():
        fleet.refuses(rewritten(fleet.value, **change))


def test_a_value_for_another_request(fleet: Fleet) -> None:
    fleet.put(rewritten(fleet.value, vary=((b"x-none", b"evil"),)))
    assert fleet.reader.get("/p/1").body == b"from app"


def test_a_value_with_odd_but_well_formed_parts(fleet: Fleet) -> None:
    for change in (*HARMLESS.values(), *HARMLESS.values()):
        fleet.put(rewritten(fleet.value, **change))
        fleet.forget()
        response = fleet.reader.get("/p/1")
        assert response.status == 200
        assert response.body in (b"original", b"from app")
        assert int(response.header("age") or 0) >= 0
        assert "=-" not in (response.header("cache-control") or "")


BOMBS = [
        b"", b"\x00", b"\xc1tc", b"\xc1tc\x01" + b"\xff" * 13, b"\x80\x04\x95", b"cos\nsystem\n(S'id'\ntR.", b"{}",
        framed(1, b""), framed(2, b""), framed(3, b"\x90"), framed(1, b"\x90"), framed(2, b"\x90"),
        framed(1, nested(100_000)), framed(2, nested(100_000)), framed(1, b"\xdd\xff\xff\xff\xff"),
        framed(1, b"\x9f\xc6\xff\xff\xff\xff"), framed(2, b"\x92\xc4\x01x\xdd\x7f\xff\xff\xff"),
        codec._PREFIX.pack(codec._MAGIC, codec.VERSION, 0) + codec._LENGTHS.pack(1, 2**32 - 1, 2**32 - 1),
        b"x" * 100_000,
]  # fmt: skip


def test_bombs_and_foreign_values(fleet: Fleet) -> None:
    for value in BOMBS:
        fleet.refuses(value)


def test_another_version_truncations_and_noise(fleet: Fleet) -> None:
    dice = random.Random(7)
    value = fleet.value
    spoilt = [value[:3] + b"\x02" + value[4:], value + b"x", value[:17], value[: len(value) // 2]]
    spoilt += [dice.randbytes(dice.randint(0, 300)) for _ in range(10)]
    for _ in range(10):
        at = dice.randrange(len(value))
        spoilt.append(value[:at] + bytes([value[at] ^ dice.randint(1, 255)]) + value[at + 1 :])
    for number, data in enumerate(spoilt):
        fleet.put(data)
        fleet.forget()
        assert fleet.reader.get("/p/1").body == b"from app", number
    assert fleet.reader.cache.stats()["swallowed"]["unreadable value in L2"] == len(spoilt)


def test_a_value_of_another_key(fleet: Fleet) -> None:
    fleet.filler.origin.answer = Reply(b"secret")
    fleet.filler.get("/p/2")
    names = [key for key in fleet.client.keys("tc:*") if fleet.client.type(key) == b"string"]
    (other,) = [key for key in names if key != fleet.name]
    fleet.refuses(fleet.client.get(other))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names", [tuple(b"x-%d" % n for n in range(5_000)), (b"",), (b"a\r\nb",), (b"A",), (b"x" * 100_000, b"\xff")]
)
def test_a_hostile_vary_marker(fleet: Fleet, names: tuple[bytes, ...]) -> None:
    key = codec.decode(fleet.value).key
    fleet.refuses(framed(codec.KIND_VARY, msgspec.msgpack.encode([key, names])))
    assert not any(hasattr(v, "names") for v in _values(fleet.reader))


def test_a_vary_marker_under_a_variant(fleet: Fleet) -> None:
    """Markers do not lead on to markers."""
    key = codec.decode(fleet.value).key
    fleet.put(codec.encode(VaryMarker(key=key, names=(b"accept",))))
    response = fleet.reader.get("/p/1")
    assert response.body == b"from app"


def _values(face: Face) -> list[Any]:
    memory: Any = face.cache._engine.memory
    return [memory.lookup(key) for key in list(memory)]


# -- The ledger and the bus ----------

MESSAGES = [
    b"", b"\xc1", b"hello", b"\x00" * 1_000, nested(100_000), msgspec.msgpack.encode({"epoch": 1}),
    msgspec.msgpack.encode(["e", 1]), msgspec.msgpack.encode(["e", "1", 0, 0, []]),
    msgspec.msgpack.encode(["e", 1.5, 0, 0, []]), msgspec.msgpack.encode([b"\xff", 1, 0, 0, []]),
    msgspec.msgpack.encode(["e", 1, 0, 0, [1, 2]]), b"\xdd\xff\xff\xff\xff",
]  # fmt: skip


def _bus(fleet: Fleet) -> str:
    return "tc:{default}:bus"


def test_garbage_on_the_bus_does_not_stop_the_listener(fleet: Fleet) -> None:
    for message in MESSAGES:
        fleet.client.publish(_bus(fleet), message)
    thread = fleet.reader.cache._lifecycle._thread
    fleet.reader.get("/p/1")
    _purge(fleet.filler, "p:1")
    eventually(lambda: fleet.reader.get("/p/1").body == b"from app")
    assert thread is not None
    assert thread.is_alive()
    assert fleet.reader.cache._lifecycle._thread is thread


def _purge(face: Face, tag: str) -> None:
    if face.kind == "asgi":
        face.run(face.cache.apurge(tags=tag))  # type: ignore[attr-defined]
    else:
        face.cache.purge(tags=tag)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 10**15}, {"number": 10**15, "floor": 10**15}, {"number": 2**63, "prev": 2**63 - 1},
        {"number": -5, "prev": -10**9}, {"epoch": "forged"}, {"epoch": "", "floor": 10**9},
        {"number": 10**12, "prev": None, "members": ["h:t:p:1"] * 1_000},
    ],
)  # fmt: skip
def test_a_forged_message_costs_misses_and_makes_nobody_deaf(fleet: Fleet, change: Any) -> None:
    """A number far ahead would have its readers take real purges for old news; the next sync notices."""
    ledger = fleet.reader.cache._engine.ledger
    eventually(lambda: ledger.trusted_until > 0)
    view = ledger._view
    trusted = ledger.trusted_until
    base = {"epoch": view.epoch, "number": view.seq + 1, "prev": view.seq, "floor": 0, "members": ["h:t:x"]}
    message = {**base, **{name: value for name, value in change.items() if value is not None}}
    fleet.client.publish(_bus(fleet), msgspec.msgpack.encode(list(message.values())))
    fleet.reader.origin.answer = Reply(b"new")
    fleet.filler.origin.answer = Reply(b"new")
    fleet.reader.get("/p/1")
    _purge(fleet.filler, "p:1")
    eventually(lambda: fleet.reader.get("/p/1").body == b"new")
    eventually(lambda: ledger.trusted_until > trusted)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client, key: client.set(key, "not a set"),
        lambda client, key: client.pipeline().delete(key).rpush(key, "not a set").execute(),
        lambda client, key: client.zadd(key, {b"\xff\xfe": 5}, nx=False),
        lambda client, key: client.zadd(key, {"h:t:x": 1.5}),
        lambda client, key: client.zadd(key, {"h:t:x": "+inf"}),
        lambda client, key: client.zadd(key, {"e:two": -1, "q": -1e300}),
        lambda client, key: client.zadd(key, {"f": -1e15}),
        lambda client, key: client.zrem(key, "q"),
        lambda client, key: client.zadd(key, {b"e:\xff": -1}),
    ],
    ids=["string", "list", "no utf-8", "fraction", "infinite", "two epochs", "floor", "no head", "epoch no utf-8"],
)
def test_a_spoilt_ledger_costs_misses_and_grants_no_trust(fleet: Fleet, spoil: Any) -> None:
    key = "tc:{default}:ledger"
    if spoil(fleet.client, key) is None:
        raise AssertionError
    ledger = fleet.reader.cache._engine.ledger
    for number in range(20):
        response = fleet.reader.get(f"/p/{number}")
        assert response.status == 200
        assert response.body in (b"original", b"from app")
    fleet.client.delete(key)
    # It recovers as soon as the ledger does.
    eventually(
        lambda: not fleet.reader.cache._engine.failing and ledger.trusted_until > fleet.reader.cache._engine.clock()
    )
    thread = fleet.reader.cache._lifecycle._thread
    assert thread is not None
    assert thread.is_alive()


@pytest.mark.parametrize(
    "tag", ["\n", "é\u202e", "h:t:x", "e:x", "x" * 100_000, " ", "{default}", "*", "p:/p/1", "\x00"]
)
def test_tags_that_users_choose_name_nothing_but_themselves(world: World, redis_url: str, tag: str) -> None:
    """A tag is never a path, a URL, another tag, or a member of the ledger's own."""
    face = world.face(Origin(), redis_url)
    face.get("/p/1")
    _purge(face, tag)
    assert face.get("/p/1").hit
    _purge(face, "p:1")
    assert not face.get("/p/1").hit
