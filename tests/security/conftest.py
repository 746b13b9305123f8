"""The attacks run through both faces, and where it matters against a second process by way of L2."""

from __future__ import annotations

from tests.parity.conftest import pair, world

__all__ = ["pair", "world"]
