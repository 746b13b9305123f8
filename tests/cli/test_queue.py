"""`tiercache worker` and `tiercache queue`, as processes of their own beside an app that writes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RedisServer
from tiercache.cli import main

PATIENCE = 30.0
CODE = """
import os, sqlite3
from tiercache import TierCache

cache = TierCache(os.environ["SHOP_REDIS"], namespace="cli", purge_timeout="10s", l2_budget="10s")

def load(key):
    with sqlite3.connect(os.environ["SHOP_DATABASE"]) as database:
        row = database.execute("select value from item where key = ?", [key]).fetchone()
        return row and row[0]

def write(batch):
    with sqlite3.connect(os.environ["SHOP_DATABASE"]) as database:
        for one in batch:
            if one.value < 0 and not os.path.exists(os.environ["SHOP_DATABASE"] + ".lenient"):
                raise ValueError("not below nothing")
            database.execute("insert or replace into item values (?, ?)", [one.key, one.value])

stock = cache.write_behind("stock", load=load, write=write, ttl="10m", partitions=2, attempts=1)
plain = TierCache()
"""


class Shop:
    """The folder of an app, its database, and what it does."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.database = folder / "shop.db"
        (folder / "shop.py").write_text(CODE)
        with sqlite3.connect(self.database) as database:
            database.execute("create table item (key text primary key, value integer)")
        root = str(Path(__file__).resolve().parents[2])
        self.environ = {
            **os.environ,
            "SHOP_REDIS": url,
            "SHOP_DATABASE": str(self.database),
            "PYTHONPATH": root + os.pathsep + str(folder),
        }

    def write(self, **values: int) -> None:
        words = f"from shop import stock; [stock.set(key, value) for key, value in {values!r}.items()]"
        subprocess.run([sys.executable, "-c", words], cwd=self.folder, env=self.environ, check=True, timeout=PATIENCE)

    def rows(self) -> dict[str, int]:
        with sqlite3.connect(self.database) as database:
            return dict(database.execute("select key, value from item").fetchall())

    def worker(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tiercache", "worker", "shop:cache", "--interval", "10ms", *words]
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, stderr=subprocess.PIPE, text=True)

    def queue(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "tiercache", "queue", "shop:cache", *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def log() -> Iterator[RedisServer]:
    with RedisServer(appendonly="yes") as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path, log: RedisServer) -> Shop:
    assert log.ask("FLUSHALL") == "+OK"
    return Shop(tmp_path, log.url)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def ended(worker: subprocess.Popen[str], how: int) -> tuple[int, str]:
    worker.send_signal(how)
    _, said = worker.communicate(timeout=PATIENCE)
    return worker.returncode, said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_writes_until_it_is_told_to_stop(shop: Shop, how: int) -> None:
    shop.write(tea=1, pot=2)
    assert shop.rows() == {}
    worker = shop.worker()
    until(lambda: shop.rows() == {"tea": 1, "pot": 2})
    code, said = ended(worker, how)
    assert code == 0
    assert "writing for stock" in said
    assert "2 writes written, 0 kept aside" in said


def test_the_queue_is_shown_and_what_was_refused_is_dealt_with(shop: Shop) -> None:
    shop.write(tea=1)
    assert shop.queue()[0] == 0
    assert "stock: 1 writes of 1 keys wait, the oldest for" in shop.queue()[1]
    shop.write(pot=-1, mill=-2)
    worker = shop.worker("--threads", "2")
    until(lambda: "0 writes of 0 keys wait; 2 were not taken" in shop.queue()[1])
    assert shop.rows() == {"tea": 1}
    code, listed = shop.queue("stock", "--letters")
    assert code == 1
    assert "'pot'" in listed
    assert "ValueError: not below nothing" in listed
    code, text = shop.queue("--format", "json")
    letters: list[dict[str, Any]] = json.loads(text)["stock"]["letters"]
    assert {letter["key"] for letter in letters} == {"'pot'", "'mill'"}
    by_key = {letter["key"]: letter["id"] for letter in letters}
    mill = by_key["'mill'"]
    assert shop.queue("--drop", mill) == (0, f"{mill}: dropped\n")
    Path(str(shop.database) + ".lenient").touch()
    assert "queued once more" in shop.queue("--replay", "all")[1]
    until(lambda: shop.rows() == {"tea": 1, "pot": -1})
    assert shop.queue("stock", "--letters") == (0, "stock: 0 writes of 0 keys wait; 0 were not taken\n")
    code, said = shop.queue("--replay", by_key["'pot'"])
    assert code == 2
    assert "there is no" in said
    assert ended(worker, signal.SIGTERM)[0] == 0


def test_the_number_of_partitions_is_forgotten_when_the_queue_is_empty(shop: Shop) -> None:
    shop.write(tea=1)
    code, said = shop.queue("--forget-partitions")
    assert code == 1
    assert "let the workers empty it" in said
    worker = shop.worker()
    until(lambda: shop.rows() == {"tea": 1})
    assert ended(worker, signal.SIGTERM)[0] == 0
    assert shop.queue("--forget-partitions")[0] == 0
    (shop.folder / "shop.py").write_text(CODE.replace("partitions=2", "partitions=5"))
    shop.write(pot=2)
    assert "1 writes" in shop.queue()[1]


def test_a_worker_waits_for_its_redis(tmp_path: Path) -> None:
    server = RedisServer(appendonly="yes").start()
    try:
        shop = Shop(tmp_path, server.url)
        server.kill()
        worker = shop.worker()
        assert worker.stderr is not None
        assert "waiting for Redis" in worker.stderr.readline()
        server.start()
        shop.write(tea=1)
        until(lambda: shop.rows() == {"tea": 1})
        assert ended(worker, signal.SIGTERM)[0] == 0
    finally:
        server.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("worker", "nowhere:cache"), "cannot be imported"),
        (("worker", "shop:plain"), "write-behind stores of this cache"),
        (("worker", "shop:cache", "--store", "shelf"), "a write-behind store of this cache"),
        (("worker", "shop:cache", "--owned", "soon"), "owned"),
        (("worker", "shop:cache", "--threads", "0"), "at least 1"),
        (("queue", "shop:plain"), "no write-behind store"),
        (("queue", "shop:cache", "shelf"), "a write-behind store of this cache"),
    ],
)
def test_what_cannot_work(
    shop: Shop,
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setenv("SHOP_REDIS", shop.environ["SHOP_REDIS"])
    monkeypatch.setenv("SHOP_DATABASE", shop.environ["SHOP_DATABASE"])
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        assert main([*words, "--app-dir", str(shop.folder)]) == 2
    finally:
        for one, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(one, handler)
        loaded = sys.modules.pop("shop", None)
        if loaded is not None:
            loaded.cache.close()
    assert said in capsys.readouterr().err
