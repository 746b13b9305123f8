"""Slots that move and masters that die: redirections by hand, and a real Cluster under load."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.tiers.redis_help import NOTHING, soon, until_answered
from tiercache.core.records import SyncRequest
from tiercache.errors import TierError, TierRejected, TierUnavailable
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis_cluster import ClusterTopology
from tiercache.tiers.redis_topology import Ask, Rest
from tiercache.tiers.redis_urls import parse_url
from tools.redis_topologies import ClusterSetup

KEY = "tc:shop:a"
SLOT = key_slot(KEY.encode())
GET = ("GET", KEY)
LEDGER = key_slot(b"{shop}")


def caused(error: TierError, cause: BaseException) -> TierError:
    error.__cause__ = cause
    return error


CUT = caused(TierUnavailable("cut off"), RedisConnectionError())
DOWN = caused(TierUnavailable("not ready"), ClusterDownError("The cluster is down"))
TRY_AGAIN = caused(TierUnavailable("not ready"), TryAgainError("Multiple keys request during rehashing of slot"))


def moved(to: str) -> TierError:
    return caused(TierRejected("moved"), MovedError(f"{SLOT} {to}"))


def ask(to: str) -> TierError:
    return caused(TierRejected("ask"), AskError(f"{SLOT} {to}"))


class Play:
    """Nodes that answer what a test has them answer; `asked` is where questions went, maps among them."""

    def __init__(self) -> None:
        target = parse_url("redis+cluster://a:1,b:2")
        self.topology = ClusterTopology(target.seeds, target.address)
        self.owner: tuple[Any, int] = ("a", 1)
        self.replica: tuple[Any, int] = ("r", 9)
        self.dead: set[str] = set()
        self.answers: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.rests = 0

    def run(self) -> Any:
        self.asked = []
        flow = self.topology.route(KEY, GET)
        try:
            step = next(flow)
            while True:
                if isinstance(step, Rest):
                    self.rests += 1
                    step = flow.send(None)
                    continue
                answer = self._answer(step)
                step = flow.throw(answer) if isinstance(answer, TierError) else flow.send(answer)
        except StopIteration as end:
            return end.value

    def _answer(self, step: Ask) -> Any:
        where = step.address.where
        if step.command == ("CLUSTER", "SLOTS"):
            self.asked.append(f"map {where}")
            rows = [[0, 16383, [*self.owner, b"id", []], [*self.replica, b"id", []]]]
            return CUT if where in self.dead else rows
        assert step.command is GET
        self.asked.append(f"asking {where}" if step.asking else where)
        if where in self.dead:
            return CUT
        return self.answers[where].pop(0) if self.answers.get(where) else where


@pytest.fixture
def play() -> Play:
    return Play()


class TestRedirections:
    def test_the_map_is_asked_for_once(self, play: Play) -> None:
        assert play.run() == "a:1"
        assert play.asked == ["map a:1", "a:1"]
        assert play.run() == "a:1"
        assert play.asked == ["a:1"]
        assert play.topology.home(KEY) == "a:1"
        assert play.topology.keeps("a:1")
        assert not play.topology.keeps("r:9")

    def test_a_seed_that_is_dead(self, play: Play) -> None:
        play.dead = {"a:1"}
        play.owner = ("b", 2)
        assert play.run() == "b:2"
        assert play.asked == ["map a:1", "map b:2", "b:2"]

    def test_nobody_tells(self, play: Play) -> None:
        play.dead = {"a:1", "b:2"}
        with pytest.raises(TierUnavailable, match="no node of the Cluster tells the slots: cut off") as caught:
            play.run()
        assert isinstance(caught.value.__cause__, RedisConnectionError)

    @pytest.mark.parametrize("host", [None, b"", b"?"])
    def test_a_node_without_a_name_is_where_it_was_found(self, play: Play, host: bytes | None) -> None:
        play.owner = (host, 1)
        assert play.run() == "a:1"

    def test_moved(self, play: Play) -> None:
        play.run()
        play.answers = {"a:1": [moved("c:3")]}
        play.owner = ("c", 3)
        assert play.run() == "c:3"
        assert play.asked == ["a:1", "c:3"]
        # Where one slot has gone others may have: the map is read anew, after the one who found out has his answer.
        assert play.run() == "c:3"
        assert play.asked[0].startswith("map ")
        assert play.run() == "c:3"
        assert play.asked == ["c:3"]

    def test_moved_to_another_port_of_the_same_host(self, play: Play) -> None:
        play.run()
        play.answers = {"a:1": [moved(":7")]}
        assert play.run() == "a:7"

    def test_ask_is_for_this_once(self, play: Play) -> None:
        play.run()
        play.answers = {"a:1": [ask("c:3")]}
        assert play.run() == "c:3"
        assert play.asked == ["a:1", "asking c:3"]
        assert play.run() == "a:1"
        assert play.asked == ["a:1"]

    def test_keys_on_both_sides_are_waited_for(self, play: Play) -> None:
        play.run()
        play.answers = {"a:1": [ask("c:3")] * 20, "c:3": [TRY_AGAIN] * 20}
        assert play.run() == "a:1"
        assert play.asked == ["a:1", "asking c:3"] * 20 + ["a:1"]
        assert play.rests == 20

    def test_a_dead_master_is_looked_past(self, play: Play) -> None:
        play.run()
        play.dead = {"a:1"}
        play.owner = ("r", 9)
        assert play.run() == "r:9"
        assert play.asked[0] == "a:1"
        # The dead one is the last to be asked for a map.
        assert "map a:1" not in play.asked
        assert play.topology.home(KEY) == "r:9"

    @pytest.mark.parametrize("error", [CUT, DOWN])
    def test_a_master_that_nobody_has_replaced_yet(self, play: Play, error: TierError) -> None:
        play.run()
        for _ in range(2):
            play.answers = {"a:1": [error]}
            with pytest.raises(TierUnavailable) as caught:
                play.run()
            assert caught.value is error
            assert play.asked.count("a:1") == 1

    def test_what_says_nothing_about_the_node(self, play: Play) -> None:
        play.run()
        full = caused(TierRejected("full"), ResponseError("OOM"))
        play.answers = {"a:1": [full]}
        with pytest.raises(TierRejected) as caught:
            play.run()
        assert caught.value is full
        assert play.run() == "a:1"
        assert play.asked == ["a:1"]

    def test_two_that_send_us_to_each_other(self, play: Play) -> None:
        play.run()
        play.answers = {"a:1": [moved("c:3")] * 50, "c:3": [moved("a:1")] * 50}
        with pytest.raises(TierRejected, match="moved"):
            play.run()
        assert len(play.asked) < 15


def key_at(server_slots: Callable[[int], bool]) -> str:
    return next(str(i) for i in itertools.count() if server_slots(key_slot(f"tc:shop:{i}".encode())))


class TestRealCluster:
    def test_a_server_url_says_what_is_wrong(self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(cluster.servers[0].url)
        elsewhere = key_at(lambda slot: cluster.master_of(slot) is not cluster.servers[0])
        with pytest.raises(TierRejected, match=r"redis\+cluster://"):
            tier.get(elsewhere, soon())

    def test_values_are_spread_and_the_ledger_is_in_one_place(
        self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(cluster.url)
        for i in range(60):
            tier.set(str(i), b"x", 60_000, soon())
        tier.sync(NOTHING, "p", soon())
        tier.purge(["h:a"], False, soon())
        held = [server.ask_all("KEYS", "*") for server in cluster.masters]
        assert all(len(keys) > 5 for keys in held)
        with_ledger = [keys for keys in held if "tc:{shop}:ledger" in keys]
        assert len(with_ledger) == 1
        assert "tc:{shop}:members" in with_ledger[0]

    def test_the_bus_stays_in_its_shard_where_the_server_can(
        self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]
    ) -> None:
        tier = open_tier(cluster.url)
        subscription = tier.listen(soon())
        sent = tier.purge(["h:a"], False, soon())
        assert [subscription.wait(20)] == [message._replace(previous=()) for message in sent]
        sharded = cluster.servers[0].binary.major >= 7
        assert tier._scripts.publish == ("SPUBLISH" if sharded else "PUBLISH")
        # An older process may still publish to all.
        cluster.master_of(0).ask_all("PUBLISH", "tc:{shop}:bus", "junk")
        with pytest.raises(TierRejected):
            subscription.wait(20)

    async def test_slots_move_under_load(self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(cluster.url, pool_size=8)
        keys = [f"k{i}" for i in range(24)]
        stop = threading.Event()
        done = {"thread": 0, "task": 0}

        def thread(mine: list[str]) -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                for key in mine:
                    tier.set(key, str(number).encode(), 60_000, soon())
                    assert tier.get(key, soon()) == str(number).encode()
                    done["thread"] += 1

        async def task(key: str) -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                await tier.aset(key, str(number).encode(), 60_000, soon())
                assert await tier.aget(key, soon()) == str(number).encode()
                done["task"] += 1

        def move() -> None:
            try:
                for key in keys:
                    slot = key_slot(f"tc:shop:{key}".encode())
                    before = done.copy()
                    source = cluster.master_of(slot)
                    target = next(server for server in cluster.masters if server is not source)
                    cluster.begin_move(slot, target)
                    end = soon()
                    # Some operations fall into each state of the move.
                    while done["thread"] < before["thread"] + 3 or done["task"] < before["task"] + 3:
                        assert time.monotonic() < end
                        time.sleep(0.001)
                    while cluster.move_keys(slot, source, target):
                        pass
                    cluster.end_move(slot, source, target)
            finally:
                stop.set()

        with concurrent.futures.ThreadPoolExecutor(5) as threads:
            loop = asyncio.get_running_loop()
            running = [loop.run_in_executor(threads, thread, keys[i:16:4]) for i in range(4)]
            running.append(loop.run_in_executor(threads, move))
            await asyncio.gather(*running, *(task(key) for key in keys[16:]))
        assert min(done.values()) > len(keys)

    async def test_the_ledger_moves(self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(cluster.url)
        (first,) = tier.purge(["h:a"], False, soon())
        tier.sync(NOTHING, "p", soon())
        subscription = tier.listen(soon())
        source = cluster.master_of(LEDGER)
        target = next(server for server in cluster.masters if server is not source)
        cluster.begin_move(LEDGER, target)
        # Both keys are at the source still.
        (second,) = await tier.apurge(["h:b"], False, soon())
        assert (second.epoch, second.prev) == (first.epoch, 1)
        source.ask("MIGRATE", "127.0.0.1", str(target.port), "tc:{shop}:ledger", "0", "5000")
        # One here, one there: no node can run the script until the other one follows.
        with pytest.raises(TierUnavailable):
            tier.sync(NOTHING, "p", time.monotonic() + 0.2)
        with pytest.raises(TierUnavailable):
            await tier.asynchronise(NOTHING, "p", time.monotonic() + 0.2)
        while cluster.move_keys(LEDGER, source, target):
            pass
        # Another process of the server has it now: who could not know better takes it for lost history.
        page = tier.sync(SyncRequest(first.epoch, 2, 0.0), "p", soon())
        assert page.epoch != first.epoch
        cluster.end_move(LEDGER, source, target)
        assert (await tier.asynchronise(SyncRequest(page.epoch, 0, 0.0), "p", soon())).epoch == page.epoch
        with pytest.raises(TierUnavailable):
            subscription.wait(20)
        again = tier.listen(soon())
        assert again.where.endswith(f":{target.port}")
        sent = tier.purge(["h:c"], False, soon())
        assert [again.wait(20)] == [message._replace(previous=()) for message in sent]

    async def test_a_master_dies(self, cluster: ClusterSetup, open_tier: Callable[..., RedisTier]) -> None:
        tier = open_tier(cluster.url)
        doomed = cluster.master_of(LEDGER)
        safe = key_at(lambda slot: cluster.master_of(slot) is not doomed)
        lost = key_at(lambda slot: cluster.master_of(slot) is doomed)
        for key in (safe, lost):
            tier.set(key, b"x", 60_000, soon())
            assert await tier.aget(key, soon()) == b"x"
        (message,) = tier.purge(["h:a"], False, soon())
        subscription = tier.listen(soon())
        try:
            cluster.notice_after(1_000)
            doomed.kill()
            with pytest.raises(TierUnavailable):
                subscription.wait(20)
            with pytest.raises(TierUnavailable):
                tier.get(lost, soon())
            with pytest.raises(TierUnavailable):
                await tier.aget(lost, soon())
            page = until_answered(lambda deadline: tier.sync(SyncRequest(message.epoch, 1, 0.0), "p", deadline))
            assert page.epoch != message.epoch
            await tier.aset(lost, b"y", 60_000, soon())
            assert tier.get(lost, soon()) == b"y"
            assert until_answered(lambda deadline: tier.get(safe, deadline)) == b"x"
            heir = tier.listen(soon())
            assert heir.where != subscription.where
            sent = await tier.apurge(["h:b"], False, soon())
            assert [heir.wait(20)] == [message._replace(previous=()) for message in sent]
        finally:
            cluster.settle()
            cluster.notice_after(30_000)
        # Back as a replica, it sends whoever asks it on.
        assert open_tier(f"redis+cluster://127.0.0.1:{doomed.port}").get(lost, soon()) == b"y"
