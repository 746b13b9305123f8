"""What the README and docs/ show works: python is run against a real Redis, shell and TOML are checked."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.blocks import PYTHON, SHELL, Block, blocks_of
from tests.servers import RedisServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda path: path.as_posix(),
)
RUNNER = Path(__file__).with_name("run_page.py")
LOCAL_REDIS = re.compile(r"redis://(?:localhost|127\.0\.0\.1)(?::6379)?(?=[/?\"'\s]|$)", re.MULTILINE)
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run_page(page: str, blocks: list[Block], folder: Path, redis_url: str) -> subprocess.CompletedProcess[str]:
    """Run what is to be run of a page, with each local redis:// URL turned into that of the test's own server."""
    steps = [
        {
            "code": LOCAL_REDIS.sub(redis_url, block.code),
            "line": block.line,
            "verb": block.verb,
            "argument": block.argument,
        }
        for block in blocks
        if block.language in PYTHON or block.verb == "file"
    ]
    return subprocess.run(
        [sys.executable, "-W", "error", RUNNER],
        input=json.dumps({"page": page, "steps": steps}),
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": str(Path(sys.executable).parent)},
        timeout=50,
        check=False,
    )


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a shell block; in a console block only what follows the prompt is one."""
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def complaints(words: list[str]) -> list[str]:
    """What is wrong with a command: a target, module or extra that does not exist."""
    found = []
    if words[0] == "make":
        found += [f"no target {w}" for w in words[1:] if "=" not in w and not w.startswith("-") and w not in TARGETS]
    if "pip" in words and "install" in words:
        for word in words:
            if match := re.fullmatch(r"(?:tiercache|\.)\[([^\]]*)\].*", word):
                found += [f"no extra {extra}" for extra in re.split(r"\s*,\s*", match[1]) if extra not in EXTRAS]
    found += [f"no module {word}" for before, word in itertools.pairwise(words) if before == "-m" and not exists(word)]
    return found


def exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_python_of_a_page_runs(path: Path, tmp_path: Path) -> None:
    blocks = blocks_of(path)
    if not any(block.language in PYTHON for block in blocks):
        return
    if not any(LOCAL_REDIS.search(block.code) for block in blocks):
        done = run_page(name_of(path), blocks, tmp_path, "redis://unused")
    else:
        with RedisServer() as server:
            done = run_page(name_of(path), blocks, tmp_path, server.url.removesuffix("/0"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_commands_of_a_page_name_what_exists(path: Path) -> None:
    wrong = [
        f"{name_of(path)}:{block.line}: {shlex.join(words)}: {complaint}"
        for block in blocks_of(path)
        if block.language in SHELL and block.verb != "skip"
        for words in commands(block)
        for complaint in complaints(words)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_toml_of_a_page_is_toml(path: Path) -> None:
    for block in blocks_of(path):
        if block.language == "toml":
            tomllib.loads(block.code)
