"""One suite for every way to reach Redis: what holds on one server holds with Sentinel and on a Cluster."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable

import pytest

from tests.tiers.redis_help import NOTHING, in_child, shortly, soon
from tests.tiers.values_contract import KEYS, ValuesContract
from tiercache.core.records import Stamp, SyncRequest
from tiercache.core.write_queue import Errand, Place, Sum, Write
from tiercache.errors import TierUnavailable
from tiercache.tiers.redis import RedisTier


@pytest.fixture
def tier(topology_url: str, open_tier: Callable[..., RedisTier]) -> RedisTier:
    return open_tier(topology_url)


@pytest.fixture
def open_small(topology_url: str, open_tier: Callable[..., RedisTier]) -> Callable[[int], RedisTier]:
    return lambda size: open_tier(topology_url, pool_size=size)


class TestContract(ValuesContract):
    async def test_the_ledger(self, tier: RedisTier) -> None:
        first = tier.purge([f"h:{i}" for i in range(1_500)], False, soon())
        assert [message.number for message in first] == [1, 2]
        (second,) = await tier.apurge(["s:a"], False, soon(), Stamp(first[0].epoch, 2))
        assert (second.number, second.prev) == (3, 2)
        page = tier.sync(SyncRequest(second.epoch, 2, 0.0), "p", soon())
        assert (page.head, page.records, page.complete) == (3, (("s:a", 3),), True)
        assert tier.guarded
        (third,) = tier.purge([], True, soon())
        page = await tier.asynchronise(NOTHING, "q", soon(), fleet=True)
        assert (page.head, page.floor, page.records) == (third.number, third.number, ())
        assert page.rows is not None
        assert {row.process_id for row in page.rows} == {"p", "q"}

    def test_a_ledger_that_has_lost_its_end_is_begun_anew(self, tier: RedisTier) -> None:
        (message,) = tier.purge(["h:a"], False, soon())
        assert tier.sync(SyncRequest(message.epoch, 9, 0.0), "p", soon()).epoch != message.epoch

    async def test_writes_for_several_partitions_at_once(self, tier: RedisTier) -> None:
        places = [Place("stock", partition) for partition in range(20)]
        errands = [Errand(place, (Write(f"id{place.partition}", "k", b"n1"),)) for place in places]
        # The first time nothing is known of a Cluster, nor have its nodes the script.
        for replies in (tier.submit(errands, 10, soon()), await tier.asubmit(errands, 10, soon())):
            assert [[receipt.number for receipt in receipts] for receipts in replies] == [[1]] * 20
        sums = [Errand(place, sum=Sum(f"sum{place.partition}", "k", place.partition)) for place in places]
        assert [added.total for added in tier.submit(sums, 10, soon())] == [n + 1 for n in range(20)]
        again = [errand._replace(sum=Sum(f"other{n}", "k", 100)) for n, errand in enumerate(sums)]
        assert [added.total for added in await tier.asubmit(again, 10, soon())] == [n + 101 for n in range(20)]
        assert [len(tier.jobs(place, 10, soon())) for place in places] == [3] * 20

    async def test_the_bus(self, tier: RedisTier, topology_url: str, open_tier: Callable[..., RedisTier]) -> None:
        subscription = tier.listen(soon())
        other = open_tier(topology_url)
        sent = [*other.purge(["h:a"], False, soon()), *(await other.apurge([], True, soon()))]
        heard = [subscription.wait(20) for _ in sent]
        assert heard == [message._replace(previous=()) for message in sent]
        tier.close()
        with pytest.raises(TierUnavailable):
            subscription.wait(20)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    async def test_a_fork(self, tier: RedisTier) -> None:
        for key in KEYS:
            tier.set(key, b"x", 60_000, soon())
            await tier.aget(key, soon())
        subscription = await asyncio.to_thread(tier.listen, soon())
        before = len(tier._wire.threads._all)

        def child() -> None:
            tier.reset_after_fork()
            gc.collect()
            asyncio._set_running_loop(None)
            assert tier.get(KEYS[0], soon()) == b"x"
            assert asyncio.run(tier.aget(KEYS[1], soon())) == b"x"
            tier.purge(["h:a"], False, soon())

        in_child(child)
        heard = await asyncio.to_thread(subscription.wait, 20)
        assert heard is not None
        assert heard.members == ("h:a",)
        # The parent's connections are as they were.
        assert [tier.get(key, soon()) for key in KEYS] == [b"x"] * len(KEYS)
        assert await asyncio.gather(*(tier.aget(key, soon()) for key in KEYS)) == [b"x"] * len(KEYS)
        assert len(tier._wire.threads._all) == before


URLS = ["redis://{}", "redis+sentinel://{}/shop", "redis+cluster://{}"]


class TestNobodyThere:
    @pytest.mark.parametrize("url", URLS)
    async def test_a_black_hole(self, url: str, silent: str, open_tier: Callable[..., RedisTier]) -> None:
        host = silent.removeprefix("redis://").removesuffix("/0")
        tier = open_tier(url.format(host))
        for call in (
            lambda: tier.get("a", shortly()),
            lambda: tier.purge(["h:a"], False, shortly()),
            lambda: tier.sync(NOTHING, "p", shortly()),
            lambda: tier.listen(shortly()),
        ):
            with pytest.raises(TierUnavailable, match="in time"):
                call()
        with pytest.raises(TierUnavailable, match="in time"):
            await tier.aget("a", shortly())

    @pytest.mark.parametrize("url", URLS)
    async def test_nobody_listens(self, url: str, open_tier: Callable[..., RedisTier]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        tier = open_tier(url.format(f"127.0.0.1:{port}"))
        with pytest.raises(TierUnavailable, match=f"127.0.0.1:{port} cannot be reached"):
            tier.get("a", soon())
        with pytest.raises(TierUnavailable, match="cannot be reached"):
            await tier.aget("a", soon())
        with pytest.raises(TierUnavailable, match="cannot be reached"):
            tier.listen(soon())

    async def test_one_of_those_named_is_enough(
        self, topology_url: str, silent: str, open_tier: Callable[..., RedisTier]
    ) -> None:
        if "+" not in topology_url:
            pytest.skip("one server is all there is")
        scheme, _, rest = topology_url.partition("://")
        host = silent.removeprefix("redis://").removesuffix("/0")
        tier = open_tier(f"{scheme}://{host},localhost:1,{rest}")
        deadline = time.monotonic() + 4
        tier.set("a", b"x", 60_000, deadline)
        assert await open_tier(f"{scheme}://localhost:1,{rest}").aget("a", deadline) == b"x"
