"""Rules of events: what they take, and what purge they make of the arguments of an event."""

from __future__ import annotations

import datetime
import enum
import functools
import uuid
from decimal import Decimal
from typing import Any

import pytest

from tiercache.core.event_rules import EventRule, EventRules
from tiercache.core.tag_templates import as_text, filled
from tiercache.errors import ConfigError


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Nothing(enum.Enum):
    NONE = None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("seven", "seven"),
        (7, "7"),
        (2.5, "2.5"),
        (True, "True"),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "2026-01-02 03:04:00+00:00"),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
    ],
)
def test_a_value_is_what_an_f_string_makes_of_it(value: Any, text: str) -> None:
    assert as_text(value) == text
    assert filled("x:{value}", {"value": value}, "here") == f"x:{text}"


@pytest.mark.parametrize("value", [None, "", b"7", object(), [7], {"id": 7}, "\ud800", Nothing.NONE])
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"here: value: .* a number, a UUID"):
        filled("x:{value}", {"value": value}, "here")


def test_a_value_is_not_read_as_a_template() -> None:
    assert filled("x:{a}:{b}", {"a": "{b}", "b": "{a.__class__}"}, "here") == "x:{b}:{a.__class__}"


def test_a_missing_value_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"here: id: None .* in 'x:\{id\}'; given: idd, price"):
        filled("x:{id}", {"price": 3, "idd": 7}, "here")


def test_every_template_is_filled() -> None:
    rule = EventRule.of(
        "moved",
        {
            "tags": ["product:{id}", "catalog"],
            "urls": "/products/{id}",
            "prefix": ["/shops/{shop}/"],
            "glob": "/*/{id}",
            "route": "/p/{id}",
            "soft": False,
        },
    )
    assert rule.purge({"id": 7, "shop": "north", "more": object()}) == {
        "tags": ["product:7", "catalog"],
        "urls": ["/products/7"],
        "prefix": ["/shops/north/"],
        "glob": ["/*/7"],
        "route": ("/p/{id}",),
        "soft": False,
    }


def test_functions_are_given_the_arguments() -> None:
    several = ["all", lambda key, **rest: [f"a:{key}", f"b:{rest['to']}"], lambda key, to: f"c:{key}"]
    rule = EventRule.of("moved", {"tags": several})
    assert rule.purge({"key": 7, "to": 2})["tags"] == ["all", "a:7", "b:2", "c:7"]
    assert EventRule.of("moved", {"tags": list}).purge({})["tags"] == []
    assert EventRule.of("moved", {"tags": functools.partial(filled, "x:{id}", where="")}).purge(
        {"values": {"id": 1}}
    ) == {"tags": ["x:1"], "urls": [], "prefix": [], "glob": []}


def test_a_function_that_the_arguments_do_not_fit_is_named() -> None:
    rule = EventRule.of("moved", {"tags": lambda key: f"a:{key}"})
    with pytest.raises(ConfigError, match=r"event 'moved': tags: \['key', 'to'\] .*unexpected keyword argument 'to'"):
        rule.purge({"key": 7, "to": 2})


def test_an_error_of_a_function_is_its_own() -> None:
    rule = EventRule.of("moved", {"tags": lambda key: f"a:{key.missing}"})
    with pytest.raises(AttributeError):
        rule.purge({"key": 7})


async def coroutine() -> str:
    return "a"


@pytest.mark.parametrize(
    ("event", "settings", "named"),
    [
        ("", {"tags": "a"}, "event: ''"),
        (7, {"tags": "a"}, "event: 7"),
        ("a\nb", {"tags": "a"}, "event: "),
        ("e", {}, "event 'e': {} is not accepted; accepted: at least one of tags"),
        ("e", {"tags": []}, "event 'e': "),
        ("e", {"everything": False}, "event 'e': "),
        ("e", {"tags": "a:{id"}, "event 'e': tags: 'a:{id'"),
        ("e", {"tags": "a:{id!r}"}, "event 'e': tags"),
        ("e", {"tags": "a:{x.y}"}, "event 'e': tags"),
        ("e", {"tags": [""]}, "event 'e': tags"),
        ("e", {"tags": coroutine}, "event 'e': tags"),
        ("e", {"tags": 7}, "event 'e': tags: 7"),
        ("e", {"urls": [7]}, "event 'e': urls"),
        ("e", {"tag": "a"}, "did you mean 'tags'"),
        ("e", {"tags": "a", "soft": "yes"}, "event 'e': soft: 'yes'"),
        ("e", {"tags": "a", "settle": "soon"}, "event 'e': settle: 'soon'"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(event: Any, settings: Any, named: str) -> None:
    with pytest.raises(ConfigError) as raised:
        EventRule.of(event, settings)
    assert named in str(raised.value)


@pytest.mark.parametrize("value", ["*", "a?", "**"])
def test_a_value_cannot_widen_a_glob(value: str) -> None:
    rule = EventRule.of("e", {"glob": "/a/{x}"})
    assert rule.purge({"x": "b"})["glob"] == ["/a/b"]
    with pytest.raises(ConfigError, match=r"event 'e': x"):
        rule.purge({"x": value})


def test_rules_of_one_event_are_kept_in_order() -> None:
    rules = EventRules()
    one, other = EventRule.of("e", {"tags": "a"}), EventRule.of("e", {"tags": "b"})
    rules.add(one)
    rules.add(other)
    assert rules.find("e") == (one, other)
    assert rules.names() == ("e",)


@pytest.mark.parametrize("event", ["product.updatd", 7, None, ["e"]])
def test_an_unknown_event_is_refused_with_those_that_there_are(event: Any) -> None:
    rules = EventRules()
    with pytest.raises(ConfigError, match="there is none yet"):
        rules.find(event)
    rules.add(EventRule.of("product.updated", {"tags": "a"}))
    with pytest.raises(ConfigError, match=r"emit: .*: product\.updated"):
        rules.find(event)
