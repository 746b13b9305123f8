"""Both shops as they are deployed: in processes of their own, over one database and one Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from examples.demo.processes import Processes, flask_command, starlette_command
from examples.shop.database import Shop, parse_price

Shops = dict[str, list[httpx.Client]]
COMMANDS = {"starlette": starlette_command, "flask": flask_command}
OTHER = {"starlette": "flask", "flask": "starlette"}
both = pytest.mark.parametrize("kind", ["starlette", "flask"])


def open_shops(processes: Processes, each: int, redis_url: str) -> Shops:
    database = processes.directory / "shop.db"
    environment = {"REDIS_URL": redis_url, "DATABASE_URL": f"sqlite:///{database}"}
    workers = {
        kind: [processes.worker(f"{kind}-{number}", command, environment) for number in range(each)]
        for kind, command in COMMANDS.items()
    }
    processes.wait_for([worker for group in workers.values() for worker in group])
    return {
        kind: [httpx.Client(base_url=f"http://127.0.0.1:{w.port}", headers={"Host": "shop.example"}) for w in group]
        for kind, group in workers.items()
    }


def close_shops(shops: Shops) -> None:
    for group in shops.values():
        for client in group:
            client.close()


@pytest.fixture(scope="module")
def shops() -> Iterator[Shops]:
    """Two workers of each shop, with Redis."""
    with Processes() as processes:
        opened = open_shops(processes, 2, processes.redis().url)
        yield opened
        close_shops(opened)


def said(response: httpx.Response) -> str:
    status: str = response.headers["cache-status"].removeprefix("tiercache; ")
    return status


def eventually(ask: Callable[[], httpx.Response], holds: Callable[[httpx.Response], bool]) -> httpx.Response:
    """Ask until it holds: Redis is written behind the answer, and heard of a moment later."""
    end = time.monotonic() + 10
    while not holds(response := ask()):
        assert time.monotonic() < end, f"{response.status_code} {said(response)}\n{response.text}"
        time.sleep(0.01)
    return response


@both
def test_a_product_page_goes_through_all_tiers(shops: Shops, kind: str) -> None:
    one, two = shops[kind]
    made = one.get("/products/1")
    assert made.status_code == 200
    assert said(made) == "fwd=miss; stored"
    assert f"Made by {kind.title()}" in made.text
    time.sleep(0.3)
    from_redis = two.get("/products/1")
    assert said(from_redis).endswith("detail=l2")
    assert from_redis.text == made.text
    assert said(two.get("/products/1")).endswith("detail=l1")


@both
def test_a_new_price_shows_in_every_process_of_both_shops(shops: Shops, kind: str) -> None:
    everyone = [*shops["starlette"], *shops["flask"]]
    price = "77.10" if kind == "flask" else "77.20"
    for client in everyone:
        for path in ("/products/2", "/"):
            eventually(lambda client=client, path=path: client.get(path), lambda r: said(r).startswith("hit"))  # type: ignore[misc]
    updated = shops[kind][0].post("/products/2/price", data={"price": price})
    assert updated.status_code == 303
    assert updated.headers["location"] == "/products/2"
    assert updated.headers["x-purge"] == "confirmed"
    for client in everyone:
        for path in ("/products/2", "/"):
            shown = eventually(lambda client=client, path=path: client.get(path), lambda r: price in r.text)  # type: ignore[misc]
            assert shown.status_code == 200
    for client in shops[OTHER[kind]]:
        assert f"Made by {OTHER[kind].title()}" in client.get("/products/2").text


@both
def test_what_is_personal_stays_personal(shops: Shops, kind: str) -> None:
    client = shops[kind][0]
    assert "Sign in" in client.get("/account").text
    signed_in = client.post("/account", data={"user": "Ada <b>"})
    assert signed_in.status_code == 303
    cookie = {"cookie": signed_in.headers["set-cookie"].partition(";")[0]}
    client.cookies.clear()
    for _ in range(2):
        account = client.get("/account", headers=cookie)
        assert "You are Ada &lt;b&gt;." in account.text
        assert said(account) == "fwd=bypass; detail=route"
        front = client.get("/", headers=cookie)
        assert "Good to see you, Ada" in front.text
        assert said(front) == "fwd=bypass; detail=cookie"
        client.cookies.clear()
    assert "Ada" not in client.get("/").text
    assert "Ada" not in eventually(lambda: client.get("/"), lambda r: said(r).startswith("hit")).text
    assert "Sign in" in client.get("/account").text
    # This page is the same for everybody, and its rule says so.
    eventually(lambda: client.get("/products/3"), lambda r: said(r).startswith("hit"))
    assert said(client.get("/products/3", headers=cookie)).startswith("hit")


@both
def test_of_the_dashboard_only_the_days_count(shops: Shops, kind: str) -> None:
    client = shops[kind][0]
    week = client.get("/dashboard?days=7")
    assert "Coffee" in week.text
    tagged = client.get("/dashboard?utm_source=mail&days=7")
    assert said(tagged).startswith("hit")
    assert tagged.text == week.text
    month = client.get("/dashboard?days=30")
    assert said(month) == "fwd=miss; stored"
    assert month.text != week.text
    assert client.get("/dashboard?days=0").status_code == 400


@both
def test_market_data_never_comes_from_redis(shops: Shops, kind: str) -> None:
    one, two = shops[kind]
    for _ in range(5):
        for client in (one, two):
            response = client.get("/market-data?x=1")
            assert set(response.json()) == {"CHF", "GBP", "JPY", "USD"}
            assert said(response) == "fwd=miss; stored" or said(response).endswith("detail=l1")


@both
def test_bad_updates_change_nothing(shops: Shops, kind: str) -> None:
    client = shops[kind][0]
    before = eventually(lambda: client.get("/products/4"), lambda r: said(r).startswith("hit"))
    for price in ("", "-1", "1,50", "a", "0", "123456"):
        assert client.post("/products/4/price", data={"price": price}).status_code == 400
    assert client.post("/products/999/price", data={"price": "1.00"}).status_code == 404
    assert client.get("/products/999").status_code == 404
    after = client.get("/products/4")
    assert after.text == before.text
    assert said(after).startswith("hit")


def test_views_that_all_workers_count_are_written_by_one_that_writes() -> None:
    with Processes() as processes:
        redis, url = processes.redis().url, f"sqlite:///{processes.directory / 'shop.db'}"
        shops = open_shops(processes, 1, redis)
        everyone = [client for group in shops.values() for client in group]
        for client in everyone:
            assert [client.post(f"/products/{number}/views").status_code for number in (1, 1, 6)] == [204] * 3
            assert client.post("/products/999/views").status_code == 404
        shop = Shop(url)
        # Acknowledged, and seen by every reader, but not written by anybody yet.
        assert shop.views_of([1, 6]) == {1: 0, 6: 0}
        for client in everyone:
            assert "<td>Green tea</td><td>4</td>" in client.get("/dashboard").text
        writer = processes.writer("writer", {"REDIS_URL": redis, "DATABASE_URL": url})
        processes.wait_for([writer])
        writer.process.terminate()
        assert writer.process.wait(20) == 0
        assert shop.views_of([1, 6]) == {1: 4, 6: 2}
        assert shop.views_of([2, 3, 4, 5]) == dict.fromkeys([2, 3, 4, 5], 0)
        shop.engine.dispose()
        close_shops(shops)


@both
def test_logging_out_everywhere_ends_the_sessions_of_both_shops(shops: Shops, kind: str) -> None:
    cookies = {}
    for each, group in shops.items():
        told = group[0].post("/account", data={"user": "Eve"}).headers["set-cookie"]
        assert {"httponly", "secure", "samesite=lax"} <= {part.strip().lower() for part in told.split(";")}
        cookies[each] = {"cookie": told.partition(";")[0]}
    for each, group in shops.items():
        for client in group:
            client.cookies.clear()
            assert "You are Eve" in client.get("/account", headers=cookies[each]).text
    assert shops[kind][1].post("/account/leave", headers=cookies[kind]).status_code == 303
    for each, group in shops.items():
        for client in group:
            client.cookies.clear()
            assert "Sign in" in client.get("/account", headers=cookies[each]).text


def test_without_redis_each_process_caches_for_itself() -> None:
    with Processes() as processes:
        shops = open_shops(processes, 1, "")
        for (client,) in shops.values():
            assert [said(client.get("/products/1")).partition(";")[0] for _ in range(2)] == ["fwd=miss", "hit"]
            assert client.post("/products/1/price", data={"price": "5.55"}).headers["x-purge"] == "confirmed"
            assert "5.55" in client.get("/products/1").text
            # Counted in the database at once, with nobody to write behind.
            assert client.post("/products/1/views").status_code == 204
        shop = Shop(f"sqlite:///{processes.directory / 'shop.db'}")
        assert shop.views(1) == 2
        shop.engine.dispose()
        close_shops(shops)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_database_is_made_once(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://", 1)
    shop = Shop(url)
    shop.set_price(1, 1)
    shop.add_view(1)
    assert shop.views_of([1, 2]) == {1: 1, 2: 0}
    with pytest.raises(LookupError):
        shop.set_price(999, 1)
    again = Shop(url)
    assert again.prices([1, 2, 999]) == {1: 1, 2: 750}
    assert sum(turnover.sales for turnover in again.turnover(100)) == 3000
    assert sum(turnover.sales for turnover in again.turnover(30)) < 3000
    shop.engine.dispose()
    again.engine.dispose()


@pytest.mark.parametrize(
    ("text", "cents"),
    [("12.30", 1230), ("12.3", 1230), (" 7 ", 700), ("0.01", 1), ("99999.99", 9999999)]
    + [(bad, None) for bad in ("", ".", "1.", ".5", "0", "0.00", "1.234", "1e2", "-1", "100000", "\u0661", "1 2")],
)
def test_parse_price(text: str, cents: int | None) -> None:
    assert parse_price(text) == cents
