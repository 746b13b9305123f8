"""The ledger of a process by itself, under the mirror that reads it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tiers.redis_help import soon
from tiercache.core.ledger import Ledger
from tiercache.core.records import HARD, SOFT, SyncRequest
from tiercache.errors import TierUnavailable
from tiercache.tiers import own_ledger
from tiercache.tiers.own_ledger import EPOCH, OwnLedger

START = 1_700_000_000.0


class Entry:
    """What the ledger asks of an entry that came from another process."""

    mark, began, checked = -1, 0.0, -1

    def __init__(self, epoch: str, number: int, *tags: str) -> None:
        self.epoch, self.number, self.tags = epoch, number, tags
        self.outdated = False

    def outdate(self, at: float, *, history_lost: bool = False) -> None:
        self.outdated = True


class Process:
    """A process with a ledger of its own, and a clock."""

    def __init__(self, epoch: str, at: float = START) -> None:
        self.at = at
        self.own = OwnLedger(lambda: self.at)
        self.mirror = Ledger(bound=1.0, epoch=epoch, shared=True)
        self.sync()

    def sync(self, after: float = 0.0) -> None:
        self.at += after
        request = self.mirror.sync_request(self.at)
        assert self.mirror.synced(request, self.own.sync(request, "me", soon(), 1.0))

    def purge(self, *members: str, everything: bool = False) -> int:
        for message in self.own.purge(members, everything, soon(), self.mirror.stamp()):
            assert not self.mirror.answered(message, self.at), "nothing is ever missed"
        return self.mirror.stamp().number

    def fill(self, *tags: str) -> Entry:
        return Entry(*self.mirror.stamp(), *tags)


@pytest.fixture
def one() -> Process:
    return Process("~one")


@pytest.fixture
def other() -> Process:
    return Process("~other")


class TestPurges:
    def test_they_reach_what_was_filled_before_by_anybody(self, one: Process, other: Process) -> None:
        mine, theirs, else_ = one.fill("t:a"), other.fill("t:a"), other.fill("t:b")
        one.sync(0.001)
        one.purge(HARD + "t:a")
        assert [one.mirror.alive(entry) for entry in (mine, theirs, else_)] == [False, False, True]
        # Nobody else hears of it.
        assert other.mirror.alive(mine)

    def test_what_anybody_fills_later_is_alive(self, one: Process, other: Process) -> None:
        one.sync(0.001)
        one.purge(HARD + "t:a")
        other.sync(0.5)
        assert one.mirror.alive(one.fill("t:a"))
        assert one.mirror.alive(other.fill("t:a"))
        assert other.mirror.alive(one.fill("t:a"))

    def test_purges_of_one_millisecond(self, one: Process) -> None:
        fills = []
        for _ in range(3):
            fills.append(one.fill("t:a"))
            one.purge(HARD + "t:a")
        assert [one.mirror.alive(entry) for entry in fills] == [False] * 3
        assert one.mirror.alive(one.fill("t:a"))

    def test_a_clock_that_is_set_back(self, one: Process) -> None:
        entry = one.fill("t:a")
        one.at -= 3_600
        one.purge(HARD + "t:a")
        assert not one.mirror.alive(entry)
        kept = one.fill("t:a")
        one.sync()
        assert one.mirror.alive(kept)

    def test_after_a_restart_only_what_is_purged_again(self, one: Process) -> None:
        entry = one.fill("t:a", "t:b")
        one.sync(0.001)
        one.purge(HARD + "t:a")
        again = Process("~again", one.at + 5)
        assert again.mirror.alive(entry)
        # The numbers go on: a purge now is above all that was filled before.
        again.purge(HARD + "t:b")
        assert not again.mirror.alive(entry)

    def test_everything(self, one: Process) -> None:
        entry = one.fill("t:a")
        one.sync(0.001)
        one.purge(everything=True)
        assert not one.mirror.alive(entry)
        assert one.mirror.alive(one.fill("t:a"))

    def test_soft_ones(self, one: Process) -> None:
        entry = one.fill("t:a")
        one.sync(0.001)
        one.purge(SOFT + "t:a")
        assert one.mirror.alive(entry)
        assert entry.outdated

    def test_many_members(self, one: Process) -> None:
        entry = one.fill("t:1234")
        one.sync(0.001)
        one.purge(*(f"{HARD}t:{i}" for i in range(2_500)))
        assert not one.mirror.alive(entry)

    def test_more_than_are_kept(self, one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(own_ledger, "TAGS_KEPT", 10)
        entry = one.fill("t:0")
        for i in range(30):
            one.sync(0.001)
            one.purge(f"{HARD}t:{i}")
        assert len(one.own._members) == 10
        # The floor says it now.
        assert not one.mirror.alive(entry)
        assert one.mirror.alive(one.fill("t:0"))

    def test_more_keys_than_are_kept(self, one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(own_ledger, "KEYS_KEPT", 3)
        monkeypatch.setattr(own_ledger, "TAGS_KEPT", 2)
        keys = [f"v:s:{i:032x}" for i in range(10)]
        page, value, unwritten = (
            one.fill("t:0", "v:other", "v:s:" + "f" * 32, "v:s"),
            one.fill(keys[0], "v:s"),
            one.fill(f"v:s:{99:032x}", "v:s"),
        )
        one.sync(0.001)
        one.purge(f"{HARD}t:1")
        for key in keys:
            one.sync(0.001)
            one.purge(HARD + key)
        assert (len(one.own._keys), len(one.own._members), one.own._floor) == (3, 2, 0)
        late = Ledger(bound=1.0, epoch="~late", shared=True)
        assert late.synced(late.sync_request(one.at), one.own.sync(late.sync_request(one.at), "me", soon(), 1.0))
        assert [late.alive(entry) for entry in (page, value, unwritten)] == [True, False, False]
        assert one.mirror.alive(unwritten), "who has heard of each key has no need of their bucket"
        assert late.alive(one.fill(keys[9], "v:s"))


class TestTheRest:
    async def test_a_mirror_that_begins_late_is_told_all(self, one: Process) -> None:
        entry = one.fill("t:a")
        one.sync(0.001)
        one.purge(HARD + "t:a")
        late = Ledger(bound=1.0, epoch="~late", shared=True)
        request = late.sync_request(one.at)
        assert late.synced(request, await one.own.asynchronise(request, "me", soon(), 1.0))
        assert not late.alive(entry)
        assert late.trusted_until == one.at + 1.0

    async def test_the_fleet_is_this_process(self, one: Process) -> None:
        (message,) = await one.own.apurge([HARD + "t:a"], False, soon())
        page = one.own.sync(SyncRequest(EPOCH, 0, 0.0), "me", soon(), 2.5, fleet=True)
        assert page.rows is not None
        assert [(row.process_id, row.epoch, row.bound) for row in page.rows] == [("me", EPOCH, 2.5)]
        assert page.rows[0].number >= message.number
        assert page.since == 0.0

    async def test_every_lease_is_given(self, one: Process) -> None:
        for token in ("a", "b"):
            assert one.own.acquire("x", token, 1_000, soon())
            assert await one.own.aacquire("x", token, 1_000, soon())
            assert one.own.renew("x", token, 1_000, soon())
            assert await one.own.arenew("x", token, 1_000, soon())
        one.own.release("x", "a", True, soon())
        await one.own.arelease("x", "b", True, soon())
        await one.own.aleave("me", soon())

    @pytest.mark.parametrize("how", ["close", "aclose"])
    async def test_the_bus_is_silent_until_it_ends(self, one: Process, how: str) -> None:
        subscription: Any = one.own.listen()
        assert subscription.wait(0.0) is None
        if how == "close":
            one.own.close()
        else:
            await one.own.aclose()
        with pytest.raises(TierUnavailable):
            subscription.wait(20.0)
        assert one.own.listen().wait(0.0) is None

    def test_a_fork(self, one: Process) -> None:
        entry = one.fill("t:a")
        one.sync(0.001)
        one.purge(HARD + "t:a")
        one.own._lock.acquire()
        one.own.reset_after_fork()
        one.mirror.after_fork()
        one.sync()
        assert not one.mirror.alive(entry)
