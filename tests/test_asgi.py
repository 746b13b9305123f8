"""The ASGI face: what the protocol allows apps, servers and outer middleware to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.asgi_client import TEXT, Visit, scope_for, visit
from tests.servers import RedisServer
from tiercache import TierCache

HIT = b"tiercache; hit; detail=l1"
STORED = b"tiercache; fwd=miss; stored"


@pytest.fixture
def cache() -> TierCache:
    cache = TierCache()
    cache.route("/p/{id}", ttl="10m")
    return cache


def sending(*messages: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(dict(message))

    return app


START = {"type": "http.response.start", "status": 200, "headers": TEXT}
BODY = {"type": "http.response.body", "body": b"ok"}


# -- lifespan --------------------------------------------------------------------------------------------------------


async def live(app: Any, *incoming: str) -> list[Any]:
    sent: list[Any] = []
    queue = [{"type": name} for name in reversed(incoming)]

    async def receive() -> Any:
        return queue.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return sent


async def lifespan_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        return
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        scope["state"][message["type"]] = True
        if message["type"] == "lifespan.shutdown":
            return


async def test_the_lifespan_passes_and_starts_and_stops_the_listener(redis_server: RedisServer) -> None:
    cache = TierCache(redis_server.url)
    running: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def noting_send(message: Any) -> None:
            running.append(cache._lifecycle.running)
            await send(message)
            running.append(cache._lifecycle.running)

        await lifespan_app(scope, receive, noting_send)

    sent = await live(cache.asgi(app), "lifespan.startup", "lifespan.shutdown")
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert running == [True, True, True, False]


@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_a_lifespan_that_fails(phase: str, redis_server: RedisServer) -> None:
    cache = TierCache(redis_server.url)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            failed = message["type"] == f"lifespan.{phase}"
            await send({"type": message["type"] + (".failed" if failed else ".complete"), "message": "no database"})
            if failed:
                return

    sent = await live(cache.asgi(app), "lifespan.startup", "lifespan.shutdown")
    assert sent[-1] == {"type": f"lifespan.{phase}.failed", "message": "no database"}
    assert not cache._lifecycle.running


async def test_an_app_without_a_lifespan(cache: TierCache) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError(scope["type"])

    with pytest.raises(NotImplementedError, match="lifespan"):
        await live(cache.asgi(app), "lifespan.startup")


async def test_a_cache_that_was_stopped_works_on(redis_server: RedisServer) -> None:
    # A budget that no busy machine exceeds.
    cache = TierCache(redis_server.url, l2_budget="20s")
    cache.route("/p/{id}", ttl="10m")
    wrapped = cache.asgi(sending(START, BODY))
    try:
        assert (await visit(wrapped)).outcome == STORED
        await cache.aclose()
        assert not cache._lifecycle.running
        assert (await visit(wrapped, "/p/2")).outcome == STORED
        assert cache._lifecycle.running
    finally:
        await cache.aclose()


# -- what is none of the cache's business ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["websocket", "something-new"])
async def test_other_protocols_are_untouched(cache: TierCache, kind: str) -> None:
    seen: list[tuple[Any, Any, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope, receive, send = {"type": kind, "path": "/p/1"}, object(), object()
    await cache.asgi(app)(scope, receive, send)  # type: ignore[arg-type]
    assert [a is b for a, b in zip(seen[0], (scope, receive, send), strict=True)] == [True] * 3
    assert scope == {"type": kind, "path": "/p/1"}


@pytest.mark.parametrize(
    "messages",
    [
        [START, {"type": "http.response.pathsend", "path": "/file"}],
        [START, {"type": "http.response.zerocopysend", "file": 3}],
        [{**START, "trailers": True}, BODY, {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}],
        [START, {**BODY, "more_body": True}, {"type": "http.response.from-the-future"}, BODY],
    ],
)
async def test_extensions_pass_and_are_not_stored(cache: TierCache, messages: list[Any]) -> None:
    wrapped = cache.asgi(sending(*messages))
    for _ in range(2):
        found = (await visit(wrapped)).messages
        assert [message["type"] for message in found] == [message["type"] for message in messages]
        assert found[1:] == messages[1:]
        assert found[0].get("trailers") == messages[0].get("trailers")
    assert cache.stats()["stored"] == 0
    assert cache.stats()["refused"] == {"extension": 2}


@pytest.mark.parametrize("aside", ["http.response.debug", "http.response.push", "http.response.early_hint"])
async def test_messages_beside_the_response_do_not_prevent_storing(cache: TierCache, aside: str) -> None:
    wrapped = cache.asgi(sending({"type": aside, "info": 1}, START, BODY))
    first = await visit(wrapped)
    assert first.messages[0] == {"type": aside, "info": 1}
    assert (await visit(wrapped)).outcome == HIT


# -- apps with habits of their own -----------------------------------------------------------------------------------


async def test_an_app_that_reuses_its_messages(cache: TierCache) -> None:
    headers = [(b"content-type", b"text/plain")]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    body = {"type": "http.response.body", "body": bytearray(b"first"), "more_body": False}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await send(body)
        body["body"][:] = b"SPOIL"  # type: ignore[index]

    wrapped = cache.asgi(app)
    for path in ("/p/1", "/p/2", "/other", "/other"):
        body["body"] = bytearray(b"first")
        got = await visit(wrapped, path)
        assert sum(name == b"cache-status" for name, _ in got.messages[0]["headers"]) == 1
    headers.append((b"x-later", b"1"))
    hit = await visit(wrapped, "/p/1")
    assert (hit.outcome, hit.body, hit.header(b"x-later")) == (HIT, b"first", None)
    assert start == {"type": "http.response.start", "status": 200, "headers": headers}
    assert headers == [(b"content-type", b"text/plain"), (b"x-later", b"1")]


@pytest.mark.parametrize(
    "headers",
    [
        lambda: ((name, value) for name, value in TEXT),
        lambda: iter([[b"content-type", b"text/plain"]]),
        lambda: [(bytearray(b"content-type"), memoryview(b"text/plain"))],
    ],
)
@pytest.mark.parametrize("path", ["/p/1", "/other"])
async def test_headers_in_any_form(cache: TierCache, headers: Any, path: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers()})
        await send(BODY)

    for _ in range(2):
        got = await visit(cache.asgi(app), path)
        assert got.header(b"content-type") == b"text/plain"


async def test_headers_and_body_may_be_left_out(cache: TierCache) -> None:
    wrapped = cache.asgi(sending({"type": "http.response.start", "status": 200}, {"type": "http.response.body"}))
    assert (await visit(wrapped)).outcome == STORED
    hit = await visit(wrapped)
    assert (hit.outcome, hit.body, hit.header(b"content-length")) == (HIT, b"", b"0")


async def test_header_names_in_upper_case(cache: TierCache) -> None:
    shouting = {**START, "headers": [(b"Content-Type", b"text/plain"), (b"Cache-CONTROL", b"No-Store")]}
    wrapped = cache.asgi(sending(shouting, BODY))
    first = await visit(wrapped)
    assert first.messages[0]["headers"][:2] == shouting["headers"]
    assert first.outcome == b"tiercache; fwd=miss; detail=no-store"
    varied = {**START, "headers": [(b"VARY", b"Accept-Language"), (b"Content-Type", b"text/plain")]}
    wrapped = cache.asgi(sending(varied, BODY))
    await visit(wrapped, "/p/2", headers=[(b"accept-language", b"de")])
    assert (await visit(wrapped, "/p/2", headers=[(b"accept-language", b"fr")])).outcome == STORED
    assert (await visit(wrapped, "/p/2", headers=[(b"accept-language", b"de")])).outcome == HIT


async def test_an_outer_middleware_that_edits_a_hit_leaves_the_next_one_alone(cache: TierCache) -> None:
    wrapped = cache.asgi(sending(START, BODY))
    heads: list[Any] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            heads.append([name for name, _ in message["headers"]])
            message["headers"].append((b"x-outer", b"1"))
            message["headers"][0] = (b"x-replaced", b"1")
            message["status"] = 500
        else:
            message["body"] = b"replaced"

    async def receive() -> Any:
        await asyncio.Event().wait()

    await visit(wrapped)
    for _ in range(3):
        await wrapped(scope_for(), receive, send)
    assert heads[0] == heads[1] == heads[2]
    untouched = await visit(wrapped)
    assert (untouched.messages[0]["status"], untouched.body, untouched.header(b"x-outer")) == (200, b"ok", None)


async def test_a_get_with_content_that_the_app_reads_is_not_stored(cache: TierCache) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await send(START)
        await send({"type": "http.response.body", "body": message["body"]})

    wrapped = cache.asgi(app)
    for content in (b"first", b"second"):
        # Nothing in the head announced it, as HTTP/2 allows.
        assert (await visit(wrapped, content=content)).body == content
    assert (await visit(wrapped)).outcome == STORED


async def test_an_app_that_fails_passes_its_own_exception(cache: TierCache) -> None:
    failure = ValueError("mine")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise failure

    for path in ("/p/1", "/p/1", "/other"):
        with pytest.raises(ValueError) as caught:
            await visit(cache.asgi(app), path)
        assert caught.value is failure


async def test_an_app_that_ends_without_an_end(cache: TierCache) -> None:
    wrapped = cache.asgi(sending(START, {**BODY, "more_body": True}))
    for _ in range(2):
        assert (await visit(wrapped)).outcome == STORED
    assert cache.stats()["stored"] == 0
    assert cache.stats()["refused"] == {}


async def test_a_background_task_after_the_response_does_not_delay_it(cache: TierCache) -> None:
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(BODY)
        await gate.wait()

    wrapped = cache.asgi(app)
    first = Visit(wrapped)
    await first.has(2)
    assert (await visit(wrapped)).outcome == HIT
    gate.set()
    await first.done()


# -- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        [(b"accept", b"text/html"), (b"accept", b"*/*")],
        [(b"x-forwarded-for", b"10.0.0.1"), (b"x-forwarded-for", b"10.0.0.2")],
        [(b"cookie", b"_ga=1"), (b"cookie", b"_gid=2")],
    ],
)
async def test_repeated_request_fields_are_nothing_special(cache: TierCache, headers: Any) -> None:
    wrapped = cache.asgi(sending(START, BODY))
    assert (await visit(wrapped, headers=headers)).outcome == STORED
    assert (await visit(wrapped, headers=headers)).outcome == HIT


async def test_a_cookie_in_two_lines_is_a_credential_if_one_of_them_is(cache: TierCache) -> None:
    wrapped = cache.asgi(sending(START, BODY))
    got = await visit(wrapped, headers=[(b"cookie", b"_ga=1"), (b"cookie", b"session=2")])
    assert got.outcome == b"tiercache; fwd=bypass; detail=cookie"


async def test_two_hosts_bypass(cache: TierCache) -> None:
    wrapped = cache.asgi(sending(START, BODY))
    assert (await visit(wrapped, headers=[(b"host", b"y")])).outcome == b"tiercache; fwd=bypass; detail=host"


async def test_several_lines_of_a_field_are_one_value_of_a_variant(cache: TierCache) -> None:
    wrapped = cache.asgi(sending({**START, "headers": [(b"vary", b"accept")]}, BODY))
    two = [(b"accept", b"a"), (b"accept", b"b")]
    assert (await visit(wrapped, headers=two)).outcome == STORED
    assert (await visit(wrapped, headers=[(b"accept", b"a")])).outcome == STORED
    assert (await visit(wrapped, headers=[(b"accept", b"a, b")])).outcome == HIT


async def test_an_upgrade_bypasses(cache: TierCache) -> None:
    wrapped = cache.asgi(sending(START, BODY))
    assert (await visit(wrapped, headers=[(b"upgrade", b"h2c")])).outcome == b"tiercache; fwd=bypass; detail=upgrade"


@pytest.mark.parametrize("missing", ["raw_path", "root_path", "scheme"])
async def test_servers_that_leave_out_what_is_optional(cache: TierCache, missing: str) -> None:
    wrapped = cache.asgi(sending(START, BODY))
    heads: list[Any] = []

    async def send(message: Any) -> None:
        heads.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    # A percent sign in the path itself, which a server has sent decoded in `path` and as it came in `raw_path`.
    scope = scope_for("/p/caf\xe9%41", raw_path=b"/p/caf%C3%A9%2541")
    del scope[missing]
    for _ in range(2):
        await wrapped(dict(scope), receive, send)
    assert any(value.startswith(b"tiercache; hit") for _, value in heads[2]["headers"])
    await cache.apurge(urls="http://x/p/caf%C3%A9%2541")
    await wrapped(dict(scope), receive, send)
    assert any(value == STORED for _, value in heads[4]["headers"])
