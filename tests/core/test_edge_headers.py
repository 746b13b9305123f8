from __future__ import annotations

from typing import Any

import pytest

from tiercache.core.edge_headers import edge_for
from tiercache.core.messages import Fields

PLAIN: dict[str, Any] = {
    "browser_ttl": None, "cdn_ttl": None, "lifetime": 600.0, "app_decides": False, "lacks_date": True
}  # fmt: skip
OWN_WORD: dict[str, Any] = {"keyed": (b"cookie",), "personal": True, "app_decides": True}


def sent(fields: Fields, age: int = 0, **options: Any) -> Fields:
    edge = edge_for(fields, **{**PLAIN, **options})
    return (*edge.fixed, *edge.lines(age))


@pytest.mark.parametrize(
    ("fields", "options", "age", "expected"),
    [
        # A rule gave the lifetime: a browser cannot be purged, so it asks each time.
        ((), {}, 7, ((b"cache-control", b"max-age=0, must-revalidate"),)),
        (((b"cache-control", b"public"),), {}, 0, ((b"cache-control", b"public, max-age=0, must-revalidate"),)),
        # RFC 9111 §4.2.3: the recipient subtracts Age, so it is added.
        ((), {"browser_ttl": 30.0}, 40, ((b"cache-control", b"max-age=70"),)),
        ((), {"browser_ttl": 0.0}, 40, ((b"cache-control", b"max-age=0, must-revalidate"),)),
        (
            ((b"cache-control", b'max-age=9, no-transform, x="a, max-age=1"'), (b"expires", b"0")),
            {"browser_ttl": 30.0, "app_decides": True},
            5,
            ((b"cache-control", b'no-transform, x="a, max-age=1", max-age=35'),),
        ),
        # RFC 9213: what the CDN is told is its own field.
        (
            ((b"cdn-cache-control", b"max-age=1"),),
            {"cdn_ttl": 60.0},
            5,
            ((b"cache-control", b"max-age=0, must-revalidate"), (b"cdn-cache-control", b"max-age=65")),
        ),
        # The app's own word leaves as it came.
        (((b"cache-control", b"max-age=9"),), {"app_decides": True}, 5, ((b"cache-control", b"max-age=9"),)),
        # Without a Date of the app the server adds a new one to each answer: an Expires would count time twice.
        (
            ((b"expires", b"Thu, 01 Jan 2099 00:00:00 GMT"),),
            {"app_decides": True},
            5,
            ((b"cache-control", b"max-age=600"),),
        ),
        (
            ((b"expires", b"Thu, 01 Jan 2099 00:00:00 GMT"),),
            {"app_decides": True, "lacks_date": False},
            5,
            ((b"expires", b"Thu, 01 Jan 2099 00:00:00 GMT"),),
        ),
        # L0 knows nothing of our keys.
        (
            ((b"vary", b"Accept"),),
            {"keyed": (b"x-country", b"accept")},
            0,
            ((b"vary", b"Accept"), (b"vary", b"x-country"), (b"cache-control", b"max-age=0, must-revalidate")),
        ),
        (
            ((b"cache-control", b"public"),),
            {"keyed": (b"cookie",), "personal": True, "browser_ttl": 30.0, "cdn_ttl": 60.0},
            0,
            ((b"vary", b"cookie"), (b"cache-control", b"private, max-age=30")),
        ),
        # The app's own lifetime, on what a rule keeps for each user: shared caches are told whose it is.
        *(
            (own, OWN_WORD, 5, (*left, (b"vary", b"cookie"), told))
            for own, left, told in (
                (((b"cache-control", b"max-age=60"),), (), (b"cache-control", b"private, max-age=60")),
                (
                    ((b"cache-control", b'max-age=60, x="a, public"'),),
                    (),
                    (b"cache-control", b'private, max-age=60, x="a, public"'),
                ),
                (
                    ((b"cache-control", b"no-transform"), (b"expires", b"Thu, 01 Jan 2099 00:00:00 GMT")),
                    (),
                    (b"cache-control", b"private, no-transform, max-age=600"),
                ),
                (((b"tiercache-cache-control", b"max-age=60"),),) * 2 + ((b"cache-control", b"private"),),
            )
        ),
        # Its own word that all may share it stands.
        *(
            (
                ((b"cache-control", word),),
                OWN_WORD,
                5,
                ((b"cache-control", word), (b"vary", b"cookie")),
            )
            for word in (b"Public, max-age=60", b"s-maxage=60")
        ),
    ],
)
def test_what_leaves_towards_l0(fields: Fields, options: dict[str, Any], age: int, expected: Fields) -> None:
    assert sent(fields, age, **options) == expected


def test_a_lifetime_for_l0_does_not_outlive_the_one_in_force() -> None:
    """`tiercache.ttl("5s")` in a view, or a rule where the app's own word does not count, beside its `s-maxage`."""
    assert sent(((b"cache-control", b"s-maxage=600, public"),)) == (
        (b"cache-control", b"public, max-age=0, must-revalidate"),
    )
