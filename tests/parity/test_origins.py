"""CORS inside of the cache by an app that says no `Vary: Origin`, or not of every answer (the Fetch standard, "CORS
protocol and HTTP caches")."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.parity.conftest import Pair, World
from tests.parity.faces import Asked, Face, Origin, Reply, Response
from tests.parity.waiting import eventually
from tiercache.engine.origins import ENOUGH

TEXT = ("Content-Type", "text/plain")
A, B, EVIL = "https://a.example", "https://b.example", "https://evil.example"
EVERYBODY = (None, A, B, EVIL, "null")
Says = Callable[[str | None], Mapping[str, str]]


def allows_two(origin: str | None) -> Mapping[str, str]:
    """Falcon, Flask-Cors with `always_send=False`, quart-cors."""
    return {"Access-Control-Allow-Origin": origin} if origin in (A, B) else {}


def allows_two_and_says_so(origin: str | None) -> Mapping[str, str]:
    """Many: `Vary: Origin` where something is allowed, and only there."""
    return {**allows_two(origin), "Vary": "Origin"} if origin in (A, B) else {}


def echoes_with_credentials(origin: str | None) -> Mapping[str, str]:
    said = {"Access-Control-Allow-Origin": origin or "*", "Access-Control-Allow-Credentials": "true"}
    return said if origin != EVIL else {}


def everybody_who_asks(origin: str | None) -> Mapping[str, str]:
    """Starlette before it said `Vary`, with `allow_origins=["*"]`."""
    return {} if origin is None else {"Access-Control-Allow-Origin": "*"}


def a_first_one_by_default(origin: str | None) -> Mapping[str, str]:
    return {"Access-Control-Allow-Origin": origin if origin in (A, B) else A}


def refuses_by_null(origin: str | None) -> Mapping[str, str]:
    return {} if origin is None else {"Access-Control-Allow-Origin": origin if origin in (A, B) else "null"}


STYLES: list[Says] = [
    allows_two,
    allows_two_and_says_so,
    echoes_with_credentials,
    everybody_who_asks,
    a_first_one_by_default,
    refuses_by_null,
]


def app(says: Says, *more: tuple[str, str]) -> Origin:
    def answer(asked: Asked) -> Reply:
        said = list(says(asked.fields.get("origin")).items())
        return Reply(b"answer %d" % len(origin.asked), [TEXT, *said, *more])

    origin = Origin(answer)
    return origin


def ask(face: Face, origin: str | None, url: str = "/p/1", method: str = "GET", **more: str) -> Response:
    lines = [(name.replace("_", "-"), value) for name, value in more.items()]
    return face.get(url, lines if origin is None else [("Origin", origin), *lines], method)


def allowed(response: Response) -> str | None:
    return response.header("access-control-allow-origin")


def varies(response: Response) -> bool:
    return "origin" in ", ".join(response.all("vary")).lower()


@pytest.mark.parametrize("says", STYLES)
def test_every_origin_is_told_its_own_whoever_comes_first(pair: Pair, says: Says) -> None:
    fill, read = pair(app(says))
    for number, first in enumerate(itertools.permutations((None, A, B, EVIL), 2)):
        order = (*first, *[origin for origin in EVERYBODY if origin not in first])
        url = f"/p/{number}"
        for face in (fill, read):
            for origin in order:
                response = ask(face, origin, url)
                # Without an `Origin` nobody looks at what is said of them.
                assert origin is None or allowed(response) == says(origin).get("Access-Control-Allow-Origin"), order
    # None of them is left to the app for good.
    if says is not everybody_who_asks:
        assert [ask(read, origin).hit for origin in EVERYBODY] == [True] * 5


@pytest.mark.parametrize("says", STYLES)
def test_what_is_in_front_is_told_to_keep_them_apart(world: World, says: Says) -> None:
    """A browser and a CDN go by `Vary` alone, whether the answer comes from the app or from here."""
    face = world.face(app(says))
    for origin in (A, A, None, None):
        for method in ("GET", "HEAD"):
            response = ask(face, origin, method=method)
            one = allowed(response) not in (None, "*") or "credentials" in str(response.headers)
            assert varies(response) or not one
            assert len([word for word in ", ".join(response.all("vary")).split(", ") if word.lower() == "origin"]) < 2
    known = ask(face, A, If_None_Match=ask(face, A).header("etag") or "")
    assert known.status == 304
    assert varies(known) == (says is not everybody_who_asks)
    # Of a URL that is known to answer by origin, the answers that say nothing count too.
    assert varies(ask(face, None)) == (says is not everybody_who_asks)
    assert varies(ask(face, "https://never.seen.example")) == (says is not everybody_who_asks)


def test_an_answer_for_every_origin_is_one_for_all(pair: Pair) -> None:
    fill, read = pair(app(lambda origin: {"Access-Control-Allow-Origin": "*"}))
    ask(fill, A)
    for origin in EVERYBODY:
        response = ask(read, origin)
        assert response.hit
        assert not varies(response)
    assert fill.origin.calls == 1


def test_where_cors_stands_outside_all_origins_share_soon(world: World) -> None:
    """What says nothing to anybody is asked for a few origins, and then for none."""
    face = world.face(Origin())
    assert ask(face, None).body == b"answer 1"
    for number in range(ENOUGH):
        assert ask(face, f"https://{number}.example").outcome == "tiercache; fwd=vary-miss; stored"
        assert ask(face, f"https://{number}.example").hit
    for number in range(ENOUGH, 4 * ENOUGH):
        assert ask(face, f"https://{number}.example").hit
        assert ask(face, f"https://{number}.example", "/p/2").hit == (number > ENOUGH)
    assert ask(face, None).hit
    assert face.origin.calls == 1 + ENOUGH + 1
    assert not any(varies(ask(face, origin)) for origin in EVERYBODY)


def test_one_that_is_told_something_has_every_origin_asked_for_again(world: World) -> None:
    face = world.face(app(allows_two))
    for number in range(ENOUGH):
        ask(face, f"https://{number}.example", "/p/2")
    ask(face, None)
    assert allowed(ask(face, A)) is None
    # So many strangers before the first of its own: until that one is answered by the app, nothing is known of it.
    assert allowed(ask(face, A, "/p/3")) == A
    assert allowed(ask(face, A)) == A


def test_an_origin_that_is_allowed_later_is_asked_for_later(world: World) -> None:
    allowing: set[str] = set()
    origin = app(lambda origin: {"Access-Control-Allow-Origin": origin} if origin in allowing else {})
    face, hands = world.turnable(origin, rules={"/p/{id}": {"ttl": "10m"}})
    assert allowed(ask(face, A)) is None
    allowing.add(A)
    ask(face, None)
    assert allowed(ask(face, A)) is None
    hands.turn(601)
    ask(face, None)
    assert allowed(ask(face, A)) == A


def test_invented_origins_are_bounded_and_leave_the_plain_answer_to_the_fleet(world: World, redis_url: str) -> None:
    import redis

    face = world.face(app(allows_two), redis_url, max_variants=5)
    ask(face, A)
    for number in range(30):
        ask(face, f"https://{number}.example")
    memory = face.cache._engine.memory
    entries = [value for key in list(memory) if hasattr(value := memory.lookup(key), "response")]
    assert len(entries) == 5
    with redis.Redis.from_url(redis_url) as client:
        assert len([key for key in client.keys("tc:*") if client.type(key) == b"string"]) <= 5 + 2
    page, other = ask(face, None).body, world.face(app(allows_two), redis_url)
    assert ask(other, None).body == page
    assert allowed(ask(face, A)) == A
    assert allowed(ask(face, B)) == B


def test_what_is_remembered_of_origins_is_bounded(world: World) -> None:
    face = world.face(Origin())
    for number in range(3 * ENOUGH):
        ask(face, f"https://{number}.example", f"/p/{number}")
    ask(face, "https://" + "x" * 5_000, "/p/1")
    origins = face.cache._engine.origins
    assert len(origins._strangers) == ENOUGH
    assert all(len(origin or b"") < 100 for _, origin in origins._told._until)


# -- stale, validated, under way ---------------------------------------------------------------------------------------

STALE = {"/p/{id}": {"ttl": "10s", "stale_while_revalidate": "1h", "stale_if_error": "1h"}}


def test_a_stale_answer_that_says_nothing_is_not_for_an_origin(world: World) -> None:
    face, hands = world.turnable(app(allows_two), rules=STALE)
    ask(face, None)
    hands.turn(11)
    assert allowed(ask(face, A)) == A


def test_a_client_that_takes_stale_answers_takes_none_of_another_origin(world: World) -> None:
    rules = {"/p/{id}": {"ttl": "10s", "client_directives": True}}
    face, hands = world.turnable(app(allows_two), rules=rules)
    ask(face, None)
    hands.turn(11)
    assert ask(face, None, Cache_Control="max-stale").hit
    assert allowed(ask(face, A, Cache_Control="max-stale")) == A


def test_a_refresh_asks_for_the_origin_whose_answer_it_makes_anew(world: World) -> None:
    face, hands = world.turnable(app(everybody_who_asks), rules=STALE)
    ask(face, A)
    hands.turn(11)
    face.origin.wait_for_call()
    assert allowed(ask(face, B)) == "*"
    face.origin.wait_for_call()
    assert face.origin.asked[-1].fields.keys() == {"host", "origin"}
    eventually(lambda: ask(face, B).body == b"answer 2")
    assert allowed(ask(face, A)) == "*"
    assert face.origin.calls == 2


def test_no_patience_ends_with_the_answer_of_another_origin(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"", [TEXT, *allows_two(asked.fields.get("origin")).items()], before=gate))
    rules = {"/p/{id}": {"ttl": "10s", "stale_if_error": "1h", "serve_stale_after": "1ms"}}
    face, hands = world.turnable(origin, rules=rules)
    gate.set()
    ask(face, None)
    gate.clear()
    hands.turn(11)
    assert ask(face, None).outcome == "tiercache; hit; detail=slow"
    call = face.begin("/p/1", [("Origin", A)])
    call.begun.wait(0.05)
    gate.set()
    assert allowed(call.result()) == A


def test_an_error_is_hidden_from_an_origin_too(world: World) -> None:
    """The error would say nothing of origins either."""
    origin = app(allows_two)
    face, hands = world.turnable(origin, rules=STALE)
    ask(face, None)
    hands.turn(11)
    origin.answer = Reply(status=500, reason="Internal Server Error")
    assert ask(face, A).status == 200


def test_a_304_that_allows_an_origin_is_its_own(pair: Pair) -> None:
    """RFC 9111 §4.3.4: what an app confirms for one origin is stored for that one."""

    def answer(asked: Asked) -> Reply:
        said = [("ETag", '"1"'), *allows_two(asked.fields.get("origin")).items()]
        if asked.fields.get("if-none-match") == '"1"':
            return Reply(b"", said, 304, "Not Modified")
        return Reply(b"page", [TEXT, *said])

    fill, read = pair(Origin(answer))
    assert allowed(ask(fill, None)) is None
    for face in (fill, read):
        for origin in (A, B, None, EVIL, A):
            response = ask(face, origin)
            assert (response.status, response.body) == (200, b"page")
            assert allowed(response) == (origin if origin in (A, B) else None)


def test_a_head_for_an_origin_is_answered_for_it(world: World) -> None:
    face = world.face(app(allows_two, ("ETag", '"1"')))
    ask(face, None)
    for origin in (A, B, EVIL):
        assert allowed(ask(face, origin, method="HEAD")) == (origin if origin in (A, B) else None)
        assert allowed(ask(face, origin)) == (origin if origin in (A, B) else None)
    assert allowed(ask(face, None)) is None


def test_one_who_waits_for_an_answer_that_says_nothing_asks_for_itself(world: World) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"page", [TEXT, *allows_two(asked.fields.get("origin")).items()], before=gate))
    face = world.face(origin)
    first = face.begin("/p/1")
    origin.wait_for_call()
    others = [face.begin("/p/1", [("Origin", name)]) for name in (A, B, A, EVIL)]
    flights = face.cache._engine.flights
    eventually(lambda: sum(flight.followers for flight in flights._by_key.values()) == len(others))
    gate.set()
    assert allowed(first.result()) is None
    assert [allowed(call.result()) for call in others] == [A, B, A, None]


# -- the key, other releases, purges -----------------------------------------------------------------------------------


def test_a_rule_that_keys_by_origin_needs_no_variants(world: World) -> None:
    face = world.face(app(allows_two), rules={"/p/{id}": {"ttl": "10m", "headers": ["origin"]}})
    for _ in range(2):
        for origin in EVERYBODY:
            response = ask(face, origin)
            assert allowed(response) == (origin if origin in (A, B) else None)
            assert varies(response)
    assert response.hit
    assert face.origin.calls == len(EVERYBODY)
    memory = face.cache._engine.memory
    assert not [key for key in list(memory) if hasattr(memory.lookup(key), "names")]


def test_what_a_release_that_did_not_look_has_stored(
    world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (world.face(app(allows_two), redis_url) for _ in range(2))
    with monkeypatch.context() as patched:
        patched.setattr("tiercache.core.decisions.open_to_origins", lambda fields, asked=None: None)
        assert allowed(ask(old, A)) == A
    plain = ask(new, None)
    assert plain.outcome == "tiercache; hit; detail=l2"
    assert varies(plain)
    for origin in (B, EVIL, A):
        assert allowed(ask(new, origin)) == (origin if origin in (A, B) else None)


def test_such_an_answer_is_no_stale_one_for_others_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = app(allows_two)
    face, hands = world.turnable(origin, rules=STALE)
    with monkeypatch.context() as patched:
        patched.setattr("tiercache.core.decisions.open_to_origins", lambda fields, asked=None: None)
        ask(face, A)
    hands.turn(11)
    origin.answer = Reply(status=500, reason="Internal Server Error")
    assert ask(face, B).status == 500


@pytest.mark.parametrize("what", [{"tags": ["p:1"]}, {"urls": ["/p/1"]}, {"prefix": "/p/"}])
def test_a_purge_reaches_the_answers_to_all_origins(pair: Pair, what: Any) -> None:
    fill, read = pair(app(allows_two), rules={"/p/{id}": {"ttl": "10m", "tags": ["p:{id}"]}})
    for face in (fill, read):
        for origin in EVERYBODY:
            ask(face, origin)
    assert all(ask(read, origin).hit for origin in EVERYBODY)
    before = {ask(read, origin).body for origin in EVERYBODY}
    fill.cache.purge(**what)
    eventually(lambda: before.isdisjoint({ask(read, origin).body for origin in EVERYBODY}))


def test_timing_for_one_origin(pair: Pair) -> None:
    fill, read = pair(app(lambda origin: {"Timing-Allow-Origin": origin} if origin in (A, B) else {}))
    for face in (fill, read):
        for origin in EVERYBODY:
            told = ask(face, origin).header("timing-allow-origin")
            assert told == (origin if origin in (A, B) else None)


def test_a_plain_request_finds_what_it_always_found(world: World) -> None:
    """No variants and no second copy because of origins, where the app says nothing of them."""
    face = world.face(Origin())
    ask(face, None)
    ask(face, A)
    assert len(face.cache._engine.memory) == 1
