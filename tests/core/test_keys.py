from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.keys import (
    BUCKETS,
    bucket_of,
    canonical,
    group_tags,
    normal_value,
    origin,
    picked_cookies,
    picked_query,
    preference,
    storage_name,
    url_tag,
    variant_key,
)

parts = st.none() | st.text(max_size=5) | st.binary(max_size=5)
keys = st.recursive(parts, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8).filter(
    lambda key: isinstance(key, tuple)
)


@given(keys, keys)
def test_two_keys_never_become_the_same_bytes(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert (canonical(one) == canonical(other)) is (one == other)


@given(keys)
def test_a_key_is_ascii_and_has_a_short_name(key: tuple[Any, ...]) -> None:
    whole = canonical(key)
    assert whole.isascii()
    assert len(storage_name(whole)) == 32


def test_what_lies_in_l2_is_found_by_later_releases() -> None:
    """A change here empties every L2: it is to be made on purpose."""
    key = (("shop", ""), "https", b"example.org", b"/p/1", "/p/1", "", b"")
    assert storage_name(canonical(key)) == "a44f983523f339390d9ab997e0d5f900"


def test_another_vary_is_another_question() -> None:
    assert variant_key(("u",), (b"a",), (None,)) != variant_key(("u",), (b"b",), (None,))
    assert variant_key(("u",), (b"a",), (b"",)) != variant_key(("u",), (b"a",), (None,))


@pytest.mark.parametrize(
    ("query", "picked"),
    [
        (b"range=7", (b"range=7",)),
        (b"utm_source=x&range=7", (b"range=7",)),
        (b"r%61nge=7", (b"r%61nge=7",)),
        (b"range=1&range=2", (b"range=1", b"range=2")),
        (b"range=2&range=1", (b"range=2", b"range=1")),
        (b"Range=7", ()),
        (b"range", (b"range",)),
        (b"", ()),
        # Some parsers split at a semicolon: a parameter that only they see must not be left out of the key.
        (b"utm=1;range=2", b"utm=1;range=2"),
    ],
)
def test_the_parameters_that_count(query: bytes, picked: Any) -> None:
    assert picked_query(query, (b"range",)) == picked


@pytest.mark.parametrize(
    ("header", "picked"),
    [
        (b"theme=dark; x=1", (b"dark", None)),
        (b"x=1;lang=en;theme=", (b"", b"en")),
        (b"theme=a; theme=b", (b"a; b", None)),
        (b"", (None, None)),
        (b"theme", (b"", None)),
    ],
)
def test_the_cookies_that_count(header: bytes, picked: Any) -> None:
    assert picked_cookies(header, (b"theme", b"lang")) == picked


def test_buckets_are_the_same_everywhere() -> None:
    found = [bucket_of(path) for path in ("/", "/products/7", "/\u00fc")]
    assert found == ["k:3d2d4", "k:39398", "k:a3e5"]
    assert bucket_of("/\udc80") == bucket_of("/\udc80")
    assert all(0 <= int(bucket_of(f"/{n}")[2:], 16) < BUCKETS for n in range(1000))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("http", b"x", b"/a", b""), ("HTTP", b"X:80", b"/a", b""), True),
        (("https", b"x:443", b"/a", b""), ("https", b"x", b"/a", b""), True),
        (("http", b"x:443", b"/a", b""), ("http", b"x", b"/a", b""), False),
        (("http", b"x", b"/%61", b""), ("http", b"x", b"/a", b""), True),
        (("http", b"x", b"/a", b"q=%2B"), ("http", b"x", b"/a", b"q=+"), True),
        (("http", b"x", b"/a", b"q=1"), ("http", b"x", b"/a", b""), False),
        (("http", b"x", b"/A", b""), ("http", b"x", b"/a", b""), False),
        (("http", b"x", b"/a", b""), ("https", b"x", b"/a", b""), False),
    ],
)
def test_spellings_of_one_url(one: Any, other: Any, same: bool) -> None:
    assert (url_tag(*one) == url_tag(*other)) is same
    assert (origin(*one[:2]) == origin(*other[:2])) or not same


@pytest.mark.parametrize(
    ("value", "normal"),
    [(None, None), (b"", b""), (b"a", b"a"), (b" 1, 2 ", b"1, 2"), (b"1,2", b"1, 2"), (b'"a, b",c', b'"a, b", c')],
)
def test_whitespace_that_means_nothing(value: bytes | None, normal: bytes | None) -> None:
    assert normal_value(value) == normal


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"en, de", b"de,en", True),
        (b"en;q=0.9, de", b"de, EN;q=0.9", True),
        (b"en;q=0.9, de", b"en, de;q=0.9", False),
        (b"gzip, br;q=0", b"gzip", False),
        (b"gzip;q=x", b"gzip;q=0", True),
    ],
)
def test_what_a_list_of_preferences_asks_for(one: bytes, other: bytes, same: bool) -> None:
    assert (preference(one) == preference(other)) is same


def test_groups_are_of_one_origin() -> None:
    fields = ((b"cache-groups", b'"a", "b";x=1'),)
    assert group_tags("https", b"X", fields, b"cache-groups") == ["g:https://x a", "g:https://x b"]
    assert group_tags("https", b"X", ((b"cache-groups", b"a, ("),), b"cache-groups") == []
    assert group_tags("https", b"X", (), b"cache-groups") == []
