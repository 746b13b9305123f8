"""The site in every framework, called within this process; the servers are in `on_servers.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.frameworks.building import ASGI, WSGI, build
from tests.frameworks.scenarios import Scenarios, Site
from tests.frameworks.visitors import ASGIVisitor, Visitor, WSGIVisitor

CELLS = list(itertools.product((*ASGI, *WSGI), ("inside", "outside")))


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    framework, layout = request.param
    cache, app = build(framework, layout)
    visitor: Visitor = ASGIVisitor(app) if framework in ASGI else WSGIVisitor(app)
    yield Site(visitor, layout, framework in ASGI, framework, cache)
    visitor.close()
    assert cache.stats()["swallowed"] == {}
    cache.close()


class TestInProcess(Scenarios):
    def test_a_websocket_passes(self, site: Site) -> None:
        if not isinstance(site.visitor, ASGIVisitor) or site.framework.startswith("django"):
            pytest.skip("there are none here")
        assert site.visitor.websocket("/echo", "hello") == "heard hello"
