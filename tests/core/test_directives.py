from __future__ import annotations

import pytest

from tests.core.test_entries import entry
from tiercache.core.cache_control import parse_request
from tiercache.core.directives import accepts, accepts_refreshing, accepts_stale

# Made at 100, fresh until 160, on the clock of the process.


@pytest.mark.parametrize(
    ("said", "now", "accepted"),
    [
        (b"", 159.0, True),
        (b"no-cache", 100.0, False),
        (b"max-age=30", 130.0, True),
        (b"max-age=30", 130.5, False),
        (b"max-age=0", 100.0, True),
        (b"max-age=0", 101.0, False),
        (b"min-fresh=20", 140.0, True),
        (b"min-fresh=20", 140.5, False),
        (b"max-age=60, min-fresh=20", 150.0, False),
        (b"max-stale=5", 159.0, True),
        (b"only-if-cached", 100.0, True),
        (b"no-transform", 100.0, True),
    ],
)
def test_whether_a_fresh_one_is_good_enough(said: bytes, now: float, accepted: bool) -> None:
    assert accepts(parse_request(said), entry(), now) is accepted


@pytest.mark.parametrize(
    ("said", "accepted"),
    [
        (b"", True),
        (b"no-cache", False),
        (b"max-age=60", False),
        (b"max-age=0", False),
        (b"min-fresh=0", False),
        (b"max-stale=60", True),
        (b"only-if-cached", True),
    ],
)
def test_whether_it_may_be_stale_while_it_is_refreshed(said: bytes, accepted: bool) -> None:
    assert accepts_refreshing(parse_request(said)) is accepted
    assert accepts_refreshing(None)


@pytest.mark.parametrize(
    ("said", "now", "accepted"),
    [
        (b"", 161.0, False),
        (b"max-age=999", 161.0, False),
        (b"max-stale", 10_000.0, True),
        (b"max-stale=5", 165.0, True),
        (b"max-stale=5", 165.5, False),
        (b"max-stale=5, max-age=65", 165.0, True),
        (b"max-stale=5, max-age=64", 165.0, False),
        (b"max-stale, no-cache", 161.0, False),
    ],
)
def test_whether_a_stale_one_will_do(said: bytes, now: float, accepted: bool) -> None:
    assert accepts_stale(parse_request(said), entry(), now) is accepted
    # RFC 9111 §4.2.4: the app may forbid it, and then nobody can ask for it.
    assert not accepts_stale(parse_request(said), entry(may_stale=False), now)
