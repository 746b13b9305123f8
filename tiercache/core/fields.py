"""Reading header fields, and which of them are fit to be stored.

Fields are tuples of (lower-case name, value) in the order in which they came. Nothing here raises, whatever the bytes.
"""

from __future__ import annotations

import re

from tiercache.core.messages import Fields

OWS = b" \t"

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""Fields that concern one connection (RFC 9110 §7.6.1, RFC 7540 §3.2.1)."""

PROXY_FIELDS = frozenset({b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"})
"""Fields of one proxy that a response came through, which must not be stored (RFC 9111 §3.1)."""

# Age is accounted for in the time at which a stored response was generated, and is made anew for every reuse
# (RFC 9111 §4): a stored line could only be counted twice.
NEVER_STORED = HOP_BY_HOP | PROXY_FIELDS | {b"age"}

# A string that is not closed still matches, with an empty second group, so that one pass suffices for any input.
_COMMA_OR_STRING = re.compile(rb',|("(?:[^"\\]++|\\.)*+("?))', re.DOTALL)


# RFC 9110 §5.6.2, lower case only: it is how names are kept.
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
# RFC 9110 §5.5: CR, LF and NUL split a message or worse, and servers refuse the other controls too.
CONTROLS = bytes([*range(9), *range(10, 32), 127])


def sendable(fields: Fields) -> bool:
    """Whether every server will send these: names are tokens, and no value holds a control."""
    if not fields:
        return True
    names, values = zip(*fields, strict=True)
    text = b"".join(values)
    return all(names) and not b"".join(names).translate(None, TOKEN) and text.translate(None, CONTROLS) == text


def lines(fields: Fields, name: bytes) -> list[bytes]:
    """The values of all lines of a field, without surrounding whitespace."""
    return [value.strip(OWS) for key, value in fields if key == name]


def joined(fields: Fields, name: bytes) -> bytes | None:
    """The value of a list field, its lines joined as RFC 9110 §5.3 allows; None if absent."""
    found = lines(fields, name)
    return b", ".join(found) if found else None


def single(fields: Fields, name: bytes) -> bytes | None:
    """The value of a field that has one; None if absent, or if several lines disagree about it."""
    found = lines(fields, name)
    if not found or any(value != found[0] for value in found):
        return None
    return found[0]


def members(value: bytes) -> list[bytes]:
    """The members of a list field, as they are spelt; commas inside quoted strings do not separate.

    Empty members do not count (RFC 9110 §5.6.1.2). A quotation mark without a second one is an ordinary character:
    if it swallowed the rest of the field, a stray one would hide a `no-store` behind it.
    """
    if b'"' not in value:
        pieces = value.split(b",")
    else:
        pieces = []
        start = 0
        for match in _COMMA_OR_STRING.finditer(value):
            if match[1] is None:
                pieces.append(value[start : match.start()])
                start = match.end()
            elif not match[2]:
                tail = value[match.start() :].split(b",")
                pieces.append(value[start : match.start()] + tail[0])
                pieces.extend(tail[1:])
                start = len(value)
                break
        pieces.append(value[start:])
    return [member for piece in pieces if (member := piece.strip(OWS))]


def nominated(fields: Fields) -> frozenset[bytes]:
    """The lower-case field names that `Connection` lists, which concern this connection alone (RFC 9110 §7.6.1)."""
    value = joined(fields, b"connection")
    return frozenset(name.lower() for name in members(value)) if value else frozenset()


def storable(fields: Fields, withheld: frozenset[bytes] = frozenset()) -> Fields:
    """The fields of a response that a shared cache may keep (RFC 9111 §3.1).

    Left out: hop-by-hop fields and those that `Connection` names, fields of a proxy, `Age`, and `withheld`, the
    fields that a qualified `no-cache` or `private` lists (`CacheControl.withheld`).
    """
    drop = NEVER_STORED | nominated(fields) | withheld
    return tuple([field for field in fields if field[0] not in drop])
