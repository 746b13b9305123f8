"""Route templates in Starlette's syntax: parsing, and whether one matches all that another matches.

`{id}` is anything but a slash, `{id:int}` decimal digits, `{x:float}` and `{x:uuid}` what their names say, and
`{rest:path}` anything at all, nothing included.

Containment is decided on automata, not by comparing segments: both templates are regular languages, so that
"every path that B matches is matched by A" has an exact answer, mixed segments such as `/a-{x}.html` included.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Final, NoReturn

from tiercache.errors import ConfigError

_NODE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([A-Za-z_][A-Za-z0-9_]*))?\}|([^{}]+)")
_ANGLED = re.compile(r"<(?:([a-z]\w*)(?:\([^()]*\))?:)?([A-Za-z_]\w*)>")
"""A parameter as Flask and Django write it."""
_HEX: Final = "[0-9a-fA-F]"
_REGEX: Final = {
    "str": "[^/]+",
    "int": "[0-9]+",
    "float": r"[0-9]+(?:\.[0-9]+)?",
    "uuid": f"{_HEX}{{8}}-?{_HEX}{{4}}-?{_HEX}{{4}}-?{_HEX}{{4}}-?{_HEX}{{12}}",
    "path": "(?s:.*)",
}
_SAMPLES: Final = {
    "str": ("~", "7~-.x"),
    "int": ("7", "42"),
    "float": ("7", "4.2"),
    "uuid": ("0a" * 16, "01234567-89ab-cdef-0123-456789ABCDEF"),
    "path": ("", "~/7/~"),
}
_UUID_GROUPS: Final = (8, 4, 4, 4, 12)
_STEPS: Final = 2_000
"""When to give up: real templates take tens of steps. What needs more is a uuid that a run of digits flows into."""
ACCEPTED: Final = (
    "a path that starts with '/', with parameters {name} or {name:convertor}, each name once and something between "
    "two of them; convertors: str, int, float, uuid, path"
)


class Template:
    """One parsed template. `nodes` alternates as written: a literal `str`, or a parameter `(name, convertor)`."""

    __slots__ = ("literal", "nodes", "params", "prefix", "regex", "samples", "text")

    def __init__(self, text: str, setting: str) -> None:
        """Raises `ConfigError` naming `setting` where the template cannot be read or cannot ever match."""
        self.text = text
        self.nodes = _parse(text, setting)
        self.params = tuple(node[0] for node in self.nodes if not isinstance(node, str))
        self.literal = not self.params
        self.regex = re.compile(
            "".join(re.escape(n) if isinstance(n, str) else f"(?P<{n[0]}>{_REGEX[n[1]]})" for n in self.nodes)
        )
        self.samples = tuple(
            "".join(n if isinstance(n, str) else _SAMPLES[n[1]][i] for n in self.nodes) for i in range(2)
        )
        """Some of the paths that it matches: what fails one of them does not match all."""
        head = self.nodes[0]
        assert isinstance(head, str)
        self.prefix = head[: head.rfind("/") + 1]
        """The whole segments that every path begins with, "/" at least."""

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


def _parse(text: object, setting: str) -> tuple[str | tuple[str, str], ...]:
    def refuse(why: str) -> NoReturn:
        raise ConfigError(setting, text, f"{ACCEPTED} ({why})")

    if not isinstance(text, str) or not text.startswith("/"):
        refuse("it does not start with '/'")
    nodes: list[str | tuple[str, str]] = []
    names: set[str] = set()
    end = 0
    for found in _NODE.finditer(text):
        if found.start() != end:
            break
        end = found.end()
        name, convertor, literal = found.groups()
        if literal is not None:
            nodes.append(literal)
            continue
        convertor = convertor or "str"
        if convertor not in _REGEX:
            refuse(f"there is no convertor {convertor!r}")
        if name in names:
            refuse(f"{{{name}}} occurs twice")
        if not isinstance(nodes[-1], str):
            refuse(f"nothing tells where {{{nodes[-1][0]}}} ends and {{{name}}} begins")
        # Two of them can be divided in as many ways as the path is long, and a long path then takes seconds.
        if convertor == "path" and any(not isinstance(n, str) and n[1] == "path" for n in nodes):
            refuse("only one parameter may be a path")
        names.add(name)
        nodes.append((name, convertor))
    if end != len(text):
        refuse("its braces do not balance, or hold something that is not a name")
    written = "".join(n for n in nodes if isinstance(n, str))
    if angled := _ANGLED.search(written):
        convertor = f":{angled[1]}" if angled[1] in _REGEX and angled[1] != "str" else ""
        refuse(f"write {{{angled[2]}{convertor}}} for {angled[0]}")
    if "*" in written:
        # As a character of a path it would match no path that there is, and the rule would silently do nothing.
        refuse("write {rest:path} for *, which stands for nothing here")
    if "?" in written or "#" in written:
        refuse("a path has no query or fragment; which part of the query counts is the setting `query`")
    if re.search("%[0-9A-Fa-f]{2}", written):
        refuse("it is matched against the decoded path, so write the character itself")
    return tuple(nodes)


class _Automaton:
    """A template as a nondeterministic automaton: state 0 begins, the last state accepts."""

    __slots__ = ("_closures", "_edges", "_empty", "accepting")

    def __init__(self, template: Template) -> None:
        self._edges: list[list[tuple[str, int]]] = [[]]
        self._empty: list[list[int]] = [[]]
        for node in template.nodes:
            if isinstance(node, str):
                for character in node:
                    self._once(character)
            else:
                self._convertor(node[1])
        self.accepting = len(self._edges) - 1
        self._closures = [self._close(state) for state in range(len(self._edges))]

    def _state(self) -> int:
        self._edges.append([])
        self._empty.append([])
        return len(self._edges) - 1

    def _once(self, symbols: str) -> None:
        here = len(self._edges) - 1
        self._edges[here].append((symbols, self._state()))

    def _more(self, symbols: str) -> None:
        self._once(symbols)
        here = len(self._edges) - 1
        self._edges[here].append((symbols, here))

    def _skip(self, start: int) -> None:
        """Let what came after `start` be left out."""
        here = len(self._edges) - 1
        end = self._state()
        self._empty[start].append(end)
        self._empty[here].append(end)

    def _convertor(self, convertor: str) -> None:
        if convertor == "str":
            self._more("segment")
        elif convertor == "path":
            start = len(self._edges) - 1
            self._more("any")
            self._skip(start)
        elif convertor == "uuid":
            for index, length in enumerate(_UUID_GROUPS):
                if index:
                    start = len(self._edges) - 1
                    self._once("-")
                    self._skip(start)
                for _ in range(length):
                    self._once("hex")
        else:
            self._more("digit")
            if convertor == "float":
                start = len(self._edges) - 1
                self._once(".")
                self._more("digit")
                self._skip(start)

    def _close(self, state: int) -> frozenset[int]:
        seen = {state}
        pending = [state]
        while pending:
            for following in self._empty[pending.pop()]:
                if following not in seen:
                    seen.add(following)
                    pending.append(following)
        return frozenset(seen)

    def start(self) -> frozenset[int]:
        return self._closures[0]

    def step(self, states: Iterable[int], character: str) -> frozenset[int]:
        return frozenset().union(
            *(
                self._closures[following]
                for state in states
                for symbols, following in self._edges[state]
                if _belongs(character, symbols)
            )
        )


def _belongs(character: str, symbols: str) -> bool:
    if len(symbols) == 1:
        return character == symbols
    if symbols == "digit":
        return character in "0123456789"
    if symbols == "hex":
        return character in "0123456789abcdefABCDEF"
    return symbols == "any" or character != "/"


def _alphabet(*templates: Template) -> list[str]:
    """One character of each kind that the templates can tell apart."""
    literal = {c for t in templates for n in t.nodes if isinstance(n, str) for c in n}
    kinds = ["0123456789", "abcdefABCDEF", "".join(map(chr, range(0x100, 0x100 + len(literal) + 1)))]
    unnamed = [next(c for c in kind if c not in literal) for kind in kinds if set(kind) - literal]
    return sorted(literal | {"/", ".", "-"}) + unnamed


def covers(earlier: Template, later: Template) -> bool:
    """Whether every path that `later` matches is matched by `earlier`.

    Exact, except that a comparison of templates so intricate that it would take long is given up as False.
    """
    # Nearly all pairs of rules end here, so that hundreds of rules are compared in no time.
    if not later.samples[0].startswith(earlier.prefix):
        return False
    if not all(earlier.regex.fullmatch(sample) for sample in later.samples):
        return False
    return later.literal or contains(earlier, later)


def meeting(one: Template, other: Template) -> str | None:
    """A path that both match, as short as there is one; None where there is none, or none that is soon found."""
    if not (one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)):
        return None
    first, second = _Automaton(one), _Automaton(other)
    # Letters first: the path is for somebody to read.
    characters = sorted(_alphabet(one, other), key=lambda character: not character.isalnum())
    begin = (first.start(), second.start())
    seen = {begin}
    pending = deque([(begin, "")])
    for _ in range(_STEPS):
        if not pending:
            break
        (here, there), path = pending.popleft()
        if first.accepting in here and second.accepting in there:
            return path
        for character in characters:
            following = (first.step(here, character), second.step(there, character))
            if all(following) and following not in seen:
                seen.add(following)
                pending.append((following, path + character))
    return None


def contains(earlier: Template, later: Template) -> bool:
    """The same without trying a few paths first."""
    outer, inner = _Automaton(earlier), _Automaton(later)
    characters = _alphabet(earlier, later)
    # Subset construction on the fly: follow `later` through every state, and with it all that `earlier` may be in.
    # Of the sets met at one state only the smallest count: what holds for them holds for any that contain them.
    smallest: dict[int, list[frozenset[int]]] = {}
    pending = deque((state, outer.start()) for state in inner.start())
    for _ in range(_STEPS):
        if not pending:
            return True
        state, others = pending.popleft()
        met = smallest.setdefault(state, [])
        if any(other <= others for other in met):
            continue
        met[:] = [other for other in met if not others <= other]
        met.append(others)
        if state == inner.accepting and outer.accepting not in others:
            return False
        for character in characters:
            following = inner.step((state,), character)
            if following:
                beside = outer.step(others, character)
                # From every state of `later` some path still leads to its end.
                if not beside:
                    return False
                pending.extend((one, beside) for one in following)
    return False
