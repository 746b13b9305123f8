"""The same cache twice around an app, as by a middleware and by hand."""

from __future__ import annotations

from typing import Any
from wsgiref.validate import validator

from tests.parity.conftest import World
from tests.parity.faces import Origin, Reply

RULES = {"/p/{id}": {"ttl": "10m"}}


def test_the_inner_layer_does_not_wait_for_the_outer_one(world: World) -> None:
    """It would, for the fill that has called it, for as long as `lease_wait`."""
    origin = Origin()
    face = world.face(origin, lease_wait="1h")
    outer: Any = face.app  # type: ignore[attr-defined]

    def between(*args: Any) -> Any:
        """A framework, or a middleware: directly around each other the cache refuses to be put."""
        return outer(*args)

    if face.kind == "wsgi":
        twice: Any = validator(face.cache.wsgi(between))
    else:
        twice = face.cache.asgi(between)
    face.app = twice  # type: ignore[attr-defined]
    first = face.get("/p/1")
    assert first.body == b"answer 1"
    said = [word.removeprefix("tiercache; ") for word in first.all("cache-status")]
    assert said == ["fwd=bypass; detail=nested", "fwd=miss; stored"]
    assert face.get("/p/1").hit
    assert origin.calls == 1


def test_a_request_that_the_app_makes_to_itself_is_one_of_its_own(world: World) -> None:
    """Another URL within a fill is no nesting."""

    def answer(asked: Any) -> Reply:
        return Reply(b"part") if asked.path == "/p/2" else Reply(b"whole")

    origin = Origin(answer)
    face = world.face(origin)
    assert face.get("/p/2").body == b"part"
    assert face.get("/p/1").outcome == "tiercache; fwd=miss; stored"
    assert face.get("/p/2").hit
