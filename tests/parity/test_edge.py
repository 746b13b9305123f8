"""What leaves towards browsers and CDNs, and how it changes with age."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from tests.parity.conftest import World
from tests.parity.faces import Asked, Origin, Reply

TEXT = ("Content-Type", "text/plain")


def two_ages(world: World, headers: Any, policy: dict[str, Any], after: float = 40) -> list[Any]:
    """The answer from the app, and the one from the store some seconds later."""
    face, hands = world.turnable(Origin(Reply(headers=[TEXT, *headers])), rules={"/p/{id}": policy})
    first = face.get("/p/1")
    hands.turn(after)
    second = face.get("/p/1")
    assert second.hit
    return [first, second]


def test_browsers_revalidate_where_a_rule_gives_only_ttl(world: World) -> None:
    for response in two_ages(world, [], {"ttl": "10m"}):
        assert response.header("cache-control") == "max-age=0, must-revalidate"
        assert response.header("cdn-cache-control") is None


def test_browser_and_cdn_lifetimes_count_from_when_they_are_sent(world: World) -> None:
    policy = {"ttl": "10m", "browser_ttl": "30s", "cdn_ttl": "1d"}
    first, second = two_ages(world, [("Cache-Control", "public")], policy)
    assert first.header("age") is None
    assert second.header("age") == "40"
    # The recipient subtracts Age (RFC 9111 §4.2.3).
    assert first.header("cache-control") == "public, max-age=30"
    assert second.header("cache-control") == "public, max-age=70"
    assert first.header("cdn-cache-control") == "max-age=86400"
    assert second.header("cdn-cache-control") == "max-age=86440"


def test_the_apps_own_lifetime_leaves_as_it_is(world: World) -> None:
    for response in two_ages(world, [("Cache-Control", "max-age=60, s-maxage=600")], {"ttl": "10m"}):
        assert response.header("cache-control") == "max-age=60, s-maxage=600"


def test_a_date_of_the_app_is_stored_and_replayed(world: World) -> None:
    face, hands = world.turnable(Origin())
    date = formatdate(hands.wall(), usegmt=True)
    expires = formatdate(hands.wall() + 100, usegmt=True)
    face.origin.answer = Reply(headers=[TEXT, ("Date", date), ("Expires", expires)])
    face.get("/p/1")
    hands.turn(40)
    hit = face.get("/p/1")
    assert (hit.header("date"), hit.header("expires"), hit.header("age")) == (date, expires, "40")
    hands.turn(60)
    assert not face.get("/p/1").hit


def test_an_expires_without_a_date_leaves_as_max_age(world: World) -> None:
    """The server adds a Date of its own to each answer: beside it, an absolute Expires counts the time here twice."""
    face, hands = world.turnable(Origin())
    face.origin.answer = Reply(headers=[TEXT, ("Expires", formatdate(hands.wall() + 100, usegmt=True))])
    face.get("/p/1")
    hands.turn(40)
    hit = face.get("/p/1")
    assert hit.header("expires") is None
    assert hit.header("date") is None
    assert (hit.header("cache-control"), hit.header("age")) == ("max-age=100", "40")


def test_the_age_that_a_response_came_with_counts(world: World) -> None:
    face, hands = world.turnable(Origin(Reply(headers=[TEXT, ("Cache-Control", "max-age=100"), ("Age", "30")])))
    first = face.get("/p/1")
    assert first.all("age") == ["30"]
    hands.turn(69)
    assert face.get("/p/1").header("age") == "99"
    hands.turn(1)
    assert not face.get("/p/1").hit


def test_the_time_to_live_is_told_and_kept(world: World) -> None:
    face, hands = world.turnable(Origin())
    face.get("/p/1")
    assert face.get("/p/1").all("cache-status") == ["tiercache; hit; ttl=600; detail=l1"]
    hands.turn(599)
    hit = face.get("/p/1")
    assert hit.all("cache-status") == ["tiercache; hit; ttl=1; detail=l1"]
    assert hit.header("age") == "599"
    hands.turn(1)
    assert face.get("/p/1").outcome == "tiercache; fwd=miss; stored"


def test_a_cache_status_of_another_cache_stays_first(world: World) -> None:
    face = world.face(Origin(Reply(headers=[TEXT, ("Cache-Status", "inner; fwd=miss")])))
    assert face.get("/p/1").all("cache-status") == ["inner; fwd=miss", "tiercache; fwd=miss; stored"]
    values = face.get("/p/1").all("cache-status")
    assert values[0] == "inner; fwd=miss"
    assert values[1].startswith("tiercache; hit; ttl=")


@pytest.mark.parametrize(
    "headers",
    [
        [("Cache-Control", "private")],
        [("Cache-Control", "no-store")],
        [("Set-Cookie", "a=b")],
        [("Vary", "*")],
    ],
)
def test_no_lifetime_for_a_cdn_on_answers_that_are_not_shareable(world: World, headers: Any) -> None:
    face = world.face(
        Origin(Reply(headers=[TEXT, *headers])),
        rules={"/p/{id}": {"ttl": "10m", "browser_ttl": "5m", "cdn_ttl": "1d"}},
    )
    for _ in range(2):
        response = face.get("/p/1")
        assert response.header("cdn-cache-control") is None
        assert "max-age" not in (response.header("cache-control") or "")
        assert [value for _, value in headers] == [response.header(name.lower()) for name, _ in headers]


@pytest.mark.parametrize("line", [("Cookie", "session=1"), ("Authorization", "x"), ("X-Forwarded-Host", "evil")])
def test_no_lifetime_for_a_cdn_on_answers_to_one_person(world: World, line: tuple[str, str]) -> None:
    face = world.face(Origin(), rules={"/p/{id}": {"ttl": "10m", "browser_ttl": "5m", "cdn_ttl": "1d"}})
    for _ in range(2):
        response = face.get("/p/1", [line])
        assert response.header("cdn-cache-control") is None
        assert response.header("cache-control") is None


def test_fields_withheld_from_sharing_reach_only_the_first_client(world: World) -> None:
    headers = [("Cache-Control", 'private="X-User", max-age=60'), ("X-User", "eve"), ("X-Open", "1")]
    first, second = two_ages(world, headers, {"ttl": "10m", "cdn_ttl": "1d"})
    assert first.header("x-user") == "eve"
    assert first.header("cdn-cache-control") is None
    assert second.header("x-user") is None
    assert second.header("x-open") == "1"


def test_hop_by_hop_fields_are_not_replayed(world: World) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(headers=[TEXT, ("X-Kept", "1"), ("Proxy-Authenticate", "Basic")])

    face = world.face(Origin(answer))
    face.get("/p/1")
    hit = face.get("/p/1")
    assert hit.header("x-kept") == "1"
    assert hit.header("proxy-authenticate") is None


def test_several_edits_of_one_hit_leave_the_next_alone(world: World) -> None:
    """Within one second the faces reuse what they have made of the fields."""
    face, _ = world.turnable(Origin())
    face.get("/p/1")
    first = face.get("/p/1")
    for _ in range(3):
        assert face.get("/p/1").headers == first.headers


@pytest.mark.parametrize(
    ("policy", "asks"),
    [({"cookies": ["session"]}, ("Cookie", "session=1")), ({"headers": ["authorization"]}, ("Authorization", "me"))],
)
@pytest.mark.parametrize("rule", [{"ttl": "10m"}, {}])
def test_what_is_kept_for_each_user_is_private_in_front(world: World, policy: Any, asks: Any, rule: Any) -> None:
    """The app gives a lifetime and nothing else: without `private`, a CDN would answer one user with another's page."""
    origin = Origin(Reply(headers=[TEXT, ("Cache-Control", "max-age=60")]))
    face = world.face(origin, rules={"/p/{id}": {**policy, **rule}})
    for _ in range(2):
        response = face.get("/p/1", [asks])
        assert response.header("cache-control") == "private, max-age=60"
        assert response.header("vary") == asks[0].lower()
    assert response.hit
    origin.answer = Reply(headers=[TEXT, ("Cache-Control", "max-age=60, public")])
    for _ in range(2):
        assert face.get("/p/2", [asks]).header("cache-control") == "max-age=60, public"
