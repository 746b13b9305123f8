"""The benchmarks run and compare what they say they compare. How fast anything is, no test says."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import invalidation_reads
from benchmarks.cases import ABSENT, HIT, Comparison, expect
from benchmarks.figures import Figure, markdown, quantile
from benchmarks.measure import Case, ratio, run
from benchmarks.report import row, table

TINY = ["--rounds", "1", "--batch-ms", "0.01", "--no-write"]


def case(name: str, *samples: float) -> Case:
    made = Case(name, lambda n: n * 1000, lambda: None)
    made.samples = list(samples)
    return made


def test_a_whole_run_measures_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    assert benchmarks.main(["--only", "requests", *TINY, "--json", str(results)]) == 0
    rows = json.loads(results.read_text(encoding="utf-8"))["parts"]["requests"]
    sections = {found["section"] for found in rows}
    in_l2 = {f"{face} {what}" for face in ("ASGI", "WSGI") for what in ("hit in L2", "read of L2")}
    assert sections == {"ASGI hit in L1", "WSGI hit in L1", "Not cached", "ASGI hits in L2, 32 under way", *in_l2}
    assert all(found["ratio"] > 0 for found in rows)
    printed = capsys.readouterr().out
    assert all(found["case"] in printed and found["base"] in printed for found in rows)


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What invalidation costs, section and line -> what was found, for small amounts."""
    results = tmp_path_factory.mktemp("costs") / "results.json"
    assert benchmarks.main(["--only", "invalidation", "--quick", "--no-write", "--json", str(results)]) == 0
    rows = json.loads(results.read_text(encoding="utf-8"))["parts"]["invalidation"]
    return {f"{found['section'].split(',')[0]}: {found['what']}": found for found in rows}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("Round trips: hit in L1, commands", 0),
        ("Round trips: hit in L2, commands", 1),
        ("Round trips: purge of 1 tag, scripts", 1),
        ("Round trips: purge of 1,000 tags, scripts", 1),
        ("Round trips: purge of 1,001 tags, scripts", 2),
        ("Round trips: purge of 10,000 tags, scripts", 10),
        ("Sync: scripts", 1),
        ("Memory: after purges of 12,000 tags, kept in Redis", 4_000),
    ],
)
def test_what_invalidation_sends_and_keeps(costs: dict[str, Any], what: str, count: int) -> None:
    assert costs[what]["value"] == count


@pytest.mark.soak
def test_the_mirror_is_bounded_too(costs: dict[str, Any]) -> None:
    found = costs["Memory: after purges of 12,000 tags, most in the mirror"]
    assert 4_000 <= found["value"] <= found["at_most"] == 9_000
    assert costs["Memory: hard purge in the mirror, per tag"]["held"]
    assert costs["Memory: soft purge in Redis, per tag"]["held"]


@pytest.mark.soak
def test_every_part_of_invalidation_is_measured(costs: dict[str, Any]) -> None:
    sections = {found["section"] for found in costs.values()}
    assert sections == {
        invalidation_reads.SECTION,
        "Round trips",
        "Sync, per process and third of the staleness bound",
        "Memory",
        "Attaching to a ledger of 4,000 tags",
        "Flood of purges of 1 tag each, in one process that hears them",
        "Flood of purges of 1,000 tags each, in one process that hears them",
        "Delivery to all of 2 other processes",
        "Barrier with 2 other processes",
    }
    assert all(found["value"] > 0 for found in costs.values() if found["unit"] in ("times", "µs", "ms", "s", "bytes"))


def test_figures_as_a_table() -> None:
    lines = markdown(
        [
            Figure("one", "kept", 1_234.0, "tags", at_most=2_000),
            Figure("one", "slow", 1.23456, "times", "3 µs", at_most=1),
            Figure("two", "reached", 0.8, at_least=0.9),
            Figure("two", "told", 12.34),
        ]
    ).splitlines()
    assert lines[2:] == [
        "| **one** | | | |",
        "| kept | 1,234 tags |  | at most 2,000 |",
        "| slow | 1.23 times | 3 µs | at most 1, **missed** |",
        "| **two** | | | |",
        "| reached | 0.80 |  | at least 0.90, **missed** |",
        "| told | 12.3 |  |  |",
    ]


def test_quantiles() -> None:
    assert [quantile([3.0, 1.0, 2.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 3, 4, 4]


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
