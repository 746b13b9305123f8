"""What the shop's rules do, as its own tests show it: without a Redis, and without waiting for anything.

The fixtures `tiercache_isolated` and `tiercache_clock` come with tiercache.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.applications import Starlette

from tiercache.testing import Clock, Isolation, assert_bypass, assert_hit, assert_miss

pytestmark = pytest.mark.usefixtures("tiercache_isolated")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starlette]:
    with pytest.MonkeyPatch.context() as patch:
        # The module opens its database when it is imported.
        patch.setenv("DATABASE_URL", f"sqlite:///{tmp_path_factory.mktemp('shop')}/shop.db")
        from examples.starlette_app import app as module
    yield module.app
    module.shop.engine.dispose()


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        yield client


async def test_a_product_page_is_kept_for_ten_minutes(client: httpx.AsyncClient, tiercache_clock: Clock) -> None:
    assert_miss(await client.get("/products/1"), stored=True)
    tiercache_clock.advance("599s")
    assert_hit(await client.get("/products/1"))
    tiercache_clock.advance("1s")
    assert_miss(await client.get("/products/1"))


async def test_a_visitor_with_a_session_is_given_the_same_product_page(client: httpx.AsyncClient) -> None:
    await client.get("/products/1")
    await client.post("/account", data={"user": "Ada"})
    assert_hit(await client.get("/products/1"))


async def test_the_front_page_greets_and_is_then_nobody_elses(client: httpx.AsyncClient) -> None:
    assert_miss(await client.get("/"), stored=True)
    await client.post("/account", data={"user": "Ada"})
    greeted = await client.get("/")
    assert_bypass(greeted, reason="cookie")
    assert "Ada" in greeted.text
    client.cookies.clear()
    assert "Ada" not in (await client.get("/")).text


async def test_a_new_price_shows_at_once(client: httpx.AsyncClient, tiercache_isolated: Isolation) -> None:
    for path in ("/", "/products/1", "/products/2"):
        await client.get(path)
    changed = await client.post("/products/1/price", data={"price": "12.30"})
    assert changed.headers["X-Purge"] == "confirmed"
    tiercache_isolated.assert_purged(tags="product:1")
    for path in ("/", "/products/1"):
        response = await client.get(path)
        assert_miss(response)
        assert "12.30" in response.text
    assert_hit(await client.get("/products/2"))


async def test_a_price_that_is_none_purges_nothing(client: httpx.AsyncClient, tiercache_isolated: Isolation) -> None:
    assert (await client.post("/products/1/price", data={"price": "cheap"})).status_code == 400
    tiercache_isolated.assert_not_purged()


async def test_only_the_days_count_for_the_dashboard(client: httpx.AsyncClient, tiercache_clock: Clock) -> None:
    assert_miss(await client.get("/dashboard?days=7"))
    assert_hit(await client.get("/dashboard?days=7&utm_source=mail"))
    assert_miss(await client.get("/dashboard?days=30"))
    tiercache_clock.advance("5s")
    assert_miss(await client.get("/dashboard?days=7"))


async def test_the_account_is_never_stored(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        assert_bypass(await client.get("/account"), reason="route")
