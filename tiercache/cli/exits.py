"""Exit codes, the same for every command."""

from __future__ import annotations

from typing import Final

FINE: Final = 0
FOUND: Final = 1
"""Something is wrong with what was looked at."""
UNREADABLE: Final = 2
"""It could not be looked at; argparse ends with the same for arguments that it does not know."""


class Unreadable(Exception):
    """There is nothing to work on: no such file, module or attribute."""
