"""Fills behind the ASGI face: clients that read slowly, leave, are cancelled, and who else waits for the outcome."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from tests.asgi_client import TEXT, Visit, followers_of, scope_for, until, visit
from tests.servers import RedisServer
from tiercache import TierCache


class App:
    """Sends the pieces; waits at each event among them."""

    def __init__(self, *pieces: Any, headers: Any = TEXT) -> None:
        self.pieces = pieces
        self.headers = headers
        self.calls = 0
        self.cancelled = 0
        self.finished = 0
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(self.headers)})
            for piece in self.pieces:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                elif isinstance(piece, BaseException):
                    raise piece
                else:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    self.sent += 1
            await send({"type": "http.response.body", "body": b""})
            self.finished += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.fixture
def cache() -> TierCache:
    cache = TierCache(max_body=1_000, lease_wait="30s")
    cache.route("/p/{id}", ttl="10m")
    return cache


async def test_a_cancelled_leader_without_followers_takes_the_app_along(cache: TierCache) -> None:
    app = App(b"a", asyncio.Event())
    leader = Visit(cache.asgi(app))
    await leader.has(2)
    await leader.cancelled()
    assert (app.cancelled, app.finished) == (1, 0)
    assert len(cache._engine.flights) == 0
    assert cache.stats()["stored"] == 0


async def test_a_cancelled_leader_with_followers_leaves_the_fill_running(cache: TierCache) -> None:
    gate = asyncio.Event()
    app = App(b"a", gate, b"b")
    wrapped = cache.asgi(app)
    leader = Visit(wrapped)
    await leader.has(2)
    follower = Visit(wrapped)
    await until(lambda: followers_of(cache) == 1)
    await leader.cancelled()
    gate.set()
    assert (await follower.done()).body == b"ab"
    assert follower.outcome == b"tiercache; fwd=miss; collapsed"
    assert (app.calls, app.cancelled, app.finished) == (1, 0, 1)
    assert (await visit(wrapped)).outcome == b"tiercache; hit; detail=l1"
    await until(lambda: not wrapped._fills._detached)


async def test_a_fill_without_its_client_that_fails_lets_the_followers_go(
    cache: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()
    app = App(b"a", gate, OSError("database"))
    wrapped = cache.asgi(app)
    leader = Visit(wrapped)
    await leader.has(2)
    follower = Visit(wrapped)
    await until(lambda: followers_of(cache) == 1)
    await leader.cancelled()
    gate.set()
    # The follower calls the app itself, and meets the failure itself.
    with pytest.raises(OSError, match="database"):
        await follower.done()
    assert app.calls == 2
    await until(lambda: not wrapped._fills._detached)
    assert cache.stats()["swallowed"] == {"fill without its client": 1}
    assert "database" in caplog.text


async def test_a_leader_cancelled_while_l2_is_read_hands_the_lead_on(redis_server: RedisServer) -> None:
    cache = TierCache(redis_server.url, lease_wait="30s", l2_budget="20s", l2_slow="20s")
    cache.route("/p/{id}", ttl="10m")
    reading = asyncio.Event()
    held: list[asyncio.Event] = []
    store: Any = cache._engine.shared
    aget = store.aget

    async def slow_aget(name: str, deadline: float) -> bytes | None:
        if not held:
            held.append(asyncio.Event())
            reading.set()
            await held[0].wait()
        value: bytes | None = await aget(name, deadline)
        return value

    store.aget = slow_aget
    app = App(b"a")
    wrapped = cache.asgi(app)
    try:
        leader = Visit(wrapped)
        await reading.wait()
        followers = [Visit(wrapped) for _ in range(3)]
        await until(lambda: followers_of(cache) == 3)
        await leader.cancelled()
        assert {(await follower.done()).body for follower in followers} == {b"a"}
        assert app.calls == 1
        assert sorted(follower.outcome for follower in followers)[-1] == b"tiercache; fwd=miss; stored"
        assert len(cache._engine.flights) == 0
    finally:
        await cache.aclose()


async def test_a_cancelled_follower_disturbs_nobody(cache: TierCache) -> None:
    gate = asyncio.Event()
    app = App(b"a", gate, b"b")
    wrapped = cache.asgi(app)
    leader = Visit(wrapped)
    await leader.has(2)
    follower = Visit(wrapped)
    await until(lambda: followers_of(cache) == 1)
    await follower.cancelled()
    assert followers_of(cache) == 0
    gate.set()
    assert (await leader.done()).body == b"ab"


async def test_a_leader_who_reads_slowly_holds_nobody_up(cache: TierCache) -> None:
    wrapped = cache.asgi(App(b"x" * 500, b"y" * 500))
    leader = Visit(wrapped, reads=False)
    follower = await visit(wrapped)
    assert follower.body == b"x" * 500 + b"y" * 500
    assert leader.messages == []
    leader.reading.set()
    assert (await leader.done()).body == follower.body


async def test_the_same_with_a_rule_that_stores_more_than_the_cache(cache: TierCache) -> None:
    cache.route("/large/{id}", ttl="10m", max_body="1MiB")
    wrapped = cache.asgi(App(*[b"x" * 100_000] * 10))
    leader = Visit(wrapped, "/large/1", reads=False)
    assert len((await visit(wrapped, "/large/1")).body) == 1_000_000
    leader.reading.set()
    await leader.done()


async def test_a_large_body_waits_for_a_client_that_reads_slowly(cache: TierCache) -> None:
    app = App(*[b"x" * 600] * 50)
    leader = Visit(cache.asgi(app), reads=False)
    await until(lambda: app.sent >= 1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert app.sent <= 2
    leader.reading.set()
    assert len((await leader.done()).body) == 30_000


async def test_a_client_that_left_a_large_body_is_not_waited_for(cache: TierCache) -> None:
    app = App(*[b"x" * 600] * 50)
    leader = Visit(cache.asgi(app), reads=False)
    await until(lambda: app.sent >= 1)
    await leader.cancelled()
    assert app.cancelled == 1


class Watchful:
    """Ends when it hears that the client has left, as streaming responses of Starlette do."""

    def __init__(self) -> None:
        self.heard = 0
        self.calls = 0
        self.more = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": TEXT})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        listening = asyncio.ensure_future(receive())
        going = asyncio.ensure_future(self.more.wait())
        await asyncio.wait([listening, going], return_when=asyncio.FIRST_COMPLETED)
        left = listening.done() and listening.result()["type"] == "http.disconnect"
        listening.cancel()
        going.cancel()
        await asyncio.gather(listening, going, return_exceptions=True)
        if left:
            self.heard += 1
            return
        await send({"type": "http.response.body", "body": b"b"})


async def test_a_client_that_goes_away_leaves_nothing_partial(cache: TierCache) -> None:
    app = Watchful()
    wrapped = cache.asgi(app)
    leader = Visit(wrapped)
    await leader.has(2)
    leader.go_away()
    await leader.done()
    assert app.heard == 1
    assert cache.stats()["stored"] == 0
    assert len(cache._engine.flights) == 0


async def test_a_client_that_goes_away_does_not_end_what_others_wait_for(cache: TierCache) -> None:
    app = Watchful()
    wrapped = cache.asgi(app)
    leader = Visit(wrapped)
    await leader.has(2)
    follower = Visit(wrapped)
    await until(lambda: followers_of(cache) == 1)
    leader.go_away()
    for _ in range(20):
        await asyncio.sleep(0)
    app.more.set()
    assert (await follower.done()).body == b"ab"
    assert (app.calls, app.heard) == (1, 0)
    await leader.done()


async def test_an_app_hears_that_its_client_left_once_nobody_else_waits(cache: TierCache) -> None:
    app = Watchful()
    wrapped = cache.asgi(app)
    leader = Visit(wrapped)
    await leader.has(2)
    follower = Visit(wrapped)
    await until(lambda: followers_of(cache) == 1)
    leader.go_away()
    await follower.cancelled()
    await leader.done()
    assert app.heard == 1


async def test_context_of_an_outer_middleware_reaches_the_app(cache: TierCache) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": name.get().encode()})

    wrapped = cache.asgi(app)
    for path in ("/p/1", "/other", "/other"):
        name.set(path)
        assert (await visit(wrapped, path)).body == path.encode()


async def test_a_send_that_fails_reaches_the_app_without_a_store(cache: TierCache) -> None:
    app = App(b"a", asyncio.Event())

    async def send(message: Any) -> None:
        raise OSError("the client is gone")

    async def receive() -> Any:
        return {"type": "http.request"}

    with pytest.raises(OSError, match="the client is gone"):
        await cache.asgi(app)(scope_for(), receive, send)
    assert app.cancelled == 1
    assert cache.stats()["stored"] == 0
    assert len(cache._engine.flights) == 0


async def test_a_response_that_is_whole_is_there_before_its_end_has_been_sent(cache: TierCache) -> None:
    """Whoever has read a response to its end finds it stored."""
    wrapped = cache.asgi(App(b"a"))
    leader = Visit(wrapped)
    await leader.has(3)
    assert (await visit(wrapped)).outcome == b"tiercache; hit; detail=l1"
    await leader.done()


async def test_the_write_to_l2_holds_neither_client_nor_followers_up(redis_server: RedisServer) -> None:
    cache = TierCache(redis_server.url, l2_budget="20s", l2_slow="20s", lease_wait="30s")
    cache.route("/p/{id}", ttl="10m")
    store: Any = cache._engine.shared
    aset, release = store.aset, asyncio.Event()

    async def slow_aset(*args: Any) -> None:
        await release.wait()
        await aset(*args)

    store.aset = slow_aset
    wrapped = cache.asgi(App(b"a"))
    try:
        leader = Visit(wrapped)
        await leader.has(3)
        assert leader.messages[-1].get("more_body", False) is False
        assert (await visit(wrapped)).body == b"a"
        release.set()
        await leader.done()
    finally:
        await cache.aclose()


async def test_the_fleet_does_not_wait_for_what_an_app_does_behind_its_304(redis_server: RedisServer) -> None:
    caches = [TierCache(redis_server.url, l2_budget="20s", l2_slow="20s", lease_wait="1h") for _ in range(2)]
    release = asyncio.Event()
    confirmed = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal confirmed
        known = b"if-none-match" in dict(scope["headers"])
        await send({"type": "http.response.start", "status": 304 if known else 200, "headers": [(b"etag", b'"1"')]})
        await send({"type": "http.response.body", "body": b"" if known else b"page"})
        confirmed += known
        if confirmed == 1:
            await release.wait()

    for cache in caches:
        cache.route("/p/{id}", ttl="10m", stale_if_error="1h", coalesce="fleet")
    first, second = (cache.asgi(app) for cache in caches)
    try:
        assert (await visit(first)).body == b"page"
        await caches[0].apurge(urls="/p/1", soft=True)
        leader = Visit(first)
        await leader.has(2)
        assert (await visit(second)).outcome == b"tiercache; hit; detail=l2"
        assert confirmed == 1
        release.set()
        await leader.done()
    finally:
        for cache in caches:
            await cache.aclose()


@pytest.mark.parametrize("large", [False, True], ids=["stored", "too large"])
async def test_the_fleet_does_not_wait_for_what_an_app_does_behind_its_response(
    redis_server: RedisServer, large: bool
) -> None:
    """A background task may take its time. What the response is, is known; and the lease is given back."""
    caches = [
        TierCache(redis_server.url, l2_budget="20s", l2_slow="20s", lease_wait="1h", max_body=1 if large else 1_000)
        for _ in range(2)
    ]
    release = asyncio.Event()
    calls = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls
        calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": list(TEXT)})
        await send({"type": "http.response.body", "body": b"page"})
        if calls == 1:
            await release.wait()

    for cache in caches:
        cache.route("/p/{id}", ttl="10m", coalesce="fleet")
    first, second = (cache.asgi(app) for cache in caches)
    try:
        leader = Visit(first)
        await leader.has(2)
        seen = await visit(second)
        assert seen.body == b"page"
        assert (seen.outcome == b"tiercache; hit; detail=l2") == (not large)
        release.set()
        await leader.done()
        assert calls == (2 if large else 1)
    finally:
        for cache in caches:
            await cache.aclose()
