"""Caches in the tests of their users: alone, empty, by a clock that is turned; without a Redis."""

from __future__ import annotations

import threading
import time
import unittest
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from tests.clock import Hands
from tests.testing.apps import CLIENTS, TEMPLATE, plain
from tiercache import ConfigError, PurgeUnconfirmed, TierCache
from tiercache.errors import SessionUnavailable, TierUnavailable
from tiercache.integrations.sessions import Sessions, decode, encode
from tiercache.testing import Isolation, assert_bypass, assert_hit, assert_miss, isolated

NOWHERE = "redis://localhost:1/0"
"""Nobody answers there: what works with it works without a Redis."""


@pytest.fixture
def caches() -> Iterator[Isolation]:
    with isolated() as caches:
        yield caches


def cached(url: str | None = None, **settings: Any) -> TierCache:
    cache = TierCache(url, **settings)
    cache.route(TEMPLATE, ttl="10m", tags=["p:{id}"], isolated_ttl="5m", stale_while_revalidate="1m")
    return cache


@pytest.mark.parametrize("url", [None, NOWHERE], ids=["alone", "shared"])
@pytest.mark.parametrize("name", CLIENTS)
def test_with_the_client_of_each_framework(caches: Isolation, name: str, url: str | None) -> None:
    cache = cached(url)
    client = CLIENTS[name](cache)
    first = client.get("/p/1")
    assert first.status_code == 200
    assert_miss(first, stored=True)
    getattr(first, "data", None)  # Flask's client gives the end of the response only to those who read it
    assert_hit(client.get("/p/1"), tier="l1", stale=False)
    caches.clock.advance("9m")
    assert_hit(client.get("/p/1"))
    cache.purge(tags="p:1")
    caches.assert_purged(tags="p:1")
    assert_miss(client.get("/p/1"))
    assert_bypass(client.post("/p/1"))
    caches.assert_purged(urls="/p/1")
    assert_miss(client.get("/p/1", headers={"X-Nothing": "1"}))
    client.set_cookie("session", "1") if name == "flask" else client.cookies.__setitem__("session", "1")
    assert_bypass(client.get("/p/1"), reason="cookie")


def test_nothing_is_left_and_nothing_is_brought_along() -> None:
    cache = cached()
    client = plain(cache)
    hands = Hands(cache)
    client.get("/p/1")
    for _ in range(2):
        with isolated() as caches:
            assert cache.stats()["stored"] == 0
            assert_miss(client.get("/p/1"))
            assert_hit(client.get("/p/1"))
            cache.purge(tags="p:1")
            assert len(caches.purges) == 1
    assert_miss(client.get("/p/1"))
    # By the clock of before, and no longer by that of the block.
    caches.clock.advance("1h")
    assert_hit(client.get("/p/1"), stale=False)
    hands.turn(601)
    assert_hit(client.get("/p/1"), stale=True)
    cache.purge(tags="p:1")
    assert len(caches.purges) == 1


def test_caches_that_are_made_meanwhile_are_isolated_too(caches: Isolation) -> None:
    before = cached(NOWHERE)
    client = plain(before)
    client.get("/p/1")
    assert_hit(plain(cached(NOWHERE)).get("/p/1"), tier="l2")


def test_what_was_disabled_by_a_test_is_as_it_was() -> None:
    cache = cached()
    client = plain(cache)
    with isolated(enabled=False):
        assert "cache-status" not in client.get("/p/1").headers
        with pytest.raises(AssertionError, match="TIERCACHE_DISABLED"):
            assert_hit(client.get("/p/1"))
    assert_miss(client.get("/p/1"))


def test_what_the_settings_disable_is_enabled_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIERCACHE_DISABLED", "1")
    client = plain(cached())
    with isolated():
        assert "cache-status" not in client.get("/p/1").headers
    with isolated(enabled=True):
        assert_miss(client.get("/p/1"))
    assert "cache-status" not in client.get("/p/1").headers


class TestClock:
    @pytest.mark.parametrize("duration", ["10m", 600, 600.0, timedelta(minutes=10)])
    def test_freshness_ends_to_the_second(self, caches: Isolation, duration: Any) -> None:
        client = plain(cached())
        client.get("/p/1")
        caches.clock.advance(599)
        said = client.get("/p/1").headers
        assert (said["age"], said["cache-status"]) == ("599", "tiercache; hit; ttl=1; detail=l1")
        client.get("/p/2")
        caches.clock.advance(duration)
        assert_hit(client.get("/p/2"), stale=True)
        assert_miss(client.get("/p/1"))

    def test_it_stands_still_by_itself(self, caches: Isolation) -> None:
        before = caches.clock.boot(), caches.clock.wall()
        time.sleep(0.002)
        assert (caches.clock.boot(), caches.clock.wall()) == before

    @pytest.mark.parametrize("duration", ["soon", -1, None, "10 parsecs", float("nan")])
    def test_what_is_no_duration(self, caches: Isolation, duration: Any) -> None:
        with pytest.raises(ConfigError, match=r"clock\.advance"):
            caches.clock.advance(duration)

    def test_a_purge_is_repeated_when_its_time_has_come(self, caches: Isolation) -> None:
        cache = cached(NOWHERE)
        client = plain(cache)
        cache.purge(tags="p:1", settle="5s")
        client.get("/p/1")
        caches.clock.advance("4.9s")
        assert_hit(client.get("/p/1"))
        caches.clock.advance("0.2s")
        assert_miss(client.get("/p/1"))
        assert len(caches.purges) == 2

    def test_what_is_due_does_not_outlive_the_block(self) -> None:
        cache = cached()
        with isolated() as caches:
            cache.purge(tags="p:1", settle="5s")
        with isolated() as later:
            later.clock.advance("1m")
        assert len(caches.purges) == 1
        assert not later.purges


class TestSharedTier:
    def test_a_purge_reaches_the_other_cache_before_it_returns(self, caches: Isolation) -> None:
        one, other = cached(NOWHERE, app="one"), cached(NOWHERE, app="other")
        clients = [plain(one), plain(other)]
        for client in clients:
            client.get("/p/1")
            assert_hit(client.get("/p/1"), tier="l1")
        receipt = one.purge(tags="p:1", wait=True)
        assert receipt.shared
        assert len(receipt.acknowledged) == 2
        assert not receipt.isolated
        for client in clients:
            assert_miss(client.get("/p/1"))

    def test_another_namespace_or_server_is_not_reached(self, caches: Isolation) -> None:
        one = cached(NOWHERE)
        others = [plain(cached(NOWHERE, namespace="other")), plain(cached("redis://localhost:2/0"))]
        for client in others:
            client.get("/p/1")
        one.purge(everything=True)
        for client in others:
            assert_hit(client.get("/p/1"))

    async def test_async_code(self, caches: Isolation) -> None:
        import httpx

        cache = cached(NOWHERE)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
            await send({"type": "http.response.body", "body": b"x"})

        transport = httpx.ASGITransport(app=cache.asgi(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            assert_miss(await client.get("/p/1"))
            assert_hit(await client.get("/p/1"))
            await cache.apurge(tags="p:1", wait=True)
            caches.clock.advance("1s")
            assert_miss(await client.get("/p/1"))
        caches.assert_purged(tags=["p:1"])
        await cache.aclose()

    @pytest.mark.parametrize("consistency", ["strong", "session"])
    def test_rules_that_ask_for_more_than_bounded_staleness(self, caches: Isolation, consistency: Any) -> None:
        cache = TierCache(NOWHERE, session_secret="0123456789abcdef")
        cache.route(TEMPLATE, ttl="10m", consistency=consistency)
        client = plain(cache)
        assert_miss(client.get("/p/1"))
        assert_hit(client.get("/p/1"))

    def test_one_fill_in_the_fleet(self, caches: Isolation) -> None:
        began, gate, calls = threading.Event(), threading.Event(), []

        def app(environ: Any, start_response: Any) -> list[bytes]:
            calls.append(environ["PATH_INFO"])
            began.set()
            assert gate.wait(20)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"page"]

        import httpx

        clients = []
        for _ in range(2):
            cache = TierCache(NOWHERE, lease_wait="20s")
            cache.route(TEMPLATE, ttl="10m", coalesce="fleet")
            clients.append(httpx.Client(transport=httpx.WSGITransport(app=cache.wsgi(app)), base_url="http://t"))
        seen: list[Any] = []
        threads = [threading.Thread(target=lambda c=c: seen.append(c.get("/p/1"))) for c in clients]  # type: ignore[misc]
        threads[0].start()
        assert began.wait(20)
        threads[1].start()
        gate.set()
        for thread in threads:
            thread.join(20)
        assert [response.text for response in seen] == ["page", "page"]
        assert calls == ["/p/1"]

    def test_no_listener_is_started(self, caches: Isolation) -> None:
        plain(cached(NOWHERE)).get("/p/1")
        assert not [thread for thread in threading.enumerate() if thread.name == "tiercache-listener"]

    def test_cut_off_and_back(self, caches: Isolation) -> None:
        one, other = cached(NOWHERE), cached(NOWHERE)
        client = plain(one)
        client.get("/p/1")
        client.get("/p/2")
        with caches.unreachable():
            assert_hit(client.get("/p/1"), tier="l1")
            caches.clock.advance("2s")
            assert_hit(client.get("/p/1"), tier="isolated")
            with pytest.raises(PurgeUnconfirmed):
                other.purge(tags="p:1")
            assert_hit(client.get("/p/1"), tier="isolated")
            caches.clock.advance("5m")
            assert_miss(client.get("/p/2"))
        assert_miss(client.get("/p/1"))
        assert_hit(client.get("/p/1"), tier="l1")
        assert_hit(plain(other).get("/p/1"), tier="l2")


class TestPurges:
    @pytest.mark.parametrize(
        "named",
        [
            {"tags": "a"},
            {"tags": ["a", "b"]},
            {"urls": "/p/1"},
            {"urls": "https://shop.example/p/1?x=2"},
            {"route": TEMPLATE},
            {"prefix": "/p/"},
            {"glob": "/p/*"},
            {"everything": True},
            {"everything": True, "soft": True},
            {"tags": "a", "soft": True},
        ],
    )
    def test_it_is_asked_for_in_the_words_of_purge(self, caches: Isolation, named: Any) -> None:
        cache = cached()
        caches.assert_not_purged()
        with pytest.raises(AssertionError, match="nothing was purged"):
            caches.assert_purged(**named)
        cache.purge(tags="another")
        with pytest.raises(AssertionError, match=r"1\. tags=\['another'\]"):
            caches.assert_purged(**named)
        caches.assert_not_purged(**named)
        cache.purge(**named)
        caches.assert_purged(**named)
        with pytest.raises(AssertionError, match="expected no purge"):
            caches.assert_not_purged(**named)
        text = str(caches.purges[-1])
        for name in named:
            assert name in text
        caches.purges.clear()
        caches.assert_not_purged(**named)

    def test_two_purges_may_do_what_one_assertion_asks(self, caches: Isolation) -> None:
        cache = cached()
        cache.purge(tags="a")
        with pytest.raises(AssertionError, match=r"expected a purge of tags=\['b'\]"):
            caches.assert_purged(tags=["a", "b"])
        cache.purge(tags="b")
        caches.assert_purged(tags=["a", "b"])

    def test_a_soft_one_is_no_hard_one(self, caches: Isolation) -> None:
        cached().purge(tags="a", soft=True)
        with pytest.raises(AssertionError, match="it was purged, but softly"):
            caches.assert_purged(tags="a")

    @pytest.mark.parametrize("named", [{"tag": "a"}, {"tags": 3}, {}, {"route": "/nothing"}])
    def test_what_purge_does_not_take(self, caches: Isolation, named: Any) -> None:
        cache = cached()
        with pytest.raises(ConfigError, match="purge"):
            caches.assert_purged(**named)
        del cache

    def test_the_url_of_an_unsafe_request(self, caches: Isolation) -> None:
        client = plain(cached())
        client.post("/p/1")
        caches.assert_purged(urls="/p/1")
        caches.assert_not_purged(urls="/p/2")
        with pytest.raises(AssertionError, match="the URL of an unsafe request"):
            caches.assert_purged(tags="p:1")

    def test_a_value_of_a_store(self, caches: Isolation) -> None:
        products = cached(NOWHERE).read_through("products", load=lambda key: key, ttl="10m")
        products.get(7)
        products.delete(7)
        assert [str(purge) for purge in caches.purges] == ["a value of the store 'products'"]

    def test_one_that_is_not_confirmed_was_asked_for(self, caches: Isolation) -> None:
        cache = cached(NOWHERE)
        with caches.unreachable(), pytest.raises(PurgeUnconfirmed):
            cache.purge(tags="a")
        caches.assert_purged(tags="a")


class TestData:
    @pytest.mark.parametrize("url", [None, NOWHERE], ids=["alone", "shared"])
    def test_a_store_is_emptied_and_goes_by_the_clock(self, url: str | None) -> None:
        loaded: list[int] = []

        def load(key: int) -> int:
            loaded.append(key)
            return key

        products = cached(url).read_through("products", load=load, ttl="10m", tags=["product:{key}"])
        for _ in range(2):
            with isolated() as caches:
                del loaded[:]
                assert [products.get(7), products.get(7)] == [7, 7]
                assert loaded == [7]
                caches.clock.advance("599s")
                products.get(7)
                assert loaded == [7]
                caches.clock.advance("1s")
                products.get(7)
                assert loaded == [7, 7]


class TestRealRedis:
    def test_it_is_used_under_a_name_of_its_own_and_left_as_it_was(self, redis_url: str) -> None:
        cache = cached(NOWHERE)
        with redis.Redis.from_url(redis_url) as server:
            server.set("somebody's", "1")
            with isolated(url=redis_url) as caches:
                client = plain(cache)
                assert_miss(client.get("/p/1"))
                assert_hit(client.get("/p/1"))
                assert cache.purge(tags="p:9").shared
                assert len(server.keys("tc:*test-*")) >= 2
                caches.assert_purged(tags="p:9")
            assert server.keys("*") == [b"somebody's"]

    def test_the_clock_is_turned_for_both_tiers(self, redis_url: str) -> None:
        one, other = (cached(NOWHERE, l2_budget="20s", l2_slow="20s") for _ in range(2))
        with isolated(url=redis_url) as caches:
            plain(one).get("/p/1")
            caches.clock.advance("9m")
            from_l2 = plain(other).get("/p/1")
            assert_hit(from_l2, tier="l2", stale=False)
            assert 540 <= int(from_l2.headers["age"]) < 600
            caches.clock.advance("1h")
            assert_miss(plain(other).get("/p/1"))

    def test_a_listener_that_runs_is_stopped_and_starts_again(self, redis_url: str) -> None:
        cache = cached(redis_url)
        client = plain(cache)
        client.get("/p/1")
        assert cache._lifecycle.running
        with isolated():
            assert not cache._lifecycle.running
            assert_miss(client.get("/p/1"))
            assert not cache._lifecycle.running
        # What is in its Redis was out of reach, and is there again.
        assert_hit(client.get("/p/1"), tier="l2")
        assert cache._lifecycle.running
        cache.close()

    def test_a_test_stops_it_itself(self, redis_url: str) -> None:
        with isolated(url=redis_url) as caches, pytest.raises(ConfigError), caches.unreachable():
            pass

    @pytest.mark.parametrize("url", ["", "localhost", 6379, "redis+cluster://localhost", "http://localhost"])
    def test_urls_that_are_no_server(self, url: Any) -> None:
        with pytest.raises(ConfigError, match="isolated: url") as raised:
            isolated(url=url)
        assert "localhost" not in str(raised.value)


def test_a_block_is_begun_once() -> None:
    with isolated() as caches, pytest.raises(RuntimeError), caches:
        pass


@pytest.mark.parametrize("enabled", [1, "yes"])
def test_what_enabled_does_not_take(enabled: Any) -> None:
    with pytest.raises(ConfigError, match="isolated: enabled"):
        isolated(enabled=enabled)


def test_clear_empties_in_the_middle(caches: Isolation) -> None:
    cache = cached(NOWHERE)
    client = plain(cache)
    client.get("/p/1")
    cache.purge(tags="a", settle="1s")
    caches.clock.advance("0.5s")
    caches.clear()
    assert_miss(client.get("/p/1"), stored=True)
    caches.clock.advance("1s")
    caches.assert_not_purged()


def test_a_store_that_is_cut_off_says_so(caches: Isolation) -> None:
    cache = cached(NOWHERE)
    store: Any = cache._engine.shared
    with caches.unreachable(), pytest.raises(TierUnavailable, match="the test has cut"):
        store.get("a", 0.0)


@pytest.mark.parametrize("url", [None, NOWHERE], ids=["alone", "shared"])
def test_sessions_of_users_are_isolated_too(url: str | None) -> None:
    """Those of a cache that there was before, as an app has it, and by the clock of the test."""
    cache = TierCache(url, namespace="shop")
    sessions = Sessions(cache, "correct horse battery", idle="2h")
    with isolated() as caches:
        # As an app that is made within the test has it.
        Sessions(cache, "correct horse battery")
        first = sessions.open(None, encode, decode)
        first["user"] = "alice"
        first.rotate("user:1")
        told = sessions.save(first, None)
        assert told is not None
        named = sessions.named(told.value)
        caches.clock.advance("119m")
        assert dict(sessions.open(named, encode, decode)) == {"user": "alice"}
        caches.clock.advance("119m")
        assert dict(sessions.open(named, encode, decode)) == {"user": "alice"}
        assert sessions.revoke("user:1") == 1
        assert dict(sessions.open(named, encode, decode)) == {}
        again = sessions.open(None, encode, decode)
        again["user"] = "bob"
        told = sessions.save(again, None)
        assert told is not None
        named = sessions.named(told.value)
        caches.clock.advance("2h")
        assert dict(sessions.open(named, encode, decode)) == {}
    with isolated():
        assert dict(sessions.open(named, encode, decode)) == {}


def test_sessions_that_are_cut_off_are_not_saved(caches: Isolation) -> None:
    sessions = Sessions(cached(NOWHERE), "correct horse battery")
    session = sessions.open(None, encode, decode)
    session["user"] = "alice"
    with caches.unreachable(), pytest.raises(SessionUnavailable):
        sessions.save(session, None)
    assert sessions.save(session, None) is not None


def test_a_queue_of_writes_needs_a_redis(caches: Isolation) -> None:
    """An app that is made within the test declares it as any other does; only to write takes more."""
    store = cached(NOWHERE).write_behind("stock", load=lambda key: 7, write=lambda batch: None, ttl="1m")
    assert store.get("tea") == 7
    with pytest.raises(TierUnavailable, match=r"isolated\(url=...\)"):
        store.set("tea", 8)
    with pytest.raises(ConfigError, match=r"store 'stock': url .* None .*a Redis, which keeps the queue"):
        cached().write_behind("stock", load=lambda key: 7, write=lambda batch: None)


class ShopTest(unittest.TestCase):
    """As a user of unittest has it."""

    def setUp(self) -> None:
        self.client = plain(cached())
        self.caches = self.enterContext(isolated())

    def test_a_page_is_stored_for_ten_minutes(self) -> None:
        assert_miss(self.client.get("/p/1"))
        assert_hit(self.client.get("/p/1"))
        self.caches.clock.advance("12m")
        assert_miss(self.client.get("/p/1"))

    def test_another_begins_empty(self) -> None:
        assert_miss(self.client.get("/p/1"))
        self.caches.assert_not_purged()
