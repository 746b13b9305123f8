"""`on_lost_history`: Redis has lost its record of purges, and what was stored may be used as stale."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.parity.conftest import World
from tests.parity.faces import Asked, Face, Origin, Reply
from tests.parity.waiting import attach, eventually, lifetime, purge, turn
from tests.servers import RedisServer

ETAG = [("ETag", '"1"'), ("Content-Type", "text/plain")]
RULES: Any = {
    "/swr/{id}": {"ttl": "10m", "stale_while_revalidate": "1m", "stale_if_error": "1h", "tags": ["t:{id}"]},
    "/plain/{id}": {"ttl": "10m", "stale_if_error": "1h", "tags": ["t:{id}"]},
    "/strong/{id}": {"ttl": "10m", "stale_while_revalidate": "1m", "consistency": "strong"},
}


class Shop:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, asked: Asked) -> Reply:
        if "if-none-match" in asked.fields:
            return Reply(b"", ETAG[:1], status=304, before=self.gate)
        return Reply(b"made", ETAG, before=self.gate)


class Scene:
    def __init__(self, world: World, server: RedisServer, keep: str = "stale") -> None:
        self.server = server
        self.shop = Shop()
        self.origin = Origin(self.shop)
        options: Any = {"staleness_bound": "300ms", "strong_wait": "10s", "on_lost_history": keep}
        self.face: Face = attach(world.face(self.origin, server.url, RULES, **options))

    def lose(self, how: str = "flush") -> None:
        ledger = self.face.cache._engine.ledger
        epoch = ledger.stamp().epoch
        if how == "flush":
            assert self.server.ask("FLUSHALL") == "+OK"
        else:
            self.server.kill()
            self.server.start()
        eventually(lambda: ledger.stamp().epoch != epoch and self.face.cache._engine.trusted())

    def plainly(self, url: str) -> bool:
        """Whether a request for it leads to the app, and nothing that is stored is made use of."""
        calls = self.origin.calls
        response = self.face.get(url)
        asked = self.origin.asked[calls:]
        return len(asked) == 1 and "if-none-match" not in asked[0].fields and not response.hit


@pytest.fixture
def server(one_redis: RedisServer) -> RedisServer:
    assert one_redis.ask("FLUSHALL") == "+OK"
    return one_redis


@pytest.mark.parametrize("how", ["flush", "restart"])
def test_it_is_served_stale_while_it_is_refreshed(world: World, how: str) -> None:
    with RedisServer() as server:
        scene = Scene(world, server)
        scene.face.get("/swr/1")
        scene.lose(how)
        scene.shop.gate.clear()
        for _ in range(3):
            response = scene.face.get("/swr/1")
            assert (response.body, response.hit) == (b"made", True)
            assert lifetime(response) <= 0
        eventually(lambda: scene.origin.calls == 2)
        assert scene.origin.asked[1].fields["if-none-match"] == '"1"'
        scene.shop.gate.set()
        eventually(lambda: lifetime(scene.face.get("/swr/1")) > 0)
        assert scene.origin.calls == 2


def test_by_default_it_is_dead(world: World, server: RedisServer) -> None:
    scene = Scene(world, server, "dead")
    scene.face.get("/swr/1")
    scene.lose()
    assert scene.plainly("/swr/1")


def test_past_its_window_it_is_dead(world: World, server: RedisServer) -> None:
    """Though it is looked at for the first time since the loss."""
    scene = Scene(world, server)
    scene.face.get("/swr/1")
    scene.lose()
    turn(scene.face, 61)
    assert scene.plainly("/swr/1")


def test_where_no_rule_gives_it_a_window_it_is_dead(world: World, server: RedisServer) -> None:
    scene = Scene(world, server)
    scene.face.get("/plain/1")
    scene.lose()
    assert scene.plainly("/plain/1")


def test_it_hides_no_error_past_its_window(world: World, server: RedisServer) -> None:
    scene = Scene(world, server)
    scene.face.get("/swr/1")
    scene.lose()
    turn(scene.face, 61)
    scene.origin.answer = Reply(b"sorry", status=503)
    assert scene.face.get("/swr/1").status == 503


@pytest.mark.parametrize("named", [{"tags": "t:1"}, {"prefix": "/swr/1"}, {"urls": "/swr/1"}])
@pytest.mark.parametrize("when", ["before", "after"])
def test_hard_purges_of_before_and_after_still_kill(world: World, server: RedisServer, when: str, named: Any) -> None:
    scene = Scene(world, server)
    for url in ("/swr/1", "/swr/2"):
        scene.face.get(url)
    if when == "before":
        purge(scene.face, **named)
    scene.lose()
    if when == "after":
        purge(scene.face, **named)
    assert scene.plainly("/swr/1")
    assert scene.face.get("/swr/2").hit


def test_a_purge_that_finds_the_loss_kills_too(world: World, server: RedisServer) -> None:
    scene = Scene(world, server)
    for url in ("/swr/1", "/swr/2"):
        scene.face.get(url)
    assert server.ask("FLUSHALL") == "+OK"
    purge(scene.face, tags="t:1")
    assert scene.plainly("/swr/1")
    assert scene.face.get("/swr/2").hit


def test_a_strong_rule_uses_nothing_of_it(world: World, server: RedisServer) -> None:
    """A purge may have been lost with the record, and this is a promise without exceptions."""
    scene = Scene(world, server)
    scene.face.get("/strong/1")
    assert scene.face.get("/strong/1").hit
    scene.lose()
    assert scene.plainly("/strong/1")
    assert scene.face.get("/strong/1").hit
