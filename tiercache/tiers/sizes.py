"""How many bytes an item takes in L1, reckoned from its parts: the account that L1 is bounded by."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from itertools import chain
from typing import Any

from msgspec import Struct

from tiercache.core.messages import StoredResponse
from tiercache.core.values import Held
from tiercache.tiers.nodes import Node

_FLOAT = sys.getsizeof(1.5)
_INT = sys.getsizeof(2**40)
_SLOT = 8
_BYTES = sys.getsizeof(b"")
_TEXT = sys.getsizeof("a") - 1
_PAIR = sys.getsizeof((b"", b"")) + _SLOT

# In the store: the node with its two numbers, its slot in the dict (which is between a third and two thirds full), its
# slot in the heap (a pair), and a quarter of a slot more for those that have become superfluous.
_PER_ITEM = sys.getsizeof(Node(None, None, 0, 0.0)) + _INT + _FLOAT + 64 + _PAIR * 5 // 4
# A key in a dict beside the store, with its size.
_KEY_ALONE = 64 + _INT
# A field: name, value and pair as stored, and its place in the list that is rendered of it, which has the same pairs.
_PER_FIELD = 2 * _BYTES + _PAIR + _SLOT
# A field as WSGI sends it: a pair of texts, made anew.
_PER_TEXT_FIELD = 2 * _TEXT + _PAIR
# The status line, and what is longer as text of the fields that a hit adds.
_TEXT_RENDERED = 8 * _TEXT
# What a hit adds to the fields of the app: the list with some room, and `Age`, `Cache-Status` and what L0 is told.
_RENDERED = sys.getsizeof([]) + 4 * _SLOT + 2 * (2 * _BYTES + _PAIR + 32)
# The numbers of the entry of a value, and the tuple of its tags.
_PER_VALUE = 8 * _FLOAT + 2 * _INT + sys.getsizeof(()) + _TEXT
# The numbers of an entry and of its response, and the tuples of tags and fields.
_PER_RESPONSE = 8 * _FLOAT + 2 * _INT + 2 * sys.getsizeof(()) + _RENDERED


def _bytes_of(value: Any) -> int:
    """`value` and what it holds, for the few kinds of value that keys and markers are made of."""
    held: Any = ()
    if isinstance(value, (tuple, list)):
        # Keys are flat but for a part or two, and this is done once for every entry.
        size = sys.getsizeof(value)
        for part in value:
            if part:  # There is one empty text for all, as there is one None.
                size += _bytes_of(part) if isinstance(part, (tuple, list, dict)) else sys.getsizeof(part)
        return size
    if isinstance(value, dict):
        held = chain(value, value.values())
    elif isinstance(value, Struct):
        held = [getattr(value, name) for name in value.__struct_fields__]
    return sys.getsizeof(value) + sum(map(_bytes_of, held))


def size_of(key: Hashable, value: Any, encoded: int = 0) -> int:
    """The bytes that storing `value` under `key` takes.

    `encoded` is the length of the response as it lay in L2, where it comes from there: all its texts are counted then.

    Of an L1 entry, which is whatever has a `response` (and then an `edge`): the response to the last field, and the
    rendered header fields although they appear with the first hit only; those of WSGI are texts of their own, and an
    entry is taken to be served by WSGI where its response has a reason phrase. Of a marker: what it holds, as far as
    tuples, dicts and Structs go. With None for the value: of the key alone, remembered in a dict.

    All is counted that may be its own, although names of fields and tags are at times shared between entries. What
    belongs to the route or to all that a process fills is not counted, nor what the allocator rounds up.
    """
    if value is None:
        return _KEY_ALONE + _bytes_of(key)
    if value.__class__ is Held:
        tags = len(value.tags) * (_SLOT + _TEXT) + len("".join(value.tags))
        # What a key of data begins with is the same for all of its store.
        own = sys.getsizeof(key) + _bytes_of(key[1:])  # type: ignore[index]
        return _PER_ITEM + own + sys.getsizeof(value) + _PER_VALUE + tags + value.size
    response = getattr(value, "response", None)
    if not isinstance(response, StoredResponse):
        return _PER_ITEM + _bytes_of(key) + _bytes_of(value)
    # The parts of the key once more as the bytes of the whole key, which every response carries: their lengths need
    # not be asked for one by one. Host, path (twice) and query are its own, the other parts are the same for many.
    size = _PER_ITEM + sys.getsizeof(key) + 4 * _BYTES + len(response.key)
    size += sys.getsizeof(value) + sys.getsizeof(response) + _PER_RESPONSE
    edge = value.edge
    size += sys.getsizeof(edge)
    if edge.fixed is not response.fields:
        size += sys.getsizeof(edge.fixed)
    if response.reason:
        # Only WSGI has one. It is served once more as text.
        size += _TEXT_RENDERED + len(edge.fixed) * _PER_TEXT_FIELD
    if encoded:
        if response.reason:
            size += encoded - len(response.body) - len(response.key) - len("".join(response.tags))
        return size + encoded + 4 * _BYTES + len(response.fields) * _PER_FIELD + (_SLOT + _TEXT) * len(response.tags)
    size += sys.getsizeof(response.body) + sys.getsizeof(response.key)
    size += (_SLOT + _TEXT) * len(response.tags) + len("".join(response.tags))
    texts = 0
    for name, text in response.fields:
        texts += len(name) + len(text)
    size += len(response.fields) * _PER_FIELD + (2 * texts if response.reason else texts)
    for extra in (response.reason, response.etag, response.last_modified, response.vary, response.declared):
        if extra:
            size += _bytes_of(extra)
    return size
