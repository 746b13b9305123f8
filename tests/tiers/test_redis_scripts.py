"""The ledger in real Redis servers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis

from tests.servers import RedisServer
from tiercache.core.records import Message, Stamp, SyncPage, SyncRequest
from tiercache.errors import TierRejected
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis_scripts import read_message

pytestmark = pytest.mark.every_server

LEDGER = "tc:{shop}:ledger"


@dataclasses.dataclass
class Site:
    """A tier, and a plain client to look behind its back."""

    tier: RedisTier
    client: redis.Redis

    def purge(self, *members: str, everything: bool = False, seen: Stamp | None = None) -> Message:
        (message,) = self.tier.purge(members, everything, soon(), seen)
        return message

    def sync(self, epoch: str = "", seen: int = 0, process: str = "p1") -> SyncPage:
        return self.tier.sync(SyncRequest(epoch, seen, 0.0), process, soon())

    def rows(self) -> dict[str, float]:
        found: Any = self.client.zrange(LEDGER, 0, -1, withscores=True)
        return {member.decode(): score for member, score in found}


def soon() -> float:
    return time.monotonic() + 20


@pytest.fixture
def open_site() -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(server: RedisServer, **options: Any) -> Site:
        sites.append(Site(RedisTier(server.url, "shop", **options), redis.Redis.from_url(server.url)))
        return sites[-1]

    yield make
    for site in sites:
        site.tier.close()
        site.client.close()


@pytest.fixture
def site(redis_server: RedisServer, open_site: Callable[..., Site]) -> Site:
    return open_site(redis_server)


class TestPurge:
    def test_numbers_are_dense_and_each_names_the_one_before(self, site: Site) -> None:
        messages = [site.purge(f"h:t:{i}") for i in range(5)]
        assert [(m.prev, m.number) for m in messages] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
        assert {m.epoch for m in messages} == {site.sync().epoch}

    def test_the_set_holds_what_the_layout_says(self, site: Site) -> None:
        message = site.purge("h:t:a", "h:u:b")
        run_id = site.client.info("server")["run_id"]
        assert site.rows() == {f"e:{message.epoch}": -1, f"i:{run_id}": -2, "q": -11, "f": -10, "h:t:a": 1, "h:u:b": 1}

    def test_a_member_keeps_its_last_number_only(self, site: Site) -> None:
        site.purge("h:t:a")
        site.purge("h:t:b")
        site.purge("h:t:a")
        assert dict(site.sync().records) == {"h:t:a": 3, "h:t:b": 2}

    def test_more_than_a_thousand_members_take_several_numbers(self, site: Site) -> None:
        members = [f"h:t:{i}" for i in range(2_500)]
        messages = site.tier.purge(members, False, soon())
        assert [(m.number, m.prev, len(m.members)) for m in messages] == [(1, 0, 1000), (2, 1, 1000), (3, 2, 500)]
        assert [member for m in messages for member in m.members] == members

    def test_nothing_to_purge_takes_no_number(self, site: Site) -> None:
        assert site.tier.purge([], False, soon()) == []
        assert site.sync().head == 0

    def test_everything_raises_the_floor_and_leaves_no_records(self, site: Site) -> None:
        first = site.purge("h:t:a")
        everything = site.purge(everything=True)
        assert everything == Message(first.epoch, 2, 1, 2, ())
        assert set(site.rows()) == {f"e:{first.epoch}", next(k for k in site.rows() if k[0] == "i"), "q", "f"}
        after = site.purge("h:t:a")
        assert after == Message(first.epoch, 3, 2, 2, ("h:t:a",), False, (0,))
        page = site.sync()
        assert (page.head, page.floor, page.records) == (3, 2, (("h:t:a", 3),))

    def test_tags_are_any_text(self, site: Site) -> None:
        members = ("h:t:é", "h:t:日本 語", "h:t:\x00\n\"'\\", "h:t:😀", "h:t:" + "x" * 5_000, "h:t:")
        assert site.purge(*members).members == members
        assert {member for member, _ in site.sync().records} == set(members)

    def test_text_that_is_no_utf8_is_refused_before_it_is_sent(self, site: Site) -> None:
        with pytest.raises(TierRejected, match="UTF-8"):
            site.purge("h:t:\udcff")
        assert site.sync().head == 0

    @pytest.mark.parametrize("member", ["q", "f", "e:1", "i:1", ""])
    def test_the_ledgers_own_members_cannot_be_purged(self, site: Site, member: str) -> None:
        with pytest.raises(ValueError, match="not a ledger member"):
            site.purge(member)

    def test_numbers_stay_exact_up_to_two_to_the_52(self, site: Site) -> None:
        epoch = site.purge("h:t:a").epoch
        large = 2**52 - 20
        site.client.zadd(LEDGER, {"q": -10 - large, "h:t:a": large - 1, "h:t:b": large, key(1): 2**52 + large})
        message = site.purge("h:t:c", key(1))
        assert (message.prev, message.number, message.previous) == (large, large + 1, (0, large))
        page = site.sync(epoch, large - 1)
        assert page.records == (("h:t:b", large), ("h:t:c", large + 1), (key(1), large + 1))
        assert (page.head, page.last) == (large + 1, large + 1)
        everything = site.purge(everything=True)
        assert (everything.number, everything.floor) == (large + 2, large + 2)
        assert site.sync(epoch, large + 2).epoch == epoch

    def test_it_is_published_as_it_was_answered(self, site: Site) -> None:
        subscription = site.tier.listen()
        sent = [site.purge("h:t:é"), site.purge(everything=True)]
        # What was before is for the one who asked.
        assert [subscription.wait(20), subscription.wait(20)] == [m._replace(previous=()) for m in sent]

    def test_a_lost_script_cache_is_no_loss(self, site: Site) -> None:
        site.purge("h:t:a")
        site.client.script_flush()
        assert site.purge("h:t:b").number == 2
        site.client.script_flush()
        assert site.sync().head == 2

    def test_scripts_are_sent_once(self, site: Site) -> None:
        site.purge("h:t:a")
        before = site.client.info("commandstats")
        site.purge("h:t:b")
        after = site.client.info("commandstats")
        assert after["cmdstat_evalsha"]["calls"] == before["cmdstat_evalsha"]["calls"] + 1
        assert after["cmdstat_eval"]["calls"] == before["cmdstat_eval"]["calls"]


class TestTrim:
    def test_what_is_cut_raises_the_floor(self, redis_server: RedisServer, open_site: Callable[..., Site]) -> None:
        site = open_site(redis_server, ledger_limit=3)
        messages = [site.purge(f"h:t:{i}") for i in range(5)]
        assert [m.floor for m in messages] == [0, 0, 0, 1, 2]
        page = site.sync()
        assert (page.floor, page.records) == (2, (("h:t:2", 3), ("h:t:3", 4), ("h:t:4", 5)))

    def test_a_number_is_cut_whole(self, redis_server: RedisServer, open_site: Callable[..., Site]) -> None:
        site = open_site(redis_server, ledger_limit=3)
        site.purge("h:t:a", "h:t:b", "h:t:c")
        assert site.purge("h:t:d").floor == 1
        assert site.sync().records == (("h:t:d", 2),)

    def test_a_purge_larger_than_the_ledger_is_all_floor(
        self, redis_server: RedisServer, open_site: Callable[..., Site]
    ) -> None:
        site = open_site(redis_server, ledger_limit=3)
        message = site.purge("h:t:a", "h:t:b", "h:t:c", "h:t:d")
        assert (message.number, message.floor) == (1, 1)
        assert site.sync().records == ()


class TestKeys:
    """Of data: as many as an application writes."""

    def test_they_push_nothing_else_out(self, redis_server: RedisServer, open_site: Callable[..., Site]) -> None:
        site = open_site(redis_server, ledger_limit=3, ledger_keys=4)
        site.purge("h:t:a")
        messages = [site.purge(key(i), "h:t:b") for i in range(20)]
        assert {message.floor for message in messages} == {0}
        page = site.sync()
        assert set(page.records) == {
            ("h:t:a", 1),
            ("h:t:b", 21),
            ("h:w:s:000", 17),
            *[(key(i), i + 2) for i in range(16, 20)],
        }

    def test_the_last_number_of_a_key_is_told(self, site: Site) -> None:
        site.purge(key(1))
        site.purge(key(2), "h:t:a")
        again = site.purge(key(2), key(1), "h:t:a", key(3))
        assert (again.members, again.previous) == ((key(2), key(1), "h:t:a", key(3)), (2, 1, 2, 0))

    def test_of_a_key_that_was_folded_that_of_its_bucket_is(
        self, redis_server: RedisServer, open_site: Callable[..., Site]
    ) -> None:
        site = open_site(redis_server, ledger_keys=1)
        for i in range(3):
            site.purge(key(i))
        assert site.purge(key(0), key(2), key(0, "other"), "h:t:a").previous == (2, 3, 0, 0)

    def test_a_bucket_takes_the_highest_number_and_is_of_one_store(
        self, redis_server: RedisServer, open_site: Callable[..., Site]
    ) -> None:
        site = open_site(redis_server, ledger_keys=1)
        last = "h:v:s:" + "f" * 32
        site.purge(key(1), key(1, "other"), last)
        site.purge("h:w:s:000", "h:v:s")
        site.purge(key(2))
        assert set(site.sync().records) == {
            ("h:w:s:000", 2), ("h:v:s", 2), ("h:w:other:000", 1), ("h:w:s:fff", 1), (key(2), 3)
        }  # fmt: skip

    def test_more_in_one_purge_than_are_kept(self, redis_server: RedisServer, open_site: Callable[..., Site]) -> None:
        site = open_site(redis_server, ledger_keys=3)
        site.purge(*[key(i) for i in range(1_000)])
        assert set(site.sync().records) == {("h:w:s:000", 1), *[(key(i), 1) for i in range(997, 1_000)]}

    def test_what_the_floor_overtakes_goes_too(self, redis_server: RedisServer, open_site: Callable[..., Site]) -> None:
        site = open_site(redis_server, ledger_limit=1)
        site.purge(key(1))
        site.purge("h:t:a")
        site.purge(key(2))
        assert site.purge("h:t:b").floor == 2
        assert set(site.rows()) & {key(1), key(2), "h:t:a", "h:t:b"} == {key(2), "h:t:b"}
        assert site.purge(everything=True).floor == 5
        assert site.sync().records == ()

    def test_pages_of_both_end_at_the_same_number(
        self, redis_server: RedisServer, open_site: Callable[..., Site]
    ) -> None:
        site = open_site(redis_server, page=2)
        for i in range(4):
            site.purge(key(i))
        for i in range(4):
            site.purge(f"h:t:{i}", key(10 + i))
        first = site.sync()
        assert (first.last, first.complete, set(first.records)) == (2, False, {(key(0), 1), (key(1), 2)})
        rest = site.sync(first.epoch, 6)
        assert (rest.complete, rest.last, len(rest.records)) == (True, 8, 4)


def key(number: int, store: str = "s") -> str:
    return f"h:v:{store}:{number:032x}"


class TestGuard:
    def test_no_ledger_begins_an_epoch(self, site: Site) -> None:
        old = site.purge("h:t:a").epoch
        site.client.delete(LEDGER)
        page = site.sync(old, 1)
        assert page.epoch != old
        assert (page.head, page.floor, page.records, page.complete) == (0, 0, (), True)
        assert site.sync(page.epoch, 0).epoch == page.epoch

    @pytest.mark.parametrize("part", ["e", "i", "q", "f"])
    def test_a_ledger_without_one_of_its_parts_is_none(self, site: Site, part: str) -> None:
        old = site.purge("h:t:a").epoch
        site.client.zrem(LEDGER, next(row for row in site.rows() if row[0] == part))
        message = site.purge("h:t:b")
        assert message.epoch != old
        assert (message.number, message.prev) == (1, 0)
        assert site.sync().records == (("h:t:b", 1),)

    def test_another_server_process_does_not_go_on_with_a_snapshot(
        self, new_redis: Callable[..., RedisServer], open_site: Callable[..., Site]
    ) -> None:
        server = new_redis()
        site = open_site(server)
        old = site.purge("h:t:a").epoch
        server.restart(keep=True)
        assert f"e:{old}" in site.rows()
        page = site.sync(old, 1)
        assert page.epoch != old
        assert (page.head, page.records) == (0, ())
        assert site.purge("h:t:b").epoch == page.epoch

    def test_a_caller_who_has_seen_more_ends_the_epoch(self, site: Site) -> None:
        epoch = site.purge("h:t:a").epoch
        assert site.sync(epoch, 1).epoch == epoch
        assert site.sync(epoch, 2).epoch != epoch

    def test_a_purge_by_one_who_has_seen_more_ends_it_too(self, site: Site) -> None:
        epoch = site.purge("h:t:a").epoch
        assert site.purge("h:t:b", seen=Stamp(epoch, 1)).epoch == epoch
        message = site.purge("h:t:c", seen=Stamp(epoch, 9))
        assert message.epoch != epoch
        assert (message.prev, message.number) == (0, 1)

    def test_numbers_of_another_epoch_mean_nothing(self, site: Site) -> None:
        epoch = site.purge("h:t:a").epoch
        page = site.sync("another", 50)
        assert (page.epoch, page.records) == (epoch, (("h:t:a", 1),))

    def test_every_epoch_has_a_name_of_its_own(self, site: Site) -> None:
        names = set()
        for _ in range(5):
            site.client.delete(LEDGER)
            names.add(site.sync().epoch)
        assert len(names) == 5

    def test_a_run_id_that_is_kept_secret_is_said_once(
        self, new_redis: Callable[..., RedisServer], open_site: Callable[..., Site], caplog: pytest.LogCaptureFixture
    ) -> None:
        server = new_redis()
        admin = redis.Redis.from_url(server.url)
        admin.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~tc:*", "allchannels", "+@all", "-info")
        site = Site(RedisTier(server.url.replace("//", "//limited:pw@"), "shop"), admin)
        try:
            epoch = site.purge("h:t:a").epoch
            assert site.sync(epoch, 1).epoch == epoch
            assert site.rows()["i:?"] == -2
            second = site.sync(epoch, 2).epoch
            assert second != epoch
            assert not site.tier.guarded
            assert [record.message.count("run_id") for record in caplog.records] == [1]
            # One who may ask does not go on with a history whose owner is unknown.
            known = open_site(server)
            assert known.sync().epoch not in (epoch, second)
            assert known.tier.guarded
        finally:
            site.tier.close()
            admin.close()

    def test_something_else_under_the_name_is_reported(self, site: Site) -> None:
        site.client.set(LEDGER, "x")
        with pytest.raises(TierRejected, match="WRONGTYPE"):
            site.sync()


class TestSync:
    def test_only_what_is_new_is_sent(self, site: Site) -> None:
        epoch = site.purge("h:t:a").epoch
        site.purge("h:t:b")
        assert site.sync(epoch, 1).records == (("h:t:b", 2),)
        page = site.sync(epoch, 2)
        assert (page.records, page.last, page.complete) == ((), 2, True)

    def test_pages_hold_whole_numbers(self, redis_server: RedisServer, open_site: Callable[..., Site]) -> None:
        site = open_site(redis_server, page=4)
        sizes = [3, 3, 1, 4, 1]
        for number, size in enumerate(sizes, 1):
            site.purge(*(f"h:{number}:{i}" for i in range(size)))
        pages = []
        epoch, seen = "", 0
        while not pages or not pages[-1].complete:
            pages.append(site.sync(epoch, seen))
            epoch, seen = pages[-1].epoch, pages[-1].last
        assert [sorted({number for _, number in page.records}) for page in pages] == [[1], [2, 3], [4], [5]]
        assert [len(page.records) for page in pages] == [3, 4, 4, 1]
        assert [page.complete for page in pages] == [False, False, False, True]

    def test_a_thousand_members_of_one_number_do_not_straddle_a_page(self, site: Site) -> None:
        epoch = site.purge(*(f"h:a:{i}" for i in range(1000))).epoch
        site.purge(*(f"h:b:{i}" for i in range(500)))
        site.purge(*(f"h:c:{i}" for i in range(1000)))
        first = site.sync()
        assert (len(first.records), first.last, first.complete, first.head) == (1500, 2, False, 3)
        second = site.sync(epoch, first.last)
        assert (len(second.records), second.last, second.complete) == (1000, 3, True)
        assert len(dict(first.records + second.records)) == 2500

    def test_a_full_page_is_complete(self, redis_server: RedisServer, open_site: Callable[..., Site]) -> None:
        site = open_site(redis_server, page=4)
        site.purge("h:a", "h:b")
        site.purge("h:c", "h:d")
        assert site.sync().complete

    def test_a_number_larger_than_a_page_comes_all_the_same(
        self, redis_server: RedisServer, open_site: Callable[..., Site]
    ) -> None:
        site = open_site(redis_server, page=4)
        epoch = site.purge(*(f"h:{i}" for i in range(10))).epoch
        site.purge("h:last")
        first = site.sync()
        assert (len(first.records), first.last, first.complete) == (10, 1, False)
        assert site.sync(epoch, 1).records == (("h:last", 2),)

    def test_time_is_the_servers(self, site: Site) -> None:
        seconds, micros = site.client.time()
        before = seconds + micros / 1e6
        told = site.sync().time
        seconds, micros = site.client.time()
        assert before <= told <= seconds + micros / 1e6

    def test_each_process_leaves_a_row(self, site: Site) -> None:
        epoch = site.sync(process="p1").epoch
        site.sync(epoch, 0, process="p2")
        rows = {name: row.split() for name, row in site.client.hgetall("tc:{shop}:members").items()}
        assert {name: row[1:] for name, row in rows.items()} == {
            b"@": [epoch.encode()],
            b"p1": [b"-", b"0", b"1.000000"],
            b"p2": [epoch.encode(), b"0", b"1.000000"],
        }
        assert abs(float(rows[b"p2"][0]) - site.sync().time) < 60

    def test_rows_of_processes_long_gone_are_swept_when_one_joins(self, site: Site) -> None:
        now = site.sync(process="p1").time
        site.client.hset("tc:{shop}:members", mapping={"gone": f"{now - 700} - 0", "slow": f"{now - 500} - 0"})
        site.sync(process="p1")
        assert set(site.client.hkeys("tc:{shop}:members")) == {b"@", b"p1", b"gone", b"slow"}
        site.sync(process="p2")
        assert set(site.client.hkeys("tc:{shop}:members")) == {b"@", b"p1", b"slow", b"p2"}

    def test_a_replica_refuses(self, new_redis: Callable[..., RedisServer], open_site: Callable[..., Site]) -> None:
        primary = new_redis()
        replica = open_site(new_redis(replicaof=("127.0.0.1", primary.port)))
        with pytest.raises(TierRejected, match="replica"):
            replica.sync()
        with pytest.raises(TierRejected, match="replica"):
            replica.purge("h:t:a")


class TestMemory:
    def test_a_full_server_still_takes_purges(
        self, new_redis: Callable[..., RedisServer], open_site: Callable[..., Site]
    ) -> None:
        site = open_site(new_redis(maxmemory_policy="noeviction"))
        epoch = site.purge("h:t:a").epoch
        site.client.config_set("maxmemory", 1)
        with pytest.raises(TierRejected, match="maxmemory"):
            site.tier.set("page", b"x", 1000, soon())
        assert site.purge("h:t:b").number == 2
        page = site.sync(epoch, 1, process="joined when it was full")
        assert page.records == (("h:t:b", 2),)

    def test_it_begins_an_epoch_when_full_and_when_scripts_are_new(
        self, new_redis: Callable[..., RedisServer], open_site: Callable[..., Site]
    ) -> None:
        site = open_site(new_redis(maxmemory=1, maxmemory_policy="noeviction"))
        assert site.purge("h:t:a").number == 1
        assert site.sync().records == (("h:t:a", 1),)


class TestMessages:
    def test_a_message_survives_the_wire(self) -> None:
        message = Message("e", 2**53, 7, 3, ("h:t:é",))
        assert read_message(msgspec.msgpack.encode(message)) == message

    @pytest.mark.parametrize(
        "data", [b"", b"hello", b"\x95", msgspec.msgpack.encode(["e", 1]), b"\x95\xa1\xff\x01\x01\x01\x90"]
    )
    def test_anything_else_is_rejected(self, data: bytes) -> None:
        with pytest.raises(TierRejected, match="bus"):
            read_message(data)
