from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from examples.demo.processes import Processes
from examples.demo.updates import Seen, Staleness, Update, last_old
from tests.servers import RedisServer

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def demo(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The demonstration as `make demo` starts it."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "DATABASE_URL")}
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.demo", *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    lines = ""
    while text not in lines:
        line = process.stdout.readline()
        assert line, lines
        lines += line
    return lines


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(processes: list[psutil.Process]) -> bool:
    """Ended, or ending: a zombie that nobody has reaped yet holds nothing."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        if not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.soak
def test_the_demonstration_holds_and_ends_by_itself() -> None:
    with demo("--updates", "20") as process:
        text = read_until(process, "3. ")
        started = family(process)
        # Four workers, a child of each gunicorn, two that write, Redis, and the guard.
        assert len(started) >= 10
        rest, _ = process.communicate(timeout=50)
    text += rest
    assert process.returncode == 0, text
    assert "Everything held" in text
    assert "NOT" not in text
    assert "Traceback" not in text
    assert "fwd=miss; stored" in text
    assert "detail=l2" in text
    assert "detail=l1" in text
    assert "purge queued" in text
    assert len(re.findall(r"p50 [0-9.]+ ms   p99 [0-9.]+ ms   max [0-9.]+ ms", text)) == 2
    assert len(re.findall(r"shows the new price after", text)) == 8
    assert "200 were acknowledged" in text
    assert "by product: 1: 36, 2: 36, 3: 32, 4: 32, 5: 32, 6: 32. None is lost, none twice" in text
    assert text.count("  knows her\n") == text.count("knows her no more") == 4
    assert all_gone(started)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_serving_ends_with_everything_it_started(how: signal.Signals) -> None:
    with demo("--serve") as process:
        text = read_until(process, "Ctrl-C stops everything.")
        assert len(set(re.findall(r"http://127\.0\.0\.1:(\d+)/\n", text))) == 4
        started = family(process)
        assert len(started) >= 10
        process.send_signal(how)
        process.wait(20)
        assert all_gone(started)
    if how is signal.SIGINT:
        assert process.returncode == 0


def test_what_a_killed_run_has_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    names = {"left": f"tiercache-demo-{ended.pid}-x", "running": f"tiercache-demo-{os.getpid()}-x", "other": "shop-1-x"}
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop.db").touch()
    with Processes() as processes:
        assert processes.directory.parent == tmp_path
        assert processes.directory.name.startswith(f"tiercache-demo-{os.getpid()}-")
    assert {path.name for path in tmp_path.iterdir()} == {names["running"], names["other"]}


def test_a_failed_start_is_told_in_words_and_leaves_nothing_behind() -> None:
    before = {p.pid for p in psutil.process_iter()}
    with demo(DATABASE_URL="sqlite:////nonexistent/shop.db") as process:
        text, _ = process.communicate(timeout=50)
    assert process.returncode == 1
    assert re.search(r"The demonstration could not run\. (starlette|flask)-[12] ended with code", text)
    assert "unable to open database file" in text
    mine = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before]
    assert all_gone([p for p in mine if "/nonexistent/" in _environment(p)])


def _environment(process: psutil.Process) -> str:
    try:
        return process.environ().get("DATABASE_URL", "")
    except psutil.Error:
        return ""


def test_a_redis_of_somebody_else_is_used_and_not_stopped() -> None:
    with RedisServer() as server:
        with demo("--updates", "3", REDIS_URL=server.url) as process:
            text, _ = process.communicate(timeout=50)
        assert server.ask("PING") == "+PONG"
    assert process.returncode == 0, text
    assert "as REDIS_URL says" in text
    assert "not ours to stop" in text
    # It keeps no log, so the shop does not count in it.
    assert "nobody writes page views" in text, text
    assert "a Redis with appendonly yes" in text, text
    assert "Page views" not in text
    assert "detail=l2" in text


def test_staleness_counts_old_answers_that_were_asked_for_after_the_update() -> None:
    updates = [Update(100, 1.0), Update(101, 2.0), Update(102, 3.0)]
    seen = [
        Seen("/", 99, 0.9, 1.5),  # asked for before it returned
        Seen("/", 99, 1.1, 1.25),
        Seen("/", 99, 1.1, 1.2),
        Seen("/", 101, 1.9, 1.95),  # newer than promised
        Seen("/", 100, 2.5, 2.5625),
        Seen("/", 99, 2.5, 2.75),  # two updates behind: out of date since the first
        Seen("/", 102, 3.1, 3.2),
    ]
    assert last_old(updates, seen) == [1750.0, 562.5, 0.0]


def test_quantiles() -> None:
    result = Staleness([float(n) for n in range(200)], 0, [])
    assert (result.quantile(0.5), result.quantile(0.99), result.none_seen) == (100.0, 198.0, 1)
    assert str(result) == "p50 100.0 ms   p99 198.0 ms   max 199.0 ms"
