from __future__ import annotations

from tests.clock import Clock
from tiercache.engine.memo import Memo


def test_a_thing_is_remembered_until_its_end() -> None:
    clock = Clock()
    memo: Memo[str] = Memo(clock)
    memo.add("a", 10)
    clock.turn(9.9)
    assert "a" in memo
    clock.turn(0.1)
    assert "a" not in memo
    memo.add("a", 10)
    memo.discard("a")
    memo.discard("never there")
    assert "a" not in memo


def test_it_is_bounded_and_forgets_the_oldest() -> None:
    memo: Memo[int] = Memo(Clock(), limit=100)
    for number in range(1000):
        memo.add(number, 60)
        assert number in memo
        assert len(memo) <= 100
    assert 0 not in memo
