"""The site below a path: mounted in another app, or behind a proxy that cuts the path off.

Rules and purges name the path that clients see, whichever way the framework is told of the mount point.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypercorn.middleware import DispatcherMiddleware as Dispatched
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.frameworks.building import ASGI, WSGI, build
from tests.frameworks.scenarios import Basics, Site
from tests.frameworks.visitors import ASGIVisitor, Visitor, WSGIVisitor

PREFIX = "/mounted"
CANNOT = {("falcon-asgi", "mounted"), ("quart", "cut")}
"""Falcon leaves the mount point on the path, and Quart wants it there: neither finds its routes otherwise."""
CELLS = [
    *(cell for cell in itertools.product((*ASGI, *WSGI), ("mounted", "cut")) if cell not in CANNOT),
    *itertools.product(("starlette", "litestar", "quart"), ("dispatched",)),
]


class Whole(WSGIVisitor):
    """Sends the mount point along, to an app that takes it off the path itself."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self.prefix = self._sent_prefix = PREFIX


def visitor_of(framework: str, how: str, app: Any) -> Visitor:
    if framework in WSGI:
        return Whole(DispatcherMiddleware(None, {PREFIX: app})) if how == "mounted" else WSGIVisitor(app, PREFIX)
    if how == "cut":
        return ASGIVisitor(app, PREFIX, cut=True)
    if how == "dispatched":
        visitor = ASGIVisitor(Dispatched({PREFIX: app}))
    else:
        visitor = ASGIVisitor(Starlette(routes=[Mount(PREFIX, app)]))
    visitor.prefix = visitor._sent_prefix = PREFIX
    return visitor


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    framework, how = request.param
    cache, app = build(framework, "inside", prefix=PREFIX)
    visitor = visitor_of(framework, how, app)
    yield Site(visitor, "inside", framework in ASGI, framework, cache)
    visitor.close()
    assert cache.stats()["swallowed"] == {}
    cache.close()


class TestMounted(Basics):
    pass
