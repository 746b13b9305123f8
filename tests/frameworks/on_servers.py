"""The site in every framework on every server that can run it: `make test-frameworks`.

Not named like a test, so that `make test` leaves it alone: some sixty processes take a while to start.
"""

from __future__ import annotations

import itertools
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.frameworks.building import ASGI, WSGI
from tests.frameworks.scenarios import Basics, Scenarios, Site, call_of, eventually
from tests.frameworks.server_processes import ASGI_SERVERS, COMPLAINTS, WSGI_SERVERS, Server
from tests.frameworks.site import FLOOD, Layout
from tests.frameworks.test_mounted import PREFIX
from tests.frameworks.visitors import GUARD, WireVisitor, WSGIVisitor
from tests.servers import RedisServer
from tiercache import TierCache
from tools.postgres_server import PostgresServer

ROOT_PATHS = [
    # A proxy that cuts the prefix off, and a server that is told of it.
    ("uvicorn", "starlette", "cut"),
    ("uvicorn", "django-asgi", "cut"),
    ("uvicorn", "litestar", "cut"),
    ("uvicorn", "quart", "cut"),
    ("hypercorn", "fastapi", "cut"),
    ("granian", "litestar", "cut"),
    ("granian", "falcon-asgi", "cut"),
    ("daphne", "django-asgi", "cut"),
    ("waitress", "flask", "cut"),
    ("waitress", "django-wsgi", "cut"),
    # One that passes it on.
    ("hypercorn", "quart", "whole"),
    ("granian", "starlette", "whole"),
    ("daphne", "django-asgi", "whole"),
    ("gunicorn-sync", "django-wsgi", "whole"),
    ("gunicorn-gevent", "flask", "whole"),
    ("waitress", "falcon-wsgi", "whole"),
    ("granian-wsgi", "flask", "whole"),
]


def cell(*names: str) -> Any:
    """A set of parameters whose tests stay in one worker, so that each server is started once."""
    name = "-".join(names)
    return pytest.param(names, id=name, marks=pytest.mark.xdist_group(name))


@pytest.fixture(scope="session")
def redis_of_all() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def elsewhere(redis_of_all: RedisServer) -> Iterator[TierCache]:
    """The cache of another process of the fleet: this one."""
    cache = TierCache(redis_of_all.url, namespace="frameworks", l2_budget="10s", l2_slow="10s")
    cache.route("/elsewhere/{id}", ttl="10m", tags=["product:{id}"])
    yield cache
    cache.close()


@pytest.fixture(autouse=True)
def _listens_for_one_test(elsewhere: TierCache) -> Iterator[None]:
    yield
    elsewhere.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@contextmanager
def serving(request: pytest.FixtureRequest, *words: str) -> Iterator[Server]:
    """A server with the Redis of all, and a database of its own; what it leaves behind is looked at."""
    environ = {"TEST_URL": request.getfixturevalue("redis_of_all").url}
    if words[1].startswith("django"):
        environ["TEST_DATABASE"] = request.getfixturevalue("postgres").new_database()
    folder = request.getfixturevalue("tmp_path_factory").mktemp("server")
    server = Server(*words, folder=folder, **environ)
    try:
        yield server
    finally:
        code = server.close()
    assert [complaint for complaint in COMPLAINTS if complaint in server.log()] == [], server.log()
    # By the signal itself, or in its own way.
    assert code in (0, -signal.SIGTERM), (code, server.log())


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, elsewhere: TierCache) -> Iterator[Site]:
    name, framework, *more = request.param
    layout: Layout = "outside" if "outside" in more else "inside"
    cut = "cut" in more
    prefix = PREFIX if cut or "whole" in more else ""
    with serving(request, name, framework, layout, prefix) as server:
        visitor = WireVisitor(server.port, prefix, cut=cut, http2="http2" in more)
        yield Site(visitor, layout, name in ASGI_SERVERS, framework, elsewhere, name)
        state = visitor.state()
        visitor.close()
    assert state["listeners"] == 1
    assert state["stats"]["swallowed"] == {}


SERVED = [
    *itertools.product(ASGI_SERVERS, ASGI),
    *itertools.product(WSGI_SERVERS, WSGI),
    ("uvicorn", "starlette", "outside"),
    ("gunicorn-gthread", "flask", "outside"),
    ("hypercorn", "starlette", "http2"),
    ("hypercorn", "quart", "http2"),
    ("granian", "litestar", "http2"),
    ("granian", "fastapi", "http2"),
    ("granian-wsgi", "flask", "http2"),
]


@pytest.mark.parametrize("site", [cell(*names) for names in SERVED], indirect=True, scope="module")
class TestServed(Scenarios):
    def test_a_purge_in_a_view_arrives_elsewhere(self, visitor: WireVisitor, elsewhere: TierCache, n: int) -> None:
        def tiny(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"page"]

        other = WSGIVisitor(elsewhere.wsgi(tiny))
        assert other.get(f"/elsewhere/{n}").stored
        eventually(lambda: other.get(f"/elsewhere/{n}").hit, "it is stored")
        visitor.post(f"/reprice/{n}", "3")
        eventually(lambda: not other.get(f"/elsewhere/{n}").hit, "the other process has heard")

    def test_a_client_that_leaves_leaves_no_half_page(self, site: Site, visitor: WireVisitor, n: int) -> None:
        if visitor.http2:
            pytest.skip("the client that leaves speaks HTTP/1")
        with socket.socket() as leaving:
            # Hardly room for anything: the server cannot get rid of the page.
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            leaving.settimeout(GUARD)
            leaving.connect(("127.0.0.1", visitor.port))
            leaving.sendall(b"GET /floods/%d HTTP/1.1\r\nHost: shop.example\r\n\r\n" % n)
            assert leaving.recv(100).startswith(b"HTTP/1.1 200")
        pages = [visitor.get(f"/floods/{n}") for _ in range(2)]
        for page in pages:
            assert page.text.count(f" call {call_of(page)} ") == FLOOD
        assert pages[1].hit

    def test_every_answer_has_one_date(self, site: Site, visitor: WireVisitor, n: int) -> None:
        for _ in range(2):
            # Daphne gives none.
            assert len(visitor.get(f"/products/{n}").headers.get_list("date")) == (site.server != "daphne")

    def test_a_websocket_passes(self, site: Site, visitor: WireVisitor) -> None:
        if not site.asgi or site.framework.startswith("django") or visitor.http2:
            pytest.skip("there are none here")
        if (site.server, site.framework) == ("daphne", "quart"):
            pytest.skip("Quart's websockets need what Daphne does not give, cache or none")
        url = f"ws://127.0.0.1:{visitor.port}/echo"
        with connect(url, origin="https://a.example", open_timeout=GUARD, close_timeout=GUARD) as socket_:  # type: ignore[arg-type]
            socket_.send("hello")
            assert socket_.recv(GUARD) == "heard hello"


@pytest.mark.parametrize("site", [cell(*names) for names in ROOT_PATHS], indirect=True, scope="module")
class TestBelowAPrefix(Basics):
    pass
