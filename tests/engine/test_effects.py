from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from tests.servers import RedisServer, free_port
from tiercache.core.records import Stamp, SyncRequest
from tiercache.engine.effects import Effect, Fetch, FetchMany, Invalidate, Keep, Sync, Wait, adrive, drive
from tiercache.engine.flights import RELEASED, Flights
from tiercache.errors import TierUnavailable
from tiercache.tiers.redis import RedisTier

FAR = 30.0


class Says:
    """An effect that brings a value, or raises one."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def run(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def arun(self) -> Any:
        await asyncio.sleep(0)
        return self.run()


Driver = Callable[[Generator[Effect, Any, Any]], Any]


@pytest.fixture(params=["thread", "task"])
def driven(request: pytest.FixtureRequest) -> Driver:
    """Both drivers, called alike."""
    return drive if request.param == "thread" else lambda flow: asyncio.run(adrive(flow))


def test_answers_come_back_in_order_and_the_end_is_returned(driven: Driver) -> None:
    def inner() -> Generator[Effect, Any, str]:
        return (yield Says("b")) + (yield Says("c"))

    def flow() -> Generator[Effect, Any, str]:
        first = yield Says("a")
        return first + (yield from inner()) + (yield Says("d"))

    assert driven(flow()) == "abcd"


def test_a_flow_that_asks_for_nothing(driven: Driver) -> None:
    def flow() -> Generator[Effect, Any, int]:
        return 7
        yield

    assert driven(flow()) == 7


def test_the_error_of_a_tier_is_raised_in_the_flow_which_may_go_on(driven: Driver) -> None:
    def flow() -> Generator[Effect, Any, str]:
        try:
            yield Says(TierUnavailable("gone"))
        except TierUnavailable as error:
            return f"{error}, {(yield Says('going on'))}"
        raise AssertionError

    assert driven(flow()) == "gone, going on"


def test_an_error_that_the_flow_does_not_catch_reaches_the_caller(driven: Driver) -> None:
    def flow() -> Generator[Effect, Any, None]:
        yield Says(TierUnavailable("gone"))

    with pytest.raises(TierUnavailable, match="gone"):
        driven(flow())


@pytest.mark.parametrize("where", ["in the flow", "in the effect"])
def test_any_other_error_ends_the_flow_and_its_finally_blocks_run(driven: Driver, where: str) -> None:
    ended = []

    def flow() -> Generator[Effect, Any, None]:
        try:
            yield Says(KeyError("x") if where == "in the effect" else None)
            raise KeyError("x")
        finally:
            ended.append(where)

    with pytest.raises(KeyError):
        driven(flow())
    assert ended == [where]


async def test_a_cancellation_is_raised_in_the_flow_at_the_place_where_it_waits() -> None:
    seen: list[str] = []
    flight, _ = Flights().join("k")

    def flow() -> Generator[Effect, Any, None]:
        try:
            yield Wait(flight, time.monotonic() + FAR)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("ended")

    task = asyncio.ensure_future(adrive(flow()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert seen == ["cancelled", "ended"]
    # Nobody is left in the flight to be woken.
    assert flight._wakers == []
    flight.finish(RELEASED)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
async def tier(server: RedisServer) -> AsyncIterator[RedisTier]:
    server.ask("FLUSHALL")
    tier = RedisTier(server.url, "effects")
    yield tier
    await tier.aclose()


def far() -> float:
    return time.monotonic() + FAR


def one(effect: Effect) -> Generator[Effect, Any, Any]:
    return (yield effect)


async def test_what_one_driver_does_the_other_one_sees(tier: RedisTier) -> None:
    drive(one(Keep(tier, "a", b"by thread", 60_000, far())))
    await adrive(one(Keep(tier, "b", b"by task", 60_000, far())))
    for name, value in (("a", b"by thread"), ("b", b"by task"), ("c", None)):
        assert drive(one(Fetch(tier, name, far()))) == value
        assert await adrive(one(Fetch(tier, name, far()))) == value
    assert drive(one(FetchMany(tier, ["c", "b", "a"], far()))) == [None, b"by task", b"by thread"]
    assert await adrive(one(FetchMany(tier, ["b", "c"], far()))) == [b"by task", None]
    asked = SyncRequest("none", 0, 0.0)
    epoch = drive(one(Sync(tier, asked, "me", far(), 1.0))).epoch
    assert (await adrive(one(Sync(tier, asked, "me", far(), 1.0)))).epoch == epoch
    seen = Stamp(epoch, 0)
    (first,) = drive(one(Invalidate(tier, ["h:t:a"], False, far(), seen)))
    (second,) = await adrive(one(Invalidate(tier, [], True, far(), seen)))
    assert (first.number, first.members, first.floor) == (1, ("h:t:a",), 0)
    assert (second.number, second.members, second.floor) == (2, (), 2)
    page = await adrive(one(Sync(tier, SyncRequest(epoch, 0, 0.0), "me", far(), 1.0)))
    assert (page.head, page.floor, page.complete) == (2, 2, True)


@pytest.mark.parametrize("kind", ["fetch", "fetch many", "keep", "invalidate", "sync"])
def test_a_tier_that_is_away_is_the_error_of_a_tier(driven: Driver, kind: str) -> None:
    tier = RedisTier(f"redis://127.0.0.1:{free_port()}/0", "effects")
    effects: dict[str, Callable[[], Effect]] = {
        "fetch": lambda: Fetch(tier, "a", far()),
        "fetch many": lambda: FetchMany(tier, ["a", "b"], far()),
        "keep": lambda: Keep(tier, "a", b"", 1, far()),
        "invalidate": lambda: Invalidate(tier, ["h:t:a"], False, far(), Stamp("e", 0)),
        "sync": lambda: Sync(tier, SyncRequest("e", 0, 0.0), "me", far(), 1.0),
    }
    with pytest.raises(TierUnavailable):
        driven(one(effects[kind]()))
    tier.close()
