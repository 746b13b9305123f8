"""What the shop's rules do, as its own tests show it: without a Redis, and without waiting for anything.

The fixtures `tiercache_isolated` and `tiercache_clock` come with tiercache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from examples.flask_app.app import create_app
from tiercache.testing import Clock, Isolation, assert_bypass, assert_hit, assert_miss

pytestmark = pytest.mark.usefixtures("tiercache_isolated")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/shop.db")
    app = create_app()
    yield app
    app.extensions["shop"].engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def get(client: FlaskClient, path: str) -> TestResponse:
    # Buffered: what is stored is stored when the response has been read to its end.
    return client.get(path, buffered=True)


def test_a_product_page_is_kept_for_ten_minutes(client: FlaskClient, tiercache_clock: Clock) -> None:
    assert_miss(get(client, "/products/1"), stored=True)
    tiercache_clock.advance("599s")
    assert_hit(get(client, "/products/1"))
    tiercache_clock.advance("1s")
    assert_miss(get(client, "/products/1"))


def test_a_visitor_with_a_session_is_given_the_same_product_page(client: FlaskClient) -> None:
    get(client, "/products/1")
    client.post("/account", data={"user": "Ada"})
    assert_hit(get(client, "/products/1"))


def test_the_front_page_greets_and_is_then_nobody_elses(client: FlaskClient) -> None:
    assert_miss(get(client, "/"), stored=True)
    client.post("/account", data={"user": "Ada"})
    greeted = get(client, "/")
    assert_bypass(greeted, reason="cookie")
    assert "Ada" in greeted.text
    client.delete_cookie("flask-session")
    assert "Ada" not in get(client, "/").text


def test_a_new_price_shows_at_once(client: FlaskClient) -> None:
    for path in ("/", "/products/1", "/products/2"):
        get(client, path)
    changed = client.post("/products/1/price", data={"price": "12.30"})
    assert changed.headers["X-Purge"] == "confirmed"
    for path in ("/", "/products/1"):
        response = get(client, path)
        assert_miss(response)
        assert "12.30" in response.text
    assert_hit(get(client, "/products/2"))


def test_a_price_that_is_none_purges_nothing(client: FlaskClient, tiercache_isolated: Isolation) -> None:
    assert client.post("/products/1/price", data={"price": "cheap"}).status_code == 400
    tiercache_isolated.assert_not_purged()


def test_only_the_days_count_for_the_dashboard(client: FlaskClient, tiercache_clock: Clock) -> None:
    assert_miss(get(client, "/dashboard?days=7"))
    assert_hit(get(client, "/dashboard?days=7&utm_source=mail"))
    assert_miss(get(client, "/dashboard?days=30"))
    tiercache_clock.advance("5s")
    assert_miss(get(client, "/dashboard?days=7"))


def test_market_data_is_kept_for_a_quarter_of_a_second(client: FlaskClient, tiercache_clock: Clock) -> None:
    get(client, "/market-data")
    tiercache_clock.advance("249ms")
    assert_hit(get(client, "/market-data"))
    tiercache_clock.advance("1ms")
    assert_miss(get(client, "/market-data"))


def test_the_account_is_never_stored(client: FlaskClient) -> None:
    for _ in range(2):
        assert_bypass(get(client, "/account"), reason="route")


def test_a_view_is_counted_without_calling_the_page_itself(client: FlaskClient, tiercache_clock: Clock) -> None:
    for _ in range(3):
        get(client, "/products/1")
        assert client.post("/products/1/views").status_code == 204
    assert client.post("/products/999/views").status_code == 404
    assert "<td>Green tea</td><td>3</td>" in get(client, "/dashboard").text
    client.post("/products/1/views")
    # Views purge nothing: the dashboard may be as old as its rule says, and so may the pages.
    assert_hit(get(client, "/products/1"))
    assert_hit(get(client, "/dashboard"))
    tiercache_clock.advance("5s")
    assert "<td>Green tea</td><td>4</td>" in get(client, "/dashboard").text


def test_logging_in_gives_the_session_another_id(client: FlaskClient) -> None:
    client.post("/account", data={"user": "Ada"})
    planted = client.get_cookie("flask-session")
    client.post("/account", data={"user": "Bob"})
    assert planted is not None
    client.set_cookie("flask-session", planted.value)
    assert "Sign in" in get(client, "/account").text


def test_logging_out_everywhere_reaches_the_other_browser(app: Flask, client: FlaskClient) -> None:
    other, somebody = app.test_client(), app.test_client()
    for browser, user in ((client, "Ada"), (other, "Ada"), (somebody, "Bob")):
        browser.post("/account", data={"user": user})
    assert client.post("/account/leave").status_code == 303
    for browser in (client, other):
        assert "Sign in" in get(browser, "/account").text
    assert "You are Bob" in get(somebody, "/account").text


@pytest.mark.tiercache(enabled=False)
def test_a_test_of_the_views_alone(app: Flask, client: FlaskClient) -> None:
    assert "12.30" not in get(client, "/products/1").text
    app.extensions["shop"].set_price(1, 1230)  # behind the back of every store
    assert "12.30" in get(client, "/products/1").text
