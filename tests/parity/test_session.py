"""Read your own writes: the mark that a client carries from the process that purged to the one that has not heard."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import Any

import pytest

from tests.asgi_client import scope_for
from tests.parity.conftest import World
from tests.parity.faces import Asked, Face, Origin, Reply, Response
from tests.parity.waiting import eventually, silence
from tests.servers import RedisServer
from tiercache import PurgeUnconfirmed, TierCache
from tiercache.core.records import Stamp
from tiercache.core.session_mark import UNCONFIRMED, sign
from tiercache.engine import consistency

SECRET = "a secret of some length"
RULES: Any = {
    "/s/{id}": {"ttl": "10m", "consistency": "session", "tags": ["t:{id}"]},
    "/never/{id}": {"cache": False},
}
BEHIND = "tiercache; fwd=bypass; stored; detail=behind"
FIELD = "tiercache-session"
SETTINGS: Any = {"staleness_bound": "600s", "strong_wait": "10s", "session_secret": SECRET}


def two(world: World, url: str, **settings: Any) -> tuple[Face, Face]:
    """One that purges, and one that hears nothing of it for minutes. Both have `/s/1` in memory."""
    one, deaf = (world.face(Origin(), url, RULES, **{**SETTINGS, **settings}) for _ in range(2))
    silence(deaf)
    one.get("/s/1")
    assert deaf.get("/s/1").hit
    return one, deaf


def purge_in_view(cache: TierCache, **named: Any) -> None:
    """As a sync view does, which async frameworks run in a thread with the context of the request."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            cache.purge(**named)
        except PurgeUnconfirmed as error:
            failed.append(error)

    context = copy_context()
    thread = threading.Thread(target=context.run, args=(run,))
    thread.start()
    thread.join()


def carried(response: Response, how: str) -> list[tuple[str, str]]:
    """The mark of a response, as its client brings it along."""
    mark = response.header(FIELD)
    assert mark is not None
    cookie = response.header("set-cookie")
    assert cookie is not None
    assert cookie.startswith(f"{FIELD}={mark}; Path=/; Max-Age=")
    assert "; HttpOnly; SameSite=Lax" in cookie
    return {
        "cookie": [("Cookie", cookie.partition(";")[0])],
        "among cookies": [("Cookie", f"_ga=1; {cookie.partition(';')[0]}; _gid=2")],
        "field": [(FIELD.title(), mark)],
    }[how]


@pytest.mark.parametrize("how", ["cookie", "among cookies", "field"])
def test_the_next_request_of_the_client_sees_its_write(world: World, redis_url: str, how: str) -> None:
    one, deaf = two(world, redis_url)
    written = one.get("/s/1", method="POST")
    mark = carried(written, how)
    # Others are served as ever.
    assert deaf.get("/s/1").hit
    answer = deaf.get("/s/1", mark)
    assert (answer.body, deaf.origin.calls) == (b"answer 1", 1)
    # It knows now, and the mark costs nothing any more.
    assert deaf.get("/s/1", mark).hit
    assert deaf.get("/s/1").body == b"answer 1"


def test_what_is_known_here_is_answered_at_once(
    world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, deaf = two(world, redis_url)
    mark = carried(one.get("/s/1", method="POST"), "among cookies")
    reached: list[Any] = []
    reach = consistency.reach
    monkeypatch.setattr(consistency, "reach", lambda *args: (reached.append(args), reach(*args))[1])
    assert deaf.get("/s/1").hit
    assert not reached
    assert not deaf.get("/s/1", mark).hit
    assert len(reached) == 1
    assert deaf.get("/s/1", mark).hit
    assert len(reached) == 1


def counted(face: Face, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The syncs of a process from now on."""
    shared: Any = face.cache._engine.shared
    seen: list[int] = []
    sync, asynchronise = shared.sync, shared.asynchronise
    monkeypatch.setattr(shared, "sync", lambda *args, **more: (seen.append(1), sync(*args, **more))[1])
    monkeypatch.setattr(shared, "asynchronise", lambda *args, **more: (seen.append(1), asynchronise(*args, **more))[1])
    return seen


def test_a_forged_mark_costs_nothing(world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, deaf = two(world, redis_url)
    mark = one.get("/s/1", method="POST").header(FIELD)
    assert mark is not None
    epoch, number, signature = mark.split(".")
    syncs = counted(deaf, monkeypatch)
    for forged in (f"{epoch}.{int(number) + 1}.{signature}", f"!.99999999999.{signature}", f"{mark}x", "", ".", "\xff"):
        for headers in ([(FIELD, forged)], [("Cookie", f"{FIELD}={forged}")], [("Cookie", f"x{FIELD}={mark}")]):
            if headers[0][0] == "Cookie" and headers[0][1].startswith("x"):
                continue  # Another cookie, which makes the request personal.
            assert deaf.get("/s/1", headers).hit
    assert not syncs
    assert not deaf.get("/s/1", [("Cookie", f"{FIELD}={forged}; {FIELD}={mark}")]).hit
    assert len(syncs) == 1


def test_the_mark_of_another_history_is_looked_up_each_time(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)
    mark = carried(one.get("/s/1", method="POST"), "field")
    epoch = deaf.cache._engine.ledger.stamp().epoch
    with_redis(redis_url, "FLUSHALL")
    deaf.get("/s/1", mark)
    assert deaf.cache._engine.ledger.stamp().epoch != epoch
    assert deaf.get("/s/1", mark).hit


def with_redis(url: str, *command: str) -> Any:
    import redis

    with redis.Redis.from_url(url) as client:
        return client.execute_command(*command)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_it_is_secure_where_the_connection_is(world: World, redis_url: str, scheme: str) -> None:
    one, _ = two(world, redis_url)
    cookie = one.get("/s/1", method="POST", scheme=scheme).header("set-cookie")
    assert cookie is not None
    assert cookie.endswith("; Secure") == (scheme == "https")


def test_it_is_carried_for_longer_than_a_purge_may_take(world: World, redis_url: str) -> None:
    one, _ = two(world, redis_url)
    cookie = one.get("/s/1", method="POST").header("set-cookie")
    assert cookie is not None
    assert int(cookie.partition("Max-Age=")[2].partition(";")[0]) >= 600


def test_no_purge_no_mark(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)
    for face in (one, deaf):
        for response in (face.get("/s/1"), face.get("/s/2"), face.get("/never/1")):
            assert response.header(FIELD) is None
            assert response.header("set-cookie") is None


def test_a_get_that_purges_is_not_shared(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)
    sharing = ("Cache-Control", "public, s-maxage=600"), ("CDN-Cache-Control", "max-age=600"), ("Expires", "0")

    def answer(asked: Asked) -> Reply:
        if asked.query == "purge":
            purge_in_view(one.cache, tags="t:1")
        return Reply(b"done", [("Content-Type", "text/plain"), ("ETag", '"x"'), *sharing])

    one.origin.answer = answer
    response = one.get("/s/2?purge")
    assert response.all("cache-control") == ["no-store"]
    assert not response.all("cdn-cache-control")
    assert not response.all("expires")
    assert response.header("etag") == '"x"'
    assert not deaf.get("/s/1", carried(response, "cookie")).hit
    # What is stored of it is not this client's.
    again = one.get("/s/2?purge")
    assert again.hit
    assert again.header(FIELD) is None
    assert again.header("set-cookie") is None
    assert "s-maxage=600" in str(again.all("cache-control"))


def test_a_get_that_is_never_cached_tells_too(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)

    def answer(asked: Asked) -> Reply:
        purge_in_view(one.cache, tags="t:1")
        return Reply(b"done")

    one.origin.answer = answer
    response = one.get("/never/1")
    assert response.outcome == "tiercache; fwd=bypass; detail=route"
    assert not deaf.get("/s/1", carried(response, "cookie")).hit


def test_the_last_of_several_purges_counts(world: World, redis_url: str) -> None:
    one, deaf = two(world, redis_url)

    def answer(asked: Asked) -> Reply:
        purge_in_view(one.cache, tags="t:other")
        purge_in_view(one.cache, tags="t:1")
        return Reply(b"done")

    one.origin.answer = answer
    assert not deaf.get("/s/1", carried(one.get("/never/1", method="PUT"), "cookie")).hit


def test_a_purge_that_is_not_confirmed_leads_to_the_app(world: World) -> None:
    with RedisServer() as server:
        one, deaf = two(world, server.url, purge_timeout="200ms")
        server.kill()
        written = one.get("/s/1", method="POST")
        mark = carried(written, "cookie")
        assert mark[0][1].startswith(f"{FIELD}=!.")
        assert deaf.get("/s/1").hit
        for calls in (1, 2):
            assert deaf.get("/s/1", mark).outcome == BEHIND
            assert deaf.origin.calls == calls
        assert deaf.cache.stats()["bypassed"]["behind"] == 2


def test_until_its_time_is_over_no_sync_makes_up_for_it(world: World, redis_url: str) -> None:
    """The purge may wait in the queue of a process that is cut off, while all others are well."""
    _, deaf = two(world, redis_url)
    now = int(deaf.cache._engine.wall())
    over, lasting = (sign(SECRET, Stamp(UNCONFIRMED, now + seconds)) for seconds in (-1, 600))
    assert deaf.get("/s/1", [(FIELD, over)]).hit
    assert deaf.get("/s/1", [(FIELD, lasting)]).outcome == BEHIND
    assert deaf.get("/s/1").hit


def test_one_that_cannot_look_it_up_calls_the_app(world: World) -> None:
    with RedisServer() as server:
        one, deaf = two(world, server.url)
        mark = carried(one.get("/s/1", method="POST"), "field")
        server.kill()
        assert deaf.get("/s/1", mark).outcome == BEHIND
        assert deaf.origin.calls == 1
        eventually(lambda: deaf.get("/s/1").hit)


def test_without_a_shared_tier_there_is_nothing_to_carry(world: World) -> None:
    face = world.face(Origin(), rules=RULES)
    face.get("/s/1")
    assert face.get("/s/1").hit
    assert face.get("/s/1", method="POST").header(FIELD) is None
    assert not face.get("/s/1").hit


def test_an_asgi_app_may_leave_its_headers_out(redis_url: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await cache.apurge(tags="t:1")
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    cache = TierCache(redis_url, session_secret=SECRET, cache_status=False)
    cache.route("/s/{id}", ttl="10m", consistency="session")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        try:
            await cache.asgi(app)(scope_for("/s/1", method="OPTIONS"), None, send)  # type: ignore[arg-type]
        finally:
            await cache.aclose()

    asyncio.run(run())
    assert FIELD.encode() in dict(sent[0]["headers"])
