from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from math import inf
from typing import Any

import httpx
import pytest

from tests.test_wsgi import app_with, serve
from tiercache import ConfigError, TierCache, carry, no_store, tag, ttl
from tiercache.core.ledger import Ledger
from tiercache.core.records import Stamp
from tiercache.core.values import Held, MsgspecCodec, StoredValue, body_of
from tiercache.engine.fill import Fill, current_fill, enter, leave


def new() -> Fill:
    return Fill(Stamp("E", 3), 1, 99.5)


def test_outside_of_a_request_nothing_is_said_to_anybody() -> None:
    assert current_fill() is None
    tag("a")
    no_store()
    ttl("5s")
    assert current_fill() is None


def test_a_fill_hears_what_is_said_between_enter_and_leave() -> None:
    fill = new()
    assert (fill.stamp, fill.mark, fill.began) == (Stamp("E", 3), 1, 99.5)
    assert (fill.tags, fill.refusal, fill.ttl, fill.declared) == (set(), None, None, None)
    token = enter(fill)
    assert current_fill() is fill
    tag("a", "b")
    tag("a")
    ttl(timedelta(seconds=2.5))
    no_store("priced for one user")
    leave(token)
    tag("late")
    assert (fill.tags, fill.ttl, fill.refusal) == ({"a", "b"}, 2.5, "priced for one user")


def test_fills_nest_and_none_hides_the_outer_one() -> None:
    outer, inner = new(), new()
    first = enter(outer)
    second = enter(inner)
    tag("inner")
    third = enter(None)
    tag("nowhere")
    leave(third)
    leave(second)
    tag("outer")
    leave(first)
    assert (outer.tags, inner.tags) == ({"outer"}, {"inner"})


def test_the_last_lifetime_counts_and_a_reason_is_never_empty() -> None:
    fill = new()
    token = enter(fill)
    ttl("10m")
    ttl(0)
    no_store("")
    leave(token)
    assert (fill.ttl, fill.refusal) == (0.0, "no_store()")


@pytest.mark.parametrize("value", ["", 7, None, b"a", ["a"]])
def test_a_tag_that_is_none_is_refused_in_a_request_and_outside(value: Any) -> None:
    fill = new()
    token = enter(fill)
    with pytest.raises(ConfigError, match="tag"):
        tag("a", value)
    leave(token)
    assert fill.tags == set()
    with pytest.raises(ConfigError, match="tag"):
        tag(value)


@pytest.mark.parametrize("value", ["soon", -1, None, True])
def test_a_lifetime_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"ttl\(\)"):
        ttl(value)


async def test_tasks_and_thread_pools_speak_to_the_same_fill() -> None:
    fill = new()
    token = enter(fill)

    async def part() -> None:
        tag("task")

    await asyncio.gather(part(), asyncio.to_thread(tag, "pool"))
    copied = threading.Thread(target=contextvars.copy_context().run, args=(tag, "copied"))
    copied.start()
    copied.join(30)
    bare = threading.Thread(target=tag, args=("bare",))
    bare.start()
    bare.join(30)
    leave(token)
    assert fill.tags == {"task", "pool", "copied"}


async def test_two_requests_of_one_loop_do_not_hear_each_other() -> None:
    turn = asyncio.Event()

    async def request(name: str) -> Fill:
        fill = new()
        token = enter(fill)
        if name == "first":
            await turn.wait()
        else:
            turn.set()
        tag(name)
        leave(token)
        return fill

    first, second = await asyncio.gather(request("first"), request("second"))
    assert (first.tags, second.tags) == ({"first"}, {"second"})


@pytest.mark.parametrize("late", [False, True])
def test_the_reason_shows_in_the_debug_log_on_one_line(caplog: pytest.LogCaptureFixture, late: bool) -> None:
    caplog.set_level(logging.DEBUG, "tiercache")
    cache = TierCache()
    cache.route("/{rest:path}", ttl="1m")

    def body() -> Any:
        if not late:
            no_store("a price\nfor one user")
            return [b"hello"]
        return pieces()

    def pieces() -> Any:
        yield b"hello"
        no_store("a price\nfor one user")

    serve(cache.wsgi(app_with(body)), "/p/\n1")
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert lines == ["not stored: /p/\\n1: a price\\nfor one user"]
    assert cache.stats()["refused"] == {"view": 1}


# -- what it is made with ----------------------------------------------------------------------------------------------


def followed(ledger: Ledger, *, began: float = 50.0, fresh_until: float = 200.0, **more: Any) -> Any:
    own: dict[str, Any] = {
        "key": b"k", "epoch": "E", "number": 3, "tags": ("t:a", "v:s"), "created": 60.0, "fresh_until": fresh_until,
        "keep_until": 400.0, "cost": 0.5,
    }  # fmt: skip
    stored = StoredValue(**(own | more))
    entry = Held(stored, body_of(1, MsgspecCodec()), MsgspecCodec(), offset=0.0, isolated_ttl=9, mark=0, began=began)
    ledger.alive(entry)
    return entry


def begun(ledger: Ledger, began: float = 100.0) -> Fill:
    return Fill(ledger.stamp(), ledger.mark, began)


def local(number: int = 3) -> Ledger:
    ledger = Ledger(bound=1.0, epoch="E", shared=False)
    for _ in range(number):
        ledger.purge_locally(["h:t:other"], False, 0.0)
    return ledger


def test_it_takes_over_tags_and_keeps_its_own_number() -> None:
    ledger = local(7)
    fill = begun(ledger)
    fill.follow(followed(ledger), ledger, 110.0)
    assert fill.followed == {"t:a", "v:s"}
    assert (fill.stamp.number, fill.foreign, fill.limit) == (7, False, inf)


def test_it_lasts_in_isolation_no_longer_than_what_it_is_made_with() -> None:
    ledger = local()
    for began, synced, since in ((50.0, -inf, 50.0), (50.0, 80.0, 80.0), (50.0, 300.0, 100.0), (150.0, 80.0, 100.0)):
        ledger.last_good_sync = synced
        fill = begun(ledger)
        fill.follow(followed(ledger, began=began), ledger, 110.0)
        assert fill.since == since
    fill = begun(ledger)
    for began in (70.0, 60.0, 65.0):
        ledger.last_good_sync = -inf
        fill.follow(followed(ledger, began=began), ledger, 110.0)
    assert fill.since == 60.0


def test_what_is_stale_limits_it_and_what_is_fresh_does_not() -> None:
    ledger = local()
    fill = begun(ledger)
    fill.follow(followed(ledger, fresh_until=111.0), ledger, 110.0)
    assert fill.limit == inf
    for fresh_until in (90.0, 80.0, 85.0):
        fill.follow(followed(ledger, fresh_until=fresh_until), ledger, 110.0)
    assert fill.limit == 80.0


def test_what_is_of_another_history_or_dead_is_foreign() -> None:
    ledger = local()
    fill = begun(ledger)
    fill.follow(followed(ledger, epoch="F"), ledger, 110.0)
    assert fill.foreign
    fill = begun(ledger)
    value = followed(ledger)
    ledger.purge_locally(["h:t:a"], False, 0.0)
    fill.follow(value, ledger, 110.0)
    assert fill.foreign


def test_what_was_checked_at_an_old_version_is_looked_at_again() -> None:
    """A purge whose number is known counts, even before the version tells of it: the fill has that number."""
    ledger = local()
    value = followed(ledger)
    version = ledger.version
    ledger.purge_locally(["h:t:a"], False, 0.0)
    ledger.version = version
    fill = begun(ledger)
    assert value.checked == ledger.version
    fill.follow(value, ledger, 110.0)
    assert fill.foreign


def test_a_fill_within_others_knows_the_keys_of_all() -> None:
    ledger = local()
    outer, inner = Fill(ledger.stamp(), 0, 1.0, (("a",), ("b",))), Fill(ledger.stamp(), 0, 1.0, (("c",),))
    inner.parent = outer
    assert all(inner.within(key) for key in (("a",), ("b",), ("c",)))
    assert not outer.within(("c",))
    assert not inner.within(("d",))


def test_what_was_said_for_several_is_taken_over() -> None:
    ledger = local()
    one, batch = begun(ledger), begun(ledger, 90.0)
    batch.follow(followed(ledger, fresh_until=80.0, began=10.0), ledger, 110.0)
    batch.tags.add("x")
    batch.ttl, batch.refusal = 5.0, "no"
    one.merge(batch)
    assert (one.tags, one.followed, one.ttl, one.refusal) == ({"x"}, {"t:a", "v:s"}, 5.0, "no")
    assert (one.limit, one.since, one.foreign) == (80.0, 10.0, False)
    other = Fill(Stamp("F", 9), 0, 100.0)
    other.merge(batch)
    assert other.foreign


@pytest.mark.parametrize(("batch", "number"), [(Stamp("E", 3), 3), (Stamp("E", 7), 5), (Stamp("F", 3), 5)])
def test_what_is_made_for_several_is_as_old_as_what_it_is_made_with(batch: Stamp, number: int) -> None:
    """A loader of many has used a value of another cache, which knew of fewer purges."""
    one = Fill(Stamp("E", 5), 0, 100.0)
    one.merge(Fill(batch, 0, 100.0))
    assert one.stamp == Stamp("E", number)


def test_another_cache_of_the_namespace_may_know_less() -> None:
    mine, theirs = local(7), local(3)
    mine.namespace = theirs.namespace = "same"
    fill = Fill(mine.stamp(), mine.mark, 100.0, ledger=mine)
    fill.follow(followed(theirs), theirs, 110.0)
    assert (fill.stamp, fill.foreign, fill.followed) == (Stamp("E", 3), False, {"t:a", "v:s"})
    theirs.namespace = "other"
    fill = Fill(mine.stamp(), mine.mark, 100.0, ledger=mine)
    fill.follow(followed(theirs, epoch="F"), theirs, 110.0)
    assert (fill.stamp.number, fill.foreign, fill.followed) == (7, False, set())


LOST = "said in a thread without its request"


async def swallowed(cache: TierCache, view: Callable[[], Awaitable[object]], method: str = "GET") -> dict[str, int]:
    """What is complained of after one request to an app that awaits `view`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await view()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    transport = httpx.ASGITransport(cache.asgi(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        await http.request(method, "/p")
    found: dict[str, int] = cache.stats()["swallowed"]
    return found


def in_pool(word: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    return lambda: asyncio.get_running_loop().run_in_executor(None, word)


@pytest.mark.parametrize("word", [lambda: tag("a"), no_store, lambda: ttl("5s")], ids=["tag", "no_store", "ttl"])
async def test_what_is_said_where_the_request_does_not_follow_is_complained_of(
    word: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    cache = TierCache()
    cache.route("/p", ttl="10m")
    with caplog.at_level(logging.WARNING, "tiercache"):
        assert await swallowed(cache, in_pool(word)) == {LOST: 1}
    assert "tiercache.carry" in caplog.text


@pytest.mark.parametrize(
    ("view", "method"),
    [
        (lambda: asyncio.to_thread(tag, "a"), "GET"),
        (lambda: asyncio.to_thread(tag, "a"), "POST"),
        (lambda: in_pool(carry(lambda: tag("a")))(), "GET"),
        (in_pool(lambda: None), "GET"),
    ],
    ids=["to_thread", "to_thread of what is not stored", "carried", "silent"],
)
async def test_nothing_is_complained_of_where_it_is_heard_or_not_meant_to_be(
    view: Callable[[], Awaitable[object]], method: str
) -> None:
    cache = TierCache()
    cache.route("/p", ttl="10m")
    await swallowed(cache, in_pool(lambda: None))  # so that something has been stored in this process
    assert await swallowed(cache, view, method) == {}


async def test_a_switched_off_cache_complains_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiercache.engine.fill._entered", False)
    cache = TierCache(enabled=False)
    cache.route("/p", ttl="10m")
    assert await swallowed(cache, in_pool(lambda: tag("a"))) == {}
