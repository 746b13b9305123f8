"""Planted bugs, to see that the checker finds them: each changes tiercache in the process that calls it."""

from __future__ import annotations

from collections.abc import Callable

PLANTS: dict[str, Callable[[], None]] = {}
