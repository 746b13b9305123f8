from __future__ import annotations

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.decisions import REASONS, forward_for
from tiercache.core.status_field import NAME, collapsed_value, forwarded_value, hit_value, substituted_value


def read(value: bytes) -> dict[str, object]:
    """RFC 9211 §2: one member, a token, with parameters of the types given there."""
    (name, parameters), *more = http_sf.parse(value, tltype="list")
    assert (str(name), type(name).__name__, more) == ("tiercache", "Token", [])
    said = {key: str(item) if type(item).__name__ == "Token" else item for key, item in parameters.items()}
    for key, kind in (("ttl", int), ("hit", bool), ("stored", bool), ("collapsed", bool), ("fwd-status", int)):
        assert key not in said or type(said[key]) is kind
    return said


def test_the_field_has_a_name() -> None:
    assert NAME == b"cache-status"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (hit_value(42.9, "l1"), {"hit": True, "ttl": 42, "detail": "l1"}),
        (hit_value(-3.2, "isolated"), {"hit": True, "ttl": -3, "detail": "isolated"}),
        (collapsed_value(7.0), {"fwd": "miss", "collapsed": True, "ttl": 7}),
        (
            substituted_value(60.0, "validated", "304", stored=True),
            {"fwd": "stale", "fwd-status": 304, "stored": True, "ttl": 60, "detail": "validated"},
        ),
        (
            substituted_value(-5.0, "stale-if-error", "", stored=False),
            {"fwd": "stale", "ttl": -5, "detail": "stale-if-error"},
        ),
        (forwarded_value("miss", "", stored=True), {"fwd": "miss", "stored": True}),
        (forwarded_value("miss", "isolated", stored=True), {"fwd": "miss", "stored": True, "detail": "isolated"}),
        (forwarded_value("bypass", "cookie", stored=False), {"fwd": "bypass", "detail": "cookie"}),
    ],
)
def test_what_is_said(value: bytes, said: dict[str, object]) -> None:
    assert read(value) == said


@given(st.floats(min_value=-1e9, max_value=1e9))
def test_any_lifetime_is_a_whole_number(ttl: float) -> None:
    for value in (hit_value(ttl, "l2"), collapsed_value(ttl), substituted_value(ttl, "validated", "500", stored=False)):
        assert read(value)["ttl"] == int(ttl)


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_can_be_said(reason: str) -> None:
    forward, detail = forward_for(reason)
    expected = {"fwd": "method"} if reason == "method" else {"fwd": "bypass", "detail": reason}
    assert read(forwarded_value(forward, detail, stored=False)) == expected
