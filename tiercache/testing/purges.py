"""What has been purged while caches were isolated, and how to ask for it in the words of `purge`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tiercache.core.keys import bucket_of
from tiercache.core.records import BAN, HARD, SOFT_EVERYTHING

_KINDS = {"t": "tags", "p": "urls", "u": "urls", "r": "route", "b:p": "prefix", "b:g": "glob"}
_EVERYTHING = "everything=True"


class AskedPurge(NamedTuple):
    """One invalidation that was asked for: by `purge`, by `emit`, by an integration, or by an unsafe request."""

    members: tuple[str, ...]
    """What was invalidated, as the ledger names it: `h:` hard, `s:` soft, `b:` a ban of paths."""
    everything: bool

    @property
    def soft(self) -> bool:
        """Whether it made stale what it covers, and did not take it away."""
        return bool(self.members) and all(member[:2] == "s:" for member in self.members)

    def covers(self, member: str) -> bool:
        """Whether a member of the ledger was raised by it. An unsafe request raises the bucket of a path."""
        if member in self.members:
            return True
        return member[:4] == "h:p:" and HARD + bucket_of(member[4:]) in self.members

    def __str__(self) -> str:
        """As the call of `purge` that asks for the same."""
        words: dict[str, list[str]] = {}
        others: list[str] = []
        for member in self.members:
            kind, _, name = member.removeprefix(BAN if member[:2] == BAN else member[:2]).partition(":")
            setting = _KINDS.get(f"b:{kind}" if member[:2] == BAN else kind)
            if member == SOFT_EVERYTHING:
                others.append(_EVERYTHING)
            elif setting is not None:
                words.setdefault(setting, []).append(name)
            elif kind == "v":
                others.append(f"a value of the store {name.rpartition(':')[0]!r}")
            else:
                others.append("the URL of an unsafe request" if kind == "k" else member)
        said = [f"{setting}={sorted(names)}" for setting, names in words.items()]
        said += [_EVERYTHING] if self.everything else []
        said += dict.fromkeys(others)
        return ", ".join([*said, *(["soft=True"] if self.soft else [])])


def missing(wanted: Sequence[str], everything: bool, asked: Iterable[AskedPurge]) -> list[str]:
    """Which of these members no purge has raised; the word for everything where that is wanted."""
    known = list(asked)
    if everything:
        return [] if any(purge.everything for purge in known) else [_EVERYTHING]
    return [member for member in wanted if not any(purge.covers(member) for purge in known)]


def listed(asked: Sequence[AskedPurge]) -> str:
    """For a message: one line for each."""
    if not asked:
        return "nothing was purged"
    return "what was purged, in order:\n" + "\n".join(f"  {number}. {purge}" for number, purge in enumerate(asked, 1))
