"""What `mypy --strict` infers: the sample says beside each line what it must reveal, or which error it must be."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SAMPLE = Path(__file__).parent / "typed" / "sample.py"
ROOT = SAMPLE.parents[3]


def test_a_type_checker_infers_what_users_expect() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    done = subprocess.run([*command, str(SAMPLE)], cwd=ROOT, capture_output=True, text=True, check=False)
    found: dict[int, set[str]] = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"[^:]+:(\d+): (note|error): (.*)", line)
        assert match, line
        number, kind, text = int(match[1]), match[2], match[3]
        if kind == "error":
            found.setdefault(number, set()).add("error " + text.rsplit("[", 1)[1].rstrip("]"))
        elif text.startswith("Revealed type is"):
            found.setdefault(number, set()).add(_short(text.split('"')[1]))
    expected: dict[int, set[str]] = {}
    for number, line in enumerate(SAMPLE.read_text(encoding="utf-8").splitlines(), 1):
        code, _, comment = line.partition("  # ")
        if comment.startswith("error: "):
            expected[number] = {"error " + one for one in comment.removeprefix("error: ").split()}
        elif code.startswith("reveal_type"):
            expected[number] = {comment}
    assert found == expected
    assert len(expected) > 20


def _short(shown: str) -> str:
    """A type without the modules of its names, as people write it."""
    shown = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])", "", shown)
    shown = re.sub(r"Union\[([^\[\]]*)\]", lambda match: match[1].replace(", ", " | "), shown)
    return shown.replace("?", "").replace("builtins.", "")
