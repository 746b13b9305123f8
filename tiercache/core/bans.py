"""Bans: invalidations by path, for what no tag names. By the beginning of a path, or by a glob.

In a glob `*` stands for any run of characters within one segment, `**` for any run at all, `?` for one character
other than `/`. Paths are compared as the app sees them.
"""

from __future__ import annotations

import re

PREFIX = "p:"
GLOB = "g:"
GLOBS = 1_000
"""Globs that are kept as such. Each is tried in turn, so past this number the oldest become bans of the path's
beginning up to their first wildcard: that covers more, which costs misses and never a stale answer."""
LONGEST_PATH = 2_048
"""Characters. Clients choose how long paths are: longer ones are compared with the beginning of a glob alone."""

_WILD = re.compile(r"[*?]")


class Bans:
    """The numbers of bans, and the highest that covers a path. `last` takes no lock; `add` is for one writer.

    A ban moves in one direction only, from the globs to the prefixes, and is at its new place before it leaves the old
    one; a reader looks in that same direction, so that it meets it at least once.
    """

    __slots__ = ("_globs", "_heads", "_lengths", "_prefixes")

    def __init__(self) -> None:
        self._prefixes: dict[str, int] = {}
        self._heads: set[str] = set()
        """The prefixes that stand for a glob, if only among others."""
        self._lengths: tuple[int, ...] = ()
        self._globs: dict[str, tuple[int, re.Pattern[str]]] = {}

    def __bool__(self) -> bool:
        return bool(self._prefixes or self._globs)

    def add(self, rule: str, number: int) -> None:
        """`rule` is `p:<prefix>` or `g:<glob>`; one of another kind covers everything, since a newer release may know
        it: what cannot be read must not be ignored."""
        kind, text = rule[:2], rule[2:]
        if kind == GLOB:
            globs = dict(self._globs)
            globs.pop(text, None)
            # The newest last, so that the oldest are those that go.
            globs[text] = (number, glob_pattern(text))
            while len(globs) > GLOBS:
                oldest = next(iter(globs))
                head = literal_head(oldest)
                self._heads.add(head)
                self._add_prefix(head, globs.pop(oldest)[0])
            self._globs = globs
        else:
            self._add_prefix(text if kind == PREFIX else "", number)

    def _add_prefix(self, prefix: str, number: int) -> None:
        self._prefixes[prefix] = max(number, self._prefixes.get(prefix, 0))
        if len(prefix) not in self._lengths:
            self._lengths = (*self._lengths, len(prefix))

    def last(self, path: str) -> int:
        """The number of the last ban that covers this path; -1 if there is none."""
        found = -1
        for glob, (number, pattern) in self._globs.items():
            if number > found and covers(glob, pattern, path):
                found = number
        prefixes = self._prefixes
        for length in self._lengths:
            number = prefixes.get(path[:length], -1)
            if number > found:
                found = number
        return found

    def prune(self, floor: int) -> None:
        """Forget what is not above the floor, which kills all that these bans killed."""
        self._prefixes = {prefix: number for prefix, number in self._prefixes.items() if number > floor}
        self._lengths = tuple({len(prefix) for prefix in self._prefixes})
        self._heads &= self._prefixes.keys()
        self._globs = {glob: pair for glob, pair in self._globs.items() if pair[0] > floor}

    def discard(self, rule: str) -> None:
        """Forget one ban. A prefix that stands for a glob too stays, since that one may be in force."""
        kind, text = rule[:2], rule[2:]
        if kind == GLOB:
            self._globs = {glob: pair for glob, pair in self._globs.items() if glob != text}
        elif kind == PREFIX and text not in self._heads:
            # In place: a queue of many bans is lifted one by one.
            self._prefixes.pop(text, None)


def literal_head(glob: str) -> str:
    """What stands before the first wildcard."""
    return _WILD.split(glob, maxsplit=1)[0]


def covers(glob: str, pattern: re.Pattern[str], path: str) -> bool:
    if len(path) > LONGEST_PATH:
        return path.startswith(literal_head(glob))
    return pattern.match(path) is not None


def glob_pattern(glob: str) -> re.Pattern[str]:
    """The glob as a regular expression that never tries a path in more than quadratic time.

    A run takes as little as it can and is then settled (an atomic group): whatever a longer one could reach, the next
    run reaches too. A section between two `**` begins anew at each character, and is settled as a whole.
    """
    sections = glob.split("**")
    pattern = ""
    for position, section in enumerate(sections):
        inner = _section(section, last=position == len(sections) - 1)
        pattern += inner if position == 0 else f"(?>.*?{inner})"
    return re.compile(pattern, re.DOTALL)


def _section(text: str, *, last: bool) -> str:
    chunks = text.split("*")
    pattern = ""
    for position, chunk in enumerate(chunks):
        end = r"\Z" if last and position == len(chunks) - 1 else ""
        literal = "".join("[^/]" if char == "?" else re.escape(char) for char in chunk)
        pattern += literal + end if position == 0 else f"(?>[^/]*?{literal}{end})"
    return pattern
