"""What arguments of several commands mean."""

from __future__ import annotations

import re
from typing import Any

from tiercache.core.kinds import DURATION


def seconds(option: str, text: str) -> float:
    """A duration, as in code: `5s`, `250ms`; a number alone is seconds.

    Raises:
        ConfigError: neither, naming the option.
    """
    value: Any = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text
    found: float = DURATION(option, value)
    return found
