"""Event loops that end early, several in one process, and clients that go at the wrong moment."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from typing import Any

import pytest

from tests.asgi_client import TEXT, Visit, until, visit
from tests.clock import Hands
from tests.servers import RedisServer
from tiercache import TierCache

FAR = "10m"


class App:
    """Names the call; each but the first waits while the gate is shut."""

    def __init__(self, *, shut: bool = False) -> None:
        self.calls = 0
        self.shut = shut

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        number = self.calls
        while self.shut and number > 1:
            await asyncio.sleep(0.001)
        await send({"type": "http.response.start", "status": 200, "headers": list(TEXT)})
        await send({"type": "http.response.body", "body": b"answer %d" % number})


def idle(cache: TierCache) -> bool:
    engine = cache._engine
    limits = engine.limits
    return not len(engine.flights) and not engine.leases and (limits.behind, limits.refreshing) == (0, 0)


def stale_cache(**more: Any) -> tuple[TierCache, Hands]:
    cache = TierCache(lease_wait="30s")
    cache.route("/p/{id}", **{"ttl": "10s", "stale_while_revalidate": "1h", "max_fills": 1, **more})
    return cache, Hands(cache)


def get(app: Any) -> bytes:
    """One request in an event loop of its own, as scripts and tests do."""

    async def once() -> bytes:
        return (await visit(app)).body

    return asyncio.run(once())


def test_a_refresh_that_its_loop_takes_along_is_made_up_for() -> None:
    """`asyncio.run` cancels what is still under way."""
    cache, hands = stale_cache()
    app = App(shut=True)
    wrapped = cache.asgi(app)
    assert get(wrapped) == b"answer 1"
    hands.turn(11)
    for _ in range(20):
        assert get(wrapped) == b"answer 1"
        assert idle(cache)
    # None of them has taken away a place: where the loop lives on, one is done.
    app.shut = False

    async def live_on() -> None:
        assert (await visit(wrapped)).body == b"answer 1"
        await until(lambda: idle(cache))
        assert (await visit(wrapped)).body == f"answer {app.calls}".encode()

    asyncio.run(live_on())
    assert app.calls >= 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("policy", [{"stale_while_revalidate": "1h"}, {"fill_timeout": FAR}])
def test_a_loop_that_is_closed_with_a_fill_under_way_holds_up_no_other(policy: Any) -> None:
    cache, hands = stale_cache(**{"stale_while_revalidate": 0, **policy})
    app = App(shut=True)
    wrapped = cache.asgi(app)
    assert get(wrapped) == b"answer 1"
    hands.turn(11)
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        Visit(wrapped)
        await until(lambda: app.calls == 2)

    loop.run_until_complete(begin())
    assert not idle(cache)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop.close()
    app.shut = False

    async def another() -> None:
        async with asyncio.timeout(20):
            first = (await visit(wrapped)).body
            assert first in (b"answer 1", b"answer 3")
            await until(lambda: idle(cache))
            assert (await visit(wrapped)).body == b"answer 3"

    asyncio.run(another())
    assert app.calls == 3
    # What is left of the other loop complains here, and not in the middle of another test.
    gc.collect()


def test_two_loops_of_one_process_share_a_fill() -> None:
    cache = TierCache(lease_wait="30s")
    cache.route("/p/{id}", ttl=FAR)
    gate = threading.Event()
    calls: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(threading.current_thread().name)
        while not gate.is_set():
            await asyncio.sleep(0.001)
        await send({"type": "http.response.start", "status": 200, "headers": list(TEXT)})
        await send({"type": "http.response.body", "body": b"once"})

    wrapped = cache.asgi(app)
    bodies: list[bytes] = []

    def run() -> None:
        async def several() -> None:
            bodies.extend([each.body for each in await asyncio.gather(*[visit(wrapped) for _ in range(5)])])

        asyncio.run(several())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    while sum(flight.followers for flight in list(cache._engine.flights._by_key.values())) < 14:
        pass
    gate.set()
    for thread in threads:
        thread.join(20)
    assert bodies == [b"once"] * 15
    assert len(calls) == 1


async def test_a_client_that_goes_with_its_answer_leaves_the_write_to_l2_alone(redis_server: RedisServer) -> None:
    cache, other = (TierCache(redis_server.url, l2_budget="20s", l2_slow="20s", lease_wait="30s") for _ in range(2))
    for each in (cache, other):
        each.route("/p/{id}", ttl=FAR, coalesce="fleet")
    store: Any = cache._engine.shared
    aset, release = store.aset, asyncio.Event()

    async def slow_aset(*args: Any) -> None:
        await release.wait()
        await aset(*args)

    store.aset = slow_aset
    leader = Visit(cache.asgi(App()))
    await leader.has(2)
    await until(lambda: not len(cache._engine.flights))
    await leader.cancelled()
    assert len(cache._engine.leases) == 1, "until it is written"
    release.set()
    await until(lambda: idle(cache))
    app = App()
    found = await visit(other.asgi(app))
    assert (found.body, found.outcome, app.calls) == (b"answer 1", b"tiercache; hit; detail=l2", 0)
    await cache.aclose()
    await other.aclose()


async def test_a_client_that_goes_while_a_refresh_is_arranged_takes_no_place_along(redis_server: RedisServer) -> None:
    cache = TierCache(redis_server.url, l2_budget="20s", l2_slow="20s", lease_wait="30s")
    cache.route("/p/{id}", ttl=FAR, coalesce="fleet", stale_while_revalidate="1h", tags=["p"])
    store: Any = cache._engine.shared
    aacquire, asked = store.aacquire, asyncio.Event()

    async def hanging(*args: Any) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    app = App()
    wrapped = cache.asgi(app)
    assert (await visit(wrapped)).body == b"answer 1"
    await cache.apurge(tags="p", soft=True)
    store.aacquire = hanging
    for _ in range(10):
        asked.clear()
        going = Visit(wrapped)
        await asked.wait()
        await going.cancelled()
        assert idle(cache)
    store.aacquire = aacquire
    assert (await visit(wrapped)).body == b"answer 1"
    await until(lambda: app.calls == 2 and idle(cache))
    assert (await visit(wrapped)).body == b"answer 2"
    await cache.aclose()


async def test_a_client_that_goes_does_not_end_a_fill_behind_it() -> None:
    cache = TierCache()
    cache.route("/p/{id}", ttl=FAR, fill_timeout=FAR, max_fills=1)
    app = App(shut=True)
    app.calls = 1
    wrapped = cache.asgi(app)
    going = Visit(wrapped)
    await until(lambda: app.calls == 2)
    await going.cancelled()
    assert cache._engine.limits.behind == 1
    app.shut = False
    await until(lambda: idle(cache))
    assert (await visit(wrapped)).outcome == b"tiercache; hit; detail=l1"


async def test_a_close_waits_for_what_goes_on_behind() -> None:
    cache = TierCache()
    cache.route("/p/{id}", ttl=FAR, fill_timeout="1ms")
    app = App(shut=True)
    app.calls = 1
    wrapped = cache.asgi(app)
    assert (await visit(wrapped)).messages[0]["status"] == 504
    closing = asyncio.ensure_future(cache.aclose())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not closing.done()
    app.shut = False
    await closing
    assert (await visit(wrapped)).body == b"answer 2"


@pytest.mark.parametrize("seconds", [0, 0.02])
async def test_and_no_longer_than_drain_timeout(seconds: float) -> None:
    cache = TierCache(drain_timeout=seconds)
    cache.route("/p/{id}", ttl=FAR, fill_timeout="1ms")
    app = App(shut=True)
    app.calls = 1
    assert (await visit(cache.asgi(app))).messages[0]["status"] == 504
    await cache.aclose()
    assert cache._engine.limits.behind == 1
    await asyncio.to_thread(cache.close)
    assert cache._engine.limits.behind == 1
    app.shut = False
    await until(lambda: idle(cache))


