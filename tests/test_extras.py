"""Each extra brings all that its modules need: none leans on what the development install happens to have as well."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest
from packaging.requirements import Requirement

MODULES = {
    "": ["tiercache", "tiercache.cli", "tiercache.testing", "tiercache.integrations.starlette"],
    "django": ["tiercache.integrations.django", "tiercache.integrations.django_models", "tiercache.testing.django"],
    "elasticache": ["tiercache.integrations.elasticache"],
    "flask": ["tiercache.integrations.flask"],
    "flask,sessions": ["tiercache.integrations.flask_sessions"],
    "litestar": ["tiercache.integrations.litestar"],
    "memcached": ["tiercache.tiers.memcached", "tiercache.tiers.memcached_connections"],
    "postgresql": ["tiercache.integrations.postgresql"],
    "quart": ["tiercache.integrations.quart"],
    "sessions": ["tiercache.integrations.sessions"],
    "sqlalchemy": ["tiercache.integrations.sqlalchemy", "tiercache.integrations.write_log"],
    "starlette,sessions": ["tiercache.integrations.starlette_sessions"],
    "zstd": ["tiercache.tiers.zstd"],
}
SCRIPT = """
import importlib, sys

for name in sys.argv[1].split(","):
    sys.modules[name] = None
for name in sys.argv[2].split(","):
    importlib.import_module(name)
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def brought(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    """The distributions that are installed with one, itself included."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    yield name
    try:
        requires = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for one in map(Requirement, requires):
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield from brought(normal(one.name), frozenset(one.extras), seen)


owners_of = functools.cache(packages_distributions)


def absent_beside(extras: frozenset[str]) -> set[str]:
    """The modules of this environment that an install with these extras would not have."""
    there = set(brought("tiercache", extras, set()))
    return {
        module
        for module, owners in owners_of().items()
        if module.isidentifier() and module != "_tiercache_pytest" and not {normal(one) for one in owners} & there
    }


@pytest.mark.parametrize("extras", MODULES)
def test_an_extra_brings_what_its_modules_import(extras: str) -> None:
    absent = absent_beside(frozenset(filter(None, extras.split(","))))
    assert {"granian", "uvicorn"} <= absent
    command = [sys.executable, "-c", SCRIPT, ",".join(absent), ",".join(MODULES[extras])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_an_extra_does_not_bring_is_found() -> None:
    """That the test above can fail."""
    absent = absent_beside(frozenset())
    command = [sys.executable, "-c", SCRIPT, ",".join(absent), "tiercache.integrations.sessions"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "pip install 'tiercache[sessions]'" in done.stderr
