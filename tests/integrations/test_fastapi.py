"""FastAPI: what the decorator must leave as it was, which is everything."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException, Query, Request
from pydantic import BaseModel

import tiercache
from tiercache import ConfigError, TierCache
from tiercache.integrations.starlette import TierCacheMiddleware


class Product(BaseModel):
    id: int
    price: float
    note: str | None = None


def currency(currency: str = "EUR") -> str:
    return currency


def logging(request: Request) -> Iterator[list[str]]:
    log: list[str] = request.app.state.log
    log.append("open")
    yield log
    log.append("close")


Currency = Annotated[str, Depends(currency)]


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://shop")


def wrapped(cache: TierCache, app: FastAPI) -> FastAPI:
    app.add_middleware(TierCacheMiddleware, cache=cache)
    return app


def is_hit(response: httpx.Response) -> bool:
    return response.headers["cache-status"].startswith("tiercache; hit")


@pytest.fixture
def cache() -> TierCache:
    return TierCache()


def products(decorate: Callable[[Any], Any], calls: list[int]) -> FastAPI:
    """One path function of each kind, with everything that FastAPI reads from a signature."""
    app = FastAPI()

    @app.get("/async/{product_id}", response_model=Product, response_model_exclude_none=True, tags=["products"])
    @decorate
    async def read_async(
        product_id: int,
        currency: Currency,
        limit: Annotated[int, Query(ge=1, description="at least one")] = 5,
        x_shop: Annotated[str | None, Header()] = None,
    ) -> dict[str, object]:
        """One product."""
        calls.append(product_id)
        return {"id": product_id, "price": len(calls), "secret": "not in the model", "note": None}

    @app.get("/sync/{product_id}")
    @decorate
    def read_sync(product_id: int, request: Request, tasks: BackgroundTasks, currency: Currency) -> Product:
        calls.append(product_id)
        return Product(id=product_id, price=len(calls), note=f"{currency} {request.method}")

    return app


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_path_function_is_cached_and_purged_by_its_arguments(cache: TierCache, kind: str) -> None:
    calls: list[int] = []
    app = wrapped(cache, products(cache.cached(ttl="10m", tags=["product:{product_id}", "of:{currency}"]), calls))
    async with client(app) as http:
        first, second = await http.get(f"/{kind}/3"), await http.get(f"/{kind}/3")
        assert [is_hit(first), is_hit(second)] == [False, True]
        assert first.json() == second.json()
        assert first.json()["price"] == 1
        await cache.apurge(tags="product:4")
        assert is_hit(await http.get(f"/{kind}/3"))
        await cache.apurge(tags="product:3")
        assert (await http.get(f"/{kind}/3")).json()["price"] == 2
        await cache.apurge(tags="of:EUR")
        assert (await http.get(f"/{kind}/3")).json()["price"] == 3
        assert not is_hit(await http.get(f"/{kind}/3?currency=CHF"))
    assert len(calls) == 4


async def test_the_response_model_still_filters(cache: TierCache) -> None:
    app = wrapped(cache, products(cache.cached(ttl="10m"), []))
    async with client(app) as http:
        for _ in range(2):
            assert (await http.get("/async/3")).json() == {"id": 3, "price": 1}


async def test_bad_input_is_refused_and_not_stored(cache: TierCache) -> None:
    app = wrapped(cache, products(cache.cached(ttl="10m"), []))
    async with client(app) as http:
        for path in ("/async/nine", "/async/3?limit=0", "/sync/x"):
            for _ in range(2):
                response = await http.get(path)
                assert response.status_code == 422
                assert not is_hit(response)


def test_openapi_is_the_same_with_and_without() -> None:
    plain = products(lambda view: view, [])
    decorated = wrapped(cache := TierCache(), products(cache.cached(ttl="10m", tags=["p:{product_id}"]), []))
    assert decorated.openapi() == plain.openapi()
    parameters = decorated.openapi()["paths"]["/async/{product_id}"]["get"]["parameters"]
    assert [p["name"] for p in parameters] == ["product_id", "limit", "currency", "x-shop"]


async def test_dependencies_run_on_a_miss_and_not_on_a_hit(cache: TierCache) -> None:
    log: list[str] = []
    app = FastAPI()
    app.state.log = log

    @app.get("/p")
    @cache.cached(ttl="10m")
    async def read(log: Annotated[list[str], Depends(logging)]) -> str:
        log.append("read")
        return "x"

    async with client(wrapped(cache, app)) as http:
        for _ in range(3):
            assert (await http.get("/p")).json() == "x"
    assert log == ["open", "read", "close"]


async def test_a_tag_without_an_argument_is_refused_at_the_decorator(cache: TierCache) -> None:
    with pytest.raises(ConfigError, match="product_id") as raised:

        @cache.cached(ttl="10m", tags=["product:{id}"])
        async def read(product_id: int) -> int:
            return product_id

    assert "read" in str(raised.value)


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_what_a_dependency_and_a_path_function_say(cache: TierCache, kind: str) -> None:
    def tagging() -> None:
        tiercache.tag("from-dependency")

    async def tagging_async() -> None:
        tiercache.tag("from-async-dependency")

    app = FastAPI(dependencies=[Depends(tagging), Depends(tagging_async)])

    @app.get("/async")
    async def read_async(lifetime: str = "90s", keep: bool = True) -> str:
        return say(lifetime, keep)

    @app.get("/sync")
    def read_sync(lifetime: str = "90s", keep: bool = True) -> str:
        return say(lifetime, keep)

    def say(lifetime: str, keep: bool) -> str:
        tiercache.tag("from-view")
        tiercache.ttl(lifetime)
        if not keep:
            tiercache.no_store("asked for")
        return "x"

    cache.route("/{rest:path}", ttl="10m")
    async with client(wrapped(cache, app)) as http:
        for name in ("from-view", "from-dependency", "from-async-dependency"):
            await http.get(f"/{kind}")
            hit = await http.get(f"/{kind}")
            assert int(hit.headers["cache-status"].partition("ttl=")[2].partition(";")[0]) in (89, 90)
            await cache.apurge(tags=name)
            assert not is_hit(await http.get(f"/{kind}"))
        for _ in range(2):
            assert (await http.get(f"/{kind}?keep=0")).headers["cache-status"] == "tiercache; fwd=miss; detail=view"


async def test_the_decorator_under_a_router_with_a_prefix(cache: TierCache) -> None:
    calls: list[int] = []
    router = APIRouter(prefix="/v1")

    @router.get("/p/{number}")
    @cache.cached(ttl="10m", tags=["p:{number}"])
    def read(number: int) -> int:
        calls.append(number)
        return number

    app = FastAPI()
    app.include_router(router, prefix="/api")
    async with client(wrapped(cache, app)) as http:
        for _ in range(2):
            assert (await http.get("/api/v1/p/8")).json() == 8
        assert calls == [8]
        await cache.apurge(tags="p:8")
        await http.get("/api/v1/p/8")
        assert calls == [8, 8]


async def test_an_http_exception_is_stored_only_where_a_rule_gives_its_status_a_lifetime(cache: TierCache) -> None:
    app = FastAPI()

    @app.get("/{kind}/{number}")
    def read(number: int) -> int:
        raise HTTPException(404, "no such product")

    cache.route("/a/{number}", ttl="10m", ttl_by_status={404: "5s"})
    cache.route("/b/{number}", ttl="10m")
    async with client(wrapped(cache, app)) as http:
        for path, hit in (("/a/1", True), ("/b/1", False)):
            await http.get(path)
            response = await http.get(path)
            assert response.status_code == 404
            assert response.json() == {"detail": "no such product"}
            assert is_hit(response) == hit


async def test_a_path_function_called_by_hand_is_the_function(cache: TierCache) -> None:
    @cache.cached(ttl="10m", tags=["p:{number}"])
    async def read(number: int) -> int:
        return number * 2

    @cache.cached(ttl="10m", tags=["p:{number}"])
    def read_sync(number: int) -> int:
        return number * 2

    assert await read(4) == read_sync(4) == read_sync(number=4) == 8


async def test_a_root_path_of_the_app_is_part_of_what_rules_and_purges_name(cache: TierCache) -> None:
    cache.route("/api/p/{id}", ttl="10m")
    with warnings.catch_warnings():
        # Newer versions would rather have it told to the server.
        warnings.simplefilter("ignore")
        app = FastAPI(root_path="/api")
    app.add_middleware(TierCacheMiddleware, cache=cache)

    @app.get("/p/{number}")
    async def page(number: int, request: Request) -> str:
        return str(request.url_for("page", number=number))

    async with client(app) as http:
        assert (await http.get("/p/1")).headers["cache-status"] == "tiercache; fwd=miss; stored"
        link = (await http.get("/p/1")).json()
        assert link == "http://shop/api/p/1"
        await cache.apurge(urls=link)
        assert (await http.get("/p/1")).headers["cache-status"] == "tiercache; fwd=miss; stored"
