"""Tag templates filled with values of the application's data: what counts as text, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from tiercache.core.policy_kinds import placeholders
from tiercache.core.records import is_text
from tiercache.errors import ConfigError

VALUES: Final = "text that is not empty, a number, a UUID, a date or time, or a member of an enumeration of these"
_PLAIN: Final = (str, int, float, Decimal, UUID, date, time)


def as_text(value: Any) -> str:
    """A value as it stands in a tag: what an f-string makes of it, and for a member of an enumeration of its value.

    Raises:
        ValueError: None, an object that only its author can tell from another, or text that no ledger can hold.
    """
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, _PLAIN):
        raise ValueError
    text = str(value)
    if not text or not is_text(text):
        raise ValueError
    return text


def filled(template: str, values: Mapping[str, Any], where: str) -> str:
    """A template with its values in place of their names; errors name them as `where: name`.

    Raises:
        ConfigError: a value is missing, or is none that can stand in a tag.
    """
    texts = {}
    for name in placeholders(template):
        if name not in values:
            have = ", ".join(sorted(values)) or "none"
            raise ConfigError(f"{where}: {name}", None, f"a value for each name in {template!r}; given: {have}")
        try:
            texts[name] = as_text(values[name])
        except ValueError:
            raise ConfigError(f"{where}: {name}", values[name], VALUES) from None
    return template.format_map(texts) if texts else template
