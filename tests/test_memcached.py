"""Caches with Memcached as L2: with a Redis for the ledger all that is promised, alone what a process can keep."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.servers import Proxy, RedisServer
from tiercache import ConfigError, TierCache
from tiercache.integrations.sessions import Sessions, decode, encode
from tools.memcached_server import MemcachedServer, available

pytestmark = pytest.mark.skipif(available() is None, reason="no memcached: `make servers` unpacks one")

HIT_L1, HIT_L2, MISS = "hit; detail=l1", "hit; detail=l2", "fwd=miss"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def memcached() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


class App:
    """Answers with how often it was called, and as many bytes as it is told."""

    def __init__(self) -> None:
        self.calls = 0
        self.size = 10

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.calls += 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{self.calls:<{self.size}}".encode()]


class Fleet:
    """Caches of one namespace, as several processes have them."""

    def __init__(self, url: str, namespace: str, **settings: Any) -> None:
        self.app = App()
        self.caches = [TierCache(url, namespace=namespace, l2_budget="5s", l2_slow="2s", **settings) for _ in range(2)]
        self.faces = []
        for cache in self.caches:
            cache.route("/p/{id}", ttl="1h", tags=["p:{id}"], max_body="8MiB")
            self.faces.append(cache.wsgi(self.app))
            cache.start()
        self.until(lambda: all(cache._engine.trusted() for cache in self.caches))

    def get(self, which: int, path: str) -> tuple[str, int]:
        """What Cache-Status says of a request, and which call of the app has made the answer."""
        headers: dict[str, str] = {}

        def start_response(status: str, fields: list[tuple[str, str]], error: Any = None) -> Any:
            headers.update(fields)

        environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "shop",
            "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.input": sys.stdin,
            "wsgi.errors": sys.stderr, "wsgi.version": (1, 0), "HTTP_HOST": "shop",
        }  # fmt: skip
        body = self.faces[which](environ, start_response)  # type: ignore[arg-type]
        answer = b"".join(body)
        if hasattr(body, "close"):
            body.close()
        said = headers["Cache-Status"]
        tier = "l1" if "l1" in said else "l2" if "l2" in said else ""
        return (f"hit; detail={tier}" if tier else "fwd=miss" if "fwd=miss" in said else said), int(answer)

    def found(self, which: int, path: str) -> tuple[str, int]:
        """The same once what was stored behind the answer is there."""
        self.until(lambda: self.caches[which]._engine.limits.behind == 0)
        return self.get(which, path)

    @staticmethod
    def until(question: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not question():
            assert time.monotonic() < end
            time.sleep(0.005)

    def close(self) -> None:
        for cache in self.caches:
            cache.close()


@pytest.fixture
def fleet() -> Iterator[Callable[..., Fleet]]:
    opened: list[Fleet] = []

    def make(*arguments: Any, **settings: Any) -> Fleet:
        opened.append(Fleet(*arguments, **settings))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


class TestWithALedger:
    def test_values_are_shared_and_purges_reach_all(
        self, memcached: MemcachedServer, redis_url: str, fleet: Callable[..., Fleet]
    ) -> None:
        shop = fleet(memcached.url, "ledger", ledger=redis_url)
        assert shop.get(0, "/p/1") == (MISS, 1)
        assert shop.found(1, "/p/1") == (HIT_L2, 1)
        assert shop.get(1, "/p/1") == (HIT_L1, 1)
        receipt = shop.caches[0].purge(tags=["p:1"], wait=True)
        assert receipt.shared
        assert len(receipt.acknowledged) == 2
        assert shop.get(1, "/p/1") == (MISS, 2)
        assert shop.found(0, "/p/1") == (HIT_L2, 2)

    def test_no_value_lies_in_redis(
        self, memcached: MemcachedServer, redis_url: str, fleet: Callable[..., Fleet]
    ) -> None:
        import redis

        shop = fleet(memcached.url, "apart", ledger=redis_url)
        shop.get(0, "/p/1")
        assert shop.found(1, "/p/1") == (HIT_L2, 1)
        with redis.Redis.from_url(redis_url) as client:
            assert not list(client.scan_iter("tc:apart:*"))
            assert client.exists("tc:{apart}:members")

    def test_redis_is_away(self, memcached: MemcachedServer, fleet: Callable[..., Fleet]) -> None:
        with RedisServer() as server, Proxy(server.port) as proxy:
            shop = fleet(memcached.url, "away", ledger=proxy.url, staleness_bound="300ms")
            assert shop.get(0, "/p/1") == (MISS, 1)
            assert shop.found(1, "/p/1") == (HIT_L2, 1)
            server.kill()
            proxy.cut()
            shop.until(lambda: not any(cache._engine.trusted() for cache in shop.caches))
            # What others may have purged is not read from Memcached either.
            shop.caches[1]._engine.memory.clear()
            assert shop.get(1, "/p/1") == (MISS, 2)

    def test_memcached_is_away_and_the_breaker_hears_of_it(self, redis_url: str, fleet: Callable[..., Fleet]) -> None:
        with MemcachedServer() as server:
            shop = fleet(server.url, "mute", ledger=redis_url)
            assert shop.get(0, "/p/1") == (MISS, 1)
            server.pause()
            engine = shop.caches[0]._engine
            # Syncs go on all the time: they tell nothing of it.
            shop.until(lambda: engine.breaker.open)
            assert engine.trusted()
            engine.memory.clear()
            assert shop.get(0, "/p/1") == (MISS, 2)
            assert shop.caches[0].stats()["swallowed"]["L2 in trouble, left alone"] >= 1
            server.resume()
            shop.until(lambda: not engine.breaker.open)

    def test_a_value_that_is_too_large_is_counted(
        self, memcached: MemcachedServer, redis_url: str, fleet: Callable[..., Fleet]
    ) -> None:
        shop = fleet(memcached.url, "large", ledger=redis_url)
        shop.app.size = 1_500_000
        assert shop.get(0, "/p/1") == (MISS, 1)
        assert shop.found(0, "/p/1") == (HIT_L1, 1)
        assert shop.get(1, "/p/1") == (MISS, 2)
        shop.until(lambda: shop.caches[1].stats()["swallowed"].get("value too large for L2") == 1)
        assert "L2 write" not in shop.caches[1].stats()["swallowed"]
        assert not shop.caches[1]._engine.breaker.open

    def test_stronger_rules_and_credentials_go_to_the_ledger(self, memcached: MemcachedServer, redis_url: str) -> None:
        class Provider:
            def get_credentials(self) -> tuple[str]:
                return ("secret",)

        cache = TierCache(memcached.url, ledger=redis_url, credentials=Provider())
        cache.route("/a", ttl="1m", consistency="strong")
        cache.close()


    def test_sessions_of_users_lie_in_the_ledger(self, memcached: MemcachedServer, redis_url: str) -> None:
        cache = TierCache(memcached.url, namespace="sessions", ledger=redis_url, l2_budget="5s")
        sessions = Sessions(cache, "correct horse battery")
        named = None
        for value in (1, 2):
            session = sessions.open(named, encode, decode)
            session["value"] = value
            session.rotate("user:1")
            told = sessions.save(session, named)
            assert told is not None
            named = sessions.named(told.value)
        assert dict(sessions.open(named, encode, decode)) == {"value": 2}
        assert sessions.revoke("user:1") >= 1
        assert dict(sessions.open(named, encode, decode)) == {}
        cache.close()

    async def test_and_so_they_do_for_event_loops(self, memcached: MemcachedServer, redis_url: str) -> None:
        cache = TierCache(memcached.url, namespace="sessions", ledger=redis_url, l2_budget="5s")
        sessions = Sessions(cache, "correct horse battery")
        named = None
        for value in (1, 2):
            session = await sessions.aopen(named, encode, decode)
            session["value"] = value
            session.rotate("user:2")
            told = await sessions.asave(session, named)
            assert told is not None
            named = sessions.named(told.value)
        assert dict(await sessions.aopen(named, encode, decode)) == {"value": 2}
        assert await sessions.arevoke("user:2") >= 1
        assert dict(await sessions.aopen(named, encode, decode)) == {}
        await cache.aclose()

    def test_writes_do_not_wait_there(self, memcached: MemcachedServer, redis_url: str) -> None:
        cache = TierCache(memcached.url, ledger=redis_url)
        with pytest.raises(ConfigError, match=r"store 'stock': url .*'memcached://' .*Redis, which keeps the queue"):
            cache.write_behind("stock", load=lambda key: 0, write=lambda batch: None)
        cache.close()


class TestAlone:
    def test_values_are_shared_and_purges_are_not(
        self, memcached: MemcachedServer, fleet: Callable[..., Fleet]
    ) -> None:
        shop = fleet(memcached.url, "alone")
        assert shop.get(0, "/p/1") == (MISS, 1)
        assert shop.found(1, "/p/1") == (HIT_L2, 1)
        time.sleep(0.002)
        receipt = shop.caches[0].purge(tags=["p:1"], wait=True)
        assert not receipt.shared
        assert len(receipt.acknowledged) == 1
        # It holds here, whatever lies in Memcached, and nowhere else.
        assert shop.get(1, "/p/1") == (HIT_L1, 1)
        assert shop.get(0, "/p/1") == (MISS, 2)
        assert shop.found(0, "/p/1") == (HIT_L1, 2)
        shop.caches[1]._engine.memory.clear()
        assert shop.get(1, "/p/1") == (HIT_L2, 2)

    def test_it_says_so(self, memcached: MemcachedServer, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "tiercache"):
            cache = TierCache(memcached.url)
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("tiercache.ledger", "WARNING")
        assert "ledger='redis://" in record.getMessage()
        assert cache.stats()["swallowed"] == {"purges stay in this process": 1}
        cache.close()

    @pytest.mark.parametrize("consistency", ["strong", "session"])
    def test_nothing_more_than_bounded_is_promised(self, memcached: MemcachedServer, consistency: Any) -> None:
        cache = TierCache(memcached.url, session_secret="0123456789abcdef")
        with pytest.raises(ConfigError, match=r"consistency.*ledger"):
            cache.route("/a", ttl="1m", consistency=consistency)
        cache.close()

    def test_nor_for_data(self, memcached: MemcachedServer) -> None:
        cache = TierCache(memcached.url)
        with pytest.raises(ConfigError, match=r"store 'things': consistency.*ledger"):
            cache.aside("things", ttl="1m", consistency="strong")
        cache.close()

    def test_it_keeps_no_sessions_of_users(self, memcached: MemcachedServer) -> None:
        cache = TierCache(memcached.url)
        with pytest.raises(ConfigError, match=r"Sessions: url .*'memcached://' .*a Redis as its ledger"):
            Sessions(cache, "correct horse battery")
        cache.close()

    def test_credentials_are_for_a_redis(self, memcached: MemcachedServer) -> None:
        with pytest.raises(ConfigError, match=r"credentials.*ledger"):
            TierCache(memcached.url, credentials=object())  # type: ignore[arg-type]


class TestSettings:
    @pytest.mark.parametrize(
        ("url", "ledger", "says"),
        [
            (None, "redis://a", "ledger"),
            ("redis://a", "redis://b", "ledger"),
            ("memcached://a", "memcached://b", "ledger"),
            ("memcached://a", "redis://:hunter2@a:b", "ledger"),
            ("memcached://a,", "redis://a", "url"),
            ("memcached://hunter2@a", None, "url"),
        ],
    )
    def test_what_cannot_work(self, url: str | None, ledger: str | None, says: str) -> None:
        with pytest.raises(ConfigError, match=says) as caught:
            TierCache(url, ledger=ledger)
        assert "hunter2" not in str(caught.value)

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.startswith(("tiercache.tiers.memcached", "pymemcache"))]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "pymemcache", None)
        with pytest.raises(ConfigError, match=r"tiercache\[memcached\]"):
            TierCache("memcached://localhost")

    def test_from_the_environment(self, memcached: MemcachedServer, redis_url: str) -> None:
        cache = TierCache.from_env(
            environ={"TIERCACHE_URL": memcached.url, "TIERCACHE_LEDGER": redis_url, "TIERCACHE_NAMESPACE": "env"}
        )
        assert cache.settings.apart
        assert not cache.settings.alone
        cache.close()
