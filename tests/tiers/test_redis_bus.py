"""The subscription of the listener thread."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable

import pytest
import redis

from tests.servers import Proxy, RedisServer
from tests.tiers.redis_help import soon
from tiercache.errors import TierRejected, TierUnavailable
from tiercache.tiers.redis import RedisTier


class TestSubscription:
    def test_it_hears_from_the_moment_it_is_there(self, tier: RedisTier, client: redis.Redis) -> None:
        for _ in range(20):
            subscription = tier.listen(soon())
            assert client.publish("tc:{shop}:bus", b"") == 1
            subscription.close()
            while client.pubsub_numsub("tc:{shop}:bus")[0][1]:
                pass

    def test_nothing_is_said(self, tier: RedisTier) -> None:
        subscription = tier.listen()
        assert subscription.wait(0) is None
        assert subscription.wait(0.01) is None

    def test_many_at_once_keep_their_order(self, tier: RedisTier) -> None:
        subscription = tier.listen()
        sent = tier.purge([f"h:{i}" for i in range(3_500)], False, soon())
        assert [subscription.wait(20) for _ in range(4)] == [m._replace(previous=()) for m in sent]

    def test_a_message_in_pieces(self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        rest: list[bytes] = []

        def half(data: bytes) -> bytes:
            rest.append(data[20:])
            return data[:20]

        with Proxy(redis_server.port) as proxy:
            subscription = open_tier(proxy.url).listen(soon())
            proxy.on_reply = half
            (sent,) = open_tier(redis_server.url).purge(["h:a"], False, soon())
            while not rest:
                assert subscription.wait(0.01) is None
            proxy.on_reply = lambda data: rest[0] + data
            # Anything that the server says next carries the rest along.
            subscription._ask(soon())
            assert subscription.wait(20) == sent._replace(previous=())
            subscription.close()

    def test_something_else_on_the_bus(self, tier: RedisTier, client: redis.Redis) -> None:
        subscription = tier.listen()
        client.publish("tc:{shop}:bus", "hello")
        with pytest.raises(TierRejected):
            subscription.wait(20)
        (sent,) = tier.purge(["h:a"], False, soon())
        assert subscription.wait(20) == sent._replace(previous=())

    def test_being_cut_off(self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
        with Proxy(redis_server.port) as proxy:
            subscription = open_tier(proxy.url).listen(soon())
            proxy.cut()
            with pytest.raises(TierUnavailable):
                subscription.wait(20)
            with pytest.raises(TierUnavailable):
                subscription.wait(20)

    def test_a_killed_server(self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]) -> None:
        server = new_redis()
        subscription = open_tier(server.url).listen(soon())
        server.kill()
        with pytest.raises(TierUnavailable):
            subscription.wait(20)

    def test_a_silent_peer_is_asked_and_then_given_up(
        self, new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
    ) -> None:
        server = new_redis()
        subscription = open_tier(server.url, heartbeat=0.2).listen(soon())
        assert subscription.wait(1.5) is None
        server.pause()
        with pytest.raises(TierUnavailable, match="sign of life"):
            subscription.wait(20)
        server.resume()

    def test_closing_wakes_the_one_who_waits(
        self, redis_server: RedisServer, open_tier: Callable[..., RedisTier]
    ) -> None:
        # No heartbeat comes to its help: only the waking ends this wait before the test is given up.
        subscription = open_tier(redis_server.url, heartbeat=1_000).listen(soon())
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(subscription.wait, 1_000)
            while (subscription._wire._sock.gettimeout() or 0) < 100:
                pass
            subscription.close()
            with pytest.raises(TierUnavailable):
                waiting.result()
        subscription.close()
