"""Bans: invalidations by path, for what no tag names. By the beginning of a path, or by a glob.

In a glob `*` stands for any run of characters within one segment, `**` for any run at all, `?` for one character
other than `/`. Paths are compared as the app sees them.
"""

from __future__ import annotations

import re

PREFIX = "p:"
GLOB = "g:"
GLOBS = 1_000
"""Globs that are kept as such. Those that begin like a path are tried in turn, so past this number the oldest become
bans of the path's beginning up to their first wildcard: that covers more, which costs misses and never a stale answer.
"""
LONGEST_PATH = 2_048
"""Characters. Clients choose how long paths are: longer ones are compared with the beginning of a glob alone."""

_WILD = re.compile(r"[*?]")


class _Glob:
    """One glob. Compiled when it is first tried: of a large ledger's globs few ever are."""

    __slots__ = ("head", "number", "pattern", "text")

    def __init__(self, text: str, number: int) -> None:
        self.text = text
        self.head = literal_head(text)
        self.number = number
        self.pattern: re.Pattern[str] | None = None

    def covers(self, path: str) -> bool:
        # Two readers may both compile it, to the same.
        pattern = self.pattern = self.pattern or glob_pattern(self.text)
        return covers(self.text, pattern, path)


class Bans:
    """The numbers of bans, and the highest that covers a path. `last` takes no lock; the rest is for one writer.

    A ban moves in one direction only, from the globs to the prefixes, and is at its new place before it leaves the old
    one; a reader looks in that same direction, so that it meets it at least once.
    """

    __slots__ = ("_globs", "_heads", "_lengths", "_prefixes", "_stem_lengths", "_stems")

    def __init__(self) -> None:
        self._prefixes: dict[str, int] = {}
        self._heads: set[str] = set()
        """The prefixes that stand for a glob, if only among others."""
        self._lengths: tuple[int, ...] = ()
        self._globs: dict[str, _Glob] = {}
        """The newest last, so that the oldest are those that go. Not for readers."""
        self._stems: dict[str, dict[str, _Glob]] = {}
        """The globs by what stands before their first wildcard. Only replaced or changed one item at a time."""
        self._stem_lengths: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._stems or self._prefixes)

    def add(self, rule: str, number: int) -> None:
        """`rule` is `p:<prefix>` or `g:<glob>`; one of another kind covers everything, since a newer release may know
        it: what cannot be read must not be ignored."""
        kind, text = rule[:2], rule[2:]
        if kind == GLOB:
            self._add_glob(_Glob(text, number))
            while len(self._globs) > GLOBS:
                oldest = next(iter(self._globs.values()))
                self._heads.add(oldest.head)
                self._add_prefix(oldest.head, oldest.number)
                self._remove_glob(oldest.text)
        else:
            self._add_prefix(text if kind == PREFIX else "", number)

    def _add_glob(self, glob: _Glob) -> None:
        self._globs.pop(glob.text, None)
        self._globs[glob.text] = glob
        # One that is raised again takes its own place: it must not be missing for an instant.
        self._stems.setdefault(glob.head, {})[glob.text] = glob
        if len(glob.head) not in self._stem_lengths:
            self._stem_lengths = (*self._stem_lengths, len(glob.head))

    def _remove_glob(self, text: str) -> None:
        glob = self._globs.pop(text, None)
        if glob is not None:
            del self._stems[glob.head][text]
            if not self._stems[glob.head]:
                del self._stems[glob.head]

    def _add_prefix(self, prefix: str, number: int) -> None:
        self._prefixes[prefix] = max(number, self._prefixes.get(prefix, 0))
        if len(prefix) not in self._lengths:
            self._lengths = (*self._lengths, len(prefix))

    def last(self, path: str, above: int = -1) -> int:
        """The number of the last ban that covers this path; `above` if there is none with a higher number."""
        found = above
        stems = self._stems
        for length in self._stem_lengths:
            globs = stems.get(path[:length])
            if globs:
                # A copy made in one step: a writer may add to them meanwhile. A tuple would not be on a free-threaded
                # build, where only `list` locks the dict for its whole length.
                for glob in list(globs.values()):
                    if glob.number > found and glob.covers(path):
                        found = glob.number
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
        self._globs = {text: glob for text, glob in self._globs.items() if glob.number > floor}
        stems: dict[str, dict[str, _Glob]] = {}
        for glob in self._globs.values():
            stems.setdefault(glob.head, {})[glob.text] = glob
        self._stems = stems
        self._stem_lengths = tuple({len(head) for head in stems})

    def discard(self, rule: str) -> None:
        """Forget one ban. A prefix that stands for a glob too stays, since that one may be in force."""
        kind, text = rule[:2], rule[2:]
        # In place: a queue of many bans is lifted one by one.
        if kind == GLOB:
            self._remove_glob(text)
        elif kind == PREFIX and text not in self._heads:
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
