"""How the settings of a route are read that no other setting is like: what is accepted, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tiercache.core.kinds import DURATION, Kind, listing, one_of

TIERS: Final = ("l1", "l2")
PROBABILISTIC: Final = "probabilistic"
NEGOTIATED: Final = ("accept", "accept-charset", "accept-encoding", "accept-language")
NEVER_STORED: Final = frozenset({206, 304, 400, 405, 408, 411, 412, 413, 414, 416, 417, 426, 428, 429, 431, 501, 511})
"""Statuses that no setting makes storable: partial or bodiless by nature, or caused by the request alone (for some of
them RFC 6585 forbids it expressly)."""

_TAG_PARTS = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}|[^{}]+")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def placeholders(tag: str) -> frozenset[str]:
    """The route parameters that a tag template names."""
    return frozenset(_PLACEHOLDER.findall(tag))


def tag_template(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    if "".join(part.group() for part in _TAG_PARTS.finditer(value)) != value:
        raise ValueError
    return value


def status_lifetimes(value: Any) -> Mapping[int, float]:
    if not isinstance(value, Mapping):
        raise TypeError
    lifetimes = {}
    for status, duration in value.items():
        # TOML and msgpack keep the keys as text.
        if isinstance(status, str) and re.fullmatch("[0-9]{3}", status):
            status = int(status)
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError
        if not 200 <= status <= 599 or status in NEVER_STORED:
            raise ValueError
        lifetimes[status] = DURATION.convert(duration)
    return MappingProxyType(lifetimes)


def tier_names(value: Any) -> tuple[str, ...]:
    named: tuple[str, ...] = listing("", one_of(*TIERS).convert, empty=False).convert(value)
    return tuple(tier for tier in TIERS if tier in named)


def negotiated(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in NEGOTIATED:
        raise ValueError
    return value.lower()


def early(value: Any) -> float | str:
    if value == PROBABILISTIC:
        return PROBABILISTIC
    share = fraction(value)
    if share == 1:
        raise ValueError
    return share


def fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError
    return float(value)


TAGS: Final = listing(
    "a list of tag templates, printable and with balanced braces around parameter names, e.g. ['product:{id}']",
    tag_template,
    schema={"type": "string", "pattern": f"^(?:[^{{}}]|{_PLACEHOLDER.pattern})+$"},
)
STATUS_LIFETIMES: Final = Kind(
    "a table from status to duration, e.g. {404: '10s'}, for statuses from 200 to 599 except "
    + ", ".join(map(str, sorted(NEVER_STORED))),
    status_lifetimes,
    {"type": "object", "propertyNames": {"pattern": "^[2-5][0-9]{2}$"}, "additionalProperties": DURATION.schema},
)
TIER_NAMES: Final = Kind(
    "a list of at least one of 'l1', 'l2'",
    tier_names,
    {"type": "array", "items": {"enum": list(TIERS)}, "minItems": 1},
)
EARLY: Final = Kind(
    "a fraction of the lifetime above 0 and below 1, e.g. 0.8, or 'probabilistic'",
    early,
    {"anyOf": [{"const": PROBABILISTIC}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]},
)
FRACTION: Final = Kind(
    "a fraction above 0 and up to 1, e.g. 0.1",
    fraction,
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
)
NEGOTIATED_NAMES: Final = listing(
    "a list of names among 'Accept-Encoding', 'Accept-Language', 'Accept', 'Accept-Charset'",
    negotiated,
    # A schema cannot ignore the case of letters.
    schema={"type": "string", "pattern": "^[Aa]ccept(-([Ee]ncoding|[Ll]anguage|[Cc]harset))?$"},
)
