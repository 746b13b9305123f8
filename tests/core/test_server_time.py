from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.server_time import ServerTime


def test_before_the_first_answer_it_is_a_guess() -> None:
    clock = ServerTime(1_000.0)
    assert (clock.low, clock.high) == (1_000.0, 1_000.0)


def test_the_first_answer_replaces_the_guess_even_where_they_overlap() -> None:
    clock = ServerTime(1_000.0)
    clock.observe(1_011.0, sent=10.0, received=12.0)
    assert (clock.low, clock.high) == (999.0, 1_001.0)


def test_a_quick_answer_narrows_and_a_slow_one_does_not_widen() -> None:
    clock = ServerTime(0.0)
    clock.observe(1_011.0, sent=10.0, received=12.0)
    clock.observe(1_020.5, sent=20.4, received=20.6)
    narrow = (clock.low, clock.high)
    assert narrow == (1_020.5 - 20.6, 1_020.5 - 20.4)
    clock.observe(1_035.0, sent=30.0, received=40.0)
    assert (clock.low, clock.high) == narrow


def test_an_answer_that_does_not_fit_makes_the_others_void() -> None:
    for shown in (2_000.0, 100.0):
        clock = ServerTime(0.0)
        clock.observe(1_010.5, sent=10.0, received=11.0)
        clock.observe(shown, sent=20.0, received=21.0)
        assert (clock.low, clock.high) == (shown - 21.0, shown - 20.0)


TIMES = st.floats(0, 5, allow_nan=False)


@given(st.lists(st.tuples(TIMES, TIMES, TIMES), min_size=1, max_size=20), st.floats(-1e6, 1e6, allow_nan=False))
def test_the_truth_lies_between_and_no_age_is_too_low(answers: list[tuple[float, float, float]], truth: float) -> None:
    clock = ServerTime(0.0)
    now = 100.0
    for before, there, back in answers:
        sent = now + before
        made = sent + there
        now = made + back
        clock.observe(made + truth, sent=sent, received=now)
    assert clock.low - 1e-6 <= truth <= clock.high + 1e-6
    # Written here with `low` and read here with `high`.
    born = now + clock.low
    assert now + 1 - (born - clock.high) >= 1 - 1e-6
