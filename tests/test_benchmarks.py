"""The benchmarks run and compare what they say they compare. How fast anything is, no test says."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.cases import ABSENT, HIT, Comparison, expect
from benchmarks.measure import Case, ratio, run
from benchmarks.report import row, table


def case(name: str, *samples: float) -> Case:
    made = Case(name, lambda n: n * 1000, lambda: None)
    made.samples = list(samples)
    return made


def test_a_whole_run_measures_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    assert benchmarks.main(["--rounds", "1", "--batch-ms", "0.01", "--json", str(results)]) == 0
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    sections = {found["section"] for found in rows}
    assert sections == {"ASGI hit in L1", "WSGI hit in L1", "Not cached", "ASGI hit in L2", "WSGI hit in L2"}
    assert all(found["ratio"] > 0 for found in rows)
    printed = capsys.readouterr().out
    assert all(found["case"] in printed and found["base"] in printed for found in rows)


def test_a_ratio_is_taken_within_the_rounds() -> None:
    """Here the machine was ten times slower in two rounds of three; each round by itself says 2."""
    assert ratio(case("a", 2, 20, 20), case("b", 1, 10, 10)) == 2


def test_every_case_is_checked_before_and_after_a_run() -> None:
    seen: list[str] = []
    one = Case("one", lambda n: n * 1000, lambda: seen.append("checked"))
    run([one], rounds=3, batch_ms=0.001)
    assert seen == ["checked", "checked"]
    assert one.samples == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("status", "says"), [("tiercache; fwd=miss; stored", HIT), ("", HIT), ("tiercache; hit; ttl=5", ABSENT)]
)
def test_a_case_that_is_not_what_it_claims_is_refused(status: str, says: str) -> None:
    with pytest.raises(AssertionError, match="Cache-Status"):
        expect("a case", status, says)


def test_the_table_marks_what_is_above_its_target() -> None:
    base = case("bare", 1.0)
    kept = Comparison("section", case("quick", 7.9), base, Fraction(8))
    missed = Comparison("section", case("slow", 8.1), base, Fraction(8))
    told = Comparison("section", case("other", 99.0), base, None)
    assert [row(found).held for found in (kept, missed, told)] == [True, False, None]
    lines = table([kept, missed, told]).splitlines()
    assert [line.split()[-1] for line in lines[-3:]] == ["held", "MISSED", "99.00"]
