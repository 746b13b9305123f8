"""Sessions of users as plain values: what the store keeps of one, and what a request has changed of it.

Every top-level key is stored by itself. Of two requests of one session at the same time, each changes only the keys
that it has changed; where both have changed the same key, the later one stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]

WEIGHT = 700
"""Bytes in memory that a session takes beside what it holds."""
ITEM = 120
"""Bytes in memory that one of its keys takes beside its name and its value."""


class Lifetime(NamedTuple):
    """How long a session is kept, in seconds."""

    idle: float
    """Without a request."""
    absolute: float
    """In any case."""


class StoredSession(NamedTuple):
    """What the store has of one session."""

    fields: Mapping[str, bytes]
    token: str
    """Random, another one after each change."""
    tags: tuple[str, ...] = ()
    moved: bool = False
    """It goes on under another id, since somebody has logged in: what is still under way under this one is empty, and
    is not saved."""
    begun: str = ""
    """When it was begun, as the store writes that."""

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        held = sum(len(name) + len(data) + ITEM for name, data in self.fields.items())
        return WEIGHT + held + sum(len(tag) + ITEM for tag in self.tags)


class SessionChanges(NamedTuple):
    """What a request has changed, as the store takes it."""

    written: Mapping[str, bytes]
    removed: tuple[str, ...]
    tags: tuple[str, ...]
    """Those that are added: tags are never taken away."""

    def __bool__(self) -> bool:
        return bool(self.written or self.removed or self.tags)

    def upon(self, stored: StoredSession) -> SessionChanges:
        """All of a session that had this."""
        fields = {key: data for key, data in stored.fields.items() if key not in self.removed}
        return SessionChanges({**fields, **self.written}, (), tuple(dict.fromkeys((*stored.tags, *self.tags))))


class Rotation(NamedTuple):
    """What goes on under another id, by what has become of the session meanwhile."""

    changes: SessionChanges
    """Upon what the store has by then, as a rule."""
    whole: SessionChanges
    """Where another request has moved it already: what this one knew of it."""
    own: SessionChanges
    """Where it has ended, as by a revocation: what this request itself has put there, and nothing that it found."""

    def becomes(self, stored: StoredSession | None) -> SessionChanges:
        """What lies under the other id; nothing where the session is over."""
        if stored is None:
            return self.own
        return self.whole if stored.moved else self.changes.upon(stored)


class UserSession(MutableMapping[str, Any]):
    """The session of one request: a mapping of text to plain values, read from the store when it is first looked at.

    A value that is changed in place (`session["cart"].append(7)`) is noticed when the session is saved. `new` tells
    whether there is nothing in the store; `accessed`, whether it was looked at or changed, and so decided the response.
    """

    def __init__(self, load: Callable[[], StoredSession | None], encode: Encode, decode: Decode) -> None:
        self._load: Callable[[], StoredSession | None] | None = load
        self._encode = encode
        self._decode = decode
        self._stored: Mapping[str, bytes] = {}
        self._values: dict[str, Any] = {}
        self._gone: set[str] = set()
        self._assigned: set[str] = set()
        self._tags: tuple[str, ...] = ()
        self._tagged: tuple[str, ...] = ()
        self.new = True
        self.accessed = False
        self.moved = False
        """Whether it goes on under another id."""
        self.unavailable: Exception | None = None
        """Why the store could not be asked: the session seems empty, and cannot be saved."""
        self.rotated = False
        """Whether it is to go on under another id."""
        self.cleared = False
        """Whether it is over, unless something is put into it afterwards."""
        self.permanent = False
        """Whether its cookie is to outlive the browser's own session."""
        self.looked: Callable[[], None] | None = None
        """Called whenever it is looked at or changed, and so decides the response."""

    def fetch(self) -> None:
        """Look into the store, if that has not been done."""
        load, self._load = self._load, None
        if load is None:
            return
        try:
            stored = load()
        except Exception as error:
            self.failed(error)
        else:
            self.arrived(stored)

    def arrived(self, stored: StoredSession | None) -> None:
        """This is what the store has."""
        self._load = None
        if stored is None:
            return
        self.moved = stored.moved
        self.new = False
        self._stored = stored.fields
        self._tags = self._tagged = stored.tags

    def failed(self, error: Exception) -> None:
        """The store could not be asked."""
        self._load = None
        self.unavailable = error

    @property
    def pending(self) -> bool:
        """Whether the store has not been asked yet."""
        return self._load is not None

    def _look(self) -> None:
        self.accessed = True
        if self._load is not None:
            self.fetch()
        if self.looked is not None:
            self.looked()

    def __getitem__(self, key: str) -> Any:
        self._look()
        if key not in self._values:
            if key in self._gone:
                raise KeyError(key)
            self._values[key] = self._decode(self._stored[key])
        return self._values[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"keys of a session are text, not {type(key).__name__}")
        self._look()
        self._values[key] = value
        self._assigned.add(key)
        self._gone.discard(key)

    def __delitem__(self, key: str) -> None:
        self._look()
        if key not in self:
            raise KeyError(key)
        self._values.pop(key, None)
        self._assigned.discard(key)
        if key in self._stored:
            self._gone.add(key)

    def __contains__(self, key: object) -> bool:
        self._look()
        if key in self._values:
            return True
        return key in self._stored and key not in self._gone

    def __iter__(self) -> Iterator[str]:
        self._look()
        kept = [key for key in self._stored if key not in self._gone]
        return iter(dict.fromkeys([*kept, *self._values]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """End the session: what other requests put there meanwhile goes too. What is popped key by key until nothing is
        left, such as the last message of a page, ends none."""
        super().clear()
        self.cleared = True

    def __repr__(self) -> str:
        # Never the values: they end up in logs.
        return f"{type(self).__name__}({'new' if self.new else 'known'}, keys {sorted(self)})"

    @property
    def modified(self) -> bool:
        """Whether there is anything to be saved. Setting it, as Flask and its extensions do, is not needed and does
        nothing."""
        return bool(self.changes()) or self.rotated

    @modified.setter
    def modified(self, value: bool) -> None: ...

    def rotate(self, *tags: str) -> None:
        """Go on under another id, as has to be done whenever somebody logs in or gains rights, since the old id may be
        known to an attacker. `tags` are added: revoking one ends every session that has it, as in
        `session.rotate("user:7")`.
        """
        self.tag(*tags)
        self.rotated = True

    def tag(self, *tags: Any) -> None:
        """Add tags (text) by which the session can be revoked."""
        for name in tags:
            if not isinstance(name, str) or not name or "\n" in name:
                raise ValueError(f"{name!r} is no tag of a session: text without line breaks, such as 'user:7'")
        self._look()
        self._tags = tuple(dict.fromkeys((*self._tags, *tags)))

    @property
    def tags(self) -> tuple[str, ...]:
        """By which it can be revoked."""
        self._look()
        return self._tags

    def changes(self) -> SessionChanges:
        """What is to be saved. Raises what the codec raises for a value that cannot be stored."""
        written = {}
        for key, value in self._values.items():
            data = self._encode(value)
            if self._stored.get(key) != data:
                written[key] = data
        return SessionChanges(written, tuple(sorted(self._gone - self._values.keys())), self._added())

    def whole(self) -> SessionChanges:
        """All of it, as far as this request knows."""
        return self.changes().upon(StoredSession(self._stored, "", self._tagged))

    def rotation(self) -> Rotation:
        """What goes on under another id."""
        own = {key: self._encode(self._values[key]) for key in self._assigned}
        return Rotation(self.changes(), self.whole(), SessionChanges(own, (), self._added() if own else ()))

    def _added(self) -> tuple[str, ...]:
        return tuple(tag for tag in self._tags if tag not in self._tagged)
