"""The queues of write-behind stores, on real servers of every version and kind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
import redis

from tests.servers import RedisServer
from tests.tiers.redis_help import soon
from tiercache.core.write_queue import Base, Errand, Place, Receipt, Sum, Write
from tiercache.errors import TierRejected, TierUnavailable
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis_queue_scripts import MOST, RECENT

pytestmark = pytest.mark.every_server

PLACE = Place("stock", 3)
MINUTE = 60_000
MANY = 1_000
_ids = count()


def write(name: str, body: bytes) -> Write:
    return Write(f"id{next(_ids)}", name, body)


def put(tier: RedisTier, *writes: Write, limit: int = MANY) -> list[Receipt] | None:
    return tier.put(PLACE, writes, limit, soon())


def add(tier: RedisTier, name: str, number: int, base: Base | None = None, limit: int = MANY) -> object:
    return tier.add(PLACE, Sum(f"id{next(_ids)}", name, number), limit, base, soon())


def owner(tier: RedisTier, token: str = "mine") -> str:
    assert tier.take(PLACE, token, MINUTE, soon()) is not None
    return token


def bodies(tier: RedisTier) -> list[tuple[str, bytes]]:
    return [(job.name, job.body) for job in tier.jobs(PLACE, MANY, soon())]


def test_a_write_is_a_job_and_pending_until_it_is_acknowledged(tier: RedisTier) -> None:
    receipts = put(tier, write("a", b"s1"), write("b", b"s\x00\xff\r\n 2"))
    assert receipts is not None
    assert [receipt.number for receipt in receipts] == [1, 2]
    assert bodies(tier) == [("a", b"s1"), ("b", b"s\x00\xff\r\n 2")]
    found = tier.pending(PLACE, ["b", "nothing", "a"], soon())
    assert [one and one.body for one in found] == [b"s\x00\xff\r\n 2", None, b"s1"]
    assert found[0] is not None
    assert found[0].receipt == receipts[1]
    jobs = tier.jobs(PLACE, 1, soon())
    assert tier.ack(PLACE, owner(tier), jobs, soon())
    assert bodies(tier) == [("b", b"s\x00\xff\r\n 2")]
    assert [one is None for one in tier.pending(PLACE, ["a", "b"], soon())] == [True, False]


def test_what_is_newer_stays_pending_when_what_is_older_is_acknowledged(tier: RedisTier) -> None:
    put(tier, write("a", b"s1"), write("a", b"s2"))
    first, second = tier.jobs(PLACE, MANY, soon())
    token = owner(tier)
    assert tier.ack(PLACE, token, [first], soon())
    pending = tier.pending(PLACE, ["a"], soon())[0]
    assert pending is not None
    assert pending.body == b"s2"
    assert tier.ack(PLACE, token, [second], soon())
    assert tier.pending(PLACE, ["a"], soon()) == [None]


def test_a_write_that_is_sent_twice_is_one(tier: RedisTier) -> None:
    once = write("a", b"s1")
    receipts = put(tier, once)
    put(tier, write("a", b"s2"))
    assert put(tier, once, write("b", b"s3"), limit=3) is not None
    assert put(tier, once) == receipts
    # The newer value has not been overwritten by the repetition.
    assert bodies(tier) == [("a", b"s1"), ("a", b"s2"), ("b", b"s3")]
    assert [one and one.body for one in tier.pending(PLACE, ["a"], soon())] == [b"s2"]


def test_ids_are_forgotten_after_many_writes(tier: RedisTier, client: redis.Redis) -> None:
    put(tier, *[write("a", b"s") for _ in range(900)])
    assert client.zcard("tc:{shop:stock:3}:recent") == 900
    for _ in range(RECENT // 900 + 1):
        put(tier, *[write("a", b"s") for _ in range(900)], limit=10 * RECENT)
    assert client.zcard("tc:{shop:stock:3}:recent") == RECENT


def test_all_or_none_where_there_is_no_room(tier: RedisTier) -> None:
    known = write("a", b"s1")
    assert put(tier, known, limit=2) is not None
    assert put(tier, write("b", b"s"), write("c", b"s"), limit=2) is None
    assert bodies(tier) == [("a", b"s1")]
    assert put(tier, known, write("b", b"s"), limit=2) is not None
    assert put(tier, write("c", b"s"), limit=2) is None
    # What is there already needs no room.
    assert put(tier, known, limit=2) is not None


def test_partitions_and_stores_know_nothing_of_each_other(tier: RedisTier) -> None:
    put(tier, write("a", b"s1"))
    for place in (Place("stock", 2), Place("views", 3)):
        assert tier.jobs(place, MANY, soon()) == []
        assert tier.pending(place, ["a"], soon()) == [None]
        assert tier.take(place, "another", MINUTE, soon()) == 1


def test_numbers_are_added_to_what_is_pending_or_to_what_the_database_has(tier: RedisTier) -> None:
    asked = tier.add(PLACE, Sum("x1", "views", 5), MANY, None, soon())
    assert asked.receipt is None
    assert asked.cleared is not None
    assert not asked.full
    done = tier.add(PLACE, Sum("x1", "views", 5), MANY, Base(100, asked.cleared), soon())
    assert done.total == 105
    # From here on the database is not asked, and what it is said to have does not count.
    assert tier.add(PLACE, Sum("x2", "views", -7), MANY, Base(1, asked.cleared), soon()).total == 98
    assert bodies(tier) == [("views", b"n105"), ("views", b"n98")]
    assert tier.add(PLACE, Sum("x2", "views", -7), MANY, None, soon()).receipt is not None
    assert bodies(tier) == [("views", b"n105"), ("views", b"n98")]


def test_a_number_that_is_sent_once_more_when_the_database_has_it_counts_once(tier: RedisTier) -> None:
    """Its answer was lost: what the sum is, the database knows by then."""
    asked = tier.add(PLACE, Sum("x1", "views", 5), MANY, None, soon())
    base = Base(100, asked.cleared or "")
    first = tier.add(PLACE, Sum("x1", "views", 5), MANY, base, soon())
    assert tier.ack(PLACE, owner(tier), tier.jobs(PLACE, MANY, soon()), soon())
    again = tier.add(PLACE, Sum("x1", "views", 5), MANY, base, soon())
    assert (again.receipt, again.total) == (first.receipt, None)
    assert bodies(tier) == []


def test_what_was_read_before_something_was_cleared_is_no_base(tier: RedisTier) -> None:
    asked = tier.add(PLACE, Sum("x1", "views", 5), MANY, None, soon())
    assert asked.cleared is not None
    put(tier, write("views", b"n7"))
    assert tier.ack(PLACE, owner(tier), tier.jobs(PLACE, MANY, soon()), soon())
    again = tier.add(PLACE, Sum("x1", "views", 5), MANY, Base(0, asked.cleared), soon())
    assert again.receipt is None
    assert again.cleared not in (None, asked.cleared)
    assert tier.add(PLACE, Sum("x1", "views", 5), MANY, Base(7, again.cleared or ""), soon()).total == 12


def test_what_cannot_be_added_is_refused(tier: RedisTier) -> None:
    put(tier, write("text", b"svalue"), write("large", b"n%d" % MOST))
    with pytest.raises(TierRejected, match="no number"):
        add(tier, "text", 1)
    with pytest.raises(TierRejected, match="beyond"):
        add(tier, "large", 1)
    assert tier.add(PLACE, Sum("x", "large", -1), MANY, None, soon()).total == MOST - 1
    assert tier.add(PLACE, Sum("y", "large", -1), 3, None, soon()).full


def test_one_worker_owns_a_partition(tier: RedisTier, client: redis.Redis) -> None:
    put(tier, write("a", b"s1"))
    jobs = tier.jobs(PLACE, MANY, soon())
    assert tier.take(PLACE, "mine", MINUTE, soon()) == 1
    assert tier.take(PLACE, "theirs", MINUTE, soon()) is None
    assert tier.take(PLACE, "mine", MINUTE, soon()) == 1
    tier.give(PLACE, "theirs", soon())
    assert tier.take(PLACE, "theirs", MINUTE, soon()) is None
    # It stood still for so long that its turn is over, and nobody else has come: it may go on.
    client.delete("tc:{shop:stock:3}:owner")
    assert tier.take(PLACE, "mine", MINUTE, soon()) == 1
    tier.give(PLACE, "mine", soon())
    assert tier.take(PLACE, "theirs", MINUTE, soon()) == 2
    assert tier.take(PLACE, "theirs", MINUTE, soon(), above=1) == 2
    assert tier.take(PLACE, "theirs", MINUTE, soon(), above=7) == 8
    assert tier.take(PLACE, "theirs", MINUTE, soon(), above=7) == 8
    # Its fencing token is of the past: it removes and buries nothing any more.
    assert not tier.ack(PLACE, "mine", jobs, soon())
    assert not tier.bury(PLACE, "mine", jobs[0], "no", 1, soon())
    assert bodies(tier) == [("a", b"s1")]
    assert tier.ack(PLACE, "theirs", jobs, soon())
    assert bodies(tier) == []


def test_jobs_come_in_order_and_in_parts(tier: RedisTier) -> None:
    put(tier, *[write(f"k{i}", b"s") for i in range(5)])
    first = tier.jobs(PLACE, 2, soon())
    rest = tier.jobs(PLACE, MANY, soon(), after=first[-1].receipt.number)
    assert [job.name for job in first + rest] == [f"k{i}" for i in range(5)]
    assert first[0].at <= rest[-1].at


def test_a_letter_is_kept_aside_listed_and_dropped(tier: RedisTier) -> None:
    put(tier, write("a", b"s1 \x00"), write("b", b"s2"))
    job = tier.jobs(PLACE, 1, soon())[0]
    token = owner(tier)
    assert tier.bury(PLACE, token, job, "does not fit: ü 12", 4, soon())
    assert tier.bury(PLACE, token, job, "again", 5, soon())
    assert bodies(tier) == [("b", b"s2")]
    assert tier.pending(PLACE, ["a"], soon()) == [None]
    (letter,) = tier.letters(PLACE, soon())
    assert (letter.name, letter.body, letter.error, letter.attempts) == ("a", b"s1 \x00", "does not fit: ü 12", 4)
    assert letter.receipt == job.receipt
    assert not letter.superseded
    assert tier.drop(PLACE, letter.receipt, soon())
    assert not tier.drop(PLACE, letter.receipt, soon())
    assert tier.letters(PLACE, soon()) == []


@pytest.mark.parametrize("again", ["before", "after"])
def test_a_letter_whose_key_was_written_since_is_old_news(tier: RedisTier, again: str) -> None:
    put(tier, write("a", b"s1"), write("b", b"s"))
    first, other = tier.jobs(PLACE, MANY, soon())
    if again == "before":
        put(tier, write("a", b"s2"))
    token = owner(tier)
    assert tier.bury(PLACE, token, first, "no", 1, soon())
    assert tier.bury(PLACE, token, other, "no", 1, soon())
    if again == "after":
        put(tier, write("a", b"s2"))
    # Long since written, so that the queue tells nothing of it any more.
    assert tier.ack(PLACE, token, tier.jobs(PLACE, MANY, soon()), soon())
    assert [letter.superseded for letter in tier.letters(PLACE, soon())] == [True, False]
    assert tier.replay(PLACE, first.receipt, MANY, soon(), force=False) == "superseded"
    assert tier.replay(PLACE, other.receipt, MANY, soon(), force=False) == "done"
    assert tier.replay(PLACE, first.receipt, 1, soon(), force=True) == "full"
    assert tier.replay(PLACE, first.receipt, MANY, soon(), force=True) == "done"
    assert tier.replay(PLACE, first.receipt, MANY, soon(), force=True) == "gone"
    assert bodies(tier) == [("b", b"s"), ("a", b"s1")]
    assert [one and one.body for one in tier.pending(PLACE, ["a"], soon())] == [b"s1"]


def test_the_state_tells_how_far_behind_it_is(tier: RedisTier) -> None:
    assert tier.queue_state(PLACE, soon()) == (0, 0, 0, None)
    put(tier, write("a", b"s1"), write("a", b"s2"), write("b", b"s"))
    first = tier.jobs(PLACE, 1, soon())[0]
    assert tier.queue_state(PLACE, soon()) == (3, 2, 0, first.at)
    tier.bury(PLACE, owner(tier), first, "no", 1, soon())
    state = tier.queue_state(PLACE, soon())
    assert (state.jobs, state.pending, state.letters) == (2, 2, 1)


def test_a_restart_begins_another_history_and_numbers_go_on(
    new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
) -> None:
    server = new_redis(appendonly="yes", appendfsync="always")
    tier = open_tier(server.url)
    put(tier, write("a", b"s1"))
    token = owner(tier)
    old = tier.jobs(PLACE, MANY, soon())[0]
    server.restart(keep=True)
    receipts = put(tier, write("b", b"s2"))
    assert receipts is not None
    assert receipts[0].number == 2
    assert receipts[0].history != old.receipt.history
    assert bodies(tier) == [("a", b"s1"), ("b", b"s2")]
    assert tier.ack(PLACE, token, [old], soon())
    assert bodies(tier) == [("b", b"s2")]


def test_what_lost_its_end_and_gives_a_number_twice_loses_no_write(
    new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
) -> None:
    """A worker has read a job whose server then dies, and comes back without it."""
    server = new_redis()
    tier = open_tier(server.url)
    put(tier, write("a", b"s1"))
    token = owner(tier)
    lost = tier.jobs(PLACE, MANY, soon())
    server.restart(keep=False)
    assert bodies(tier) == []
    put(tier, write("b", b"s2"))
    assert tier.jobs(PLACE, MANY, soon())[0].receipt.number == lost[0].receipt.number
    # The partition is nobody's on the new server, as far as it knows.
    assert not tier.ack(PLACE, token, lost, soon())
    assert owner(tier) == token
    assert tier.ack(PLACE, token, lost, soon())
    assert bodies(tier) == [("b", b"s2")]
    assert tier.pending(PLACE, ["b"], soon())[0] is not None


def test_what_the_server_says_of_what_it_keeps(
    new_redis: Callable[..., RedisServer], open_tier: Callable[..., RedisTier]
) -> None:
    server = new_redis(appendonly="yes", appendfsync="always", maxmemory="50mb", maxmemory_policy="allkeys-lru")
    said = open_tier(server.url).durability(PLACE, soon())
    assert said == (50 * 1024 * 1024, "allkeys-lru", True, "always")
    said = open_tier(new_redis().url).durability(PLACE, soon())
    assert (said.maxmemory, said.policy, said.appendonly) == (0, "noeviction", False)
    server.ask("CONFIG", "SET", "appendfsync", "everysec")
    assert open_tier(server.url).durability(PLACE, soon()).appendfsync == "everysec"


def test_everywhere(topology_url: str, open_tier: Callable[..., RedisTier]) -> None:
    tier = open_tier(topology_url)
    for partition in range(4):
        place = Place("stock", partition)
        assert tier.put(place, [write("a", b"s1"), write("a", b"s2")], MANY, soon()) is not None
        assert tier.take(place, "mine", MINUTE, soon()) == 1
        jobs = tier.jobs(place, MANY, soon())
        assert tier.bury(place, "mine", jobs[0], "no", 1, soon())
        assert tier.ack(place, "mine", jobs[1:], soon())
        assert tier.replay(place, jobs[0].receipt, MANY, soon(), force=True) == "done"
        assert tier.queue_state(place, soon())[:3] == (1, 1, 0)
        assert tier.durability(place, soon()).policy == "noeviction"
        tier.give(place, "mine", soon())


async def test_from_an_event_loop(redis_server: RedisServer, open_tier: Callable[..., RedisTier]) -> None:
    tier = open_tier(redis_server.url)
    assert await tier.aput(PLACE, [write("a", b"s1")], MANY, soon()) is not None
    assert await tier.aput(PLACE, [write("a", b"s1")], 1, soon()) is None
    pending = (await tier.apending(PLACE, ["a"], soon()))[0]
    assert pending is not None
    assert pending.body == b"s1"
    asked = await tier.aadd(PLACE, Sum("x", "n", 1), MANY, None, soon())
    assert asked.cleared is not None
    assert (await tier.aadd(PLACE, Sum("x", "n", 1), MANY, Base(2, asked.cleared), soon())).total == 3
    await tier.aclose()


async def test_of_several_errands_each_has_an_answer_of_its_own(tier: RedisTier, redis_server: RedisServer) -> None:
    other, crowded = Place("stock", 4), Place("stock", 5)
    put(tier, write("text", b"vword"), write("number", b"n1"))
    assert tier.put(crowded, [write("k", b"n1") for _ in range(5)], MANY, soon())
    errands = [
        Errand(PLACE, (write("a", b"n1"), write("b", b"n2"))),
        Errand(other, (write("a", b"n3"),)),
        Errand(PLACE, sum=Sum(f"id{next(_ids)}", "text", 1)),
        Errand(PLACE, sum=Sum(f"id{next(_ids)}", "number", 1)),
        Errand(other, sum=Sum(f"id{next(_ids)}", "unknown", 1)),
        Errand(crowded, (write("c", b"n1"), write("d", b"n1"))),
    ]
    for flush in (False, True, True):
        # Sent once more, also to a server that has lost its scripts, they are the same ones.
        if flush:
            assert redis_server.ask("SCRIPT", "FLUSH") == "+OK"
        replies = await tier.asubmit(errands, 5, soon()) if flush else tier.submit(errands, 5, soon())
        first, second, conflict, added, unknown, full = replies
        assert [receipt.number for receipt in first] == [3, 4]
        assert [receipt.number for receipt in second] == [1]
        assert isinstance(conflict, TierRejected)
        assert (added.total, added.receipt.number) == (2, 5)
        assert (unknown.cleared, unknown.receipt) == ("0", None)
        assert full is None
    assert [name for name, _ in bodies(tier)] == ["text", "number", "a", "b", "number"]


async def test_errands_that_do_not_reach_the_server_say_so_each(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    tier = RedisTier(server.url, "shop")
    try:
        errands = [Errand(Place("stock", n), (write("a", b"n1"),)) for n in range(3)]
        assert None not in tier.submit(errands, MANY, soon())
        server.kill()
        for replies in (tier.submit(errands, MANY, soon()), await tier.asubmit(errands, MANY, soon())):
            assert [type(reply) for reply in replies] == [TierUnavailable] * 3
    finally:
        tier.close()
