"""Rules that ask for strong consistency: a purge that has returned is seen, though nothing is heard of it."""

from __future__ import annotations

import threading
from typing import Any

from tests.parity.conftest import World
from tests.parity.faces import Face, Origin, Reply
from tests.parity.waiting import eventually, purge, silence, turn
from tests.servers import RedisServer

RULES: Any = {
    "/strong/{id}": {"ttl": "10m", "consistency": "strong", "tags": ["t:{id}"]},
    "/bounded/{id}": {"ttl": "10m", "tags": ["t:{id}"]},
}
BEHIND = "tiercache; fwd=bypass; stored; detail=behind"


def two(world: World, url: str, **settings: Any) -> tuple[Face, Face]:
    """One that purges, and one that hears nothing of it for minutes."""
    settings = {"staleness_bound": "600s", "strong_wait": "10s", **settings}
    one, deaf = (world.face(Origin(), url, RULES, **settings) for _ in range(2))
    return one, silence(deaf)


def test_the_next_request_sees_it(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)
    for url in ("/strong/1", "/bounded/1"):
        assert one.get(url).body == deaf.get(url).body
        assert deaf.get(url).hit
    purge(one, tags="t:1")
    # It does hear nothing, and what it asks for is not what others get.
    assert deaf.get("/bounded/1").hit
    assert deaf.get("/strong/1").body == b"answer 1"
    assert deaf.origin.calls == 1
    # Having asked, it knows.
    assert not deaf.get("/bounded/1").hit


def test_what_is_alive_is_answered_from_memory(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)
    one.get("/strong/1")
    assert deaf.get("/strong/1").outcome == "tiercache; hit; detail=l2"
    assert deaf.get("/strong/1").outcome == "tiercache; hit; detail=l1"
    assert deaf.get("/strong/1", method="HEAD").hit
    assert deaf.origin.calls == 0


def test_what_lies_in_redis_is_checked_too(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)
    one.get("/strong/1")
    purge(one, tags="t:1")
    assert not deaf.get("/strong/1").hit


def test_a_follower_gets_nothing_older(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)
    gate = threading.Event()
    deaf.origin.answer = lambda asked: Reply(
        b"answer %d" % deaf.origin.calls, before=gate if deaf.origin.calls == 1 else None
    )
    first = deaf.begin("/strong/1")
    deaf.origin.wait_for_call()
    purge(one, tags="t:1")
    second = deaf.begin("/strong/1")
    flights = deaf.cache._engine.flights
    eventually(lambda: any(flight.followers for flight in list(flights._by_key.values())))
    gate.set()
    assert first.result().body == b"answer 1"
    assert second.result().body == b"answer 2"


def test_without_redis_the_app_is_called_and_never_isolation(world: World) -> None:
    with RedisServer() as server:
        face = world.face(Origin(), server.url, RULES, strong_wait="5s")
        for url in ("/strong/1", "/bounded/1"):
            face.get(url)
            assert face.get(url).hit
        server.kill()
        eventually(lambda: face.cache._engine.failing)
        calls = face.origin.calls
        for more in (1, 2):
            assert face.get("/strong/1").outcome == BEHIND
            assert face.origin.calls == calls + more
        assert face.get("/bounded/1").hit
        assert face.cache.stats()["bypassed"]["behind"] == 2
        server.start()
        eventually(lambda: face.get("/strong/1").hit)


def test_who_wants_the_store_or_nothing_gets_nothing(world: World) -> None:
    """RFC 9111 §5.2.1.7, where the rule has clients obeyed."""
    rules = {"/s/{id}": {"ttl": "10m", "consistency": "strong", "client_directives": True}}
    with RedisServer() as server:
        face = world.face(Origin(), server.url, rules, strong_wait="5s")
        face.get("/s/1")
        only = [("Cache-Control", "only-if-cached")]
        assert face.get("/s/1", only).hit
        server.kill()
        eventually(lambda: face.cache._engine.failing)
        assert face.get("/s/1", only).status == 504
        assert face.origin.calls == 1


def test_a_process_past_its_trust_asks_once_and_goes_on(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)
    one.get("/strong/1")
    deaf.get("/strong/1")
    turn(deaf, 0.0)
    deaf.cache._engine.ledger.trusted_until = deaf.cache._engine.clock()
    assert deaf.get("/strong/1").hit
    assert deaf.cache._engine.trusted()


def test_without_a_shared_tier_every_hit_is_strong(world: World) -> None:
    face = world.face(Origin(), rules=RULES)
    face.get("/strong/1")
    assert face.get("/strong/1").outcome == "tiercache; hit; detail=l1"
    purge(face, tags="t:1")
    assert not face.get("/strong/1").hit
