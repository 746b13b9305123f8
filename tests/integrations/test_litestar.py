from __future__ import annotations

from typing import Any

import httpx
import pytest
from litestar import Litestar, Response, get, head
from litestar.config.cors import CORSConfig
from litestar.exceptions import NotAuthorizedException
from litestar.testing import AsyncTestClient

from tests.servers import RedisServer
from tiercache import ConfigError, TierCache
from tiercache.integrations.litestar import TierCachePlugin


def said(response: httpx.Response) -> str:
    found: str = response.headers.get("cache-status", "")
    return found.partition("; ttl=")[0]


HIT, STORED = "tiercache; hit", "tiercache; fwd=miss; stored"


@pytest.fixture
def cache() -> TierCache:
    cache = TierCache()
    cache.route("/p", ttl="10m")
    return cache


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://shop")


@get("/p")
async def by_language() -> Response[str]:
    return Response("page", headers={"vary": "Accept-Language"})


def test_something_else_than_a_cache_is_refused() -> None:
    with pytest.raises(ConfigError, match="TierCachePlugin") as raised:
        TierCachePlugin("redis://:secret@localhost")  # type: ignore[arg-type]
    assert "secret" not in str(raised.value)


async def test_it_listens_from_the_start_and_lets_go_at_the_end(redis_server: RedisServer) -> None:
    cache = TierCache(redis_server.url, l2_budget="10s")
    app = Litestar([by_language], plugins=[TierCachePlugin(cache)], logging_config=None)
    async with AsyncTestClient(app):
        assert cache._lifecycle.running
    assert not cache._lifecycle.running


@pytest.mark.parametrize("plugin", [True, False], ids=["plugin", "around"])
async def test_only_with_the_plugin_cors_leaves_the_other_fields_of_vary(cache: TierCache, plugin: bool) -> None:
    """Why there is a plugin: Litestar's CORS sets `Vary`, and what stood there is gone."""
    cors = CORSConfig(allow_origins=["https://a.example"])
    plugins = [TierCachePlugin(cache)] if plugin else []
    app = Litestar([by_language], cors_config=cors, plugins=plugins, logging_config=None)
    async with client(app if plugin else cache.asgi(app)) as http:
        asked = {"origin": "https://a.example"}
        assert said(await http.get("/p", headers={**asked, "accept-language": "de"})) == STORED
        other = await http.get("/p", headers={**asked, "accept-language": "en"})
    assert said(other) == (STORED if plugin else HIT)


async def test_middleware_outside_by_hand(cache: TierCache) -> None:
    seen: list[str] = []

    def noting(name: str) -> Any:
        def around(app: Any) -> Any:
            async def noted(scope: Any, receive: Any, send: Any) -> None:
                seen.append(name)
                await app(scope, receive, send)

            return noted

        return around

    app = Litestar([by_language], middleware=[noting("outside"), cache.asgi, noting("inside")], logging_config=None)
    async with client(app) as http:
        assert [said(await http.get("/p")) for _ in range(2)] == [STORED, HIT]
    assert seen == ["outside", "inside", "outside"]


async def test_guards_do_not_run_on_a_hit(cache: TierCache) -> None:
    asked: list[str] = []

    def guard(connection: Any, handler: Any) -> None:
        asked.append(connection.url.path)
        if len(asked) > 1:
            raise NotAuthorizedException

    app = Litestar([get("/p", guards=[guard])(by_language.fn)], plugins=[TierCachePlugin(cache)], logging_config=None)
    async with client(app) as http:
        assert [said(await http.get("/p")) for _ in range(2)] == [STORED, HIT]
    assert asked == ["/p"]


async def test_a_head_needs_a_handler(cache: TierCache) -> None:
    @head("/p")
    async def headed() -> None:
        return None

    for handlers, status in (([by_language], 405), ([by_language, headed], 200)):
        app = Litestar(handlers, plugins=[TierCachePlugin(cache)], logging_config=None)
        async with client(app) as http:
            await http.get("/p")
            answer = await http.head("/p")
        assert answer.status_code == status
    assert said(answer) == HIT
