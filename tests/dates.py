"""Dates as apps and clients write them in fields."""

from __future__ import annotations

from email.utils import formatdate


def format_date(seconds: float) -> bytes:
    """Unix time as an IMF-fixdate (RFC 9110 §5.6.7), rounded down to the second."""
    return formatdate(seconds // 1, usegmt=True).encode()
