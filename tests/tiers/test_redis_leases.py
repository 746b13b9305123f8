"""Leases: who fills a key for the fleet, on every kind of set-up."""

from __future__ import annotations

import pytest
import redis

from tests.servers import RedisServer
from tests.tiers.redis_help import soon
from tiercache.core.records import Wake
from tiercache.tiers.redis import RedisTier

pytestmark = pytest.mark.every_server

KEY = "tc:{tc:shop:page}:lease"
MINUTE = 60_000


def test_one_has_it_until_it_is_given_back(tier: RedisTier) -> None:
    assert tier.acquire("page", "mine", MINUTE, soon())
    assert not tier.acquire("page", "theirs", MINUTE, soon())
    assert tier.acquire("another page", "theirs", MINUTE, soon())
    tier.release("page", "mine", True, soon())
    assert tier.acquire("page", "theirs", MINUTE, soon())


def test_it_lies_in_the_slot_of_its_value(tier: RedisTier, client: redis.Redis) -> None:
    tier.acquire("page", "mine", MINUTE, soon())
    assert client.get(KEY) == b"mine"
    assert 0 < client.pttl(KEY) <= MINUTE


def test_it_ends_by_itself(tier: RedisTier, client: redis.Redis) -> None:
    assert tier.acquire("page", "mine", 1, soon())
    while client.exists(KEY):
        pass
    assert tier.acquire("page", "theirs", MINUTE, soon())
    assert not tier.renew("page", "mine", MINUTE, soon())
    tier.release("page", "mine", True, soon())
    assert client.get(KEY) == b"theirs"


@pytest.mark.parametrize("waited", [False, True])
def test_it_is_renewed_by_its_holder_alone(tier: RedisTier, client: redis.Redis, waited: bool) -> None:
    tier.acquire("page", "mine", MINUTE, soon())
    if waited:
        tier.acquire("page", "theirs", MINUTE, soon())
        assert 0 < client.pttl(KEY) <= MINUTE
    assert tier.renew("page", "mine", 10 * MINUTE, soon())
    assert client.pttl(KEY) > MINUTE
    assert not tier.renew("page", "theirs", MINUTE, soon())


@pytest.mark.parametrize("made", [True, False])
def test_word_goes_out_only_where_somebody_waits(tier: RedisTier, made: bool) -> None:
    subscription = tier.listen(soon())
    tier.acquire("alone", "mine", MINUTE, soon())
    tier.release("alone", "mine", made, soon())
    tier.acquire("page", "mine", MINUTE, soon())
    for _ in range(3):
        tier.acquire("page", "theirs", MINUTE, soon())
    tier.release("page", "mine", made, soon())
    (purged,) = tier.purge(["h:t:a"], False, soon())
    assert subscription.wait(20) == Wake("page", made)
    assert subscription.wait(20) == purged._replace(previous=())
    subscription.close()


async def test_an_event_loop_can_do_the_same(tier: RedisTier, redis_server: RedisServer) -> None:
    assert await tier.aacquire("page", "mine", MINUTE, soon())
    assert not await tier.aacquire("page", "theirs", MINUTE, soon())
    assert await tier.arenew("page", "mine", MINUTE, soon())
    await tier.arelease("page", "mine", True, soon())
    assert await tier.aacquire("page", "theirs", MINUTE, soon())
    await tier.aclose()


def test_a_lost_script_cache_is_no_loss(tier: RedisTier, client: redis.Redis) -> None:
    tier.acquire("page", "mine", MINUTE, soon())
    client.script_flush()
    assert tier.renew("page", "mine", MINUTE, soon())
    client.script_flush()
    tier.release("page", "mine", False, soon())
    assert client.exists(KEY) == 0
