"""Each row on both faces and on each tier; and the tables, the driver and the page themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.conformance import report
from tests.conformance.report import ROWS
from tests.conformance.rows import (
    ASKED,
    FAILED,
    FRESH,
    HOUR,
    OPTIONAL,
    REUSED,
    VALIDATED,
    Answer,
    Kind,
    Row,
    Step,
    answer,
    cc,
    first,
    pair,
)
from tests.conformance.stage import COMBINATIONS, Mismatch, Results, Stage, play
from tests.servers import RedisServer

SHOWABLE = [row for row in ROWS if row.steps]


@pytest.fixture(scope="module")
def results() -> Results:
    return play(SHOWABLE)


@pytest.mark.parametrize("row", SHOWABLE, ids=lambda row: row.id)
def test_row(row: Row, results: Results) -> None:
    word, why = report.verdict(row, results)
    assert word != report.FAILED, why


def test_every_row_has_a_name_of_its_own() -> None:
    assert [key for key, count in Counter(row.id for row in ROWS).items() if count > 1] == []


def test_the_public_suite_is_covered_whole() -> None:
    """So many behaviours it requires, calls optimal, and only looks at, for a shared cache."""
    counted = Counter(row.kind for row in ROWS if not row.beyond)
    assert counted == {Kind.REQUIRED: 160, Kind.OPTIONAL: 105, Kind.OPEN: 100}


def test_the_goal_is_reached(results: Results) -> None:
    passed = Counter(
        row.kind for row in ROWS if not row.beyond and report.verdict(row, results).word == report.PASSED
    )
    assert passed[Kind.REQUIRED] >= 158
    assert passed[Kind.OPTIONAL] >= 90


def test_the_page_is_up_to_date(results: Results) -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    assert page == report.as_page(ROWS, results), "run: make conformance ARGS=--write"


# -- what the driver notices -------------------------------------------------------------------------------------------

HIT = pair("probe", "9111 §3", OPTIONAL, "", first(*FRESH, ("A", "1")), Step(REUSED, after=3, has=(("Age", "3"),)))
WRONG = {
    "the app is called": replace(HIT, steps=(HIT.steps[0], Step(ASKED))),
    "the app is not called": pair("probe", "9111 §3", OPTIONAL, "", first(), Step(REUSED)),
    "an answer in place of a failure": replace(
        HIT, steps=(first(cc("max-age=1")), Step(FAILED, Answer(fails=True), after=3))
    ),
    "a failure in place of an answer": replace(HIT, steps=(Step(ASKED, Answer(fails=True)),)),
    "an error that stands": replace(HIT, steps=(first(cc("max-age=1")), Step(ASKED, Answer(status=500), after=3))),
    "no condition": replace(HIT, steps=(first(cc("max-age=1")), Step(VALIDATED, after=3))),
    "another body": replace(HIT, steps=(HIT.steps[0], Step(REUSED, body=b"else"))),
    "another status": replace(HIT, steps=(HIT.steps[0], Step(REUSED, status=304))),
    "a field that lacks": replace(HIT, steps=(HIT.steps[0], Step(REUSED, has=(("B", "1"),)))),
    "a field that should": replace(HIT, steps=(HIT.steps[0], Step(REUSED, lacks=("A",)))),
    "another list": replace(HIT, steps=(HIT.steps[0], Step(REUSED, lists=(("A", "1 | 2"),)))),
    "another beginning": replace(HIT, steps=(HIT.steps[0], Step(REUSED, starts=(("A", "2"),)))),
    "another age": replace(HIT, steps=(HIT.steps[0], Step(REUSED, after=3, older=4))),
    "what the app saw": replace(HIT, steps=(Step(ASKED, sent=(("A", "1"),), seen=(("A", "2"),)),)),
    "what it should not have seen": replace(HIT, steps=(Step(ASKED, sent=(("A", "1"),), unseen=("A",)),)),
    "an early hint": replace(HIT, steps=(Step(ASKED, answer(HOUR), early=(("link", "<a>"),)),)),
}


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def stage(request: pytest.FixtureRequest, redis_of_all: str) -> Iterator[Stage]:
    kind, tier = request.param
    stage = Stage(kind, tier, redis_of_all)
    yield stage
    stage.close()


@pytest.fixture(scope="module")
def redis_of_all() -> Iterator[str]:
    with RedisServer() as server:
        yield server.url


@pytest.mark.parametrize("name", WRONG)
def test_the_driver_notices(name: str, stage: Stage) -> None:
    number = list(WRONG).index(name)
    stage.play(replace(HIT, id=f"right-{number}"))
    with pytest.raises(Mismatch):
        stage.play(replace(WRONG[name], id=f"wrong-{number}"))
