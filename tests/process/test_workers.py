"""Real servers with two workers each: what is purged in one is gone in the other, and nothing is shared by a fork."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process.servers import COMMANDS, AppServer, Got, eventually, sockets_to
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
HIT = "tiercache; hit; detail=l1"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., AppServer]]:
    servers: list[AppServer] = []

    def make(kind: str, url: str = "", **environ: str) -> AppServer:
        servers.append(AppServer(kind, tmp_path, url, **environ))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def hit_with(value: bytes, detail: str = "l1") -> Callable[[Got], bool]:
    return lambda got: got.body == value and got.outcome == f"tiercache; hit; detail={detail}"


@pytest.mark.parametrize("kind", COMMANDS)
def test_two_workers_and_a_purge(kind: str, serve: Callable[..., AppServer], redis_server: RedisServer) -> None:
    redis_server.ask("FLUSHALL")
    early = {"TEST_START_EARLY": "1"} if kind == "gunicorn-preload" else {}
    app = serve(kind, redis_server.url, **early)
    workers = app.by_worker("/p/1", hit_with(b"old"))
    for round_number in range(3):
        value = b"new %d" % round_number
        app.value.write_bytes(value)
        assert app.get("/purge/p:1", "POST").body == b"purged"
        # Whoever purged and the other: each shows the new value for good once it has shown it.
        app.by_worker("/p/1", hit_with(value))
        assert {app.get("/p/1").body for _ in range(20)} == {value}
    states = app.states()
    assert states.keys() == workers.keys()
    assert [state["listeners"] for state in states.values()] == [1, 1]
    assert len({state["process_id"] for state in states.values()}) == 2
    assert not any(state["failing"] for state in states.values())
    # The socket of a connection belongs to one process.
    pids = [*states, app.process.pid]
    owned = {pid: sockets_to(redis_server.port, pid) for pid in pids}
    assert all(owned[pid] for pid in states)
    assert sum(map(len, owned.values())) == len(set().union(*owned.values())), owned
    assert bool(owned[app.process.pid]) is (kind == "gunicorn-preload")
    swallowed: dict[str, Any] = {}
    for state in states.values():
        swallowed |= state["stats"]["swallowed"]
    assert swallowed == {}
    assert "Traceback" not in app.log()


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn-gthread"])
def test_redis_comes_only_after_the_start(kind: str, serve: Callable[..., AppServer]) -> None:
    port = free_port()
    app = serve(kind, f"redis://127.0.0.1:{port}/0")
    app.by_worker("/p/1", hit_with(b"old", "isolated"))
    assert all(state["failing"] for state in app.states().values())
    with RedisServer(port=port):
        eventually(lambda: not any(state["failing"] for state in app.states().values()), "both have joined")
        app.by_worker("/p/2", hit_with(b"old"))
        app.value.write_bytes(b"new")
        app.get("/purge/p:2", "POST")
        app.by_worker("/p/2", hit_with(b"new"))
    assert "Traceback" not in app.log()


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn-preload"])
def test_two_workers_without_a_shared_tier(kind: str, serve: Callable[..., AppServer]) -> None:
    app = serve(kind, **({"TEST_START_EARLY": "1"} if kind == "gunicorn-preload" else {}))
    app.by_worker("/p/1", hit_with(b"old"))
    assert [state["listeners"] for state in app.states().values()] == [0, 0]
    check_the_wire(app)
    check_memory(app)
    app.value.write_bytes(b"new")
    purged = set()

    def purge() -> bool:
        purged.add(app.get("/purge/p:1", "POST").worker)
        return len(purged) == 2

    eventually(purge, "each worker has purged, for itself")
    app.by_worker("/p/1", hit_with(b"new"))


def check_the_wire(app: AppServer) -> None:
    hit = app.get("/p/1")
    assert hit.headers["Content-Length"] == "3"
    assert len(hit.headers.get_all("Date")) == 1
    assert hit.headers["Age"].isdigit()
    assert hit.reason == ("OK" if app.kind == "uvicorn" else "Very Well")
    etag = hit.headers["ETag"]
    same = app.get("/p/1", headers={"If-None-Match": etag})
    assert (same.body, same.headers["ETag"]) == (b"", etag)
    head = app.get("/p/1", "HEAD")
    assert (head.body, head.headers["Content-Length"], head.outcome) == (b"", "3", HIT)
    part = app.get("/p/1", headers={"Range": "bytes=1-"})
    assert (part.body, part.headers["Content-Range"]) == (b"ld", "bytes 1-2/3")


def check_memory(app: AppServer) -> None:
    """200 MB pass, and hardly more memory is used than before."""
    before = max(state["peak_kib"] for state in app.states().values())
    assert len(app.get("/p/large").body) == 200 << 20
    after = max(state["peak_kib"] for state in app.states().values())
    assert after - before < 40 << 10
