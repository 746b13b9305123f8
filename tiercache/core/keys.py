"""What makes two requests the same: the primary key of a URL, the variant by `Vary`, and both as bytes for L2.

A key never equates what the app could tell apart. So nothing is decoded, lower-cased or trimmed, the path counts
both as the server received it and as the app sees it, and in bytes every part stands between its quotes.
In L1 a key is the tuple of the parts themselves: a tuple cannot collide and costs no digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes
from zlib import crc32

import http_sf

from tiercache.core.fields import joined, members
from tiercache.core.messages import Fields, Request
from tiercache.core.records import BUCKETS

Key = tuple[Any, ...]
"""The parts of a key: text, bytes, None, or a nested key."""

MAX_SELECTING = 40
"""Request fields by which the variants of one URL are told apart at most, those of all its responses taken together."""
_MEMORABLE = 512
"""Bytes of a query, or of a field value, of which it is remembered what counts."""


def canonical(key: Key) -> bytes:
    """A key as bytes, one to one: as the Python literal that stands for it.

    Quotes end each part, so that no two keys run into each other and `None` is not empty; all that is not ASCII is
    escaped, so that every release of Python writes the same. Lengths before the parts would do as well, at five times
    the cost.
    """
    return ascii(key).encode("ascii")


def storage_name(canonical_key: bytes) -> str:
    """The name in L2: a digest, since keys may be long; the value holds the whole key, and readers compare it."""
    return blake2b(canonical_key, digest_size=16).hexdigest()


def variant_key(primary: Key, names: tuple[bytes, ...], values: tuple[bytes | None, ...]) -> Key:
    """The key of one variant of a URL. The names count too: another `Vary` is another question."""
    return (primary, names, values)


def picked_query(query: bytes, names: tuple[bytes, ...]) -> bytes | tuple[bytes, ...]:
    """The parameters of a query that count, as they were sent and in their order.

    Names are compared decoded, as an app would read them. A query with `;` counts whole: some parsers split there
    and some do not, and a parameter hidden from the key but seen by the app poisons the page (parameter cloaking).
    """
    # What is remembered must stay small, however long the queries are that clients send.
    return _picked(query, names) if len(query) <= _MEMORABLE else _picked.__wrapped__(query, names)


@lru_cache(maxsize=512)
def _picked(query: bytes, names: tuple[bytes, ...]) -> bytes | tuple[bytes, ...]:
    if b";" in query:
        return query
    pieces = query.split(b"&")
    return tuple([p for p in pieces if unquote_to_bytes(p.partition(b"=")[0].replace(b"+", b" ")) in names])


def picked_cookies(header: bytes, names: Sequence[bytes]) -> tuple[bytes | None, ...]:
    """The values of the named cookies in a `Cookie` field, `None` where one is absent.

    Of a cookie sent twice every value counts, since frameworks differ in which one they take.
    """
    found: dict[bytes, bytes] = {}
    for pair in header.split(b";"):
        name, _, value = pair.partition(b"=")
        name = name.strip()
        value = value.strip()
        found[name] = found[name] + b"; " + value if name in found else value
    return tuple([found.get(name) for name in names])


def bucket_of(path: str) -> str:
    """The ledger tag shared by the paths that fall into one of 2^18 buckets, the same in every process.

    Unsafe requests invalidate buckets: a flood of them to ever new paths cannot grow the ledger, and a bucket
    shared by chance costs a needless miss, never a stale answer.
    """
    return f"k:{crc32(path.encode('utf-8', 'surrogatepass')) % BUCKETS:x}"


def normal_value(value: bytes | None) -> bytes | None:
    """The value of a selecting field without the whitespace that means nothing (RFC 9111 §4.1)."""
    if value is None:
        return None
    # What is remembered must stay small, however long the values are that clients send.
    return _normal_list(value) if len(value) <= _MEMORABLE else _normal_list.__wrapped__(value)


@lru_cache(maxsize=4096)
def _normal_list(value: bytes) -> bytes:
    return b", ".join(members(value))


@lru_cache(maxsize=4096)
def preference(value: bytes) -> bytes:
    """An `Accept-*` list as what it asks for, whatever its spelling (RFC 9110 §12.4.2): lower case, by weight and then
    by name; weights themselves do not count, but for 0."""
    weighted = []
    for member in members(value):
        name, _, rest = member.partition(b";")
        weight = 1.0
        for parameter in rest.split(b";"):
            label, _, number = parameter.partition(b"=")
            if label.strip().lower() == b"q":
                try:
                    weight = float(number)
                except ValueError:
                    weight = 0.0
        name = name.strip().lower()
        weighted.append((-weight, name if weight > 0 else name + b";q=0"))
    return b", ".join(name for _, name in sorted(weighted))


def _preferred(value: bytes) -> bytes:
    return preference(value) if len(value) <= _MEMORABLE else preference.__wrapped__(value)


def selecting(
    request: Request, names: tuple[bytes, ...], preferences: frozenset[bytes] = frozenset()
) -> tuple[bytes | None, ...]:
    """The values of the fields by which a response varies; `preferences` are compared by what they ask for."""
    if preferences and not preferences.isdisjoint(names):
        pairs = zip(names, request.values(names), strict=True)
        return tuple([_preferred(v) if v and n in preferences else normal_value(v) for n, v in pairs])
    if len(names) == 1:  # as most responses that vary do: a list for it would cost a tenth of the hit
        return (normal_value(request.field(names[0])),)
    return tuple([normal_value(request.field(name)) for name in names])


def group_tags(scheme: str, host: bytes, fields: Fields, name: bytes) -> list[str]:
    """The cache groups that a response names, as ledger tags (RFC 9875 §2, §3): of one origin alone.

    `name` is `cache-groups` or `cache-group-invalidation`. What is no list of strings is ignored as a whole.
    """
    value = joined(fields, name)
    if value is None:
        return []
    try:
        groups = http_sf.parse(value, tltype="list")
    except ValueError:
        return []
    if not isinstance(groups, list):
        return []
    where = origin(scheme, host)
    names = [member[0] for member in groups if isinstance(member, tuple) and isinstance(member[0], str)]
    return [f"g:{where} {name}" for name in names[:MAX_GROUPS]]


MAX_GROUPS = 32
"""RFC 9875 §2 asks for at least this many to be supported."""
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def origin(scheme: str, host: bytes) -> str:
    """An origin as it compares: lower case, without the default port (RFC 9110 §4.3.1, RFC 6454 §4)."""
    scheme = scheme.lower()
    return f"{scheme}://" + host.decode("latin-1").lower().removesuffix(_DEFAULT_PORTS.get(scheme, "\0"))


def url_tag(scheme: str, host: bytes, path: bytes, query: bytes) -> str:
    """The ledger tag of one URL, so spelt that every spelling of the same URL has the same tag (RFC 3986 §6.2).

    Unlike a key it may equate too much: that costs a needless miss.
    """
    whole = quote_from_bytes(unquote_to_bytes(path), safe="/")
    return f"u:{origin(scheme, host)}{whole}?{quote_from_bytes(unquote_to_bytes(query), safe='=&')}"
