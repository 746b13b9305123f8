"""The pytest plugin of tiercache: fixtures, a mark and two options. See `docs/reference/testing.md`.

It stands beside the package, since every run of pytest imports it where tiercache is installed: nothing of tiercache is
imported before a test asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tiercache.testing import Clock, Isolation

_FIXTURE = "tiercache_isolated"
_MARK = "tiercache"
_SETTINGS = ("url", "enabled")
_DISABLED = "TIERCACHE_DISABLED"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("tiercache_isolate", "Isolate the caches in every test (tiercache_isolated)", "bool", default=False)
    parser.addini(
        "tiercache_disabled",
        f"Run with {_DISABLED}=1: caches let everything through, but in tests marked tiercache(enabled=True)",
        "bool",
        default=False,
    )


# Before the conftest files are imported, since they may import the app and make its cache.
@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if early_config.getini("tiercache_disabled"):
        os.environ.setdefault(_DISABLED, "1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{_MARK}(url=None, enabled=None): isolate the caches in this test; see tiercache.testing.isolated",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    always = config.getini("tiercache_isolate")
    for item in items:
        names: list[str] | None = getattr(item, "fixturenames", None)
        if names is None or _FIXTURE in names:
            continue
        if always or item.get_closest_marker(_MARK) is not None:
            names.insert(0, _FIXTURE)


@pytest.fixture
def tiercache_isolated(request: pytest.FixtureRequest) -> Iterator[Isolation]:
    """Every cache of the process, isolated and empty for this test; has the clock and the purges."""
    from tiercache.testing import isolated

    settings: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(_MARK))):
        unknown = [name for name in mark.kwargs if name not in _SETTINGS]
        if mark.args or unknown:
            raise pytest.UsageError(f"mark tiercache({mark.args or unknown[0]!r}): accepted are url=… and enabled=…")
        settings |= mark.kwargs
    with isolated(**settings) as caches:
        yield caches


@pytest.fixture
def tiercache_clock(tiercache_isolated: Isolation) -> Clock:
    """The clock of the isolated caches: `tiercache_clock.advance("10m")`."""
    return tiercache_isolated.clock
