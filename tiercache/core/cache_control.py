"""Cache directives: `Cache-Control` of responses and requests (RFC 9111 §5.2), and its targeted kin (RFC 9213).

Where a response is not well-formed, each directive errs on the side of not reusing it:

- A lifetime that is no non-negative whole number, or that is given twice with different values, is 0
  (§4.2.1: caches are encouraged to consider such a response stale). So is one with spaces around its `=`.
- One above 2^31 counts as 2^31 (§1.2.2).
- A directive that restricts (`no-store`, `must-revalidate`, …) counts whatever argument it carries; one that permits
  (`public`, `must-understand`, `immutable`) counts only as it is defined, without any.
- `no-cache` and `private` with anything but a quoted list of field names are unqualified: they cover the whole
  response. `private=1` was hardly meant to name a field (§5.2.2.7: the token form is not to be generated).
- A member with rubbish behind its name (`private; max-age=60`) counts by the name.

In a request nothing forbids anything: there a directive that is not well-formed is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import http_sf
import msgspec

from tiercache.core.fields import joined, members
from tiercache.core.messages import Fields

MAX_DELTA = 2**31
"""The greatest number of seconds that is told from a greater one (RFC 9111 §1.2.2)."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_DIRECTIVE = re.compile(rb'(%b)(?:=(?:(%b)|"((?:[^"\\]|\\.)*)"))?' % (_TOKEN, _TOKEN), re.DOTALL)
_NAME = re.compile(_TOKEN)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


class _Malformed:
    """The argument of a directive that is not spelt as a directive is."""


_MALFORMED: Final = _Malformed()

Argument = bytes | _Malformed | None
"""Unquoted; None where there is none."""

_CACHEABLE_LENGTH = 512
"""Longer values are parsed each time, so that what is remembered stays small."""


class CacheControl(msgspec.Struct, frozen=True, kw_only=True):
    """The directives of a response. Numbers are seconds; None: not given."""

    target: bytes = b""
    """The targeted field that these come from; empty for `Cache-Control`. Then `Expires` does not count either."""
    no_store: bool = False
    no_cache: bool = False
    """Unqualified."""
    private: bool = False
    """Unqualified."""
    no_cache_fields: frozenset[bytes] = frozenset()
    """Lower-case names of the fields that a qualified `no-cache` lists."""
    private_fields: frozenset[bytes] = frozenset()
    """Lower-case names of the fields that a qualified `private` lists."""
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    no_transform: bool = False
    immutable: bool = False
    """RFC 8246."""
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    """RFC 5861 §3."""
    stale_if_error: int | None = None
    """RFC 5861 §4."""
    extensions: frozenset[bytes] = frozenset()
    """Lower-case names of the directives that are not known here, and so do nothing (§5.2.3)."""

    @property
    def withheld(self) -> frozenset[bytes]:
        """The fields that a shared cache must leave out of what it stores (RFC 9111 §3.1)."""
        return self.no_cache_fields | self.private_fields

    @property
    def forbids_stale(self) -> bool:
        """Whether a directive forbids to reuse the response stale (RFC 9111 §4.2.4); `s-maxage` is one of them."""
        return self.must_revalidate or self.proxy_revalidate or self.no_cache or self.s_maxage is not None


class RequestDirectives(msgspec.Struct, frozen=True, kw_only=True):
    """The directives of a request, all of them advisory (RFC 9111 §5.2.1). Numbers are seconds; None: not given."""

    no_cache: bool = False
    no_store: bool = False
    no_transform: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    max_stale: int | None = None
    """`MAX_DELTA` where it names no limit."""
    min_fresh: int | None = None
    stale_if_error: int | None = None
    """RFC 5861 §4."""


NO_DIRECTIVES = CacheControl()
NO_REQUEST_DIRECTIVES = RequestDirectives()

_LIFETIMES = {
    b"max-age": "max_age",
    b"s-maxage": "s_maxage",
    b"stale-while-revalidate": "stale_while_revalidate",
    b"stale-if-error": "stale_if_error",
}
_QUALIFIABLE = {b"no-cache": "no_cache", b"private": "private"}
_RESTRICTING = {
    b"no-store": "no_store",
    b"must-revalidate": "must_revalidate",
    b"proxy-revalidate": "proxy_revalidate",
    b"no-transform": "no_transform",
}
_PERMITTING = {b"public": "public", b"must-understand": "must_understand", b"immutable": "immutable"}

_REQUEST_FLAGS = {
    b"no-cache": "no_cache",
    b"no-store": "no_store",
    b"no-transform": "no_transform",
    b"only-if-cached": "only_if_cached",
}
_REQUEST_LIMITS: dict[bytes, tuple[str, Callable[[int, int], int]]] = {
    b"max-age": ("max_age", min),
    b"max-stale": ("max_stale", min),
    b"min-fresh": ("min_fresh", max),
    b"stale-if-error": ("stale_if_error", min),
}


def delta_seconds(value: bytes) -> int | None:
    """A non-negative whole number of seconds, at most `MAX_DELTA`; None for anything else (RFC 9111 §1.2.2)."""
    if not value.isdigit():
        return None
    digits = value.lstrip(b"0")
    if len(digits) > 10:  # before `int`, which refuses very long numbers
        return MAX_DELTA
    return min(int(digits or b"0"), MAX_DELTA)


def _directives(value: bytes) -> list[tuple[bytes, Argument]]:
    found: list[tuple[bytes, Argument]] = []
    for member in members(value):
        match = _DIRECTIVE.fullmatch(member)
        if match is not None:
            name, token, quoted = match.groups()
            name = name.lower()
            if token is not None and name in _QUALIFIABLE:
                found.append((name, _MALFORMED))
            else:
                found.append((name, token if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)))
        elif (name_match := _NAME.match(member)) is not None:
            found.append((name_match[0].lower(), _MALFORMED))
    return found


def _field_names(argument: Argument) -> frozenset[bytes]:
    """The names in the argument of a qualified directive; empty unless it is a list of field names."""
    if not isinstance(argument, bytes):
        return frozenset()
    names = members(argument)
    if not all(_NAME.fullmatch(name) for name in names):
        return frozenset()
    return frozenset(name.lower() for name in names)


def _control(directives: Iterable[tuple[bytes, Argument]], target: bytes = b"") -> CacheControl:
    found: dict[str, Any] = {}
    listed: dict[str, frozenset[bytes]] = {"no_cache": frozenset(), "private": frozenset()}
    extensions: set[bytes] = set()
    for name, argument in directives:
        if name in _LIFETIMES:
            key = _LIFETIMES[name]
            seconds = (delta_seconds(argument) or 0) if isinstance(argument, bytes) else 0
            found[key] = seconds if found.get(key, seconds) == seconds else 0
        elif name in _QUALIFIABLE:
            key = _QUALIFIABLE[name]
            names = _field_names(argument)
            listed[key] |= names
            if not names:
                found[key] = True
        elif name in _RESTRICTING:
            found[_RESTRICTING[name]] = True
        elif name in _PERMITTING:
            if argument is None:
                found[_PERMITTING[name]] = True
        else:
            extensions.add(name)
    return CacheControl(
        target=target,
        no_cache_fields=listed["no_cache"],
        private_fields=listed["private"],
        extensions=frozenset(extensions),
        **found,
    )


def _parse(values: tuple[bytes, ...]) -> CacheControl:
    # Line by line, so that a stray quotation mark on one cannot swallow what an outer layer adds on the next.
    return _control([directive for value in values for directive in _directives(value)])


_parse_remembered = lru_cache(maxsize=1024)(_parse)


def parse_response(fields: Fields, targets: Sequence[bytes] = ()) -> CacheControl:
    """The directives that govern a response: those of the first usable targeted field, else `Cache-Control`.

    `targets` are lower-case field names in order of precedence (RFC 9213 §2.2). All lines of a field count.
    """
    if targets:
        control = targeted(fields, targets)
        if control is not None:
            return control
    values = tuple([value for name, value in fields if name == b"cache-control"])
    if not values:
        return NO_DIRECTIVES
    return _parse_remembered(values) if sum(map(len, values)) <= _CACHEABLE_LENGTH else _parse(values)


def _structured_argument(name: bytes, item: object) -> tuple[bool, Argument]:
    """Whether a dictionary member is a directive at all, and its argument in the terms of `Cache-Control`.

    RFC 9213 §2.1 infers a type for each argument and asks that no other be coerced to it: such a value is malformed.
    """
    if name in _LIFETIMES:
        return True, str(item).encode() if type(item) is int else _MALFORMED
    if item is False:  # `no-store=?0`: neither allowed nor meant as the directive
        return False, None
    if item is True:
        return True, None
    if name in _QUALIFIABLE and isinstance(item, str):  # a Token is not one
        return True, str(item).encode()
    return True, _MALFORMED


def _parse_targeted(value: bytes, target: bytes) -> CacheControl | None:
    try:
        dictionary = http_sf.parse(value, tltype="dictionary")
    except ValueError:  # StructuredFieldError is one
        return None
    if not isinstance(dictionary, dict) or not dictionary:
        return None
    directives: list[tuple[bytes, Argument]] = []
    for key, member in dictionary.items():
        name = key.encode()
        present, argument = _structured_argument(name, member[0] if isinstance(member, tuple) else member)
        if present:
            directives.append((name, argument))
    return _control(directives, target)


_parse_targeted_remembered = lru_cache(maxsize=1024)(_parse_targeted)


def targeted(fields: Fields, targets: Sequence[bytes]) -> CacheControl | None:
    """The directives of the first field in `targets` (lower-case names) that is a valid, non-empty dictionary.

    They replace `Cache-Control` and `Expires` altogether (RFC 9213 §2.2). A field that is empty or no valid
    structured field is ignored as a whole, as if it were absent (§2.1); then the next one is asked. Parameters are
    ignored. None if no field is usable.
    """
    for target in targets:
        value = joined(fields, target)
        if value is None:
            continue
        if len(value) <= _CACHEABLE_LENGTH:
            control = _parse_targeted_remembered(value, target)
        else:
            control = _parse_targeted(value, target)
        if control is not None:
            return control
    return None


def parse_request(value: bytes | None, pragma: bytes | None = None) -> RequestDirectives:
    """The directives of a request, from the value of its `Cache-Control` (several lines joined).

    `pragma` is the value of `Pragma`; its `no-cache` counts only where there is no `Cache-Control` (RFC 7234 §5.4).
    Of a limit given twice the tighter one counts. What is not well-formed is left out: it is all advice.
    """
    if value is None:
        if pragma is not None and any(name == b"no-cache" for name, _ in _directives(pragma)):
            return RequestDirectives(no_cache=True)
        return NO_REQUEST_DIRECTIVES
    found: dict[str, Any] = {}
    for name, argument in _directives(value):
        if name in _REQUEST_FLAGS:
            found[_REQUEST_FLAGS[name]] = True
        elif name in _REQUEST_LIMITS:
            key, tighter = _REQUEST_LIMITS[name]
            seconds = delta_seconds(argument) if isinstance(argument, bytes) else None
            if name == b"max-stale" and argument is None:
                seconds = MAX_DELTA
            if seconds is not None:
                found[key] = tighter(found.get(key, seconds), seconds)
    return RequestDirectives(**found)
