"""Finds, among many templates, the few that a path can match: by its segments, and not by trying one after the other.

Up to its first parameter of the kind `path`, no parameter of a template reaches over a slash: the segments of template
and path stand opposite each other. A segment without parameters is looked up whole; one with parameters by the text
before its first one, in as many lengths as such texts have there. So a path is held against the templates of its own
shape alone, however many others there are.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from tiercache.core.templates import Template

T = TypeVar("T")


class _Node(Generic[T]):
    """What may follow after some segments, and what may end there."""

    __slots__ = ("begun", "ends", "lengths", "open", "whole")

    def __init__(self) -> None:
        self.whole: dict[str, _Node[T]] = {}
        self.begun: dict[str, _Node[T]] = {}
        """Segments with parameters, by the text before the first."""
        self.lengths: tuple[int, ...] = ()
        """Of the keys of `begun`."""
        self.ends: list[T] = []
        self.open: list[T] = []
        """What a `path` may continue from the next segment on."""


class TemplateTree(Generic[T]):
    """Values by template. Reads take no lock and may run while one thread adds."""

    __slots__ = ("_depth", "_root")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._depth = 0

    def add(self, template: Template, value: T) -> None:
        node = self._root
        segments = _segments(template)
        # Before the value can be found: who reads meanwhile must not take the path apart too coarsely for it.
        self._depth = max(self._depth, len(segments))
        for head, whole, reaches_on in segments:
            if reaches_on:
                node.open.append(value)
                return
            children = node.whole if whole else node.begun
            child = children.get(head)
            if child is None:
                child = children[head] = _Node()
                node.lengths = tuple(sorted({len(text) for text in node.begun}))
            node = child
        node.ends.append(value)

    def near(self, path: str) -> list[T]:
        """The values of all templates that match the path, and of some that do not, in no order."""
        nodes = [self._root]
        found: list[T] = []
        # What is left of a longer path stays in one piece, with slashes in it: only a `path` matches that.
        for segment in path.split("/", self._depth):
            following: list[_Node[T]] = []
            for node in nodes:
                if node.open:
                    found += node.open
                child = node.whole.get(segment)
                if child is not None:
                    following.append(child)
                for length in node.lengths:
                    child = node.begun.get(segment[:length])
                    if child is not None:
                        following.append(child)
            if not following:
                return found
            nodes = following
        for node in nodes:
            found += node.ends
        return found


def _segments(template: Template) -> list[tuple[str, bool, bool]]:
    """For each segment: the text before its first parameter, whether that is all of it, and whether a parameter in it
    reaches over slashes; nothing after such a one."""
    segments: list[tuple[str, bool, bool]] = [("", True, False)]
    for node in template.nodes:
        if not isinstance(node, str):
            head, _, _ = segments[-1]
            segments[-1] = (head, False, node[1] == "path")
            if node[1] == "path":
                break
            continue
        first, *others = node.split("/")
        head, whole, _ = segments[-1]
        # Text after a parameter does not tell where to look.
        segments[-1] = (head + first if whole else head, whole, False)
        segments += [(text, True, False) for text in others]
    return segments
