"""The load runs, counts what it says it counts, and finds what it is there to find. How fast anything is, no test says.

Where the pictures or the peers of the `load` extra are not installed, their lines are skipped.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.documents import fill_in
from benchmarks.load import __main__ as load
from benchmarks.load.client import Client, Planned, Sample
from benchmarks.load.origin import Origin, OriginFailed, Watch, most_at_once
from benchmarks.load.pages import write_pages
from benchmarks.load.results import Limits, Outcome, Part, Result, markdown_table, percentile, text_table
from benchmarks.load.runs import Bursts, Scale, Timeline, zipf_plan
from benchmarks.load.scenarios import EXPIRY, HEADLINE, KILLED, SCENARIOS, SLOW, STAMPEDE, Scenario
from benchmarks.load.subjects import Subject, bare, cashews, fastapi_cache, flask_caching, tiercache

ROOT = Path(load.__file__).resolve().parents[2]
TINY = Scale(burst=30, bursts=1, rate=40.0, span=0.5, long=0.5)
PATIENT = dict.fromkeys(("lease_wait", "l2_budget", "l2_slow", "strong_wait"), "30s")
"""A machine that is busy must not make anybody give up on Redis or on a fill: then he rightly calls the app."""


def samples(*latencies: float, status: int = 200) -> list[Sample]:
    return [Sample(0.1 * number, latency, status) for number, latency in enumerate(latencies)]


def part(name: str = "", calls: int = 1, limits: Limits = Limits(), *more: Sample) -> Part:  # noqa: B008
    return Part(name, [*samples(0.010, 0.2), *more], calls, 1, limits)


# -- the report ----------------------------------------------------------------------------------------------------


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0, 0.0)] == [50.0, 99.0, 100.0, 1.0]
    assert percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_counts_are_judged_and_times_are_not() -> None:
    failed = Sample(0.3, 0.4, 503)
    unanswered = Sample(0.4, 10.0, 0)
    assert part(limits=Limits(1, 0)).complaints() == []
    assert part("", 2, Limits(calls=1)).complaints() == ["2 calls of the app, at most 1 asked"]
    assert part("", 9, Limits(errors=1), failed, unanswered).complaints() == ["2 errors, at most 1 asked"]
    assert part("", 9, Limits(), failed).complaints() == []
    assert Limits.__slots__ == ("calls", "errors")


def test_tables_have_a_line_for_each_part_and_say_what_was_missed() -> None:
    result = Result("slow", "A title", "What it does.")
    result.outcomes = [
        Outcome("one", [part("before", 3), part("after", 2, Limits(calls=1))]),
        Outcome("two", [part("", 1, Limits(calls=1))]),
        Outcome("three", [], note="not installed"),
    ]
    lines = text_table(result).splitlines()
    assert lines[:2] == ["A title", "What it does."]
    assert lines[5].split() == ["one", "before", "2", "3", "1", "0", "10.0", "200", "200"]
    assert lines[6].split()[:2] == ["after", "2"]
    assert lines[6].endswith("MISSED: 2 calls of the app, at most 1 asked")
    assert lines[7].endswith("held")
    assert lines[8].split(maxsplit=1) == ["three", "not installed"]
    assert markdown_table(result).splitlines()[-2].startswith("| two |  | 2 | 1 | 1 | 0 | 10.0 | 200 | 200 | held |")
    assert result.complaints() == ["slow: one, after: 2 calls of the app, at most 1 asked"]


def test_a_page_is_filled_in_between_its_marks() -> None:
    page = "a\n<!-- load: x -->\nold\n<!-- end -->\nb\n<!-- load: y -->\n<!-- end -->\n"
    filled = fill_in(fill_in(page, "load: x", r"new \1"), "load: y", "more")
    assert filled == "a\n<!-- load: x -->\nnew \\1\n<!-- end -->\nb\n<!-- load: y -->\nmore\n<!-- end -->\n"
    with pytest.raises(ValueError, match="0 places for 'load: z'"):
        fill_in(page, "load: z", "")


def test_the_page_of_the_documentation_has_a_place_for_every_scenario() -> None:
    page = (ROOT / "docs" / "explanation" / "load.md").read_text(encoding="utf-8")
    for name in SCENARIOS:
        assert f"![{SCENARIOS[name].title}](load-{name}.png)" in page
        fill_in(page, f"load: {name}", "")
    fill_in(page, "load: machine", "")


def test_a_picture_is_drawn_of_bursts_and_of_phases(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    burst = Result("burst", "Bursts", "", [Outcome("FastAPI, no cache", [part("", 500)])])
    phased = Result("phased", "Phases", "")
    phases = [("before", 0.0, 1.0), ("after", 1.0, 2.0)]
    phased.outcomes = [
        Outcome(name, [part("before"), part("after")], samples(0.1, 0.2, status=500), [0.1, 1.5], phases)
        for name in ("tiercache", "cashews", "no cache")
    ]
    empty = Result("empty", "Nothing", "", [Outcome("x", [], note="not installed")])
    written = write_pages(tmp_path, [burst, phased, empty], Scale())
    assert {path.name for path in written} == {"load-burst.png", "load-phased.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


# -- what is sent, and how it is counted ---------------------------------------------------------------------------


def test_the_same_seed_sends_the_same_traffic() -> None:
    plan = zipf_plan(Scale(rate=200.0), 5.0, 100, 2)
    assert plan == zipf_plan(Scale(rate=200.0), 5.0, 100, 2)
    assert plan != zipf_plan(Scale(rate=200.0, seed=6), 5.0, 100, 2)
    assert [planned.due for planned in plan] == sorted(planned.due for planned in plan)
    assert {planned.worker for planned in plan} == {0, 1}
    asked = [planned.path for planned in plan]
    # Zipf's law: the first key of 100 gets a share of 1 / H(100), about 0.19.
    assert 0.1 < asked.count("/items/0") / len(asked) < 0.3
    assert asked.count("/items/0") > asked.count("/items/9")


def test_calls_are_counted_where_the_workers_cannot_lose_them(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    origin = Origin(str(tmp_path))
    assert origin.fetch("a")["key"] == "a"
    watch.set(0.0, failing=True)
    with pytest.raises(OriginFailed):
        asyncio.run(origin.afetch("b"))
    with (tmp_path / "journal").open("ab") as journal:
        journal.write(struct.pack("<dii", 0, 0, 0)[:5])  # a record that is being written
    calls = watch.calls()
    assert len(calls) == 2
    assert len(watch.calls(since=calls[1].began)) == 1
    assert watch.most_at_once() == 1


def test_calls_under_way_at_once() -> None:
    changes = [(1.0, True), (2.0, True), (3.0, False), (4.0, True), (5.0, False), (6.0, False), (7.0, True)]
    assert most_at_once(changes, 0.0, math.inf) == 2
    assert most_at_once(changes, 3.5, 3.9) == 1, "what began earlier is still under way"
    assert most_at_once(changes, 5.5, 6.5) == 1
    assert most_at_once(changes, 6.5, 6.8) == 0
    assert most_at_once(changes, 6.5, math.inf) == most_at_once(changes, 9.0, math.inf) == 1
    assert most_at_once(changes, 0.0, 2.0) == 1


@asynccontextmanager
async def server(answer: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                async for piece in answer():
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as serving:
        yield serving.sockets[0].getsockname()[1]


async def test_the_client_sends_what_is_due_without_waiting_for_answers() -> None:
    here, everybody = 0, asyncio.Event()

    async def when_all_have_come() -> AsyncIterator[bytes]:
        nonlocal here
        here += 1
        if here == 20:
            everybody.set()
        await everybody.wait()
        yield b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbo"
        yield b"dy"

    async with server(when_all_have_come) as port:
        client = Client([port])
        start, answered = await client.run([Planned(0.001 * number, 0, "/") for number in range(20)])
        client.close()
    assert [sample.status for sample in answered] == [200] * 20
    assert [round(sample.due - start, 6) for sample in answered] == [round(0.001 * n, 6) for n in range(20)]
    # The first one waited for the last one to come: that is in its latency.
    assert answered[0].latency > answered[19].due - answered[0].due


async def test_an_answer_that_breaks_off_or_never_comes_is_an_error() -> None:
    async def breaks_off() -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\nbo"
        yield b""

    over = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        await over.wait()
        yield b""

    async with server(breaks_off) as short, server(never) as silent:
        client = Client([short, silent], patience=0.2)
        assert (await client.get(0, "/")).status == 0
        assert (await client.get(1, "/")).status == 0
        client.close()
        # From Python 3.12 on a server that is closed waits for its handlers.
        over.set()


# -- the runs themselves -------------------------------------------------------------------------------------------


def run_of(scenario: Scenario, subject: Subject) -> Outcome:
    assert isinstance(scenario.run, Timeline)
    # One worker shows the same as two, in half the time.
    return asyncio.run(replace(scenario.run, workers=1)(subject, TINY))


@pytest.mark.soak
def test_a_burst_shows_what_coalescing_saves() -> None:
    run = Bursts(2, 0.1, STAMPEDE.run.judge)  # type: ignore[attr-defined]
    every = asyncio.run(run(bare("wsgi"), TINY)).parts[0]
    assert (len(every.samples), every.calls, every.errors) == (30, 30, 0)
    once = asyncio.run(run(tiercache("asgi", "", PATIENT, ttl="60s", coalesce="fleet"), TINY)).parts[0]
    assert (len(once.samples), once.calls, once.errors, once.limits) == (30, 1, 0, Limits(1, 0))
    threads = asyncio.run(run(tiercache("wsgi", "", PATIENT, ttl="60s", coalesce="process"), TINY)).parts[0]
    assert (threads.calls, threads.limits) == (2, Limits(2, 0))


@pytest.mark.soak
def test_a_hot_key_is_warm_when_the_clock_starts() -> None:
    outcome = run_of(EXPIRY, tiercache("wsgi", "", ttl="600s"))
    assert (outcome.parts[0].calls, outcome.parts[0].errors) == (0, 0)
    assert outcome.parts[0].samples


@pytest.mark.soak
def test_redis_is_taken_away_and_given_back() -> None:
    outcome = run_of(KILLED, tiercache("asgi", "", ttl="600s"))
    assert [found.name for found in outcome.parts] == ["before", "no Redis", "back"]
    assert [found.errors for found in outcome.parts] == [0, 0, 0]
    assert all(found.samples for found in outcome.parts)
    assert outcome.parts[0].calls == 0


@pytest.mark.soak
def test_the_app_is_made_slow_and_broken() -> None:
    outcome = run_of(SLOW, bare("wsgi"))
    errors = {found.name: found.errors for found in outcome.parts}
    assert errors["failing app"] == len(outcome.parts[2].samples) > 0
    assert errors["before"] == errors["slow app"] == errors["after"] == 0
    assert min(sample.latency for sample in outcome.parts[1].samples) >= 2.0, "the origin sleeps for 2 s"


@pytest.mark.soak
@pytest.mark.parametrize(
    "subject", [cashews("", ttl="60s"), fastapi_cache(60), flask_caching(60)], ids=lambda subject: subject.name
)
def test_the_peers_do_cache(subject: Subject) -> None:
    if not subject.installed:
        pytest.skip(f"{subject.library} is not installed")
    hot = Timeline(1, 0.0, [""], {}, workers=1)
    assert asyncio.run(hot(subject, TINY)).parts[0].calls == 0


@pytest.mark.soak
def test_the_command_prints_judges_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "QUICK", TINY)
    results = tmp_path / "results.json"
    asked = ["--only", "zipf", "--subjects", "Flask, tiercache", "--quick", "--rate", "200", "--out", str(tmp_path)]
    assert load.main([*asked, "--json", str(results), "--strict"]) == 0
    rows = json.loads(results.read_text(encoding="utf-8"))["scenarios"]["zipf"]
    assert [row["subject"] for row in rows] == ["Flask, tiercache"]
    assert 0 < rows[0]["calls"] < rows[0]["requests"]
    printed = capsys.readouterr().out
    assert "Zipf traffic" in printed
    assert "Every count is what is asked of it." in printed


def test_the_headline_asks_for_one_call() -> None:
    asked = [HEADLINE.run.judge(subject, "", Scale()) for subject in HEADLINE.subjects]  # type: ignore[attr-defined]
    assert asked == [Limits(), Limits(None, 0), Limits(4, 0), Limits(1, 0)]
