"""Print the lowest versions of the core dependencies that pyproject.toml admits, as pip constraints.

A lower bound that no test runs against is a guess; `make lowest` installs these and runs the tests.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=(?P<version>[0-9][0-9.]*)")


def lowest(requirements: list[str]) -> list[str]:
    """Turn `name[extra]>=1.2` into `name==1.2`; anything but one lower bound is an error."""
    pins = []
    for requirement in requirements:
        match = _BOUND.fullmatch(requirement)
        if match is None:
            raise SystemExit(f"{PYPROJECT.name}: {requirement!r} is not of the form name>=version")
        pins.append(f"{match['name']}=={match['version']}")
    return pins


def main() -> int:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    print("\n".join(lowest(project["dependencies"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
