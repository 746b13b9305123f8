"""Writes a run down: pictures and tables for the documentation, and counts as JSON."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.load.results import Result, markdown_table
from benchmarks.load.runs import Scale

_PAGE = "load.md"
_LIBRARIES = (
    "tiercache", "redis", "fastapi", "uvicorn", "flask", "gunicorn", "cashews", "fastapi-cache2", "flask-caching"
)  # fmt: skip


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    installed = {found.name.lower() for found in importlib.metadata.distributions()}
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES if name in installed},
    }


def write_json(path: Path, results: Sequence[Result], scale: Scale) -> None:
    document = {
        "scale": asdict(scale),
        "machine": machine(),
        "scenarios": {
            result.name: [
                {
                    "subject": outcome.label,
                    "part": part.name,
                    "requests": len(part.samples),
                    "calls": part.calls,
                    "at_once": part.at_once,
                    "errors": part.errors,
                    "seconds": {str(share): part.percentile(share) for share in (0.5, 0.99, 1.0)},
                    "complaints": part.complaints(),
                }
                for outcome in result.outcomes
                for part in outcome.parts
            ]
            for result in results
        },
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def write_pages(folder: Path, results: Sequence[Result], scale: Scale) -> list[Path]:
    """A picture per scenario, and its table in the page of that folder, between the marks that name it.

    Returns the files written; no pictures where matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if importlib.util.find_spec("matplotlib") is not None:
        from benchmarks.load.pictures import draw

        for result in results:
            if not any(outcome.parts for outcome in result.outcomes):
                continue
            path = folder / f"load-{result.name}.png"
            draw(result, path)
            written.append(path)
    page = folder / _PAGE
    if page.exists():
        text = page.read_text(encoding="utf-8")
        for result in results:
            text = fill_in(text, result.name, f"{result.about}\n\n{markdown_table(result)}")
        text = fill_in(text, "machine", _machine_line(scale))
        page.write_text(text, encoding="utf-8")
        written.append(page)
    return written


def fill_in(page: str, name: str, content: str) -> str:
    """The page with this content between `<!-- load: name -->` and `<!-- end -->`.

    Raises:
        ValueError: it has no such marks.
    """
    marks = re.compile(rf"(<!-- load: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = marks.subn(lambda found: f"{found[1]}{content}\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} places for {name!r}, and needs one")
    return filled


def _machine_line(scale: Scale) -> str:
    about = machine()
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"Made with seed {scale.seed}, {scale.rate:g} requests a second outside the bursts, bursts of {scale.burst} "
        f"({scale.bursts} of them), on {about['cores']} cores ({about['machine']}), {about['system']}, "
        f"Python {about['python']}; {versions}."
    )
