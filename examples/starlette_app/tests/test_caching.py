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


def browser(app: Starlette, cookies: httpx.Cookies | None = None) -> httpx.AsyncClient:
    # https: a session's cookie is sent nowhere else.
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="https://shop.example", cookies=cookies)


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(app) as client:
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


async def test_a_new_price_shows_at_once(client: httpx.AsyncClient) -> None:
    for path in ("/", "/products/1", "/products/2"):
        await client.get(path)
    changed = await client.post("/products/1/price", data={"price": "12.30"})
    assert changed.headers["X-Purge"] == "confirmed"
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


async def test_a_view_is_counted_without_calling_the_page_itself(
    client: httpx.AsyncClient, tiercache_clock: Clock
) -> None:
    for _ in range(3):
        await client.get("/products/3")
        assert (await client.post("/products/3/views")).status_code == 204
    assert (await client.post("/products/999/views")).status_code == 404
    assert "<td>Filter coffee</td><td>3</td>" in (await client.get("/dashboard")).text
    await client.post("/products/3/views")
    # Views purge nothing: the dashboard may be as old as its rule says, and so may the pages.
    assert_hit(await client.get("/products/3"))
    assert_hit(await client.get("/dashboard"))
    tiercache_clock.advance("5s")
    assert "<td>Filter coffee</td><td>4</td>" in (await client.get("/dashboard")).text


async def test_logging_in_gives_the_session_another_id(client: httpx.AsyncClient) -> None:
    await client.post("/account", data={"user": "Ada"})
    planted = client.cookies["starlette-session"]
    await client.post("/account", data={"user": "Bob"})
    client.cookies.clear()
    response = await client.get("/account", headers={"Cookie": f"starlette-session={planted}"})
    assert "Sign in" in response.text


async def test_logging_out_everywhere_reaches_the_other_browser(app: Starlette) -> None:
    cookies = []
    for user in ("Ada", "Ada", "Bob"):
        async with browser(app) as client:
            await client.post("/account", data={"user": user})
            cookies.append(client.cookies)
    async with browser(app, cookies[0]) as client:
        assert (await client.post("/account/leave")).status_code == 303
    for held, shown in zip(cookies, ("Sign in", "Sign in", "You are Bob"), strict=True):
        async with browser(app, held) as client:
            assert shown in (await client.get("/account")).text
