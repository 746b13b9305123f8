"""Pages of the documentation that a run writes itself into, and what it was made on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable
from typing import Any


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    installed = {found.name.lower() for found in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in libraries if name in installed}


def machine(libraries: Iterable[str]) -> dict[str, Any]:
    """What the figures were made on."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": versions(libraries),
    }


def machine_line(libraries: Iterable[str]) -> str:
    """The same in words."""
    about = machine(libraries)
    found = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"{about['cores']} cores ({about['machine']}), {about['system']}, Python {about['python']}; {found}"


def fill_in(page: str, mark: str, content: str) -> str:
    """The page with this content between `<!-- mark -->` and `<!-- end -->`.

    Raises:
        ValueError: it has no such marks, or more than one.
    """
    marks = re.compile(rf"(<!-- {re.escape(mark)} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, count = marks.subn(lambda found: f"{found[1]}{content}\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"the page has {count} places for {mark!r}, and needs one")
    return filled
