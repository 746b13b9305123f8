"""The public names: listed once, sorted, and every one of them there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import types
from pathlib import Path

import tiercache

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def test_the_public_names_are_sorted_and_listed_once() -> None:
    names = tiercache.__all__
    assert list(names) == sorted(set(names))


def test_every_listed_name_exists() -> None:
    assert not [name for name in tiercache.__all__ if not hasattr(tiercache, name)]


def test_every_public_name_is_listed() -> None:
    found = {
        name
        for name, value in vars(tiercache).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert found == {name for name in tiercache.__all__ if not name.startswith("_")}


def test_every_public_name_has_a_docstring() -> None:
    named = {name: getattr(tiercache, name) for name in tiercache.__all__}
    assert not [name for name, value in named.items() if callable(value) and not value.__doc__]


def test_the_version_is_that_of_the_distribution() -> None:
    assert tiercache.__version__ == tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]


def test_importing_the_package_brings_no_web_framework() -> None:
    """An app on one framework must not need the others: extras are imported by their own module only."""
    extras = {"fastapi", "flask", "httpx", "sqlalchemy", "starlette", "werkzeug"}
    code = f"import sys, tiercache; print(*sorted({extras!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
