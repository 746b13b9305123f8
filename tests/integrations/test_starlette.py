from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

import tiercache
from tests.servers import RedisServer
from tiercache import ConfigError, TierCache
from tiercache.integrations.starlette import TierCacheMiddleware


class Calls(list[str]):
    """What reached the app."""

    def view(self, body: str = "x", **headers: str) -> Callable[[Request], PlainTextResponse]:
        def view(request: Request) -> PlainTextResponse:
            self.append(request.url.path)
            return PlainTextResponse(body * len(self), headers=headers)

        return view


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def cache() -> TierCache:
    return TierCache()


def application(cache: TierCache, *routes: Any, **options: Any) -> Starlette:
    app = Starlette(routes=list(routes), **options)
    app.add_middleware(TierCacheMiddleware, cache=cache)
    return app


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://shop")


async def twice(app: Any, path: str, **options: Any) -> tuple[httpx.Response, httpx.Response]:
    async with client(app) as http:
        return await http.get(path, **options), await http.get(path, **options)


def said(response: httpx.Response) -> str:
    return response.headers["cache-status"]


def is_hit(response: httpx.Response) -> bool:
    return said(response).startswith("tiercache; hit")


async def test_a_rule_is_followed(cache: TierCache, calls: Calls) -> None:
    cache.route("/p/{id}", ttl="10m", tags=["product:{id}"])
    app = application(cache, Route("/p/{id}", calls.view()))
    first, second = await twice(app, "/p/1")
    assert said(first) == "tiercache; fwd=miss; stored"
    assert is_hit(second)
    assert first.text == second.text == "x"
    await cache.apurge(tags="product:1")
    async with client(app) as http:
        assert (await http.get("/p/1")).text == "xx"
    assert calls == ["/p/1", "/p/1"]


def test_something_else_than_a_cache_is_refused() -> None:
    app = Starlette()
    app.add_middleware(TierCacheMiddleware, cache="redis://:secret@localhost")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="TierCacheMiddleware: cache") as raised:
        app.build_middleware_stack()
    assert "secret" not in str(raised.value)


# -- the decorator ---------------------------------------------------------------------------------------------------


async def test_the_decorator_beside_an_async_endpoint(cache: TierCache, calls: Calls) -> None:
    @cache.cached(ttl="10m", tags=["product:{id}"])
    async def product(request: Request) -> PlainTextResponse:
        calls.append(request.path_params["id"])
        return PlainTextResponse("x" * len(calls))

    app = application(cache, Route("/p/{id}", product))
    first, second = await twice(app, "/p/7")
    assert not is_hit(first)
    assert is_hit(second)
    await cache.apurge(tags="product:8")
    assert is_hit((await twice(app, "/p/7"))[0])
    await cache.apurge(tags="product:7")
    assert (await twice(app, "/p/7"))[0].text == "xx"


async def test_the_decorator_beside_a_sync_endpoint(cache: TierCache, calls: Calls) -> None:
    @cache.cached(ttl="10m", tags=["product:{id}"])
    def product(request: Request) -> PlainTextResponse:
        calls.append(request.path_params["id"])
        return PlainTextResponse("x" * len(calls))

    app = application(cache, Route("/p/{id:int}", product))
    assert is_hit((await twice(app, "/p/7"))[1])
    await cache.apurge(tags="product:7")
    assert (await twice(app, "/p/7"))[0].text == "xx"


async def test_the_decorator_beside_a_method_of_an_endpoint_class(cache: TierCache, calls: Calls) -> None:
    class Product(HTTPEndpoint):
        @cache.cached(ttl="10m", tags=["product:{id}"])
        async def get(self, request: Request) -> PlainTextResponse:
            calls.append("get")
            return PlainTextResponse("x" * len(calls))

        async def post(self, request: Request) -> PlainTextResponse:
            return PlainTextResponse("done")

    app = application(cache, Route("/p/{id}", Product))
    assert is_hit((await twice(app, "/p/7"))[1])
    await cache.apurge(tags="product:7")
    async with client(app) as http:
        assert (await http.get("/p/7")).text == "xx"
        assert (await http.post("/p/7")).text == "done"
        assert (await http.get("/p/7")).text == "xxx"


# -- what a view says ------------------------------------------------------------------------------------------------


def _speaking(asynchronous: bool, say: Callable[[], None]) -> Any:
    if asynchronous:

        async def speak(request: Request) -> PlainTextResponse:
            say()
            return PlainTextResponse("x")

    else:

        def speak(request: Request) -> PlainTextResponse:  # type: ignore[misc]
            say()
            return PlainTextResponse("x")

    return speak


@pytest.mark.parametrize("asynchronous", [True, False], ids=["task", "thread"])
async def test_a_view_adds_tags(cache: TierCache, asynchronous: bool) -> None:
    cache.route("/p", ttl="10m")
    app = application(cache, Route("/p", _speaking(asynchronous, lambda: tiercache.tag("a", "b"))))
    assert is_hit((await twice(app, "/p"))[1])
    await cache.apurge(tags="c")
    assert is_hit((await twice(app, "/p"))[0])
    await cache.apurge(tags="b")
    assert not is_hit((await twice(app, "/p"))[0])


@pytest.mark.parametrize("asynchronous", [True, False], ids=["task", "thread"])
async def test_a_view_keeps_its_response_out(cache: TierCache, asynchronous: bool) -> None:
    cache.route("/p", ttl="10m")
    app = application(cache, Route("/p", _speaking(asynchronous, lambda: tiercache.no_store("per-user price"))))
    first, second = await twice(app, "/p")
    assert "stored" not in said(first)
    assert said(second) == "tiercache; fwd=miss; detail=view"


@pytest.mark.parametrize("asynchronous", [True, False], ids=["task", "thread"])
async def test_a_view_chooses_the_lifetime(cache: TierCache, asynchronous: bool) -> None:
    cache.route("/p", ttl="10m")
    app = application(cache, Route("/p", _speaking(asynchronous, lambda: tiercache.ttl("90s"))))
    _, second = await twice(app, "/p")
    assert said(second).removesuffix("; detail=l1") in ("tiercache; hit; ttl=89", "tiercache; hit; ttl=90")


async def test_a_tag_from_a_thread_that_a_view_started_through_anyio(cache: TierCache) -> None:
    cache.route("/p", ttl="10m")

    async def view(request: Request) -> PlainTextResponse:
        await anyio.to_thread.run_sync(tiercache.tag, "deep")
        return PlainTextResponse("x")

    app = application(cache, Route("/p", view))
    assert is_hit((await twice(app, "/p"))[1])
    await cache.apurge(tags="deep")
    assert not is_hit((await twice(app, "/p"))[0])


# -- other middleware ------------------------------------------------------------------------------------------------


async def test_what_sets_a_session_cookie_is_not_stored(cache: TierCache) -> None:
    cache.route("/{rest:path}", ttl="10m")

    async def login(request: Request) -> PlainTextResponse:
        request.session["user"] = "ada"
        return PlainTextResponse("welcome")

    app = Starlette(routes=[Route("/login", login)])
    app.add_middleware(SessionMiddleware, secret_key="k")
    app.add_middleware(TierCacheMiddleware, cache=cache)
    for _ in range(2):
        async with client(app) as http:
            response = await http.get("/login")
            assert "session=" in response.headers["set-cookie"]
            assert said(response) == "tiercache; fwd=miss; detail=set-cookie"


async def test_with_a_session_the_app_is_asked_unless_the_rule_ignores_cookies(cache: TierCache, calls: Calls) -> None:
    cache.route("/open", ttl="10m", cookies="ignore")
    cache.route("/{rest:path}", ttl="10m")
    app = application(cache, Route("/open", calls.view()), Route("/mine", calls.view()))
    _, anonymous = await twice(app, "/mine")
    assert is_hit(anonymous)
    for response in await twice(app, "/mine", headers={"cookie": "session=abc"}):
        assert said(response) == "tiercache; fwd=bypass; detail=cookie"
    await twice(app, "/open")
    assert is_hit((await twice(app, "/open", headers={"cookie": "session=abc"}))[0])


async def test_gzip_inside_stores_one_body_per_encoding(cache: TierCache, calls: Calls) -> None:
    cache.route("/p", ttl="10m")
    app = Starlette(routes=[Route("/p", calls.view("x" * 1000))])
    app.add_middleware(GZipMiddleware, minimum_size=10)
    app.add_middleware(TierCacheMiddleware, cache=cache)
    packed = await twice(app, "/p", headers={"accept-encoding": "gzip"})
    plain = await twice(app, "/p", headers={"accept-encoding": "identity"})
    assert [r.headers.get("content-encoding") for r in (*packed, *plain)] == ["gzip", "gzip", None, None]
    assert [len(r.text) for r in (*packed, *plain)] == [1000, 1000, 2000, 2000]
    assert [is_hit(r) for r in (*packed, *plain)] == [False, True, False, True]


async def test_gzip_outside_compresses_hits_and_leaves_the_store_alone(cache: TierCache, calls: Calls) -> None:
    cache.route("/p", ttl="10m")
    app = application(cache, Route("/p", calls.view("x" * 1000)))
    app.add_middleware(GZipMiddleware, minimum_size=10)
    packed = await twice(app, "/p", headers={"accept-encoding": "gzip"})
    plain = await twice(app, "/p", headers={"accept-encoding": "identity"})
    again = await twice(app, "/p", headers={"accept-encoding": "gzip"})
    assert {r.headers.get("content-encoding") for r in (*packed, *again)} == {"gzip"}
    assert {r.headers.get("content-encoding") for r in plain} == {None}
    assert [is_hit(r) for r in (*packed, *plain, *again)] == [False, True, True, True, True, True]
    assert {r.text for r in (*packed, *plain, *again)} == {"x" * 1000}
    assert calls == ["/p"]


async def test_a_base_http_middleware_outside_may_change_headers_of_every_hit(cache: TierCache, calls: Calls) -> None:
    cache.route("/p", ttl="10m")

    async def stamp(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-trace"] = request.headers["x-trace"]
        del response.headers["etag"]
        return response

    app = application(cache, Route("/p", calls.view()))
    app.add_middleware(BaseHTTPMiddleware, dispatch=stamp)
    async with client(app) as http:
        for number in range(4):
            response = await http.get("/p", headers={"x-trace": str(number)})
            assert response.headers.get_list("x-trace") == [str(number)]
            assert "etag" not in response.headers
            assert response.text == "x"
            assert is_hit(response) == (number > 0)
    assert calls == ["/p"]


async def test_a_base_http_middleware_inside_does_not_hide_what_a_view_says(cache: TierCache) -> None:
    cache.route("/p", ttl="10m")

    async def through(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    app = Starlette(routes=[Route("/p", _speaking(True, lambda: tiercache.tag("deep")))])
    app.add_middleware(BaseHTTPMiddleware, dispatch=through)
    app.add_middleware(TierCacheMiddleware, cache=cache)
    assert is_hit((await twice(app, "/p"))[1])
    await cache.apurge(tags="deep")
    assert not is_hit((await twice(app, "/p"))[0])


# -- shapes of apps and responses ------------------------------------------------------------------------------------


async def test_rules_match_the_whole_path_of_a_mounted_app(cache: TierCache, calls: Calls) -> None:
    cache.route("/shop/p/{id}", ttl="10m", tags=["product:{id}"])
    inner = Starlette(routes=[Route("/p/{id}", calls.view())])
    app = application(cache, Mount("/shop", app=inner), Mount("/other", app=inner))
    assert is_hit((await twice(app, "/shop/p/1"))[1])
    assert not is_hit((await twice(app, "/other/p/1"))[1])
    await cache.apurge(tags="product:1")
    assert not is_hit((await twice(app, "/shop/p/1"))[0])


async def test_around_a_mounted_app_only_that_one_is_cached(cache: TierCache, calls: Calls) -> None:
    cache.route("/{rest:path}", ttl="10m")
    inner = application(cache, Route("/p", calls.view()))
    app = Starlette(routes=[Mount("/a", app=inner), Mount("/b", app=inner), Route("/p", calls.view())])
    assert is_hit((await twice(app, "/a/p"))[1])
    first, second = await twice(app, "/b/p")
    assert not is_hit(first)
    assert is_hit(second)
    assert first.text == "xx"
    assert "cache-status" not in (await twice(app, "/p"))[1].headers


async def test_an_exception_in_a_view_is_answered_and_not_stored(cache: TierCache, calls: Calls) -> None:
    cache.route("/p", ttl="10m")

    async def view(request: Request) -> PlainTextResponse:
        calls.append("called")
        if len(calls) == 1:
            raise ValueError("no product")
        return PlainTextResponse("x")

    app = application(cache, Route("/p", view))
    first, second = await twice(app, "/p")
    assert (first.status_code, second.status_code) == (500, 200)
    assert said(second) == "tiercache; fwd=miss; stored"


async def test_the_answer_of_an_exception_handler_is_stored_only_by_its_status(cache: TierCache) -> None:
    cache.route("/p", ttl="10m", ttl_by_status={404: "5s"})

    async def view(request: Request) -> PlainTextResponse:
        raise LookupError

    async def missing(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("none", status_code=404 if "gone" not in request.query_params else 410)

    app = application(cache, Route("/p", view), exception_handlers={LookupError: missing})
    assert is_hit((await twice(app, "/p"))[1])
    assert not is_hit((await twice(app, "/p?gone=1"))[1])


async def test_a_stream_that_breaks_off_is_not_stored(cache: TierCache, calls: Calls) -> None:
    cache.route("/p", ttl="10m")

    async def body() -> AsyncIterator[bytes]:
        calls.append("called")
        yield b"half"
        if len(calls) == 1:
            raise ValueError("broke off")
        yield b" whole"

    async def view(request: Request) -> StreamingResponse:
        return StreamingResponse(body())

    app = application(cache, Route("/p", view))
    async with client(app) as http:
        broken = await http.get("/p")
        assert broken.text == "half"
        whole = await http.get("/p")
        assert whole.text == "half whole"
        assert not is_hit(whole)
        assert is_hit(await http.get("/p"))


async def test_background_tasks_run_once_per_call_of_the_view(cache: TierCache, calls: Calls) -> None:
    cache.route("/p", ttl="10m")

    async def view(request: Request) -> JSONResponse:
        return JSONResponse({}, background=BackgroundTask(calls.append, "done"))

    await twice(application(cache, Route("/p", view)), "/p")
    assert calls == ["done"]


async def test_many_at_once_call_the_view_once(cache: TierCache, calls: Calls) -> None:
    cache.route("/p", ttl="10m")

    def view(request: Request) -> PlainTextResponse:
        calls.append("called")
        time.sleep(0.05)
        return PlainTextResponse("x")

    async with client(application(cache, Route("/p", view))) as http:
        responses = await asyncio.gather(*(http.get("/p") for _ in range(50)))
    assert {r.text for r in responses} == {"x"}
    assert calls == ["called"]


async def test_the_lifespan_passes_through_and_starts_the_listener(redis_server: RedisServer, calls: Calls) -> None:
    cache = TierCache(redis_server.url, namespace="lifespan")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        calls.append("up")
        yield
        calls.append("down")

    app = application(cache, Route("/p", calls.view()), lifespan=lifespan)
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, received.get, sent.put))
    received.put_nowait({"type": "lifespan.startup"})
    assert await sent.get() == {"type": "lifespan.startup.complete"}
    assert calls == ["up"]
    assert cache._lifecycle.running
    received.put_nowait({"type": "lifespan.shutdown"})
    assert await sent.get() == {"type": "lifespan.shutdown.complete"}
    await running
    assert calls == ["up", "down"]
    assert not cache._lifecycle.running


async def test_websockets_are_left_alone(cache: TierCache) -> None:
    cache.route("/{rest:path}", ttl="10m")

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: list[Any] = []
    for message in ({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}):
        received.put_nowait(message)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": []}
    await application(cache, WebSocketRoute("/ws", echo))(scope, received.get, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[1]["text"] == "hello"


async def test_two_processes_share_through_redis(redis_server: RedisServer, calls: Calls) -> None:
    caches = [TierCache(redis_server.url, namespace="two", app="shop", l2_budget="10s") for _ in range(2)]
    apps = []
    for cache in caches:
        cache.route("/p", ttl="10m", tags=["p"])
        apps.append(application(cache, Route("/p", calls.view())))
    try:
        await twice(apps[0], "/p")
        first, second = await twice(apps[1], "/p")
        assert said(first).endswith("detail=l2")
        assert said(second).endswith("detail=l1")
        receipt = await caches[0].apurge(tags="p")
        assert receipt.shared
    finally:
        for cache in caches:
            await cache.aclose()


async def test_a_router_alone_can_be_wrapped(cache: TierCache, calls: Calls) -> None:
    cache.route("/p", ttl="10m")
    app = TierCacheMiddleware(Router(routes=[Route("/p", calls.view())]), cache=cache)
    assert is_hit((await twice(app, "/p"))[1])
