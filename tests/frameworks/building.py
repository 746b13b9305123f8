"""Builds the site in a framework, with a cache around it."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from tests.frameworks.site import Layout, add_rules
from tiercache import TierCache

ASGI = ("starlette", "fastapi", "django-asgi", "litestar", "quart", "falcon-asgi")
WSGI = ("flask", "django-wsgi", "falcon-wsgi")


_added: set[str] = set()


def build(framework: str, layout: Layout, url: str | None = None, prefix: str = "") -> tuple[TierCache, Any]:
    """The cache and the app. Django has one cache for each process, whose settings come from the environment."""
    name, _, face = framework.partition("-")
    module = import_module(f"tests.frameworks.apps.{name}_app")
    if name == "django":
        if prefix and prefix not in _added:
            _added.add(prefix)
            add_rules(module.cache, prefix)
        return module.cache, module.build(face, layout)
    cache = TierCache(url, namespace="frameworks", l2_budget="10s", l2_slow="10s")
    add_rules(cache, prefix, module.INSIDE_NEEDS if layout == "inside" else {})
    make = partial(module.build, face) if face else module.build
    return cache, make(cache, layout)
