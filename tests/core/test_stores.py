"""Keys of data, and the rule of a store."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.keys import canonical
from tiercache.core.policy import Policy
from tiercache.core.records import is_of_key
from tiercache.core.stores import SETTINGS, StoreRule, plain_key, text_of
from tiercache.core.values import MsgspecCodec, StoredValue
from tiercache.errors import CodecError, ConfigError


class Size(enum.Enum):
    SMALL = 1


class Other(enum.Enum):
    SMALL = 1


class Number(enum.IntEnum):
    ONE = 1


DIFFERENT: list[Any] = [
    *(1, "1", b"1", True, 1.0, Decimal(1), Size.SMALL, Other.SMALL, Number.ONE, (1,), ((1,),), (1, 1), ("1",)),
    *(0, "0", b"", "", False, None, 0.0, -0.0, (), ((),), ("bool", "yes"), ("tuple",), ("tuple", 1), ("none",)),
    *(UUID(int=1), str(UUID(int=1)), UUID(int=1).hex, ("uuid", UUID(int=1).hex), "a,b", ("a", "b"), "('a', 'b')"),
    *(datetime.date(2026, 1, 1), "2026-01-01", datetime.datetime(2026, 1, 1), "é", "e\u0301", b"\xe9"),  # noqa: DTZ001
    *(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), datetime.time(1), (None, 1), (1, None), Decimal("1.0")),
]


def test_what_differs_in_kind_is_another_key_in_a_dict_and_in_bytes() -> None:
    keys = [plain_key(key) for key in DIFFERENT]
    assert len({canonical(("p", key)) for key in keys}) == len(DIFFERENT)
    assert len({("p", key): None for key in keys}) == len(DIFFERENT)


KEYS = st.recursive(
    st.one_of(st.text(), st.integers(), st.binary(), st.booleans(), st.none(), st.uuids(), st.floats(allow_nan=False)),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


def exact(key: object) -> object:
    return (type(key).__name__, tuple(map(exact, key)) if isinstance(key, tuple) else repr(key))


@given(KEYS, KEYS)
def test_two_keys_are_one_only_where_they_are_the_same(one: object, other: object) -> None:
    same = exact(one) == exact(other)
    assert (plain_key(one) == plain_key(other)) is same
    assert (canonical(("p", plain_key(one))) == canonical(("p", plain_key(other)))) is same


class Text(str):
    pass


@pytest.mark.parametrize("key", [[], {}, object(), Text("a"), (1, []), bytearray(b"x"), {1}])
def test_what_is_no_key_is_refused_by_name(key: object) -> None:
    with pytest.raises(ConfigError, match="store 'products': key"):
        rule().key_for(key)


def rule(name: str = "products", type_: Any = Any, **settings: Any) -> StoreRule:
    more = {one: settings.pop(one) for one in ("version", "owner", "none_ttl") if one in settings}
    return StoreRule(name, {"ttl": 60, **settings}, codec=MsgspecCodec(type_), **more)


def test_another_store_version_type_or_app_has_other_keys() -> None:
    rules = [
        rule(), rule("others"), rule(version=2), rule(version="3"), rule(type_=int), rule(owner=("shop", "")),
        rule(owner=("", "shop")), rule("products', 'x"),
    ]  # fmt: skip
    assert len({one.key_for(7) for one in rules}) == len(rules)


def test_a_change_reaches_the_key_in_every_version_and_type() -> None:
    rules = [rule(), rule(version=2), rule(type_=int), rule(owner=("shop", "9"))]
    assert len({one.tag_of(one.key_for(7)) for one in rules}) == 1
    assert rule("others").tag_of(rule("others").key_for(7)) != rule().tag_of(rule().key_for(7))
    tags = {rule().tag_of(rule().key_for(key)) for key in DIFFERENT}
    assert len(tags) == len(DIFFERENT)


def test_tags_are_made_of_the_key_or_by_a_function_of_key_and_value() -> None:
    assert rule(tags=["product:{key}", "all"]).tags_for(7, None) == ("product:7", "all")
    assert rule(tags=["p:{key}"]).tags_for(("eu", 7, b"x", Size.SMALL), None) == ("p:eu:7:x:1",)
    assert rule(tags=lambda key: f"k:{key}").tags_for(7, None) == ("k:7",)
    assert rule(tags=lambda key, value: [f"k:{key}", *value]).tags_for(7, ["x"]) == ("k:7", "x")
    assert rule(tags=lambda key, prefix="k": f"{prefix}:{key}").tags_for(7, ["x"]) == ("k:7",)
    assert rule(tags=lambda key, value=None: value).tags_for(7, ["x"]) == ("x",)
    assert text_of(UUID(int=1)) == str(UUID(int=1))


@pytest.mark.parametrize("made", [[""], [7], [None], ["\ud800"]])
def test_a_function_that_gives_no_tags_says_so(made: list[Any]) -> None:
    with pytest.raises(ConfigError, match="tags"):
        rule(tags=lambda key: made).tags_for(7, None)


def test_a_key_is_told_from_a_store_by_its_tag() -> None:
    for name in ("products", "a:b", "a\n", "x:" + "0" * 31, "x:" + "A" * 32):
        one = rule(name)
        assert is_of_key("h:" + one.tag_of(one.key_for(7)))
        assert not is_of_key("h:" + one.own_tag)
    with pytest.raises(ConfigError, match="32 hexadecimal digits"):
        rule("x:" + "0a" * 16)


def test_a_change_purges_its_key_and_what_the_rule_names() -> None:
    one = rule(tags=["t:{key}"], invalidates=["list", "p:{key}"])
    assert one.changed_by(7, one.key_for(7)) == ["h:" + one.tag_of(one.key_for(7)), "h:t:list", "h:t:p:7"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ttl": None}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
        ({"ttl": 0}, "ttl"),
        ({"tags": ["p:{id}"]}, "tags"),
        ({"invalidates": ["p:{id}"]}, "invalidates"),
        ({"consistency": "session"}, "consistency"),
        ({"tiers": []}, "tiers"),
        ({"coalesce": "fleet", "tiers": ["l1"]}, "coalesce"),
        ({"tll": 5}, "did you mean 'ttl'"),
        ({"stale_while_revalidate": -1}, "stale_while_revalidate"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        rule(**settings)
    assert "store 'products'" in str(caught.value)


@pytest.mark.parametrize("setting", sorted(set(Policy.names()) - set(SETTINGS)))
def test_what_is_about_http_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"store 'products': {setting}.*a setting of stores"):
        rule(**{setting: Policy._defaults[setting]})


@pytest.mark.parametrize("name", ["", None, 7, b"x", "\ud800"])
def test_a_store_needs_a_name(name: Any) -> None:
    with pytest.raises(ConfigError, match="store"):
        rule(name)


class Bomb:
    """Unpacks whatever it is told, however long that is."""

    above = 10
    asked: list[int]

    def __init__(self) -> None:
        self.asked = []

    def pack(self, data: bytes) -> bytes:
        return data[:1]

    def unpack(self, data: bytes, size: int) -> bytes:
        self.asked.append(size)
        return data * size


def test_what_is_longer_than_a_value_may_be_is_not_even_unpacked() -> None:
    bomb = Bomb()
    rule = StoreRule("things", {"ttl": 60}, codec=MsgspecCodec(Any), packer=bomb)
    stored = StoredValue(
        key=b"k", epoch="E", number=3, tags=(), created=1.0, fresh_until=2.0, keep_until=3.0, cost=0.0, body=b"x",
        packed=101,
    )  # fmt: skip
    with pytest.raises(CodecError, match="101 in truth"):
        rule.unpacked(stored, 100)
    assert bomb.asked == []
    assert rule.unpacked(stored, 101) == b"x" * 101
    plain = StoreRule("things", {"ttl": 60}, codec=MsgspecCodec(Any))
    with pytest.raises(CodecError):
        plain.unpacked(stored, 1_000)
