"""A view with a decorator and no rule: what a client has of it refills the store."""

from __future__ import annotations

from tests.parity.conftest import World
from tests.parity.faces import Asked, Face, Origin, Reply

TEXT = [("Content-Type", "text/plain")]


def declared(world: World) -> Face:
    def view(asked: Asked) -> Reply:
        return Reply(b"page", TEXT)

    origin = Origin(view)
    face = world.face(origin, rules={})
    origin.answer = face.cache.cached(ttl="10m")(view)
    return face


def test_a_client_that_has_it_fills_a_process_that_has_not(world: World) -> None:
    first = declared(world)
    first.get("/page")
    etag = first.get("/page").header("etag")
    assert etag is not None
    other = declared(world)
    response = other.get("/page", [("If-None-Match", etag)])
    assert response.outcome.startswith("tiercache; fwd=miss; stored")
    assert "if-none-match" not in other.origin.asked[0].fields
    assert other.get("/page", [("If-None-Match", etag)]).status == 304
    assert other.get("/page").hit
    assert other.origin.calls == 1


def test_one_that_was_purged_is_filled_again(world: World) -> None:
    face = declared(world)
    face.get("/page")
    etag = face.get("/page").header("etag")
    assert etag is not None
    face.cache.purge(urls="/page")
    face.get("/page", [("If-None-Match", etag)])
    assert face.get("/page").hit
    assert face.origin.calls == 2


def test_a_validator_of_the_apps_own_goes_to_the_app(world: World) -> None:
    """Nothing says that what it answers is for the store."""
    face = declared(world)
    face.get("/page", [("If-None-Match", '"theirs"')])
    assert face.origin.asked[0].fields["if-none-match"] == '"theirs"'
    assert not face.get("/page").hit
