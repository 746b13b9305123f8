"""What was left under way is ended by the collector of garbage, in whatever thread and at whatever allocation that
runs: also within the locks that its end takes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.core.ledger_values import Entry, attached
from tiercache.core import ledger as ledger_module
from tiercache.core.ledger import Ledger
from tiercache.engine.breaker import Breaker
from tiercache.engine.events import Complaints, Stats
from tiercache.engine.limits import Limits
from tiercache.tiers.own_ledger import OwnLedger
from tiercache.tiers.pools import Pools

GUARD = 20.0


def forked(held: Any) -> Any:
    held.after_fork()
    return held


def ends(work: Callable[[], object]) -> None:
    """Run it in a thread that nobody waits for if it never ends."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(GUARD)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("made", "ending"),
    [
        (lambda: attached(), lambda ledger: ledger.bar(["h:t:a"], False, 0.0)),
        (lambda: forked(attached()), lambda ledger: ledger.bar(["h:t:a"], False, 0.0)),
        (lambda: Limits(), lambda limits: limits.ends_behind()),
        (lambda: Breaker(1.0), lambda breaker: breaker.probed(0.1, 1.0, failed=True)),
        (lambda: forked(Breaker(1.0)), lambda breaker: breaker.probed(0.1, 1.0, failed=True)),
        (lambda: Complaints(Stats(), time.monotonic), lambda complaints: complaints.swallow("lease", "lost")),
        (lambda: forked(Complaints(Stats(), time.monotonic)), lambda complaints: complaints.swallow("lease", "lost")),
        (lambda: OwnLedger(), lambda ledger: ledger.purge(["h:t:a"], False, 0.0)),
    ],
)
def test_it_does_not_wait_for_the_lock_that_its_own_thread_holds(
    made: Callable[[], Any], ending: Callable[[Any], object]
) -> None:
    held = made()

    def collecting() -> None:
        with held._lock:
            ending(held)

    ends(collecting)


def test_nor_for_that_of_the_connections() -> None:
    """A write that was left under way by a loop that has ended is gone on with by the loop that collects it."""
    servers: Any = SimpleNamespace(version=0)
    pools = Pools(servers, 1, servers)

    def collecting() -> None:
        with pools.lock:
            asyncio.run(asking())

    async def asking() -> None:
        await (await pools.new_pool()).aclose()
        await pools.aclose()

    ends(collecting)
    assert pools.loops == {}


class Left(str):
    """A member during whose comparison a purge of another tag ends."""

    __slots__ = ("ending",)

    ending: Callable[[], object]

    def __ne__(self, other: object) -> bool:
        self.ending()
        return not str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_purge_that_ends_while_others_are_listed_is_barred_and_queued() -> None:
    ledger = attached(4)
    left = Left("h:t:a")
    left.ending = lambda: ledger.bar(["h:t:b"], False, 0.0)
    ledger.bar([left, "h:t:c"], False, 0.0)
    ends(ledger.pending)
    assert not ledger.alive(Entry(number=4, mark=0, tags=("t:b",)))
    left.ending = lambda: None
    assert {member for item in ledger.pending() for member in item.members} == {"h:t:a", "h:t:b", "h:t:c"}


def test_of_two_bars_of_one_member_the_later_one_stands() -> None:
    ledger = attached(4)

    def members() -> Iterator[str]:
        ledger.bar(["h:t:a"], False, 0.0)
        yield "h:t:a"

    first = ledger.mark
    ends(lambda: ledger.bar(members(), False, 0.0))
    assert ledger.mark == first + 2
    assert not ledger.alive(Entry(number=4, mark=first + 1))
    assert ledger.alive(Entry(number=4, mark=first + 2))


def test_a_purge_that_ends_while_another_one_gets_its_number_costs_it_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(bound=1.0, epoch="E", shared=False)
    whole, others = ledger_module.Message, [("h:t:b",)]

    def message(*values: Any) -> Any:
        if others:
            ledger.purge_locally(others.pop(), False, 0.0)
        return whole(*values)

    monkeypatch.setattr(ledger_module, "Message", message)
    number = ledger.stamp().number
    told: list[Any] = []
    ends(lambda: told.append(ledger.purge_locally(["h:t:a"], False, 0.0)))
    assert not ledger.alive(Entry(number=number, tags=("t:a",)))
    assert not ledger.alive(Entry(number=number, tags=("t:b",)))
    assert told[0].number == number + 2 == ledger.stamp().number
