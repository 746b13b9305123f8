"""Sessions of users in Flask and Starlette, in Redis and in the process alone."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import flask
import httpx
import pytest
import redis
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.servers import RedisServer
from tiercache import ConfigError, SessionUnavailable, TierCache, TierUnavailable
from tiercache.core.user_sessions import Lifetime, Rotation, SessionChanges, UserSession
from tiercache.engine.capabilities import sessions_of
from tiercache.engine.effects import drive
from tiercache.engine.user_sessions import Named
from tiercache.integrations.flask import FlaskTierCache
from tiercache.integrations.flask_sessions import FlaskSessions
from tiercache.integrations.sessions import Sessions, decode, encode
from tiercache.integrations.starlette import TierCacheMiddleware
from tiercache.integrations.starlette_sessions import SessionsMiddleware, session_of

SECRET = "a secret of many characters"


class Browser(Protocol):
    """One visitor with a cookie jar, whatever the framework."""

    def do(self, action: str, **arguments: str) -> tuple[Any, str | None]:
        """The answer, and the Set-Cookie field if there is one."""

    cookie: str | None


def act(session: Any, action: str, arguments: Mapping[str, str]) -> Any:
    """What the views of both apps do."""
    if action == "set":
        session.update(arguments)
    elif action == "append":
        session.setdefault("cart", []).append(arguments["item"])
    elif action == "login":
        session["user"] = arguments["user"]
        session.rotate(f"user:{arguments['user']}")
    elif action == "delete":
        del session[arguments["key"]]
    elif action == "clear":
        session.clear()
    elif action == "ignore":
        return "ignored"
    return dict(session)


class FlaskBrowser:
    def __init__(self, sessions: Sessions) -> None:
        app = flask.Flask("shop")

        @app.get("/<action>")
        def view(action: str) -> flask.Response:
            return flask.jsonify(act(flask.session, action, flask.request.args))

        FlaskSessions(app, sessions)
        FlaskTierCache(app, sessions.cache)
        self.app = app
        self.cookie: str | None = None

    def do(self, action: str, **arguments: str) -> tuple[Any, str | None]:
        headers = {"Cookie": f"session={self.cookie}"} if self.cookie else {}
        client = self.app.test_client(use_cookies=False)
        response = client.get(f"/{action}", query_string=arguments, headers=headers, base_url="https://shop.test")
        set_cookie = response.headers.get("Set-Cookie")
        self.cookie = kept(self.cookie, set_cookie)
        assert ("Cookie" in response.headers.get("Vary", "")) == (action != "ignore")
        return response.get_json(), set_cookie


class StarletteBrowser:
    def __init__(self, sessions: Sessions) -> None:
        async def view(request: Request) -> Response:
            return JSONResponse(act(session_of(request), request.path_params["action"], request.query_params))

        self.cache = sessions.cache
        self.app = Starlette(routes=[Route("/{action}", view)])
        self.app.add_middleware(SessionsMiddleware, sessions=sessions)
        self.app.add_middleware(TierCacheMiddleware, cache=sessions.cache)
        self.cookie: str | None = None

    async def ask(self, action: str, arguments: Mapping[str, str]) -> httpx.Response:
        headers = {"Cookie": f"session={self.cookie}".encode()} if self.cookie else {}
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="https://shop.test", headers=headers) as client:
            return await client.get(f"/{action}", params=dict(arguments))

    def do(self, action: str, **arguments: str) -> tuple[Any, str | None]:
        response = asyncio.run(self.ended(action, arguments))
        set_cookie = response.headers.get("set-cookie")
        self.cookie = kept(self.cookie, set_cookie)
        assert ("Cookie" in response.headers.get("vary", "")) == (action != "ignore")
        return response.json(), set_cookie

    async def ended(self, action: str, arguments: Mapping[str, str]) -> httpx.Response:
        try:
            return await self.ask(action, arguments)
        finally:
            # Each request has an event loop of its own here, whose connections end with it.
            await self.cache.aclose()


def kept(before: str | None, set_cookie: str | None) -> str | None:
    if set_cookie is None:
        return before
    value = set_cookie.partition(";")[0].removeprefix("session=")
    return value.strip('"') or None


@pytest.fixture(params=["redis", "process"])
def cache(request: pytest.FixtureRequest) -> Iterator[TierCache]:
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    cache = TierCache(url, namespace="shop")
    yield cache
    cache.close()


@pytest.fixture(params=["flask", "starlette"])
def make(request: pytest.FixtureRequest) -> type[FlaskBrowser] | type[StarletteBrowser]:
    return FlaskBrowser if request.param == "flask" else StarletteBrowser


@pytest.fixture(params=["strong", "session"])
def sessions(request: pytest.FixtureRequest, cache: TierCache) -> Sessions:
    return Sessions(cache, SECRET, consistency=request.param)


@pytest.fixture
def browser(make: type[FlaskBrowser], sessions: Sessions) -> Browser:
    return make(sessions)


def test_a_session_lasts_from_request_to_request(browser: Browser) -> None:
    _, cookie = browser.do("set", colour="green")
    assert cookie is not None
    assert browser.do("get") == ({"colour": "green"}, None)
    browser.do("append", item="tea")
    browser.do("append", item="pot")
    assert browser.do("get")[0] == {"colour": "green", "cart": ["tea", "pot"]}
    browser.do("delete", key="colour")
    assert browser.do("get")[0] == {"cart": ["tea", "pot"]}


def test_who_leaves_it_alone_gets_no_cookie_and_costs_nothing(browser: Browser, sessions: Sessions) -> None:
    assert browser.do("ignore") == ("ignored", None)
    assert browser.do("get") == ({}, None)


def test_the_cookie_is_safe_and_says_nothing(browser: Browser) -> None:
    _, cookie = browser.do("login", user="alice")
    assert cookie is not None
    words = {word.strip().lower() for word in cookie.split(";")[1:]}
    assert words == {"httponly", "secure", "samesite=lax", "path=/"}
    assert "alice" not in cookie


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-2] + ("AA" if c[-2:] != "AA" else "BB"), lambda c: "x" + c, lambda c: "\xe4", lambda c: "."],
)
def test_a_cookie_that_is_not_ours_opens_nothing(browser: Browser, damage: Any) -> None:
    browser.do("set", colour="green")
    assert browser.cookie is not None
    browser.cookie = damage(browser.cookie)
    assert browser.do("get")[0] == {}


def test_an_id_that_the_store_does_not_know_is_not_taken_over(browser: Browser, sessions: Sessions) -> None:
    """Signed by us, but of a session that has ended: what follows begins under an id of its own."""
    planted = sessions._signer.sign("an-id-of-the-attacker.token").decode()
    browser.cookie = planted
    _, cookie = browser.do("set", colour="green")
    assert cookie is not None
    assert "an-id-of-the-attacker" not in cookie


def test_logging_in_goes_on_under_another_id(browser: Browser, make: type[FlaskBrowser], sessions: Sessions) -> None:
    browser.do("set", colour="green")
    attacker = make(sessions)
    attacker.cookie = browser.cookie
    _, cookie = browser.do("login", user="alice")
    assert cookie is not None
    assert browser.do("get")[0] == {"colour": "green", "user": "alice"}
    assert attacker.do("get")[0] == {}
    # A request that was under way with the old id neither saves anything nor takes the new cookie away.
    assert attacker.do("set", colour="red")[1] is None
    assert browser.do("get")[0] == {"colour": "green", "user": "alice"}


def test_revoking_a_user_ends_all_of_their_sessions(
    browser: Browser, make: type[FlaskBrowser], sessions: Sessions
) -> None:
    phone, other = make(sessions), make(sessions)
    browser.do("login", user="alice")
    phone.do("login", user="alice")
    other.do("login", user="bob")
    assert sessions.revoke("user:alice") == 2
    # What L1 had of them may be a second old, where that was chosen: the token of the cookie does not tell.
    sessions.cache._engine.memory.clear()
    assert browser.do("get")[0] == {}
    assert phone.do("get")[0] == {}
    assert other.do("get")[0] == {"user": "bob"}
    assert sessions.revoke("user:alice") == 0


def test_what_is_emptied_ends_and_its_cookie_goes(browser: Browser) -> None:
    browser.do("set", colour="green")
    before = browser.cookie
    _, cookie = browser.do("clear")
    assert cookie is not None
    assert "max-age=0" in cookie.lower()
    browser.cookie = before
    assert browser.do("get")[0] == {}


def opened(sessions: Sessions, named: Named | None) -> UserSession:
    return sessions.open(named, encode, decode)


def begun(sessions: Sessions, **values: Any) -> Named:
    session = opened(sessions, None)
    session.update(values)
    told = sessions.save(session, None)
    assert told is not None
    named = sessions.named(told.value)
    assert named is not None
    return named


def seen(sessions: Sessions, named: Named) -> dict[str, Any]:
    sessions.cache._engine.memory.clear()
    return dict(opened(sessions, named))


def test_two_requests_at_once_change_their_own_keys_alone(sessions: Sessions) -> None:
    named = begun(sessions, cart=["tea"], colour="green", old=1)
    first, second = opened(sessions, named), opened(sessions, named)
    first["cart"].append("pot")
    del second["old"]
    second["colour"] = "red"
    assert second["cart"] == ["tea"]
    sessions.save(first, named)
    sessions.save(second, named)
    assert seen(sessions, named) == {"cart": ["tea", "pot"], "colour": "red"}


def test_a_session_that_is_popped_empty_keeps_what_others_put_there(sessions: Sessions) -> None:
    named = begun(sessions, flash="saved")
    page, other = opened(sessions, named), opened(sessions, named)
    assert page.pop("flash") == "saved"
    other["cart"] = ["tea"]
    sessions.save(other, named)
    told = sessions.save(page, named)
    assert told is None or told.value is not None
    assert seen(sessions, named) == {"cart": ["tea"]}
    end = opened(sessions, named)
    end.clear()
    assert sessions.save(end, named) == (None, 0)
    assert seen(sessions, named) == {}


def test_of_two_changes_of_one_key_the_later_one_stands(sessions: Sessions) -> None:
    named = begun(sessions, colour="green")
    first, second = opened(sessions, named), opened(sessions, named)
    second["colour"], first["colour"] = "red", "blue"
    sessions.save(second, named)
    sessions.save(first, named)
    assert seen(sessions, named) == {"colour": "blue"}


def test_what_was_revoked_meanwhile_does_not_come_back(sessions: Sessions) -> None:
    named = begun(sessions, colour="green")
    session = opened(sessions, named)
    session.tag("user:7")
    sessions.save(session, named)
    late = opened(sessions, named)
    late["colour"] = "red"
    assert sessions.revoke("user:7") == 1
    sessions.save(late, named)
    assert seen(sessions, named) == {}


def test_what_was_revoked_does_not_come_back_under_another_id(sessions: Sessions) -> None:
    named = begun(sessions, user="alice", cart=["tea"])
    session = opened(sessions, named)
    session.tag("user:7")
    sessions.save(session, named)
    late = opened(sessions, named)
    late["cart"].append("pot")
    late.rotate()
    assert sessions.revoke("user:7") == 1
    told = sessions.save(late, named)
    assert told is not None
    assert told.value is None


def test_tags_alone_begin_nothing_where_the_session_has_ended(sessions: Sessions) -> None:
    named = begun(sessions, user="alice")
    session = opened(sessions, named)
    session.tag("user:7")
    sessions.save(session, named)
    late = opened(sessions, named)
    assert late["user"] == "alice"
    late.rotate("admin")
    sessions.revoke("user:7")
    assert sessions.save(late, named) == (None, 0)
    assert sessions.revoke("admin") == 0


def test_the_size_is_that_of_the_whole_session(cache: TierCache) -> None:
    sessions = Sessions(cache, SECRET, max_size=1_000)
    named = begun(sessions, first="x" * 600)
    session = opened(sessions, named)
    session["second"] = "y" * 500
    with pytest.raises(ValueError, match=r"1\d\d\d bytes, and may have 1000 .* 'first'"):
        sessions.save(session, named)
    assert seen(sessions, named) == {"first": "x" * 600}
    session["second"] = "y" * 300
    sessions.save(session, named)
    assert seen(sessions, named) == {"first": "x" * 600, "second": "y" * 300}


def test_who_logs_in_again_while_the_session_ends_takes_nothing_of_it_along(sessions: Sessions) -> None:
    named = begun(sessions, user="alice", secret="of alice", colour="green")
    session = opened(sessions, named)
    session.tag("user:7")
    sessions.save(session, named)
    late = opened(sessions, named)
    late["user"] = "alice"
    late.rotate("user:7", "fresh:1")
    sessions.revoke("user:7")
    told = sessions.save(late, named)
    assert told is not None
    again = sessions.named(told.value)
    assert again is not None
    assert seen(sessions, again) == {"user": "alice"}
    assert sessions.revoke("fresh:1") == 1
    assert seen(sessions, again) == {}


def test_logging_in_takes_along_what_others_have_saved_meanwhile(sessions: Sessions) -> None:
    named = begun(sessions, cart=["tea"], old=1, colour="green")
    login, other = opened(sessions, named), opened(sessions, named)
    login["user"] = "alice"
    del login["old"]
    login.rotate("user:7")
    other["cart"].append("pot")
    del other["colour"]
    sessions.save(other, named)
    told = sessions.save(login, named)
    assert told is not None
    fresh = sessions.named(told.value)
    assert fresh is not None
    assert seen(sessions, fresh) == {"cart": ["tea", "pot"], "user": "alice"}


def test_it_knows_whether_it_is_modified(sessions: Sessions) -> None:
    named = begun(sessions, cart=["tea"])
    session = opened(sessions, named)
    session.modified = True
    assert session["cart"] == ["tea"]
    assert not session.modified
    session["cart"].append("pot")
    session.modified = False
    assert session.modified


def test_tags_of_requests_at_once_are_all_kept(sessions: Sessions) -> None:
    named = begun(sessions, colour="green")
    first, second = opened(sessions, named), opened(sessions, named)
    first.tag("user:7", "device:1")
    second.tag("device:1", "group:2")
    sessions.save(first, named)
    sessions.save(second, named)
    sessions.cache._engine.memory.clear()
    session = opened(sessions, named)
    assert set(session.tags) == {"user:7", "device:1", "group:2"}
    session.rotate()
    told = sessions.save(session, named)
    assert told is not None
    fresh = sessions.named(told.value)
    assert fresh is not None
    assert sessions.revoke("user:7") >= 1
    assert seen(sessions, fresh) == {}


def test_a_login_under_an_id_that_has_moved_counts(sessions: Sessions) -> None:
    """The answer that told of the other id was lost: the next login begins a session of its own."""
    named = begun(sessions, colour="green")
    first = opened(sessions, named)
    first.rotate()
    sessions.save(first, named)
    again = opened(sessions, named)
    again["user"] = "alice"
    again.rotate("user:7")
    told = sessions.save(again, named)
    assert told is not None
    fresh = sessions.named(told.value)
    assert fresh is not None
    assert seen(sessions, fresh) == {"user": "alice"}


def test_plain_values_come_back_as_they_were(sessions: Sessions) -> None:
    values = {
        "n": 1, "f": 1.5, "none": None, "yes": True, "text": "ä", "bytes": b"\x00\xff", "list": [1, [2]],
        "map": {"a": {"b": 1}}, "at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    }  # fmt: skip
    assert seen(sessions, begun(sessions, **values)) == values


def test_what_cannot_be_stored_is_an_error_and_saves_nothing(sessions: Sessions) -> None:
    named = begun(sessions, colour="green")
    session = opened(sessions, named)
    session["colour"], session["lock"] = "red", object()
    with pytest.raises(TypeError, match="object"):
        sessions.save(session, named)
    session = opened(sessions, named)
    session["large"] = "x" * 70_000
    with pytest.raises(ValueError, match=r"max_size.*'large'"):
        sessions.save(session, named)
    assert seen(sessions, named) == {"colour": "green"}


def test_a_secret_can_be_changed(cache: TierCache) -> None:
    old = Sessions(cache, "the old secret, 1234")
    new = Sessions(cache, ["the new secret, 5678", "the old secret, 1234"])
    alone = Sessions(cache, "the new secret, 5678")
    by_old = old._signer.sign("id.token").decode()
    by_new = new._signer.sign("id.token").decode()
    assert new.named(by_old) == new.named(by_new) == alone.named(by_new) == Named("id", "token")
    assert alone.named(by_old) is old.named(by_new) is None


def test_a_session_of_visitors_is_none_of_the_staff(cache: TierCache) -> None:
    visitors, staff = Sessions(cache, SECRET, cookie="visitor"), Sessions(cache, SECRET, cookie="__Host-staff")
    session = opened(visitors, None)
    session["user"] = "admin"
    told = visitors.save(session, None)
    assert told is not None
    assert visitors.named(told.value) is not None
    assert staff.named(told.value) is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"secret": "short"}, "secret"),
        ({"secret": []}, "secret"),
        ({"idle": "0s"}, "idle"),
        ({"idle": "2d", "absolute": "1d"}, "idle"),
        ({"samesite": "None", "secure": False}, "samesite"),
        ({"cookie": "a b"}, "cookie"),
        ({"cookie": "__Host-s", "path": "/shop"}, "cookie"),
        ({"cookie": "__Host-s", "domain": "shop.test"}, "cookie"),
        ({"cookie": "__Secure-s", "secure": False}, "secure"),
        ({"consistency": "bounded"}, "consistency"),
        ({"idel": "1h"}, "idel"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], named: str) -> None:
    cache = TierCache()
    with pytest.raises(ConfigError, match=named) as refused:
        Sessions(cache, **{"secret": SECRET, **settings})
    assert "short" not in str(refused.value)


# -- in Redis


@pytest.fixture
def shared(redis_server: RedisServer) -> Iterator[TierCache]:
    cache = TierCache(redis_server.url, namespace="shop")
    yield cache
    cache.close()


def test_another_process_goes_on_with_it(redis_server: RedisServer, shared: TierCache) -> None:
    other = TierCache(redis_server.url, namespace="shop")
    try:
        named = begun(Sessions(shared, SECRET), colour="green")
        assert dict(opened(Sessions(other, SECRET), named)) == {"colour": "green"}
    finally:
        other.close()


def test_a_session_ends_when_it_is_not_used_and_in_any_case(redis_server: RedisServer, shared: TierCache) -> None:
    client = redis.Redis.from_url(redis_server.url)
    sessions = Sessions(shared, SECRET, idle="1h", absolute="2h")
    named = begun(sessions, colour="green")
    (key,) = client.keys("tc:{shop:session:*")
    assert named.id.encode() not in key
    assert 3_500_000 < client.pttl(key) <= 3_600_000
    client.pexpire(key, 1_000_000)
    assert seen(sessions, named) == {"colour": "green"}
    assert client.pttl(key) > 3_500_000
    # As if it had been begun so long ago; being looked up does not carry it past the end.
    client.hincrby(key, "@b", -5_400_000)
    assert seen(sessions, named) == {"colour": "green"}
    assert client.pttl(key) <= 1_800_000
    client.hincrby(key, "@b", -1_800_000)
    assert seen(sessions, named) == {}
    assert client.keys("tc:{shop:session:*") == []
    client.close()


def test_logging_in_makes_no_session_younger(redis_server: RedisServer, shared: TierCache) -> None:
    client = redis.Redis.from_url(redis_server.url)
    sessions = Sessions(shared, SECRET)
    named = begun(sessions, colour="green")
    (key,) = client.keys("tc:{shop:session:*")
    born = client.hincrby(key, "@b", -5_400_000)
    session = opened(sessions, named)
    session.rotate("user:7")
    sessions.save(session, named)
    (fresh,) = [other for other in client.keys("tc:{shop:session:*") if other != key]
    assert int(client.hget(fresh, "@b") or 0) == born
    assert 0 < client.pttl(key) <= 30_000
    client.close()


def test_where_redis_is_away_a_session_seems_empty_and_is_not_overwritten(
    redis_server: RedisServer, shared: TierCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(shared, SECRET)
    named = begun(sessions, colour="green")
    silent = TierCache("redis://127.0.0.1:1/0", namespace="shop")
    away = Sessions(silent, SECRET)
    session = opened(away, named)
    assert dict(session) == {}
    assert away.save(session, named) is None
    session["colour"] = "red"
    with pytest.raises(SessionUnavailable):
        away.save(session, named)
    with pytest.raises(SessionUnavailable):
        begun(away, colour="red")
    assert seen(sessions, named) == {"colour": "green"}
    assert silent.stats()["swallowed"]["session not read"] == 1
    silent.close()


def test_l1_answers_only_where_it_was_chosen_and_the_client_knows_no_better(
    redis_server: RedisServer, shared: TierCache
) -> None:
    client = redis.Redis.from_url(redis_server.url)
    sessions = Sessions(shared, SECRET, consistency="session")
    named = begun(sessions, colour="green")
    assert dict(opened(sessions, named)) == {"colour": "green"}
    client.flushall()
    assert dict(opened(sessions, named)) == {"colour": "green"}
    assert dict(opened(Sessions(shared, SECRET), named)) == {}
    # Another process has changed it for this client, whose cookie has another token since.
    assert dict(opened(sessions, Named(named.id, "other"))) == {}
    client.close()


@pytest.mark.parametrize("tagged", [True, False])
def test_whatever_the_order_no_session_escapes_a_revocation(
    redis_server: RedisServer, shared: TierCache, tagged: bool
) -> None:
    """Each command of a login and each of a revocation, in every order: a session that had the tag is over, and one
    that gets it meanwhile is over too or is found the next time."""
    client = redis.Redis.from_url(redis_server.url)
    store = sessions_of(shared._engine)
    assert store is not None
    lifetime, soon = Lifetime(60, 600), time.monotonic() + 60
    own = SessionChanges({}, (), ()) if tagged else SessionChanges({"user": b"1"}, (), ("user:7",))

    def step(flow: Any, answer: Any) -> tuple[Any, bool]:
        try:
            effect = flow.send(answer)
        except StopIteration as stop:
            return stop.value, True
        return effect.run(), False

    for order in itertools.product((0, 1), repeat=7):
        client.flushall()
        before = SessionChanges({"cart": b"1"}, (), ("user:7",) if tagged else ())
        assert drive(store.begin("old", before, "t", lifetime, soon))
        whole = SessionChanges({"cart": b"1", **own.written}, (), ("user:7",))
        rotation = Rotation(SessionChanges(own.written, (), own.tags), whole, own)
        flows = [
            store.rotate("old", "new", rotation, "u", lifetime, 30, soon),
            store.revoke("user:7", soon),
        ]
        answers, ended = [None, None], [False, False]
        for turn in itertools.chain(order, itertools.cycle((0, 1))):
            if all(ended):
                break
            if not ended[turn]:
                answers[turn], ended[turn] = step(flows[turn], answers[turn])
        found = drive(store.load("new", lifetime, soon))
        if tagged:
            assert found is None, order
        else:
            assert bool(answers[0]) or found is None
            drive(store.revoke("user:7", soon))
            assert drive(store.load("new", lifetime, soon)) is None, order
        left = drive(store.load("old", lifetime, soon))
        assert left is None or left.moved or not tagged, order
    client.close()


@pytest.mark.parametrize("answered", [0, 1, 2, 3])
def test_a_redis_that_ends_while_somebody_logs_in_loses_no_session(
    redis_server: RedisServer, shared: TierCache, monkeypatch: pytest.MonkeyPatch, answered: int
) -> None:
    """Looked up, noted under the tag, copied, left: until the last of these the client's cookie names what there is."""
    sessions = Sessions(shared, SECRET)
    named = begun(sessions, cart=["tea"])
    login = opened(sessions, named)
    login["user"] = "alice"
    login.rotate("user:7")
    tier: Any = shared._engine.shared
    drive, left = tier._drive, iter([True] * answered)

    def driving(*args: Any) -> Any:
        if next(left, False):
            return drive(*args)
        raise TierUnavailable("gone")

    monkeypatch.setattr(tier, "_drive", driving)
    with pytest.raises(SessionUnavailable):
        sessions.save(login, named)
    monkeypatch.undo()
    assert seen(sessions, named) == {"cart": ["tea"]}


async def test_from_an_event_loop(shared: TierCache) -> None:
    sessions = Sessions(shared, SECRET)
    session = await sessions.aopen(None, encode, decode)
    session["colour"] = "green"
    session.tag("user:7")
    told = await sessions.asave(session, None)
    assert told is not None
    named = sessions.named(told.value)
    found = await sessions.aopen(named, encode, decode)
    assert not found.pending
    assert dict(found) == {"colour": "green"}
    found.rotate()
    assert await sessions.asave(found, named) is not None
    assert await sessions.arevoke("user:7") >= 1
    await shared.aclose()


def test_what_flask_itself_keeps_there_works(cache: TierCache) -> None:
    app = flask.Flask("shop")
    FlaskSessions(app, Sessions(cache, SECRET))

    @app.get("/say")
    def say() -> str:
        flask.flash("saved", "info")
        return "ok"

    @app.get("/hear")
    def hear() -> str:
        return repr(flask.get_flashed_messages(with_categories=True))

    client = app.test_client()
    client.get("/say", base_url="https://localhost")
    assert client.get("/hear", base_url="https://localhost").text == "[('info', 'saved')]"
    assert client.get("/hear", base_url="https://localhost").text == "[]"


async def test_a_websocket_reads_it(cache: TierCache) -> None:
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(dict(websocket.session))
        await websocket.close()

    sessions = Sessions(cache, SECRET)
    app = Starlette(routes=[WebSocketRoute("/", socket)])
    app.add_middleware(SessionsMiddleware, sessions=sessions)
    named = begun(sessions, colour="green")
    value = sessions._signer.sign(f"{named.id}.{named.token}").decode()
    headers = [(b"cookie", f"session={value}".encode())]
    scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": headers}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [message.get("text") for message in sent] == [None, '{"colour":"green"}', None]
    await cache.aclose()


def test_one_users_page_is_not_another_ones(browser: Browser, make: type[FlaskBrowser], sessions: Sessions) -> None:
    """The page has a rule, and the cache stands outside: a session cookie is a credential all the same."""
    sessions.cache.route("/{action}", ttl="1m")
    other = make(sessions)
    browser.do("login", user="alice")
    assert browser.do("get")[0] == {"user": "alice"}
    assert other.do("get")[0] == {}
    other.do("login", user="bob")
    assert other.do("get")[0] == {"user": "bob"}
    assert browser.do("get")[0] == {"user": "alice"}


async def test_outside_the_cache_what_looks_at_a_session_is_not_stored(cache: TierCache) -> None:
    """The cache inside sees neither the cookie that is set nor the field by which the response varies."""
    cache.route("/form", ttl="1m")
    cache.route("/{page}", ttl="1m", cookies="ignore")

    async def form(request: Request) -> Response:
        return JSONResponse(request.session.setdefault("token", secrets.token_hex(8)))

    def page(request: Request) -> Response:
        return JSONResponse(request.session.get("token"))

    async def tagged(request: Request) -> Response:
        request.session.tag("user:7")
        return JSONResponse(None)

    app = Starlette(routes=[Route("/form", form), Route("/page", page), Route("/tagged", tagged)])
    app.add_middleware(TierCacheMiddleware, cache=cache)
    app.add_middleware(SessionsMiddleware, sessions=Sessions(cache, SECRET))

    def visitor() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://shop.test")

    async with visitor() as alice, visitor() as bob, visitor() as guest:
        first, second = await alice.get("/form"), await bob.get("/form")
        assert first.json() != second.json()
        assert first.headers["cache-control"] == "no-store"
        assert (await alice.get("/page")).json() == first.json()
        assert (await bob.get("/page")).json() == second.json()
        assert (await guest.get("/page")).json() is None
        assert "; hit" not in (await guest.get("/page")).headers["cache-status"]
        await guest.get("/tagged")
        guest.cookies.clear()
        assert "; hit" not in (await guest.get("/tagged")).headers["cache-status"]
    await cache.aclose()


async def test_a_body_that_looks_at_the_session_when_the_response_has_begun_is_not_stored(cache: TierCache) -> None:
    """No field can say any more that it hangs on the cookie."""
    cache.route("/{page}", ttl="1m", cookies="ignore")
    sessions = Sessions(cache, SECRET)
    named = [begun(sessions, user=name) for name in ("alice", "bob")]
    cookies = [sessions._signer.sign(f"{one.id}.{one.token}").decode() for one in named]

    async def view(request: Request) -> Response:
        async def body() -> Any:
            yield request.session.get("user", "nobody")

        return StreamingResponse(body())

    async def fixed(request: Request) -> Response:
        return Response("fixed")

    app = Starlette(routes=[Route("/page", view), Route("/fixed", fixed)])
    app.add_middleware(SessionsMiddleware, sessions=sessions)
    app.add_middleware(TierCacheMiddleware, cache=cache)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://shop.test") as client:
        said = [(await client.get("/page", headers={"Cookie": f"session={one}"})).text for one in (*cookies, "")]
        assert said == ["alice", "bob", "nobody"]
        # Whose body looks at none is stored for all.
        stored = [(await client.get("/fixed", headers={"Cookie": f"session={one}"})) for one in cookies]
        assert "; hit" in stored[1].headers["cache-status"]
    await cache.aclose()


def test_a_streamed_body_of_flask_that_looks_at_the_session_is_not_stored(cache: TierCache) -> None:
    cache.route("/page", ttl="1m", cookies="ignore")
    app = flask.Flask("shop")
    FlaskSessions(app, Sessions(cache, SECRET))
    FlaskTierCache(app, cache)

    @app.get("/login/<user>")
    def login(user: str) -> str:
        flask.session["user"] = user
        return "ok"

    @app.get("/page")
    def page() -> flask.Response:
        def body() -> Iterator[str]:
            yield "user "
            yield flask.session.get("user", "nobody")

        return flask.Response(flask.stream_with_context(body()))

    said = []
    for user in ("alice", "bob", ""):
        client = app.test_client()
        if user:
            client.get(f"/login/{user}", base_url="https://shop.test")
        said.append(client.get("/page", base_url="https://shop.test").text)
    assert said == ["user alice", "user bob", "user nobody"]


@pytest.fixture
def away() -> Iterator[Sessions]:
    cache = TierCache("redis://127.0.0.1:1/0", namespace="shop")
    yield Sessions(cache, SECRET)
    cache.close()


async def test_starlette_answers_503_where_a_session_cannot_be_saved(away: Sessions) -> None:
    done: list[int] = []

    async def view(request: Request) -> Response:
        request.session["user"] = "alice"
        return JSONResponse("welcome", background=BackgroundTask(done.append, 1))

    async def busy(request: Request, error: Exception) -> Response:
        raise AssertionError

    handlers = {SessionUnavailable: busy, ValueError: busy}
    app = Starlette(routes=[Route("/", view)], exception_handlers=handlers)
    app.add_middleware(SessionsMiddleware, sessions=away)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://shop.test") as client:
        response = await client.get("/")
    assert (response.status_code, response.text) == (503, "Service Unavailable")
    assert "set-cookie" not in response.headers
    assert done == []
    await away.cache.aclose()


@pytest.mark.parametrize("handled", [SessionUnavailable, 503, None])
def test_flask_answers_by_its_handler_where_a_session_cannot_be_saved(away: Sessions, handled: Any) -> None:
    app = flask.Flask("shop")
    FlaskSessions(app, away)

    @app.get("/")
    def view() -> str:
        flask.session["user"] = "alice"
        return "welcome"

    def busy(error: Exception) -> tuple[str, int, dict[str, str]]:
        flask.session["error"] = 1
        return "busy", 503, {"Retry-After": "1"}

    if handled is not None:
        app.register_error_handler(handled, busy)
    response = app.test_client().get("/")
    assert response.status_code == 503
    assert response.content_length == len(response.data)
    assert "Set-Cookie" not in response.headers
    assert (response.text == "busy") == (response.headers.get("Retry-After") == "1") == (handled is not None)


def test_what_cannot_be_stored_fails_the_request_in_flask_once(cache: TierCache) -> None:
    app = flask.Flask("shop")
    FlaskSessions(app, Sessions(cache, SECRET))

    @app.get("/")
    def view() -> str:
        flask.session["large"] = "x" * 70_000
        return "welcome"

    response = app.test_client().get("/")
    assert response.status_code == 500
    assert b"Internal Server Error" in response.data


def test_the_middleware_wants_sessions() -> None:
    with pytest.raises(ConfigError, match="Sessions"):
        SessionsMiddleware(lambda *_: None, sessions=None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Sessions"):
        FlaskSessions(flask.Flask("shop"), None)


async def test_a_request_that_has_none_has_no_session_of_ours() -> None:
    request = Request({"type": "http", "session": {}})
    with pytest.raises(ConfigError, match="SessionsMiddleware"):
        session_of(request)
    with pytest.raises(ConfigError, match="SessionsMiddleware"):
        session_of(Request({"type": "http"}))


def test_a_permanent_one_outlives_the_browser(make: type[FlaskBrowser], cache: TierCache) -> None:
    browser = make(Sessions(cache, SECRET, permanent=True, absolute="1d"))
    _, cookie = browser.do("set", colour="green")
    assert cookie is not None
    assert "max-age=86400" in cookie.lower()
    assert browser.do("get")[0] == {"colour": "green"}
