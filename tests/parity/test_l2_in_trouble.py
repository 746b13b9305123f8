"""Redis is slow, silent or cut off: it is left alone after a few requests, and no request fails for it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.parity.conftest import World
from tests.parity.faces import Face, Origin
from tests.parity.test_coalescing import eventually
from tests.servers import Proxy, RedisServer

TROUBLE = "L2 in trouble, left alone"
RULES: Any = {"/p/{id}": {"ttl": "10m", "tags": ["p:{id}"], "isolated_ttl": "10m"}}
UP = "1h"
"""Slower than any answer: the breaker is not to open."""


class Link(Proxy):
    """A proxy whose replies come late, or not at all."""

    def __init__(self, port: int) -> None:
        self.late = 0.0
        self.open = threading.Event()
        self.open.set()
        super().__init__(port, self._reply)

    def _reply(self, data: bytes) -> bytes | None:
        time.sleep(self.late)
        self.open.wait()
        return data

    def close(self) -> None:
        self.open.set()
        super().close()


@pytest.fixture
def link(one_redis: RedisServer) -> Iterator[Link]:
    assert one_redis.ask("FLUSHALL") == "+OK"
    with Link(one_redis.port) as link:
        yield link  # type: ignore[misc]


def joined(world: World, link: Link, **settings: Any) -> Face:
    face = world.face(Origin(), link.url, rules=RULES, **{"staleness_bound": "30s", "l2_slow": "15ms", **settings})
    face.cache.start()
    eventually(face.cache._engine.trusted)
    return face


def asked(server: RedisServer) -> int:
    """Values that have been asked of the server, or written to it."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        stats: Any = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("get", "mget", "set"))


def is_open(face: Face) -> bool:
    return face.cache._engine.breaker.open


def slowed(face: Face, link: Link) -> None:
    """From one probe on that finds it slow, requests count too."""
    link.late = 0.02
    numbers = iter(range(1_000, 1_000_000))

    def opened() -> bool:
        face.get(f"/p/{next(numbers)}")
        return is_open(face)

    eventually(opened)


def wait_for_the_end(face: Face) -> None:
    """The trouble is over. On a machine that is busy itself an answer may still take its time."""
    face.cache._engine.breaker.slow = 30.0
    eventually(lambda: not is_open(face))


def test_at_20_ms_it_is_left_alone_until_it_is_quick_again(world: World, link: Link, one_redis: RedisServer) -> None:
    face = joined(world, link)
    assert face.get("/p/hot").status == 200
    slowed(face, link)
    engine = face.cache._engine
    assert face.cache.stats()["swallowed"][TROUBLE] >= 1
    assert engine.trusted()
    # No try is due for as long as the test wants.
    engine.breaker._next_try = engine.clock() + 3_600
    before = asked(one_redis)
    for number in range(20):
        assert face.get(f"/p/{number}").outcome == "tiercache; fwd=miss; stored"
        assert face.get("/p/hot").outcome == "tiercache; hit; detail=l1"
    assert is_open(face)
    assert asked(one_redis) == before
    link.late = 0.0
    wait_for_the_end(face)
    assert face.get("/p/again").outcome == "tiercache; fwd=miss; stored"
    eventually(lambda: asked(one_redis) >= before + 2)


def test_black_holed_it_is_left_alone_and_hits_go_on(world: World, link: Link) -> None:
    face = joined(world, link, l2_budget="20ms", l2_slow="10ms")
    face.get("/p/hot")
    link.open.clear()
    numbers = iter(range(10_000))

    def misses_open_it() -> bool:
        assert face.get(f"/p/{next(numbers)}").status == 200
        assert face.get("/p/hot").hit
        return is_open(face)

    eventually(misses_open_it)
    engine = face.cache._engine
    engine.breaker._next_try = engine.clock() + 3_600
    connections, swallowed = link.accepted, face.cache.stats()["swallowed"].get("L2 read", 0)
    for _ in range(50):
        assert face.get(f"/p/{next(numbers)}").status == 200
        assert face.get("/p/hot").hit
    stats = face.cache.stats()["swallowed"]
    # Not one of them has tried; the listener may, with connections of its own.
    assert stats.get("L2 read", 0) == swallowed
    assert link.accepted - connections < 25
    link.open.set()
    wait_for_the_end(face)
    eventually(lambda: engine.trusted() and not engine.failing)


def test_open_it_is_tried_now_and_then(world: World, link: Link, one_redis: RedisServer) -> None:
    face = joined(world, link)
    engine = face.cache._engine
    slowed(face, link)
    engine.breaker._next_try = engine.clock()
    before = asked(one_redis)
    for number in range(20):
        assert face.get(f"/p/{number}").status == 200
    tried = asked(one_redis) - before
    assert 1 <= tried < 20


def test_purges_do_not_ask_whether_it_is_well(world: World, link: Link) -> None:
    face = joined(world, link)
    face.get("/p/1")
    slowed(face, link)
    assert face.cache.purge(tags="p:1").shared
    assert not face.get("/p/1").hit


def test_a_process_that_is_busy_itself_does_not_leave_it_alone(world: World, link: Link) -> None:
    """Reads that seem slow, while the listener finds the server well."""
    face = joined(world, link, l2_slow=UP)
    engine = face.cache._engine
    for _ in range(100):
        engine.breaker.note(3_601.0, engine.clock(), failed=False)
    assert not is_open(face)
    assert TROUBLE not in face.cache.stats()["swallowed"]


class Resetting(Proxy):
    """Cuts replies in the middle, with a RST."""

    def __init__(self, port: int) -> None:
        self.on = False
        self.resets = 0
        super().__init__(port)

    def _pump(self, source: socket.socket, target: socket.socket, change: Any) -> None:
        try:
            while data := source.recv(65_536):
                if self.on and source.getpeername()[1] == self._target:
                    target.sendall(data[: max(1, len(data) // 2)])
                    target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    # Whoever reads from it in the other thread lets go of it, so that the end is felt at once.
                    target.shutdown(socket.SHUT_RD)
                    self.resets += 1
                    break
                target.sendall(data)
        except OSError:
            pass
        with self._lock:
            for end in (source, target):
                self._open.discard(end)
                self._clients.discard(end)
                end.close()


def test_replies_that_break_off_fail_no_request(world: World, one_redis: RedisServer) -> None:
    assert one_redis.ask("FLUSHALL") == "+OK"
    with Resetting(one_redis.port) as proxy:
        face = world.face(Origin(), proxy.url, rules=RULES, l2_slow=UP, staleness_bound="30s")
        face.cache.start()
        eventually(face.cache._engine.trusted)
        assert face.get("/p/hot").status == 200
        proxy.on = True  # type: ignore[attr-defined]
        for number in range(10):
            assert face.get(f"/p/{number}").status == 200
            assert face.get("/p/hot").hit
        assert proxy.resets > 0  # type: ignore[attr-defined]
        proxy.on = False  # type: ignore[attr-defined]
        other = world.face(Origin(), one_redis.url, rules=RULES)
        numbers = iter(range(100, 100_000))

        def of_one_mind() -> bool:
            url = f"/p/{next(numbers)}"
            face.get(url)
            return other.get(url).outcome == "tiercache; hit; detail=l2"

        eventually(of_one_mind)


def test_no_write_to_l2_fails_a_request(world: World, one_redis: RedisServer) -> None:
    assert one_redis.ask("FLUSHALL") == "+OK"
    face = world.face(Origin(), one_redis.url, rules=RULES)
    store: Any = face.cache._engine.shared

    def fail(*args: Any) -> None:
        raise RuntimeError("a fault of a client library")

    async def afail(*args: Any) -> None:
        fail()

    store.set, store.aset = fail, afail
    assert [face.get("/p/1").outcome for _ in range(2)] == ["tiercache; fwd=miss; stored", "tiercache; hit; detail=l1"]
    assert face.cache.stats()["swallowed"] == {"L2 write": 1}
