"""The curves of what grows are measured at every point. How fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.growth import entries
from benchmarks.growth.curves import Curve, page, text
from benchmarks.growth.others import SHAPES


def test_every_curve_has_all_its_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    asked = ["--only", "growth", "--quick", "--rounds", "5", "--batch-ms", "0.01", "--no-write", "--json", str(results)]
    assert benchmarks.main(asked) == 0
    curves = [Curve(**found) for found in json.loads(results.read_text(encoding="utf-8"))["parts"]["growth"]]
    assert [(curve.grows, curve.unit, list(curve.over)) for curve in curves] == [
        ("rules", "µs", [10, 30]),
        ("tags", "µs", [1, 3]),
        ("tags", "bytes", [1, 3]),
        ("purged tags", "µs", [0, 1_000]),
        ("entries", "µs", [1_000]),
        ("entries", "bytes", [1_000]),
    ]
    assert set(curves[0].series) == {"known path", *SHAPES}
    for curve in curves:
        for figures in curve.series.values():
            assert len(figures) == len(curve.over)
            assert all(figure > 0 for figure in figures)
    # An entry with more tags weighs more.
    (weights,) = curves[2].series.values()
    assert weights[0] < weights[1]
    printed = capsys.readouterr().out
    assert all(curve.title in printed for curve in curves)


def test_entries_that_are_not_there_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_ROOM", "64KiB")
    with pytest.raises(RuntimeError, match=r"entries of 100$"):
        entries.measured([100], 1, 0.01)


def curve() -> Curve:
    return Curve("A hit", "entries", "µs", [1_000, 1_000_000], {"hot": [1.5, 1.6], "at random": [2.0, 4.25]})


def test_a_curve_is_a_table() -> None:
    assert text(curve()).splitlines()[0] == "A hit, µs"
    assert text(curve()).splitlines()[-1].split() == ["1,000,000", "1.60", "4.25"]
    assert page([curve()]).splitlines()[-2:] == ["| 1,000 | 1.50 | 2.00 |", "| 1,000,000 | 1.60 | 4.25 |"]


def test_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.growth import pictures

    from_nothing = Curve("B", "purged tags", "bytes", [0, 1_000], {"one": [1.0, 2.0]})
    pictures.draw([curve(), from_nothing, curve()], tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")
