from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from datetime import timedelta
from typing import Any

import pytest

from tests.test_wsgi import app_with, serve
from tiercache import ConfigError, TierCache, no_store, tag, ttl
from tiercache.core.records import Stamp
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
