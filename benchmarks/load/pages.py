"""Writes a run down: pictures and tables for the documentation, and counts as JSON."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.documents import fill_in, machine, machine_line
from benchmarks.load.results import Result, markdown_table
from benchmarks.load.runs import Scale

_PAGE = "load.md"
_LIBRARIES = (
    "tiercache", "redis", "fastapi", "uvicorn", "flask", "gunicorn", "cashews", "fastapi-cache2", "flask-caching"
)  # fmt: skip


def write_json(path: Path, results: Sequence[Result], scale: Scale) -> None:
    document = {
        "scale": asdict(scale),
        "machine": machine(_LIBRARIES),
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
            text = fill_in(text, f"load: {result.name}", f"{result.about}\n\n{markdown_table(result)}")
        text = fill_in(text, "load: machine", _machine_line(scale))
        page.write_text(text, encoding="utf-8")
        written.append(page)
    return written


def _machine_line(scale: Scale) -> str:
    return (
        f"Made with seed {scale.seed}, {scale.rate:g} requests a second outside the bursts, bursts of {scale.burst} "
        f"({scale.bursts} of them), on {machine_line(_LIBRARIES)}."
    )
