from __future__ import annotations

import inspect
from typing import Any

import pytest

from tiercache.core.policy import Policy
from tiercache.core.records import Stamp
from tiercache.engine.declare import declares
from tiercache.engine.fill import Fill, enter, leave
from tiercache.errors import ConfigError

POLICY = Policy.declared(ttl="10m", tags=["product:{item}", "catalog"])


def during_a_fill(view: Any, *args: Any, **kwargs: Any) -> Fill:
    fill = Fill(Stamp("e", 1), 0, 0.0)
    token = enter(fill)
    try:
        view(*args, **kwargs)
    finally:
        leave(token)
    return fill


class Request:
    def __init__(self, **path_params: Any) -> None:
        self.path_params = path_params


def by_name(item: int, q: str = "") -> str:
    return f"{item}{q}"


def by_request(request: Request) -> str:
    return "page"


def by_both(request: Request, item: int) -> str:
    return "page"


def by_rest(**values: Any) -> str:
    return "page"


@pytest.mark.parametrize(
    ("view", "args", "kwargs"),
    [
        (by_name, (7,), {}),
        (by_name, (), {"item": 7}),
        (by_request, (Request(item=7),), {}),
        # What the framework has made of the text in the path counts.
        (by_both, (Request(item="007"), 7), {}),
        (by_both, (), {"item": 7, "request": Request(item="007")}),
        (by_rest, (), {"item": 7}),
    ],
)
def test_tags_are_filled_from_what_the_view_is_given(view: Any, args: Any, kwargs: Any) -> None:
    fill = during_a_fill(declares(POLICY)(view), *args, **kwargs)
    assert (fill.declared, fill.tags, fill.refusal) == (POLICY, {"product:7", "catalog"}, None)


def test_a_view_that_calls_another_one_is_what_its_own_decorator_says() -> None:
    lasting = Policy.declared(ttl="1h", stale_if_error="1d", tags=["part"])
    brief = Policy.declared(ttl="5s", tags=["whole"])
    fill = during_a_fill(declares(brief)(lambda: declares(lasting)(lambda: "part")() + "whole"))
    assert fill.declared is brief
    assert fill.tags == {"part", "whole"}


def test_the_view_itself_is_as_it_was() -> None:
    declared = declares(POLICY)(by_name)
    assert declared(7, q="x") == "7x"
    assert inspect.signature(declared) == inspect.signature(by_name, eval_str=True)
    assert declared.__name__ == "by_name"
    assert not inspect.iscoroutinefunction(declared)


async def test_an_async_view_stays_one() -> None:
    @declares(POLICY)
    async def view(item: int) -> int:
        return item

    assert inspect.iscoroutinefunction(view)
    assert await view(7) == 7


def test_what_could_not_be_purged_is_not_stored() -> None:
    fill = during_a_fill(declares(POLICY)(by_request), Request())
    assert fill.declared is None
    assert fill.refusal == "no value for the tags product:{item}, catalog"


def test_a_tag_that_no_argument_can_fill_is_refused_at_once() -> None:
    def view(name: str) -> str:
        return name

    with pytest.raises(ConfigError, match=r"view: tags: .*the view's own arguments \(name\)"):
        declares(POLICY)(view)


def test_outside_of_a_fill_nothing_happens() -> None:
    assert declares(POLICY)(by_name)(7) == "7"
