"""What the strategies are measured by counts what it says it counts. How fast anything is, no test says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.strategies import runs
from benchmarks.strategies.runs import Costs, Reads
from benchmarks.strategies.ways import WAYS, Prices, Way
from tests.servers import RedisServer


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Way]]:
    """Over a database that costs nothing to start."""
    for module in ("runs", "ways"):
        monkeypatch.setattr(f"benchmarks.strategies.{module}.PRODUCTS", 30)
    with RedisServer(appendonly="yes") as redis:
        prices = Prices(f"sqlite:///{tmp_path}/shop.db")
        prices.fill()
        made = [make(prices, redis.url) for make in WAYS]
        yield made
        for way in made:
            way.close()
        prices.engine.dispose()


def test_reads_are_those_of_the_database(ways: list[Way]) -> None:
    found = {way.name: runs.reads(way, 100) for way in ways}
    # Two changes in 100 views: those that invalidate load what is looked at again, the others nothing.
    assert found["no cache"] == Reads(1000, 1)
    assert found["cache-aside"].of_a_list == runs.LIST
    assert found["read-through"].of_a_list == found["response cache"].of_a_list == 1
    for name in ("response cache", "cache-aside", "read-through"):
        assert 0 < found[name].per_1000 <= 20
    assert found["write-through"].per_1000 == found["write-behind"].per_1000 == 0


def test_every_way_shows_what_it_has_changed(ways: list[Way]) -> None:
    for cents, way in enumerate(ways, 500):
        way.change(3, cents)
        assert way.view(3) == cents, way.name


def test_the_last_old_price_is_counted_from_the_return_of_the_change() -> None:
    returned = {101: 1.0, 102: 2.0, 103: 3.0}
    sights = {
        100: (0.9, 1.5),  # asked for before the change had returned
        101: (2.25, 2.5),  # out of date since the second change
        102: (2.9, 3.5),
        103: (9.0, 9.5),
    }
    assert runs.last_old(returned, sights) == [0.0, 0.5, 0.0]


def test_from_when_on_a_cache_saves_time() -> None:
    costs = Costs(load=900.0, hit=1.0, miss=300.0, invalidation=300.0)
    assert costs.hit_rate == 0.25
    reads = costs.reads_per_write
    # There, what hits save is what misses and the invalidation cost.
    rate = reads / (1 + reads)
    assert reads * (rate * costs.load - (1 - rate) * costs.miss) == pytest.approx(costs.invalidation)


@pytest.mark.soak
def test_a_whole_run_writes_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "docs" / "explanation"
    page = tmp_path / "docs" / "how-to" / "choose-a-strategy.md"
    page.parent.mkdir(parents=True)
    page.write_text("before\n<!-- bench: strategies -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    results = tmp_path / "results.json"
    asked = ["--only", "strategies", "--quick", "--out", str(folder), "--json", str(results)]
    assert benchmarks.main(asked) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old\n" not in text
    for name in ("no cache", "response cache", "cache-aside", "read-through", "write-through", "write-behind"):
        assert f"\n| {name} |" in text
    (found,) = json.loads(results.read_text(encoding="utf-8"))["parts"]["strategies"]
    assert found["lost"]["always"] == 0
    assert [line["way"] for line in found["lines"]] == [way.name for way in WAYS]  # type: ignore[attr-defined]
