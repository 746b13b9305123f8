"""The fenced code blocks of a Markdown page, and the directives that say how a block is tested.

A directive is an HTML comment on the line before the fence, so that readers do not see it:

    <!-- test: file shop.toml -->          write the block to this file, in the folder that the page runs in
    <!-- test: raises ConfigError -->      the block must end in this error
    <!-- test: skip because it serves -->  for shell blocks alone, and never without the reason

    <!-- test: setup                       code that the page needs and the reader does not
    app = make_an_app()
    -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PYTHON = {"python"}
SHELL = {"bash", "console", "sh"}
PLAIN = {"http", "ini", "json", "mermaid", "nginx", "text", "toml", "vcl", "yaml"}
"""Languages that are shown and not run; `toml` is parsed."""

_DIRECTIVE = re.compile(r"<!--\s*test:\s*(?P<verb>[a-z]+)(?P<rest>[^\n]*?)\s*-->")
_SETUP = re.compile(r"<!--\s*test:\s*setup\s*")
_FENCE = re.compile(r"(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<language>[^\s`]*)[^`]*")
_VERBS = {"file": PYTHON | PLAIN, "raises": PYTHON, "skip": SHELL}


class PageError(Exception):
    """A page that cannot be tested as it stands: an unknown language, a directive that does not fit."""


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    code: str
    line: int
    """The line of the page that the code starts on, from 1."""
    verb: str = ""
    argument: str = ""


def blocks_of(path: Path) -> list[Block]:
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(page: str, name: str) -> list[Block]:
    """Find the blocks of a page in order; setup comments come out as python blocks."""
    found: list[Block] = []
    lines = page.splitlines()
    verb = argument = ""
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if directive := _DIRECTIVE.fullmatch(line.strip()):
            verb, argument = directive["verb"], directive["rest"].strip()
            if verb not in _VERBS:
                raise PageError(f"{name}:{at}: {verb!r} is no directive; there are {sorted(_VERBS)} and setup")
        elif _SETUP.fullmatch(line.strip()):
            code, at = _until(lines, at, "-->", name)
            found.append(Block("python", code, at - code.count("\n")))
        elif fence := _FENCE.fullmatch(line):
            start = at + 1
            code, at = _until(lines, at, fence["fence"], name, len(fence["indent"]))
            block = Block(fence["language"], code, start, verb, argument)
            _check(block, name)
            found.append(block)
            verb = argument = ""
        elif line.strip() and verb:
            raise PageError(f"{name}:{at}: the directive {verb!r} stands before no code block")
    return found


def _until(lines: list[str], at: int, end: str, name: str, indent: int = 0) -> tuple[str, int]:
    """The lines from `at` up to the one that is `end`, and the index of the line after that."""
    for stop in range(at, len(lines)):
        if lines[stop].strip() == end:
            code = [line[indent:] if not line[:indent].strip() else line for line in lines[at:stop]]
            return "\n".join([*code, ""]), stop + 1
    raise PageError(f"{name}:{at}: nothing closes what begins here with {end!r}")


def _check(block: Block, name: str) -> None:
    where = f"{name}:{block.line}"
    if block.language not in PYTHON | SHELL | PLAIN:
        raise PageError(
            f"{where}: {block.language!r} is no language that is tested; give one of {sorted(PYTHON | SHELL | PLAIN)}"
        )
    if block.verb and block.language not in _VERBS[block.verb]:
        raise PageError(f"{where}: {block.verb!r} does not fit a block in {block.language}")
    if block.verb == "skip" and not re.fullmatch(r"because \S.+", block.argument):
        raise PageError(f"{where}: a block is skipped only with its reason: skip because ...")
    if block.verb in ("file", "raises") and not block.argument:
        raise PageError(f"{where}: {block.verb!r} needs a name")
