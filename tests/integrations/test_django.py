from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.db import connection, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View

from tests.frameworks.apps import django_app as site
from tests.frameworks.visitors import WSGIVisitor
from tests.servers import free_port
from tiercache import ConfigError, TierCache
from tiercache.integrations import django as integration
from tiercache.integrations.django import TierCacheConfig, cache, make_cache, purge_on_commit


class Visitor(WSGIVisitor):
    """Asks from a thread of its own, and so through a connection to the database of its own, as a server does."""

    def _ask(self, method: str, path: str, headers: dict[str, str], content: bytes | None) -> httpx.Response:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._asking, method, path, headers, content).result()

    def _asking(self, *request: Any) -> httpx.Response:
        try:
            return super()._ask(*request)
        finally:
            connections.close_all()


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    connection.close()


@pytest.fixture
def visitor() -> Visitor:
    cache.purge(everything=True)
    return Visitor(site.build("wsgi", "inside"))


@pytest.fixture
def product() -> site.Product:
    return site.Product.objects.update_or_create(pk=1, defaults={"price": 10})[0]


def price_in(visitor: Visitor) -> str:
    return visitor.get("/products/1").text.rpartition(" ")[2]


# -- settings ----------------------------------------------------------------------------------------------------------


def test_a_cache_from_the_settings() -> None:
    made = make_cache({"L1_SIZE": "1MiB", "NAMESPACE": "n", "ROUTES": {"/p/{id}": {"ttl": "10m", "tags": ["p:{id}"]}}})
    assert (made.settings.l1_size, made.settings.namespace, made.settings.url) == (1 << 20, "n", None)
    assert made.routes.match("/p/1").policy.ttl == 600


@pytest.mark.parametrize(
    ("config", "named", "hint"),
    [
        ({"L1_SIZ": "1MiB"}, "TIERCACHE['L1_SIZ']", "TIERCACHE['L1_SIZE']"),
        ({"l1_size": "1MiB"}, "TIERCACHE['l1_size']", "TIERCACHE['L1_SIZE']"),
        ({"L1_SIZE": "big"}, "TIERCACHE['L1_SIZE']", "MiB"),
        ({"TTL": "1m"}, "TIERCACHE['TTL']", "TIERCACHE['ROUTES'] = "),
        ({"ROUTES": ["/p/{id}"]}, "TIERCACHE['ROUTES']", "a dict from templates"),
        ({"ROUTES": {"/p/{id}": {"tll": "1m"}}}, "route '/p/{id}'", "'ttl'"),
        ({"URL": "http://localhost"}, "url: 'http://localhost'", "redis://"),
        ({1: 2}, "TIERCACHE[1]", "settings that exist"),
        ("redis://localhost", "TIERCACHE", "a dict"),
        (None, "TIERCACHE", "a dict"),
    ],
)
def test_bad_settings(config: Any, named: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_cache(config)
    assert named in str(raised.value)
    assert hint in str(raised.value)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        make_cache("redis://:secret@localhost")
    assert "secret" not in str(raised.value)


def test_manage_check_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TierCacheConfig.label in {app.label for app in apps.get_app_configs()}
    assert [found for found in run_checks() if found.id and found.id.startswith("tiercache")] == []
    monkeypatch.setattr(site.settings, "TIERCACHE", {"L1_SIZE": "big"})
    [found] = [found for found in run_checks() if found.id and found.id.startswith("tiercache")]
    assert (found.id, found.is_serious()) == ("tiercache.E001", True)
    assert "TIERCACHE['L1_SIZE']" in found.msg


def test_whoever_comes_first_makes_the_only_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[TierCache] = []
    meeting = threading.Barrier(2)

    def slowly(config: object) -> TierCache:
        made.append(TierCache())
        # The other one is let in if it can come in at all.
        threading.Event().wait(0.05)
        return made[-1]

    def first() -> TierCache:
        meeting.wait(20)
        return integration._the_cache()

    monkeypatch.setattr(integration, "_made", [])
    monkeypatch.setattr(integration, "make_cache", slowly)
    with ThreadPoolExecutor(2) as pool:
        found = [future.result() for future in [pool.submit(first) for _ in range(2)]]
    assert found == [made[0], made[0]]
    assert len(made) == 1


# -- purges and transactions -------------------------------------------------------------------------------------------


def test_a_purge_waits_for_the_commit(visitor: Visitor, product: site.Product) -> None:
    assert price_in(visitor) == "10"
    with transaction.atomic():
        product.price = 20
        product.save()
        purge_on_commit(tags=["product:1"])
        assert visitor.get("/products/1").hit
        # Whatever empties the store now: the old row is what a page is made of, and stored anew.
        cache.purge(everything=True)
        assert price_in(visitor) == "10"
        assert visitor.get("/products/1").hit
    assert price_in(visitor) == "20"


def test_a_rollback_drops_the_purge(visitor: Visitor, product: site.Product) -> None:
    assert price_in(visitor) == "10"
    with transaction.atomic():
        purge_on_commit(tags=["product:1"])
        transaction.set_rollback(True)
    assert visitor.get("/products/1").hit
    with transaction.atomic():
        with transaction.atomic():
            purge_on_commit(tags=["product:1"])
            transaction.set_rollback(True)
        purge_on_commit(tags=["product:2"])
    assert visitor.get("/products/1").hit


def test_without_a_transaction_it_purges_at_once(visitor: Visitor, product: site.Product) -> None:
    assert price_in(visitor) == "10"
    purge_on_commit(urls="/products/1")
    assert not visitor.get("/products/1").hit


@pytest.mark.parametrize("made", [list, tuple, set, iter, lambda tags: (tag for tag in tags)])
def test_tags_in_any_form(visitor: Visitor, product: site.Product, made: Callable[[list[str]], Any]) -> None:
    visitor.get("/products/1")
    with transaction.atomic():
        purge_on_commit(tags=made(["product:1"]))
    assert not visitor.get("/products/1").hit


@pytest.mark.parametrize("what", [{}, {"tags": [""]}, {"tag": "product:1"}, {"urls": "products/1"}])
def test_a_mistake_shows_where_it_stands_and_not_behind_the_commit(what: Any) -> None:
    with transaction.atomic(), pytest.raises(ConfigError, match="purge"):
        purge_on_commit(**what)


def test_another_database(visitor: Visitor, product: site.Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.databases, "other", {**connections.databases["default"]})
    visitor.get("/products/1")
    with transaction.atomic("other"):
        purge_on_commit(tags="product:1")
        assert not visitor.get("/products/1").hit
        visitor.get("/products/1")
        purge_on_commit(tags="product:1", using="other")
        assert visitor.get("/products/1").hit
    assert not visitor.get("/products/1").hit
    connections["other"].close()


def test_what_redis_does_not_confirm_is_logged_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = TierCache(f"redis://127.0.0.1:{free_port()}/0", purge_timeout="50ms")
    monkeypatch.setattr(integration, "cache", away)
    told: list[str] = []
    try:
        with caplog.at_level(logging.WARNING, "tiercache"), transaction.atomic():
            purge_on_commit(tags=["product:1"])
            transaction.on_commit(lambda: told.append("the hook of somebody else"))
    finally:
        away.close()
    assert told == ["the hook of somebody else"]
    assert ["purge not confirmed, queued" in record.getMessage() for record in caplog.records].count(True) == 1
    assert "Error calling" not in caplog.text


# -- views -------------------------------------------------------------------------------------------------------------


def test_the_decorator_beside_a_method_of_a_class_of_views() -> None:
    class Product(View):
        @method_decorator(cache.cached(ttl="10m", tags=["classy:{number}"]))
        def get(self, request: HttpRequest, number: int) -> HttpResponse:
            return HttpResponse(site.shop.page("classy"))

    view = Product.as_view()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        response = view(RequestFactory().get(environ["PATH_INFO"]), number=7)
        start_response("200 OK", list(response.items()))
        return [response.content]

    visitor = WSGIVisitor(cache.wsgi(app))
    assert visitor.get("/classy/7").stored
    assert visitor.get("/classy/7").hit
    cache.purge(tags="classy:7")
    assert not visitor.get("/classy/7").hit
