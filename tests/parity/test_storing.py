"""What is stored and what is not (RFC 9111 §3), as a client and the app notice it."""

from __future__ import annotations

import pytest

from tests.parity.conftest import World
from tests.parity.faces import Asked, Origin, Reply
from tiercache import tag, ttl

TEXT = ("Content-Type", "text/plain")


def twice(world: World, reply: Reply, url: str = "/p/1", **options: object) -> list[str]:
    """The outcomes of two requests one after the other."""
    face = world.face(Origin(reply), **options)  # type: ignore[arg-type]
    return [face.get(url).outcome for _ in range(2)]


def test_a_miss_is_stored_and_then_hit(world: World) -> None:
    origin = Origin()
    face = world.face(origin)
    first, second = face.get("/p/1"), face.get("/p/1")
    assert first.outcome == "tiercache; fwd=miss; stored"
    assert second.outcome == "tiercache; hit; detail=l1"
    assert second.body == first.body == b"answer 1"
    assert origin.calls == 1
    assert first.header("age") is None
    assert second.header("age") == "0"
    assert second.header("content-length") == "8"
    assert second.header("content-type") == "text/plain"
    stats = face.cache.stats()
    assert (stats["hits_l1"], stats["misses"], stats["stored"]) == (1, 1, 1)


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
def test_only_get_and_head_use_the_store(world: World, method: str) -> None:
    origin = Origin()
    face = world.face(origin)
    face.get("/p/2")
    assert face.get("/p/1", method=method).outcome == "tiercache; fwd=method"
    assert face.get("/p/1", method=method).outcome == "tiercache; fwd=method"
    assert origin.calls == 3


@pytest.mark.parametrize(
    ("directive", "reason"),
    [
        ("no-store", "no-store"),
        ("private", "private"),
        ("no-cache", "no-cache"),
        ("max-age=60, private", "private"),
        ("No-Store", "no-store"),
        ("s-maxage=0", "expired"),
    ],
)
def test_a_rule_does_not_overrule_the_app(world: World, directive: str, reason: str) -> None:
    reply = Reply(headers=[TEXT, ("Cache-Control", directive)])
    assert twice(world, reply) == [f"tiercache; fwd=miss; detail={reason}"] * 2


def test_a_refused_response_leaves_as_it_came(world: World) -> None:
    reply = Reply(headers=[TEXT, ("Cache-Control", "private, max-age=5"), ("Expires", "0")])
    face = world.face(Origin(reply), rules={"/p/{id}": {"ttl": "10m", "cdn_ttl": "1d", "browser_ttl": "5m"}})
    response = face.get("/p/1")
    assert response.header("cache-control") == "private, max-age=5"
    assert response.header("cdn-cache-control") is None
    assert response.header("expires") == "0"
    assert response.header("age") is None


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308])
def test_statuses_that_a_rule_stores(world: World, status: int) -> None:
    body = b"" if status == 204 else b"body"
    headers = [] if status == 204 else [TEXT]
    reply = Reply(body, headers, status, "Certainly")
    assert twice(world, reply) == ["tiercache; fwd=miss; stored", "tiercache; hit; detail=l1"]


@pytest.mark.parametrize("status", [201, 302, 404, 410, 500, 503])
def test_statuses_that_need_the_apps_word(world: World, status: int) -> None:
    assert twice(world, Reply(status=status)) == ["tiercache; fwd=miss; detail=status"] * 2
    explicit = Reply(status=status, headers=[TEXT, ("Cache-Control", "max-age=60")])
    assert twice(world, explicit) == ["tiercache; fwd=miss; stored", "tiercache; hit; detail=l1"]
    rules = {"/p/{id}": {"ttl": "10m", "ttl_by_status": {status: "10s"}}}
    assert twice(world, Reply(status=status), rules=rules)[1] == "tiercache; hit; detail=l1"


@pytest.mark.parametrize("status", [206, 400, 405, 413, 414, 431, 501])
def test_statuses_that_are_never_stored(world: World, status: int) -> None:
    explicit = Reply(status=status, headers=[TEXT, ("Cache-Control", "public, max-age=60")])
    assert twice(world, explicit) == ["tiercache; fwd=miss; detail=status"] * 2


@pytest.mark.parametrize("status", [302, 403, 404, 500, 503])
def test_a_view_that_names_a_lifetime_and_then_fails(world: World, status: int) -> None:
    """The page of an error would else be everybody's for as long as that, and what one client is refused as well."""

    def answer(asked: Asked) -> Reply:
        ttl("10m")
        return Reply(status=status, reason="Whatever")

    face = world.face(Origin(answer))
    assert face.get("/p/1").outcome.endswith("stored" if status < 400 else "detail=status")
    assert face.get("/p/1").hit == (status < 400)


def test_without_a_rule_only_the_apps_word_counts(world: World) -> None:
    assert twice(world, Reply(), "/other") == [
        "tiercache; fwd=miss; detail=no-lifetime",
        "tiercache; fwd=bypass; detail=remembered",
    ]
    for value in ("max-age=60", "s-maxage=60", "public, max-age=60"):
        reply = Reply(headers=[TEXT, ("Cache-Control", value)])
        assert twice(world, reply, "/other")[1] == "tiercache; hit; detail=l1"


def test_a_route_without_cache(world: World) -> None:
    reply = Reply(headers=[TEXT, ("Cache-Control", "max-age=60")])
    rules = {"/p/{id}": {"cache": False}}
    assert twice(world, reply, rules=rules) == ["tiercache; fwd=bypass; detail=route"] * 2


def test_set_cookie_is_never_stored(world: World) -> None:
    reply = Reply(headers=[TEXT, ("Set-Cookie", "session=1"), ("Cache-Control", "public, s-maxage=60")])
    assert twice(world, reply) == ["tiercache; fwd=miss; detail=set-cookie"] * 2


def test_a_cookie_that_may_be_dropped(world: World) -> None:
    origin = Origin(Reply(headers=[TEXT, ("Set-Cookie", "seen=1; Path=/")]))
    face = world.face(origin, rules={"/p/{id}": {"ttl": "10m", "drop_cookies": ["seen"], "cdn_ttl": "1d"}})
    first, second = face.get("/p/1"), face.get("/p/1")
    assert first.all("set-cookie") == ["seen=1; Path=/"]
    assert second.hit
    assert second.all("set-cookie") == []
    # The first is one visitor's own: a CDN that stored it would hand its cookie to everybody.
    assert first.header("cdn-cache-control") is None
    assert second.header("cdn-cache-control") == "max-age=86400"


def test_another_cookie_beside_one_that_may_be_dropped(world: World) -> None:
    reply = Reply(headers=[TEXT, ("Set-Cookie", "seen=1"), ("Set-Cookie", "session=1")])
    rules = {"/p/{id}": {"ttl": "10m", "drop_cookies": ["seen"]}}
    assert twice(world, reply, rules=rules) == ["tiercache; fwd=miss; detail=set-cookie"] * 2


def test_repeated_fields_and_raw_bytes_survive_a_hit(world: World) -> None:
    raw = "caf\xe9 \xfc\xff"
    lines = [("Link", "</a>; rel=preload"), TEXT, ("X-Raw", raw), ("Link", "</b>; rel=next"), ("X-Empty", "")]
    face = world.face(Origin(Reply(headers=lines)))
    for response in (face.get("/p/1"), face.get("/p/1"), face.get("/p/1", method="HEAD")):
        assert response.all("link") == ["</a>; rel=preload", "</b>; rel=next"]
        assert response.all("x-raw") == [raw]
        assert response.all("x-empty") == [""]
    assert face.origin.calls == 1


def test_a_reason_phrase_is_kept_where_the_face_has_one(world: World) -> None:
    for reason in ("Fine By Me", ""):
        face = world.face(Origin(Reply(reason=reason)))
        first, second = face.get("/p/1"), face.get("/p/1")
        assert second.hit
        assert first.reason == second.reason == (None if world.kind == "asgi" else reason)


@pytest.mark.parametrize("length", ["4", "6", "5, 6", "five"])
def test_a_body_that_is_not_as_long_as_announced(world: World, length: str) -> None:
    reply = Reply(b"12345", [TEXT, ("Content-Length", length)])
    face = world.face(Origin(reply))
    assert face.get("/p/1").body == b"12345"
    assert not face.get("/p/1").hit
    assert face.cache.stats()["refused"] == {"incomplete": 2}


def test_a_body_that_is_exactly_as_long_as_announced(world: World) -> None:
    assert twice(world, Reply(b"12345", [TEXT, ("Content-Length", "5")]))[1] == "tiercache; hit; detail=l1"


def test_bodies_up_to_max_body(world: World) -> None:
    fitting, larger = Reply([b"x" * 600, b"y" * 400]), Reply([b"x" * 600, b"y" * 401])
    assert twice(world, fitting, max_body=1_000)[1] == "tiercache; hit; detail=l1"
    assert twice(world, larger, max_body=1_000)[1] != "tiercache; hit; detail=l1"
    announced = Reply(b"x" * 1_001, [TEXT, ("Content-Length", "1001")])
    assert twice(world, announced, max_body=1_000) == ["tiercache; fwd=miss; detail=too-large"] * 2
    rules = {"/p/{id}": {"ttl": "10m", "max_body": 2_000}}
    assert twice(world, larger, max_body=1_000, rules=rules)[1] == "tiercache; hit; detail=l1"


def test_nothing_says_stored_where_the_last_body_was_too_large(world: World) -> None:
    """The head leaves before anything is known of a body without a length: only the first time may it be wrong."""
    bodies = [b"x" * 1_001, b"x" * 1_001, b"x"]
    face = world.face(Origin(lambda asked: Reply([bodies[face.origin.calls - 1]])), max_body=1_000)
    outcomes = [face.get("/p/1").outcome for _ in range(4)]
    assert outcomes == [
        "tiercache; fwd=miss; stored",
        "tiercache; fwd=miss",
        "tiercache; fwd=miss",
        "tiercache; hit; detail=l1",
    ]
    assert face.cache.stats()["refused"] == {"too-large": 2}


def test_a_body_of_nothing(world: World) -> None:
    face = world.face(Origin(Reply(b"")))
    assert [face.get("/p/1").body for _ in range(2)] == [b"", b""]
    assert face.origin.calls == 1


def test_an_app_that_fails_in_mid_body_stores_nothing(world: World) -> None:
    boom = RuntimeError("in mid-body")
    replies = iter([Reply([b"half", boom]), Reply(b"whole")])
    face = world.face(Origin(lambda asked: next(replies)))
    with pytest.raises(RuntimeError, match="in mid-body") as caught:
        face.get("/p/1")
    assert caught.value is boom
    assert face.get("/p/1").body == b"whole"
    assert face.get("/p/1").hit
    assert len(face.cache._engine.flights) == 0


def test_an_app_that_fails_before_the_head(world: World) -> None:
    def answer(asked: Asked) -> Reply:
        raise ValueError("no head")

    face = world.face(Origin(answer))
    for _ in range(2):
        with pytest.raises(ValueError, match="no head"):
            face.get("/p/1")
    assert face.origin.calls == 2
    assert len(face.cache._engine.flights) == 0


def test_a_get_with_content_bypasses(world: World) -> None:
    face = world.face(Origin())
    assert face.get("/p/1", content=b"question").outcome == "tiercache; fwd=bypass; detail=body"
    assert face.get("/p/1").outcome == "tiercache; fwd=miss; stored"
    assert face.get("/p/1", content=b"question").outcome == "tiercache; fwd=bypass; detail=body"
    assert face.origin.calls == 3


def test_caching_switched_off(world: World) -> None:
    face = world.face(Origin(), enabled=False)
    responses = [face.get("/p/1") for _ in range(2)]
    assert [response.body for response in responses] == [b"answer 1", b"answer 2"]
    assert [response.all("cache-status") for response in responses] == [[], []]


def test_cache_status_and_age_switched_off(world: World) -> None:
    face = world.face(Origin(), cache_status=False, age=False)
    for url in ("/p/1", "/p/1", "/other"):
        response = face.get(url)
        assert response.all("cache-status") == []
        assert response.all("age") == []
    assert face.origin.calls == 2


def test_what_a_view_says_in_mid_body_still_counts(world: World) -> None:
    def answer(asked: Asked) -> Reply:
        tag("late")
        return Reply([b"a", b"b"])

    face = world.face(Origin(answer))
    face.get("/p/1")
    assert face.get("/p/1").hit
    face.cache.purge(tags="late")
    assert not face.get("/p/1").hit
