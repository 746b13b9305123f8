"""The shape of the package: what a reader may rely on before opening a file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tiercache"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400

# What each floor may import from outside the standard library; an integration may also import its own framework.
THIRD_PARTY = {
    "core": {"msgspec", "http_sf"},
    "engine": set(),
    "errors": set(),
}
BANNED = {"pickle", "marshal", "shelve", "dill"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted module name) for each import, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), name_of(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_package_was_found() -> None:
    assert {floor_of(path) for path in MODULES} >= {"core", "tiers", "engine", "errors"}


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), name_of(path))
    assert ast.get_docstring(tree), "no module docstring"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_neither_prints_nor_unpickles(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), name_of(path))
    prints = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    if floor_of(path) != "cli":
        assert not prints, f"print() on lines {prints}"
    assert not [(line, name) for line, name in imports(path) if name.split(".")[0] in BANNED]


@pytest.mark.parametrize("path", [p for p in MODULES if floor_of(p) in THIRD_PARTY], ids=name_of)
def test_a_floor_imports_only_what_it_is_allowed(path: Path) -> None:
    allowed = THIRD_PARTY[floor_of(path)] | sys.stdlib_module_names | {"tiercache"}
    assert not [(line, name) for line, name in imports(path) if name.split(".")[0] not in allowed]


@pytest.mark.parametrize("path", [p for p in MODULES if floor_of(p) in {"core", "engine", "tiers"}], ids=name_of)
def test_a_lower_floor_does_not_import_the_whole_package(path: Path) -> None:
    assert not [(line, name) for line, name in imports(path) if name == "tiercache"]
