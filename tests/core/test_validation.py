from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.kinds import SIZE
from tiercache.core.policy import parse_duration
from tiercache.core.validation import redacted, refuse_unknown
from tiercache.errors import ConfigError

MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
JUNK = (
    None, True, False, [], {}, b"5s", object(), float("nan"), float("inf"), "", " ", "5", "-5s", "+5s", "5 s", "5sec",
    "5S", "1e3s", ".5s", "5.s", "1h30m", "٣s", "5s\n6s", "five", -1, -0.001, timedelta(seconds=-1), 2**31 + 1, 10**400,
    "24856d", "9" * 400 + "s", 1j,
)  # fmt: skip


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("7d", 604800.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("  5s\t", 5.0),
        (0, 0.0),
        (3, 3.0),
        (0.25, 0.25),
        (2**31, float(2**31)),
        (timedelta(minutes=2, milliseconds=500), 120.5),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    parsed = parse_duration("ttl", written)
    assert parsed == seconds
    assert type(parsed) is float


@given(st.integers(0, 20_000), st.sampled_from(sorted(MILLISECONDS)))
def test_a_duration_means_the_nearest_number_of_seconds(count: int, unit: str) -> None:
    assert parse_duration("ttl", f"{count}{unit}") == float(Fraction(count * MILLISECONDS[unit], 1000))


@given(st.integers(0, 2**31 * 1000))
def test_the_same_duration_in_every_form_is_the_same(milliseconds: int) -> None:
    seconds = parse_duration("ttl", f"{milliseconds}ms")
    assert seconds == parse_duration("ttl", seconds) == parse_duration("ttl", timedelta(milliseconds=milliseconds))


@pytest.mark.parametrize("junk", JUNK)
def test_what_is_no_duration_is_refused_by_name(junk: object) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_duration("route '/x': ttl", junk)
    assert raised.value.setting == "route '/x': ttl"
    assert raised.value.value is junk
    assert "'250ms', '5s', '10m', '1h', '7d'" in raised.value.accepted
    assert str(raised.value).startswith(f"route '/x': ttl: {junk!r} is not accepted; accepted: seconds")


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512B", 512),
        ("1KiB", 1024),
        ("10MB", 10_000_000),
        ("64MiB", 64 * 2**20),
        ("2GiB", 2**31),
        ("3KB", 3000),
        ("1GB", 10**9),
        ("1.5MiB", 3 * 2**19),
        (" 1KiB ", 1024),
        (0, 0),
        (7, 7),
    ],
)
def test_sizes(written: object, size: int) -> None:
    parsed = SIZE("max_body", written)
    assert parsed == size
    assert type(parsed) is int


@pytest.mark.parametrize(
    "junk", [None, True, 1.5, "", "5", "5 MB", "5mb", "5M", "5kiB", "-1B", -1, "1e3B", b"1B", [], 2**60, "9999999GiB"]
)
def test_what_is_no_size_is_refused_by_name(junk: object) -> None:
    with pytest.raises(ConfigError) as raised:
        SIZE("max_body", junk)
    assert (raised.value.setting, raised.value.value) == ("max_body", junk)
    assert "'64MiB'" in raised.value.accepted


def test_an_unknown_setting_is_named_with_the_closest_and_all_that_exist() -> None:
    with pytest.raises(ConfigError) as raised:
        refuse_unknown("route '/x'", "tll", "5s", ["ttl", "tags"])
    assert raised.value.setting == "route '/x': tll"
    assert raised.value.accepted == "only settings that exist (did you mean 'ttl'?): ttl, tags"


def test_nothing_is_proposed_where_nothing_is_close() -> None:
    with pytest.raises(ConfigError, match="accepted: only settings that exist: ttl, tags"):
        refuse_unknown("", "zzzzzz", 1, ["ttl", "tags"])


@pytest.mark.parametrize("value", ["redis://user:secret@host/0", b"rediss://:secret@host", "a redis://:se/cret@h b"])
def test_passwords_of_urls_are_not_shown(value: object) -> None:
    shown = redacted(value)
    assert "secret" not in str(shown)
    assert "se" + "/" + "cret" not in str(shown)
    assert "://***@h" in str(shown)


def test_an_unknown_setting_does_not_show_a_password() -> None:
    with pytest.raises(ConfigError) as raised:
        refuse_unknown("TierCache", "ulr", "redis://:hunter2@host", ["url"])
    assert "hunter2" not in str(raised.value)
