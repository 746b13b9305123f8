"""Numbers as a user would write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.kinds import DURATION, MAX_SECONDS, SIZE, above_zero, as_text, optional


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("s", 0, "0s"),
        ("s", 0.25, "250ms"),
        ("s", 0.0005, "0.5ms"),
        ("s", 2.5, "2.5s"),
        ("s", 90.0, "90s"),
        ("s", 600.0, "10m"),
        ("s", 7200, "2h"),
        ("s", 604800.0, "7d"),
        ("s", float(MAX_SECONDS), "2147483648s"),
        ("B", 0, "0B"),
        ("B", 1000, "1000B"),
        ("B", 65536, "64KiB"),
        ("B", 2**30, "1GiB"),
        ("B", 3 * 2**40, "3072GiB"),
    ],
)
def test_the_largest_unit_that_divides_it(unit: str, value: float, text: str) -> None:
    assert as_text(unit, value) == text


@given(st.integers(0, MAX_SECONDS * 1000))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert DURATION("x", as_text("s", seconds)) == seconds
    assert SIZE("x", as_text("B", milliseconds)) == milliseconds


def test_what_is_made_of_a_kind_has_its_unit() -> None:
    assert optional(above_zero(DURATION)).unit == "s"
    assert optional(SIZE).unit == "B"
