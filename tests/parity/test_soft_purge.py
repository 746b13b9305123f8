"""Soft purges: stale in place of dead."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.parity.conftest import World
from tests.parity.faces import Asked, Face, Origin, Reply
from tests.parity.waiting import attach, eventually, lifetime, purge

ETAG = [("ETag", '"1"'), ("Content-Type", "text/plain")]
RULES: Any = {
    "/swr/{id}": {"ttl": "10m", "stale_while_revalidate": "1m", "tags": ["t:{id}"]},
    "/plain/{id}": {"ttl": "10m", "tags": ["t:{id}"]},
    "/error/{id}": {"ttl": "10m", "stale_if_error": "1h", "tags": ["t:{id}"]},
}


class Shop:
    """Numbers what it makes; may have validators, be slow, or fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.validates = False
        self.status = 200
        self.made = 0

    def __call__(self, asked: Asked) -> Reply:
        if self.status != 200:
            return Reply(b"sorry", status=self.status)
        if self.validates and "if-none-match" in asked.fields:
            return Reply(b"", ETAG[:1], status=304, before=self.gate)
        self.made += 1
        return Reply(b"made %d" % self.made, ETAG if self.validates else ETAG[1:], before=self.gate)


def shop_with(world: World) -> tuple[Shop, Origin, Face, Any]:
    shop = Shop()
    origin = Origin(shop)
    face, hands = world.turnable(origin, rules=RULES)
    return shop, origin, face, hands


def test_stale_is_served_while_one_refresh_runs(world: World) -> None:
    shop, origin, face, _ = shop_with(world)
    face.get("/swr/1")
    purge(face, tags="t:1", soft=True)
    shop.gate.clear()
    answers = [face.get("/swr/1") for _ in range(5)]
    assert {response.body for response in answers} == {b"made 1"}
    assert all(response.hit for response in answers)
    assert all(lifetime(response) <= 0 for response in answers)
    eventually(lambda: origin.calls == 2)
    assert face.get("/swr/1").body == b"made 1"
    assert origin.calls == 2
    shop.gate.set()
    eventually(lambda: face.get("/swr/1").body == b"made 2")
    assert lifetime(face.get("/swr/1")) > 0
    assert origin.calls == 2


def test_past_the_window_the_request_waits(world: World) -> None:
    """The window begins with the purge and not with the end of the lifetime."""
    _, _, face, hands = shop_with(world)
    face.get("/swr/1")
    purge(face, tags="t:1", soft=True)
    hands.turn(59)
    assert face.get("/swr/2").body == b"made 2"
    hands.turn(2)
    assert face.get("/swr/1").body == b"made 3"


def test_in_the_window_of_the_purge_it_does_not(world: World) -> None:
    shop, _, face, hands = shop_with(world)
    face.get("/swr/1")
    purge(face, tags="t:1", soft=True)
    hands.turn(59)
    shop.gate.clear()
    assert face.get("/swr/1").body == b"made 1"
    shop.gate.set()


def test_a_304_brings_it_back(world: World) -> None:
    shop, origin, face, _ = shop_with(world)
    shop.validates = True
    face.get("/plain/1")
    purge(face, tags="t:1", soft=True)
    response = face.get("/plain/1")
    assert (response.body, response.status) == (b"made 1", 200)
    assert response.outcome.startswith("tiercache; hit; detail=validated") or "fwd=stale" in response.outcome
    assert origin.asked[-1].fields["if-none-match"] == '"1"'
    again = face.get("/plain/1")
    assert (again.hit, again.body, origin.calls) == (True, b"made 1", 2)
    assert lifetime(again) > 0


def test_without_a_window_the_next_request_waits(world: World) -> None:
    _, origin, face, _ = shop_with(world)
    face.get("/plain/1")
    purge(face, tags="t:1", soft=True)
    assert [face.get("/plain/1").body for _ in range(2)] == [b"made 2"] * 2
    assert origin.calls == 2


@pytest.mark.parametrize("soft", [True, False])
def test_it_may_stand_in_for_an_error_unless_it_is_dead(world: World, soft: bool) -> None:
    shop, _, face, _ = shop_with(world)
    face.get("/error/1")
    purge(face, tags="t:1", soft=soft)
    shop.status = 503
    response = face.get("/error/1")
    assert (response.status, response.body) == ((200, b"made 1") if soft else (503, b"sorry"))


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_with_a_hard_one_in_any_order_it_is_dead(world: World, order: tuple[bool, bool]) -> None:
    shop, origin, face, _ = shop_with(world)
    shop.validates = True
    for url in ("/swr/1", "/plain/1"):
        face.get(url)
    for soft in order:
        purge(face, tags="t:1", soft=soft)
    for url in ("/swr/1", "/plain/1"):
        assert face.get(url).body not in (b"made 1", b"made 2")
        assert "if-none-match" not in origin.asked[-1].fields


@pytest.mark.parametrize(
    "named", [{"tags": "t:1"}, {"urls": "/plain/1"}, {"route": "/plain/{id}"}, {"everything": True}]
)
def test_whatever_is_named_is_stale_and_not_dead(world: World, named: Any) -> None:
    shop, origin, face, _ = shop_with(world)
    shop.validates = True
    face.get("/plain/1")
    receipt = purge(face, soft=True, **named)
    assert receipt.everything == ("everything" in named)
    face.get("/plain/1")
    assert origin.asked[-1].fields["if-none-match"] == '"1"'
    assert origin.calls == 2


@pytest.mark.parametrize("url", ["/plain/1", "/swr/1"])
def test_a_fill_that_began_before_is_stale_when_it_lands(world: World, url: str) -> None:
    shop, origin, face, _ = shop_with(world)
    shop.gate.clear()
    first = face.begin(url)
    origin.wait_for_call()
    purge(face, tags="t:1", soft=True)
    follower = face.begin(url)
    engine = face.cache._engine
    eventually(lambda: any(flight.followers for flight in engine.flights._by_key.values()))
    shop.gate.set()
    assert first.result().body == b"made 1"
    # Stale while it is refreshed, or made anew; not fresh.
    after = follower.result()
    assert after.body == (b"made 2" if url == "/plain/1" else b"made 1")
    eventually(lambda: face.get(url).body == b"made 2")
    assert origin.calls == 2


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("url", ["/plain/1", "/swr/1"])
def test_another_process_validates_what_lies_in_redis(world: World, redis_url: str, late: bool, url: str) -> None:
    """`late`: it begins to listen when all is over."""
    shop = Shop()
    shop.validates = True
    origin, other_origin = Origin(shop), Origin(shop)
    one = world.face(origin, redis_url, RULES)
    other = world.face(other_origin, redis_url, RULES)
    one.get(url)
    if not late:
        attach(other)
    number = purge(one, tags="t:1", soft=True).number
    if not late:
        eventually(lambda: other.cache._engine.ledger.stamp().number == number)
    response = other.get(url)
    assert response.body == b"made 1"
    eventually(lambda: other_origin.calls == 1)
    assert other_origin.asked[0].fields["if-none-match"] == '"1"'
    eventually(lambda: lifetime(other.get(url)) > 0)
    assert (other_origin.calls, shop.made) == (1, 1)
