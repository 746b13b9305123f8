"""The comparison with other caches runs, and measures only what does what it is there for. No speed is asserted.

Where the peers of the `bench` extra, wrk or matplotlib are not installed, their lines say so or the tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from werkzeug.test import Client

from benchmarks import __main__ as benchmarks
from benchmarks.documents import fill_in
from benchmarks.parts import DOCUMENTS, PARTS, Outcome
from benchmarks.peers import report, under_wrk
from benchmarks.peers.fronts import NGINX, VARNISH
from benchmarks.peers.servers import SERVERS
from benchmarks.peers.standings import Standing, Standings
from benchmarks.peers.subjects import (
    ASGI,
    ASYNC,
    MEMORY,
    PATH,
    SYNC,
    WSGI,
    NotMeasured,
    Place,
    Subject,
    judge_answers,
    settle,
)
from benchmarks.peers.wrk import Turn, read
from tools import debian_packages
from tools.debian_packages import find

ROOT = Path(benchmarks.__file__).resolve().parents[1]
HERE = ("bare", "a dict", "functools", "tiercache", "Starlette,", "Flask,", "FastAPI,", "Django,")
"""What the development dependencies suffice for."""
BARE, OURS, ALIKE, PLAIN, PEER = *ASGI[:4], ASGI[7]

# -- what may be measured -------------------------------------------------------------------------------------------


def answers(*made: int) -> Iterator[bytes]:
    return (json.dumps({"made": number}).encode() for number in made)


@pytest.mark.parametrize(
    ("subject", "made"), [(PEER, (1, 1, 1, 1)), (OURS, (7, 7, 7, 7)), (PLAIN, (1, 2, 3, 4)), (PLAIN, (5, 6, 7, 8))]
)
def test_a_subject_that_does_what_it_is_there_for(subject: Subject, made: tuple[int, ...]) -> None:
    found = answers(*made)
    judge_answers(subject, lambda: next(found))


@pytest.mark.parametrize(
    ("subject", "made"),
    [(PEER, (1, 2, 3, 4)), (OURS, (1, 1, 1, 2)), (PEER, (2, 1, 1, 1)), (PEER, (0, 0, 0, 0)), (PLAIN, (1, 1, 1, 1))],
)
def test_one_that_does_not_is_not_measured(subject: Subject, made: tuple[int, ...]) -> None:
    found = answers(*made)
    with pytest.raises(NotMeasured, match=re.escape(str(list(made)))):
        judge_answers(subject, lambda: next(found))


def test_a_cache_may_come_to_hit_behind_its_first_answers() -> None:
    later = answers(1, 2, 2, 2, 2, 2, 2, 2)
    settle(PEER, lambda: next(later))


def test_an_app_that_fails_is_named_with_its_reason() -> None:
    def fails() -> bytes:
        raise ZeroDivisionError("of its own")

    with pytest.raises(NotMeasured, match="does not answer: ZeroDivisionError: of its own"):
        settle(PEER, fails)


def test_a_peer_that_is_not_there_is_named_with_its_reason() -> None:
    with pytest.raises(NotMeasured, match=r"AttributeError: .*no_such_maker"):
        replace(PEER, make="no_such_maker").app(Place(MEMORY, ExitStack()))


# -- in process -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)  # ten libraries are imported, which takes its time on a busy machine
def test_every_subject_has_a_line_in_process(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    asked = ["--only", "peers", "--rounds", "1", "--batch-ms", "0.01", "--no-write", "--json", str(results)]
    # A process of its own: the peers leave settings and modules behind that other tests would stumble over.
    command = [sys.executable, "-m", "benchmarks", *asked]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        printed, errors = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # so that it ends its Redis
        printed, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    rows = json.loads(results.read_text(encoding="utf-8"))["parts"]["peers"]
    runs: dict[str, dict[str, dict[str, object]]] = {}
    for row in rows:
        runs.setdefault(row["run"], {})[row["subject"]] = row
    kinds = {"ASGI": ASGI, "WSGI": WSGI, "Sync function": SYNC, "Async function": ASYNC}
    assert {run: set(lines) for run, lines in runs.items()} == {
        f"{kind}, hit in {where}": {subject.name for subject in subjects if where == "memory" or subject.caches}
        for kind, subjects in kinds.items()
        for where in ("memory", "Redis")
    } | {report.TOGETHER: {subject.name for subject in ASYNC if subject.caches}}
    assert report.IN_PROCESS in runs
    # Of development dependencies each has to run; of the others each has figures or a reason.
    for lines in runs.values():
        for name, line in lines.items():
            assert line["median"] or line["note"], line
            if name.startswith(HERE):
                assert line["median"], line
    assert "a hit, beside the bare app" in printed


# -- under wrk ------------------------------------------------------------------------------------------------------

SAID = """Running 1s test @ http://127.0.0.1:8765/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.11ms    1.17ms   9.99ms   81.07%
    Req/Sec     1.92k   203.92     2.21k    70.00%
  Latency Distribution
     50%  730.00us
     75%    2.51ms
     90%    3.63ms
     99%    1.14s
  1910 requests in 1.00s, 638.06KB read
Requests/sec:   1908.06
Transfer/sec:    637.41KB
"""


def test_what_wrk_says_is_read() -> None:
    assert read(SAID) == Turn(1908.06, 1910, 730.0, 1.14e6)
    failed = SAID.replace("Requests/sec", "  Socket errors: connect 0, read 3, write 0, timeout 1\nRequests/sec")
    assert read(failed).errors == "Socket errors: connect 0, read 3, write 0, timeout 1"
    with pytest.raises(ValueError, match="not a report of wrk"):
        read("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.timeout(240)
def test_subjects_answer_behind_a_server_under_wrk() -> None:
    try:
        find("wrk")
    except FileNotFoundError:
        pytest.skip("no wrk")
    absent = replace(PEER, name="absent", make="no_such_maker")
    asked = [BARE, OURS, PLAIN, absent]
    (found,) = under_wrk.standings(rounds=1, seconds=1, servers=SERVERS[:1], subjects=asked)
    lines = {line.subject.name: line for line in found.lines}
    assert found.title == "uvicorn"
    assert set(lines) == {subject.name for subject in (*asked, NGINX, VARNISH)}
    assert "no_such_maker" in lines["absent"].note
    for subject in (BARE, OURS, PLAIN):
        line = lines[subject.name]
        assert (len(line.samples), line.note) == (1, "")
        assert line.median > 0
        assert line.cpu
    # nginx and Varnish may be absent, and then say so.
    for subject in (NGINX, VARNISH):
        assert lines[subject.name].samples or lines[subject.name].note


class Ended:
    """A worker that has ended, with the last that it wrote; to the system it is this process."""

    class process:
        pid = os.getpid()

    port = 1

    def said(self) -> str:
        return "starting\nout of memory"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (ValueError("not a report"), "ended under load: out of memory"),
        (Turn(0.0, 0, 0.0, 0.0, "timeout 16"), "answered nothing in a turn; wrk: timeout 16"),
    ],
)
def test_a_server_that_ends_under_load_is_a_line_with_the_reason(said: Turn | Exception, reason: str) -> None:
    class Wrk:
        asked = 0

        def turn(self, *_: object) -> Turn:
            self.asked += 1
            if isinstance(said, Exception):
                raise said
            return said

    wrk = Wrk()
    running = under_wrk.Running(PEER, Ended())  # type: ignore[arg-type]
    for _ in range(2):
        running.turn(wrk, 1, None)  # type: ignore[arg-type]
    assert wrk.asked == 1
    assert (running.standing().samples, running.standing().note) == ((), reason)


def test_programs_are_found_where_they_were_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_packages, "UNPACKED", tmp_path)
    monkeypatch.setattr(debian_packages.shutil, "which", lambda name, path=None: None)
    with pytest.raises(FileNotFoundError, match="wrk is neither installed nor unpacked"):
        find("wrk")
    program = tmp_path / "wrk" / "usr" / "bin" / "wrk"
    library = tmp_path / "wrk" / "usr" / "lib" / "libfor.so.1"
    for file in (program, library):
        file.parent.mkdir(parents=True)
        file.touch()
    found = find("wrk")
    assert found.path == str(program)
    assert found.environment["LD_LIBRARY_PATH"] == str(library.parent)
    assert found.environment["PATH"].split(os.pathsep)[1] == str(program.parent)


# -- tables and pictures --------------------------------------------------------------------------------------------


def standings(title: str = "uvicorn") -> Standings:
    lines = [
        Standing(BARE, [100.0, 1000.0, 1000.0], p50=500.0, p99=9000.0, cpu=10.4),
        Standing(OURS, [95.0, 950.0, 95.0], version="0.1", p50=550.0, p99=9500.0, cpu=11.0),
        Standing(ALIKE, [125.0, 1250.0, 125.0]),
        Standing(PEER, [38.0, 380.0, 38.0], version="0.3"),
        Standing(PLAIN, note="does not start"),
    ]
    return Standings(title, "requests/s", lines)


def test_who_stands_where_is_a_table() -> None:
    assert list(report.rows(standings())) == [
        ("bare ASGI app, the fields of a hit", "", "125", "1.25", "1.32", "", "", "", ""),
        ("bare ASGI app", "", "1,000", "1.00", "1.05", "10", "0.5", "9.0", ""),
        ("tiercache", "0.1", "95", "0.95", "1.00", "11", "0.6", "9.5", ""),
        ("asgi-caches", "0.3", "38", "0.38", "0.40", "", "", "", ""),
        ("Starlette, plain route", "", "", "", "", "", "", "", "does not start"),
    ]


def test_marks_are_held_or_missed() -> None:
    of_bare, by_cpu, of_alike, of_best = report.marks([standings()])
    assert (round(by_cpu.value, 3), by_cpu.held) == (0.945, None)
    assert (of_bare.value, of_bare.at_least, of_bare.held) == (0.95, 0.9, True)
    assert (of_alike.value, of_alike.at_least, of_alike.held) == (0.76, 0.9, False)
    assert (of_best.value, of_best.at_least, of_best.beside) == (2.5, 1.5, "asgi-caches 0.3")
    asked = {title: [mark.at_least for mark in report.marks([standings(title)])] for title in ("granian, WSGI", "x")}
    assert asked == {"granian, WSGI": [0.85, None, 0.85, 1.5], "x": [None] * 4}
    assert {server.name for server in SERVERS} > set(report.OF_BARE)


def test_marks_in_process() -> None:
    lines = [Standing(BARE, [1.0]), Standing(OURS, [5.1]), Standing(PEER, [51.0])]
    assert [(mark.value, mark.held) for mark in report.marks([Standings(report.IN_PROCESS, "µs", lines)])] == [
        (5.1, False),
        (10.0, True),
    ]


def test_a_part_writes_itself_into_its_page(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("a\n<!-- bench: peers -->\nold\n<!-- end -->\nb\n", encoding="utf-8")
    drawn: list[Path] = []
    outcome = Outcome("peers", "| new |", 0, 0, [], {"performance-peers.png": drawn.append})
    benchmarks.write_page(tmp_path, outcome)
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [lines[0], lines[1], *lines[4:]] == ["a", "<!-- bench: peers -->", "| new |", "<!-- end -->", "b"]
    assert lines[2].startswith("Made on ")
    pytest.importorskip("matplotlib")
    assert drawn == [tmp_path / "performance-peers.png"]


def test_the_page_has_a_place_for_every_part() -> None:
    for name in PARTS:
        page = (benchmarks.EXPLANATION / DOCUMENTS.get(name, "performance.md")).read_text(encoding="utf-8")
        fill_in(page, f"bench: {name}", "")


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.peers import pictures

    in_memory = Standings("ASGI, hit in memory", "µs", standings().lines)
    pictures.draw("A title", [standings(), in_memory, Standings("empty", "µs")], tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


# -- the bare apps that send as much as a hit -----------------------------------------------------------------------


async def lines_over_asgi(app: Any) -> list[tuple[str, int]]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.get(PATH)
    return sorted((name.lower(), len(value)) for name, value in answer.headers.multi_items())


def lines_over_wsgi(app: Any) -> list[tuple[str, int]]:
    return sorted((name.lower(), len(value)) for name, value in Client(app).get(PATH).headers.items())


async def test_an_app_sends_lines_as_long_as_those_of_a_hit() -> None:
    with ExitStack() as closing:
        place = Place(MEMORY, closing)
        over_asgi = OURS.app(place)
        await lines_over_asgi(over_asgi)
        assert await lines_over_asgi(ALIKE.app(place)) == await lines_over_asgi(over_asgi)
        over_wsgi = WSGI[1].app(place)
        lines_over_wsgi(over_wsgi)
        assert lines_over_wsgi(WSGI[2].app(place)) == lines_over_wsgi(over_wsgi)
