"""HEAD, ranges, conditions, and unsafe requests: what reads the store, what passes it by, what empties it."""

from __future__ import annotations

import threading

import pytest

from tests.parity.conftest import Pair, World
from tests.parity.faces import Asked, Face, Origin, Reply

TEXT = ("Content-Type", "text/plain")
STORED = "tiercache; fwd=miss; stored"


def eventually_dead(face: Face, url: str) -> None:
    """Invalidations travel to other processes by themselves, in milliseconds."""
    for _ in range(5_000):
        if not face.get(url).hit:
            return
    raise AssertionError(f"{url} is still answered from the store")


# -- HEAD ------------------------------------------------------------------------------------------------------------


def test_head_never_fills_and_is_answered_from_a_stored_get(pair: Pair) -> None:
    fill, read = pair(Origin())
    assert fill.get("/p/1", method="HEAD").outcome == "tiercache; fwd=miss"
    assert fill.get("/p/1").outcome == STORED
    head = read.get("/p/1", method="HEAD")
    assert head.hit
    assert head.body == b""
    assert head.header("content-length") == "8"
    assert head.header("content-type") == "text/plain"
    assert read.get("/p/1").body == b"answer 2"


# -- conditions and ranges -------------------------------------------------------------------------------------------


def test_the_validator_that_is_added_answers_conditions(pair: Pair) -> None:
    fill, read = pair(Origin())
    fill.get("/p/1")
    etag = read.get("/p/1").header("etag")
    assert etag is not None
    assert etag.startswith('W/"')
    for value in (etag, f'"other", {etag}', "*"):
        response = read.get("/p/1", [("If-None-Match", value)])
        assert (response.status, response.body) == (304, b"")
        assert response.reason in (None, "Not Modified")
        assert response.header("etag") == etag
        assert response.hit
    response = read.get("/p/1", [("If-None-Match", '"other"')])
    assert (response.status, response.body) == (200, b"answer 1")
    assert read.cache.stats()["not_modified"] == 3


def test_the_apps_own_validators(pair: Pair) -> None:
    modified = "Wed, 21 Oct 2015 07:28:00 GMT"
    lines = [TEXT, ("ETag", '"v1"'), ("Last-Modified", modified)]
    fill, read = pair(Origin(Reply(headers=lines)))
    fill.get("/p/1")
    assert read.get("/p/1", [("If-None-Match", '"v1"')]).status == 304
    assert read.get("/p/1", [("If-Modified-Since", modified)]).status == 304
    assert read.get("/p/1", [("If-Modified-Since", "Wed, 21 Oct 2015 07:27:59 GMT")]).status == 200
    # RFC 9110 §13.1.3: beside If-None-Match it does not count.
    both = [("If-None-Match", '"v2"'), ("If-Modified-Since", modified)]
    assert read.get("/p/1", both).status == 200
    assert fill.origin.calls == 1


def test_a_range_that_the_store_cannot_answer_goes_by(world: World) -> None:
    face = world.face(Origin())
    for _ in range(2):
        assert face.get("/p/1", [("Range", "bytes=0-1")]).outcome == "tiercache; fwd=request; detail=range"
    assert face.origin.asked[0].fields["range"] == "bytes=0-1"
    assert face.cache.stats()["stored"] == 0
    assert face.get("/p/1").outcome == STORED


def test_a_condition_where_no_rule_expects_something_to_store_goes_by(world: World) -> None:
    face = world.face(Origin())
    assert face.get("/other", [("If-None-Match", '"x"')]).outcome == "tiercache; fwd=request; detail=condition"
    assert face.origin.asked[0].fields["if-none-match"] == '"x"'


def test_a_condition_fills_where_a_rule_covers_the_url(world: World) -> None:
    """What browsers hold on to is asked for with conditions alone: if those did not fill, nothing ever would again."""
    face = world.face(Origin(Reply(headers=[TEXT, ("ETag", '"v1"')])))
    other = face.get("/p/1", [("If-None-Match", '"v0"')])
    assert (other.status, other.body, other.outcome) == (200, b"hello", STORED)
    # The condition is about what the client has, and would leave us with a 304 and nothing to store.
    assert "if-none-match" not in face.origin.asked[0].fields
    assert face.get("/p/1", [("If-None-Match", '"v1"')]).status == 304
    assert face.origin.calls == 1


@pytest.mark.parametrize("name", ["If-Match", "If-Unmodified-Since"])
def test_conditions_that_are_the_apps_alone(world: World, name: str) -> None:
    face = world.face(Origin())
    face.get("/p/1")
    assert face.get("/p/1", [(name, "x")]).outcome == "tiercache; fwd=bypass; detail=condition"
    assert face.origin.calls == 2


def test_ranges_of_a_stored_response(pair: Pair) -> None:
    fill, read = pair(Origin(Reply(b"0123456789", [TEXT, ("ETag", '"v1"'), ("Link", "</a>"), ("Link", "</b>")])))
    fill.get("/p/1")
    part = read.get("/p/1", [("Range", "bytes=2-4")])
    assert (part.status, part.body) == (206, b"234")
    assert part.header("content-range") == "bytes 2-4/10"
    assert part.header("content-length") == "3"
    assert part.all("link") == ["</a>", "</b>"]
    assert part.reason in (None, "Partial Content")
    assert part.hit
    assert read.get("/p/1", [("Range", "bytes=-3")]).body == b"789"
    beyond = read.get("/p/1", [("Range", "bytes=10-")])
    assert (beyond.status, beyond.body, beyond.header("content-range")) == (416, b"", "bytes */10")
    assert read.get("/p/1", [("Range", "bytes=0-1"), ("If-Range", '"v2"')]).status == 200
    assert read.get("/p/1", [("Range", "bytes=0-1"), ("If-Range", '"v1"')]).status == 206
    assert read.get("/p/1", [("Range", "lines=0-1")]).status == 200
    assert fill.origin.calls == 1


def test_a_range_does_not_wait_for_a_fill(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(before=None if "range" in asked.fields else gate))
    face = world.face(origin, lease_wait="30s")
    leader = face.begin("/p/1")
    origin.wait_for_call()
    assert face.get("/p/1", [("Range", "bytes=0-1")]).status == 200
    assert not leader.future.done()
    gate.set()
    assert leader.result().outcome == STORED


# -- unsafe requests -------------------------------------------------------------------------------------------------


def shop(asked: Asked) -> Reply:
    if asked.method in ("GET", "HEAD", "OPTIONS"):
        return Reply()
    status = int(asked.query or "200")
    places = {
        "/p/located": ("Location", "/p/2"),
        "/p/relative": ("Location", "2"),
        "/p/content": ("Content-Location", "http://shop.example/p/2?x=1"),
        "/p/port": ("Location", "http://SHOP.example:80/p/2"),
        "/p/elsewhere": ("Location", "http://other.example/p/2"),
        "/p/nowhere": ("Location", "http://[bad/p/2"),
    }
    lines = [place] if (place := places.get(asked.path)) else []
    return Reply(b"" if status == 204 else b"done", [*([] if status == 204 else [TEXT]), *lines], status, "Done")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_an_unsafe_request_invalidates_its_target(pair: Pair, method: str) -> None:
    fill, read = pair(Origin(shop))
    for url in ("/p/1", "/p/1?page=2", "/p/2"):
        fill.get(url)
        assert read.get(url).hit
    assert fill.get("/p/1", method=method).outcome == "tiercache; fwd=method"
    assert not fill.get("/p/1").hit
    assert not fill.get("/p/1?page=2").hit
    assert fill.get("/p/2").hit
    assert fill.cache.stats()["purges"] >= 1


def test_an_unsafe_request_elsewhere_invalidates_here(world: World, redis_url: str) -> None:
    one, two = world.face(Origin(shop), redis_url), world.face(Origin(shop), redis_url)
    two.get("/p/1")
    assert two.get("/p/1").hit
    one.get("/p/1", method="POST")
    eventually_dead(two, "/p/1")


@pytest.mark.parametrize(
    ("path", "dies"),
    [
        ("/p/located", True),
        ("/p/relative", True),
        ("/p/content", True),
        ("/p/port", True),
        ("/p/elsewhere", False),
        ("/p/nowhere", False),
    ],
)
def test_location_and_content_location_on_the_same_origin(world: World, path: str, dies: bool) -> None:
    face = world.face(Origin(shop))
    face.get("/p/2")
    assert face.get(path, method="POST").status == 200
    assert face.get("/p/2").hit is not dies


@pytest.mark.parametrize(("status", "dies"), [(200, True), (204, True), (303, True), (404, False), (500, False)])
def test_only_success_invalidates(world: World, status: int, dies: bool) -> None:
    face = world.face(Origin(shop))
    face.get("/p/1")
    face.get(f"/p/1?{status}", method="POST")
    assert face.get("/p/1").hit is not dies


def test_safe_methods_invalidate_nothing(world: World) -> None:
    face = world.face(Origin(shop))
    face.get("/p/1")
    for method in ("HEAD", "OPTIONS"):
        face.get("/p/1", method=method)
    assert face.get("/p/1").hit


def test_a_rule_adds_tags_to_what_is_invalidated(pair: Pair) -> None:
    rules = {
        "/p/{id}": {"ttl": "10m", "tags": ["p:{id}"], "invalidates": ["list:{id}"]},
        "/list": {"ttl": "10m", "tags": ["list:1"]},
        "/admin/{id}": {"cache": False, "invalidates": ["p:{id}"]},
    }
    fill, read = pair(Origin(shop), rules=rules)
    for url, unsafe in (("/list", "/p/1"), ("/p/1", "/admin/1")):
        fill.get(url)
        assert read.get(url).hit
        fill.get(unsafe, method="POST")
        assert not fill.get(url).hit


def test_a_beacon_that_changes_nothing_purges_nothing(pair: Pair) -> None:
    rules = {"/p/{id}": {"ttl": "10m", "tags": ["p:{id}"], "invalidates_target": False}}
    fill, read = pair(Origin(shop), rules=rules)
    fill.get("/p/1")
    assert fill.get("/p/1", method="POST").status == 200
    assert fill.get("/p/1").hit
    assert read.get("/p/1").hit
    assert fill.cache.stats()["purges"] == 0


def test_paths_of_an_unsafe_request_are_compared_decoded(world: World) -> None:
    face = world.face(Origin(shop))
    face.get("/p/caf%C3%A9")
    face.get("/p/%63af%c3%a9", method="POST")
    assert not face.get("/p/caf%C3%A9").hit


def test_an_app_that_commits_after_its_answer(world: World) -> None:
    """A fill between the answer and the commit has read old data, so that the invalidation is repeated at the end."""
    gate = threading.Event()
    state = ["old"]

    def answer(asked: Asked) -> Reply:
        return Reply([b"done", gate, b"."]) if asked.method == "POST" else Reply(state[0].encode())

    face = world.face(Origin(answer))
    change = face.begin("/p/1", method="POST")
    change.wait_for_chunk()
    assert face.get("/p/1").body == b"old"
    state[0] = "new"
    gate.set()
    change.result()
    assert face.get("/p/1").body == b"new"
