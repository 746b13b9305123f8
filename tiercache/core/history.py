"""One history of invalidations as far as a process knows it."""

from __future__ import annotations

from collections.abc import Iterable

from tiercache.core.bans import Bans
from tiercache.core.records import BAN, HARD, KEYS_KEPT, OF_DATA, SOFT, SOFT_EVERYTHING, bucket_of_key, folded

_PRUNE_MIN = 1_024


class History:
    """The numbers of one epoch: an epoch keeps its object, and another epoch gets another one.

    Readers take no lock. What kills an entry moves in one direction only, from a member's number to the floor, and is
    written at its new place before it leaves the old one; a reader looks in that same direction.
    """

    __slots__ = (
        "bans",
        "before",
        "epoch",
        "floor",
        "lost_at",
        "members",
        "merged",
        "paged",
        "prune_at",
        "seq",
        "softened",
    )

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.seq = 0
        """Everything that any number up to this one did is here."""
        self.paged = 0
        """What an unfinished sync has brought: the records whose *last* number is up to this one. Not yet `seq`, since
        a member of such a number that was raised again comes on a later page."""
        self.floor = 0
        self.members: dict[str, int] = {}
        self.merged = 0
        """Rises before they do."""
        self.softened: dict[str, float] = {}
        """When this process learned of the last soft purge of a member, on its own clock."""
        self.bans = Bans()
        self.before: History | None = None
        """The history whose end is lost, where its entries may still be used while they are revalidated."""
        self.lost_at = 0.0
        self.prune_at = _PRUNE_MIN

    def merge(self, records: Iterable[tuple[str, int]], floor: int, now: float) -> bool:
        """Raise members and floor to what is given; whether anything rose."""
        changed = floor > self.floor
        if changed:
            self.floor = floor
        floor = self.floor
        members = self.members
        self.merged += 1
        for member, number in records:
            # Messages overtake each other: a lower number that comes later must not undo a higher one.
            if number > floor and number > members.get(member, 0):
                kind = member[:2]
                if kind == SOFT:
                    self.softened[member] = now
                elif kind == BAN:
                    self.bans.add(member[2:], number)
                members[member] = number
                changed = True
        if len(members) > self.prune_at:
            self.prune()
        return changed

    def prune(self) -> None:
        """Forget what the floor has overtaken, and fold the oldest of too many keys."""
        # Only after the floor is up, which kills all that these members killed. Done at doubled sizes only:
        # where every purge trims one record, a pass for each rise of the floor would cost more than the purge.
        floor = self.floor
        # In a dict of their own: a reader, who looks at one dict from first to last, finds a key or its bucket in it.
        while True:
            merged = self.merged
            members = folded({member: n for member, n in self.members.items() if n > floor}, KEYS_KEPT)
            # A collection that has run meanwhile may have purged.
            if self.merged == merged:
                break
        self.members = members
        self.softened = {member: at for member, at in self.softened.items() if member in members}
        self.bans.prune(floor)
        self.prune_at = max(_PRUNE_MIN, 2 * len(members))

    def kills(self, tags: tuple[str, ...], number: int) -> bool:
        """Whether a hard purge or a ban has come after this number."""
        members = self.members
        for tag in tags:
            if members.get(HARD + tag, 0) > number:
                return True
            if tag[:2] == OF_DATA and members.get(bucket_of_key(tag), 0) > number:
                return True
        bans = self.bans
        if bans and any(tag[:2] == "p:" and bans.last(tag[2:], number) > number for tag in tags):
            return True
        return number < self.floor

    def overtaken(self, tags: Iterable[str], since: int, but: frozenset[str]) -> bool:
        """Whether a purge of one of these tags has come after this number; `but` those members."""
        members = self.members
        looked_at = [SOFT_EVERYTHING]
        for tag in tags:
            looked_at += (HARD + tag, SOFT + tag)
            if tag[:2] == OF_DATA:
                looked_at.append(bucket_of_key(tag))
        return any(members.get(one, 0) > since for one in looked_at if one not in but)

    def outdates(self, tags: tuple[str, ...], number: int) -> float | None:
        """When this process learned that a soft purge has come after this number; None if none has."""
        softened = self.softened
        if not softened:
            return None
        members = self.members
        found = [
            softened.get(member, 0.0)
            for member in (SOFT_EVERYTHING, *[SOFT + tag for tag in tags])
            if members.get(member, 0) > number
        ]
        return min(found) if found else None
