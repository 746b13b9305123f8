"""Two different questions never have one key."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.asgi_client import scope_for
from tests.parity.conftest import World
from tests.parity.faces import Origin, Reply
from tiercache import TierCache
from tiercache.asgi import ASGIRequest
from tiercache.core.keys import canonical, storage_name
from tiercache.core.routes import RouteTable
from tiercache.wsgi import Watched, WSGIRequest

PIECES: list[Any] = [
    "", "a", "b'a'", "'a'", "None", "n", "', '", '"', "\\", "\\x27", "a', 'b", "\udc80", "\x80", "é", "0:", ")",
    b"", b"a", b"'a'", b"None", b"', b'", b'"', b"\\", b"\\x00", b"\x00", b"\xff", b"a', b'b", b"0:", b")", None,
]  # fmt: skip
parts = st.sampled_from(PIECES) | st.text(max_size=4) | st.binary(max_size=4)
some_keys = st.recursive(parts, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8).map(lambda k: (k,))


@given(some_keys, some_keys)
@settings(max_examples=300, deadline=None)
def test_canonical_is_one_to_one(one: Any, two: Any) -> None:
    assert (canonical(one) == canonical(two)) == (one == two)


def test_canonical_is_one_to_one_for_100_000_pairs_that_nearly_collide() -> None:
    """Parts made of what stands between parts, cut at every place."""
    dice = random.Random(9111)
    for _ in range(100_000):
        one = tuple(dice.choices(PIECES, k=dice.randint(0, 3)))
        two = tuple(dice.choices(PIECES, k=dice.randint(0, 3))) if dice.random() < 0.5 else (one,)
        if dice.random() < 0.3 and one and isinstance(one[0], str):
            two = (one[0][:1], one[0][1:], *one[1:])
        assert (canonical(one) == canonical(two)) == (one == two)


def test_nested_and_flat_parts_differ() -> None:
    shapes: list[Any] = [(), ((),), ("",), (b"",), (None,), ("", ""), (("", ""),), (("",), ""), ("", ("",)), ((), ())]
    assert len({canonical(shape) for shape in shapes}) == len(shapes)
    assert len({storage_name(canonical(shape)) for shape in shapes}) == len(shapes)


ROUTE = RouteTable().unmatched


def test_parts_of_a_url_do_not_run_into_each_other() -> None:
    rules = TierCache()._engine.rules
    watched = Watched(rules.watched)
    texts = ["", "a", "aa", "/a", "a/", "?a", "a?"]
    asgi, wsgi = set(), set()
    for scheme, host, root, path, query in product(["http", "https"], texts, texts[:3], texts, texts):
        scope = {
            **scope_for(path), "scheme": scheme, "headers": [(b"host", host.encode())], "root_path": root,
            "query_string": query.encode(),
        }  # fmt: skip
        asgi.add(canonical(ASGIRequest(scope, ROUTE, rules.watched, ("app", "1")).full_key()))
        environ = {
            "REQUEST_METHOD": "GET", "wsgi.url_scheme": scheme, "HTTP_HOST": host, "SCRIPT_NAME": root,
            "PATH_INFO": path, "QUERY_STRING": query,
        }  # fmt: skip
        wsgi.add(canonical(WSGIRequest(environ, path, ROUTE, watched, ("app", "1")).full_key()))
    assert len(asgi) == len(wsgi) == 2 * 7 * 3 * 7 * 7
    assert not asgi & wsgi


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"headers": ["X-Country"]}, {"headers": ["X-Lang"]}),
        ({"headers": ["X-Country", "X-Lang"]}, {"headers": ["X-Lang", "X-Country"]}),
        ({"cookies": ["country"]}, {"cookies": ["lang"]}),
        ({"query": ["a"]}, {"query": ["a", "b"]}),
        ({"query": "ignore"}, {"query": ["zzz"]}),
        ({"headers": ["X-Country"]}, {}),
    ],
)
def test_keys_of_two_rules_never_meet(world: World, redis_url: str, one: Any, two: Any) -> None:
    """A new deployment with another rule for a URL does not answer with what the old one stored: the same value of
    another field is another question."""
    lines = [("X-Country", "de"), ("X-Lang", "de"), ("Cookie", "_ga=1")]
    if "cookies" in one:
        lines = [("Cookie", "country=de")]
    old = world.face(Origin(Reply(b"old")), redis_url, {"/p/{id}": {"ttl": "10m", **one}})
    new = world.face(Origin(Reply(b"new")), redis_url, {"/p/{id}": {"ttl": "10m", **two}})
    old.get("/p/1", lines)
    assert new.get("/p/1", lines).body == b"new"


@pytest.mark.parametrize("setting", ["app", "version"])
def test_keys_of_two_apps_never_meet(world: World, redis_url: str, setting: str) -> None:
    for left, right in (("a", ""), ("a", "b"), ("a', '", "a")):
        one = world.face(Origin(Reply(b"one")), redis_url, **{setting: left})
        two = world.face(Origin(Reply(b"two")), redis_url, **{setting: right})
        one.get("/p/1")
        assert two.get("/p/1").body == b"two"
        with_redis(redis_url)


def with_redis(url: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        for key in client.keys("tc:*"):
            if client.type(key) == b"string":
                client.delete(key)
