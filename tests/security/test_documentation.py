"""The page that maps attacks to tests tells the truth, and leaves none of them out."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "explanation" / "security.md"


def test_the_page_names_every_test_and_no_other() -> None:
    here = set()
    for file in HERE.glob("test_*.py"):
        if file.name != Path(__file__).name:
            here |= {
                f"{file.stem}::{name}" for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.M)
            }
    named = re.findall(r"`(test_\w+)::(test_\w+)`", PAGE.read_text())
    assert {f"{stem}::{name}" for stem, name in named} == here
