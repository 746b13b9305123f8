"""A purge that arrives while a stored response is being validated, or could stand in for an error: it is not brought
back by either."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.parity.conftest import World
from tests.parity.faces import Asked, Origin, Reply
from tiercache import ttl

ETAG = [("ETag", '"1"'), ("Content-Type", "text/plain")]
RULES: Any = {"/p/{id}": {"ttl": "10s", "stale_if_error": "1h", "tags": ["product:{id}"]}}


class Shop:
    """Says 304 to whoever validates; its first answer is old, every later one is new."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.status = 304
        self.made = 0

    def __call__(self, asked: Asked) -> Reply:
        if "if-none-match" in asked.fields:
            return Reply(b"", ETAG[:1] if self.status == 304 else ETAG, status=self.status, before=self.gate)
        self.made += 1
        return Reply(b"made %d" % self.made, ETAG)


@pytest.mark.parametrize("status", [304, 503])
def test_a_purge_while_the_app_is_asked(world: World, status: int) -> None:
    shop = Shop()
    origin = Origin(shop)
    face, hands = world.turnable(origin, rules=RULES)
    assert face.get("/p/1").body == b"made 1"
    hands.turn(11)
    shop.gate.clear()
    shop.status = status
    call = face.begin("/p/1")
    origin.wait_for_call()
    origin.wait_for_call()
    face.cache.purge(tags="product:1")
    shop.gate.set()
    response = call.result()
    if status == 503:
        # The error is the app's own answer; what could have hidden it is gone, and nothing is left to validate.
        assert response.status == 503
        assert face.get("/p/1").body == b"made 2"
    else:
        # What the 304 confirms is gone: the app is asked once more, plainly.
        assert (response.body, origin.calls) == (b"made 2", 3)
        assert "if-none-match" not in origin.asked[-1].fields
        assert face.get("/p/1").body == b"made 2"


def test_a_purge_before_the_app_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look into the store and the stamp: the stamp is new, so nothing else would kill what a 304 brings."""
    shop = Shop()
    face, hands = world.turnable(Origin(shop), rules=RULES)
    face.get("/p/1")
    hands.turn(11)
    ledger = face.cache._engine.ledger
    plain = type(ledger).stamp

    def late(self: Any) -> Any:
        monkeypatch.setattr(type(ledger), "stamp", plain)
        face.cache._engine.ledger.purge_locally(["h:t:product:1"], False, 0.0)
        return plain(self)

    monkeypatch.setattr(type(ledger), "stamp", late)
    assert face.get("/p/1").outcome.startswith("tiercache; fwd=stale; stored")
    assert "if-none-match" not in face.origin.asked[-1].fields


def test_a_purge_reaches_every_spelling_of_a_parameter(world: World) -> None:
    face = world.face(Origin(), rules={"/products/{id:int}": {"ttl": "10m", "tags": ["product:{id}"]}})
    face.get("/products/007")
    assert face.get("/products/007").hit
    face.cache.purge(tags="product:7")
    assert not face.get("/products/007").hit


def test_a_view_cannot_make_no_cache_a_hit(world: World) -> None:
    def answer(asked: Asked) -> Reply:
        ttl("10m")
        return Reply(b"page", [*ETAG, ("Cache-Control", "no-cache")])

    face = world.face(Origin(answer))
    for calls in (1, 2, 3):
        face.get("/p/1")
        assert face.origin.calls == calls


def test_no_room_for_another_thread_fails_no_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"/p/{id}": {"ttl": "10s", "stale_while_revalidate": "1h"}}
    face, hands = world.turnable(Origin(), rules=rules)
    face.get("/p/1")
    hands.turn(11)
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if self.name == "tiercache-refresh":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    for _ in range(10):
        assert face.get("/p/1").status == 200
    engine = face.cache._engine
    if world.kind == "wsgi":
        assert (engine.limits.refreshing, len(engine.flights)) == (0, 0)
