"""Run the python blocks of one page in order, in one namespace, as a process of its own.

Reads `{"page": ..., "steps": [{"code", "line", "verb", "argument", "language"}, ...]}` as JSON from standard input.
A statement with `await` at the top level runs on an event loop that lives as long as the page; every other statement
runs outside it, since that is where a reader would type it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import linecache
import sys
import traceback
import types
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tiercache.config import Settings

NAME = "docs_page"


def run(code: str, line: int, page: str, names: dict[str, Any], runner: asyncio.Runner) -> None:
    source = "\n" * (line - 1) + code  # the traceback then names the line of the page
    linecache.cache[page] = (len(source), None, source.splitlines(keepends=True), page)
    for statement in ast.parse(source, page).body:
        module = ast.Module([statement], type_ignores=[])
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compiled = compile(module, page, "exec", flags=flags, dont_inherit=True)
        if compiled.co_flags & inspect.CO_COROUTINE:
            runner.run(types.FunctionType(compiled, names)())
        else:
            exec(compiled, names)


def patient() -> None:
    """Give Redis time: what a page shows must not depend on how busy the machine is."""
    Settings._defaults = MappingProxyType({**Settings._defaults, "l2_budget": 10.0, "l2_slow": 10.0})


def main() -> None:
    job = json.load(sys.stdin)
    module = types.ModuleType(NAME)
    sys.modules[NAME] = module  # dataclasses and annotations look their module up
    sys.path.insert(0, "")  # files that the page wrote can be imported
    patient()
    with asyncio.Runner() as runner:
        for step in job["steps"]:
            if step["verb"] == "file":
                Path(step["argument"]).write_text(step["code"], encoding="utf-8")
                continue
            try:
                run(step["code"], step["line"], job["page"], module.__dict__, runner)
            except Exception as error:
                if step["verb"] != "raises" or type(error).__name__ != step["argument"]:
                    traceback.print_exc()  # shows the lines of the page, which the interpreter's own does not know
                    raise SystemExit(1) from None
            else:
                if step["verb"] == "raises":
                    raise SystemExit(f"{job['page']}:{step['line']}: {step['argument']} was not raised")


if __name__ == "__main__":
    main()
