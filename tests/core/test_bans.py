"""Bans of paths: what a glob covers, how much work a hostile path can make, and how bans come and go."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tiercache.core import bans as bans_module
from tiercache.core.bans import LONGEST_PATH, Bans, covers, glob_pattern, literal_head


def covered(glob: str, path: str) -> bool:
    return covers(glob, glob_pattern(glob), path)


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("/a", "/a", True),
        ("/a", "/a/", False),
        ("/a", "/ab", False),
        ("/a", "x/a", False),
        ("/a", "/a\n", False),
        ("/a/*", "/a/", True),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/*", "/a", False),
        ("/*/c", "/a/c", True),
        ("/*/c", "/a/b/c", False),
        ("/*/c", "//c", True),
        ("/a*b", "/a/b", False),
        ("/a*b*", "/axxbyy", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/a/", True),
        ("/a/**", "/a", False),
        ("/**/c", "/a/b/c", True),
        ("/**/c", "/c", False),
        ("/**c", "/c", True),
        ("**.json", "/x/y.json", True),
        ("**.json", "/x/y.jsonx", False),
        ("**", "", True),
        ("**", "/any/thing\nat all", True),
        ("***", "/a/b", True),
        ("****", "/a/b", True),
        ("/?", "/a", True),
        ("/?", "//", False),
        ("/?", "/", False),
        ("/?", "/ab", False),
        ("/??", "/ab", True),
        ("/?", "/\n", True),
        ("/a*z", "/a\n\nz", True),
        ("/a**z", "/a\n/\nz", True),
        ("/a.b", "/axb", False),
        ("/[ab]", "/a", False),
        ("/[ab]", "/[ab]", True),
        ("/a+", "/aa", False),
        ("/(x|y)", "/x", False),
        ("/a\\", "/a\\", True),
        ("/caf?", "/café", True),
        ("/caf?", "/caf\udce9", True),
        ("/A", "/a", False),
        # The first chance is not the right one where the rest is bound to the end.
        ("/*ab", "/abab", True),
        ("/**ab", "/ab/ab", True),
        ("**/x*y**z", "/x/xay/z", True),
        ("**a*b", "/a/ab", True),
    ],
)
def test_what_a_glob_covers(glob: str, path: str, expected: bool) -> None:
    assert covered(glob, path) is expected


def by_table(glob: str, path: str) -> bool:
    """The same by dynamic programming: the positions of the path that the glob so far can end at."""
    ends = {0}
    while glob:
        if glob.startswith("**"):
            glob = glob[2:]
            ends = set(range(min(ends), len(path) + 1)) if ends else set()
            continue
        char, glob = glob[0], glob[1:]
        if char == "*":
            for end in sorted(ends):
                while end < len(path) and path[end] != "/":
                    end += 1
                    ends.add(end)
        else:
            fits = {at for at in ends if at < len(path) and (path[at] == char or (char == "?" and path[at] != "/"))}
            ends = {at + 1 for at in fits}
    return len(path) in ends


GLOBS = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "?", ".", "\n", "ab"]), max_size=12).map("".join)


@given(GLOBS, st.text(alphabet="ab/.\n*?", max_size=14))
@example("**a*b/c**d", "/ab/cabb/cd")
@example("*b*a/*b", "abba/ab")
def test_any_glob_and_any_path(glob: str, path: str) -> None:
    assert covered(glob, path) == by_table(glob, path)


@given(st.text(alphabet="ab/*?", max_size=10), st.text(alphabet="ab/", max_size=14))
def test_the_head_of_a_glob_covers_at_least_what_the_glob_does(glob: str, path: str) -> None:
    if by_table(glob, path):
        assert path.startswith(literal_head(glob))


class Steps:
    """Runs a compiled glob as a backtracking matcher does, and counts the characters that it looks at."""

    def __init__(self, pattern: str, path: str) -> None:
        parser = importlib.import_module("re._parser")
        self.path, self.taken = path, 0
        self.found = next(self._ends(list(parser.parse(pattern, bans_module.re.DOTALL)), 0), None) is not None

    def _ends(self, items: list[Any], at: int) -> Iterator[int]:
        if not items:
            yield at
            return
        (op, value), rest = items[0], items[1:]
        name = str(op)
        if name == "ATOMIC_GROUP":
            end = next(self._ends(list(value), at), None)
            if end is not None:
                yield from self._ends(rest, end)
        elif name == "SUBPATTERN":
            for end in self._ends(list(value[-1]), at):
                yield from self._ends(rest, end)
        elif name == "MIN_REPEAT":
            assert value[0] == 0
            while True:
                yield from self._ends(rest, at)
                if not self._one(value[2][0], at):
                    return
                at += 1
        elif name == "AT":
            if at == len(self.path):
                yield from self._ends(rest, at)
        elif self._one(items[0], at):
            yield from self._ends(rest, at + 1)

    def _one(self, item: Any, at: int) -> bool:
        self.taken += 1
        if at >= len(self.path):
            return False
        op, value = str(item[0]), item[1]
        char = ord(self.path[at])
        return op == "ANY" or char == value if op in ("ANY", "LITERAL") else self._other(op, value, char)

    @staticmethod
    def _other(op: str, value: Any, char: int) -> bool:
        assert op == "NOT_LITERAL", op
        return bool(char != value)


@given(GLOBS.filter(lambda glob: "\n" not in glob), st.text(alphabet="ab/", max_size=8))
def test_the_counter_of_steps_matches_like_the_real_one(glob: str, path: str) -> None:
    assert Steps(glob_pattern(glob).pattern, path).found == covered(glob, path)


HOSTILE: list[tuple[str, Callable[[int], str]]] = [
    ("*a" * 8 + "b", lambda n: "a" * n),
    ("**a" * 8 + "b", lambda n: "a" * n),
    ("**a*a" * 4 + "b", lambda n: "a" * n),
    ("**/*/*/*x", lambda n: "/" * n),
    ("**?*?*?*/", lambda n: "a" * n),
    ("**a*b**a*c**a*d", lambda n: "a" * (n // 2) + "b" * (n // 2)),
    ("/**" * 8, lambda n: "/" * n + "x"),
]


@pytest.mark.parametrize(("glob", "path"), HOSTILE, ids=[glob for glob, _ in HOSTILE])
def test_a_hostile_path_makes_no_more_than_quadratic_work(glob: str, path: Callable[[int], str]) -> None:
    pattern = glob_pattern(glob).pattern
    short, long = (Steps(pattern, path(n)).taken for n in (40, 160))
    # Four times the length: sixteen times the steps, and what is of a lower order. Cubic work would be 64 times.
    assert long <= 20 * short


def test_a_path_past_the_limit_is_not_given_to_the_matcher_at_all() -> None:
    class Untouchable:
        def match(self, path: str) -> None:
            raise AssertionError(f"tried {len(path)} characters")

    never: Any = Untouchable()
    long = "/a/" + "x" * LONGEST_PATH
    assert covers("/a/*y", never, long)
    assert not covers("/b/*", never, long)
    assert covered("/a/*", long[:LONGEST_PATH])
    assert not covered("/a/*y", long[:LONGEST_PATH])


class TestBans:
    def test_the_last_that_covers_a_path_counts(self) -> None:
        bans = Bans()
        assert not bans
        assert bans.last("/a/b") == -1
        bans.add("p:/a", 3)
        bans.add("g:/a/*", 5)
        bans.add("p:/a/b", 4)
        assert bans
        assert [bans.last(path) for path in ("/a", "/a/b", "/a/b/c", "/b", "")] == [3, 5, 4, -1, -1]

    def test_a_prefix_is_of_characters_not_of_segments(self) -> None:
        bans = Bans()
        bans.add("p:/a", 1)
        assert bans.last("/abc") == 1
        assert bans.last("/") == -1

    def test_a_prefix_has_no_wildcards(self) -> None:
        bans = Bans()
        bans.add("p:/a*", 1)
        assert (bans.last("/ab"), bans.last("/a*b")) == (-1, 1)

    @pytest.mark.parametrize("rule", ["p:/a", "g:/a*"])
    def test_raising_one_again_counts(self, rule: str) -> None:
        bans = Bans()
        bans.add(rule, 1)
        bans.add(rule, 7)
        assert bans.last("/ab") == 7

    @pytest.mark.parametrize("rule", ["p:/a", "g:/a*"])
    def test_what_is_no_newer_than_asked_for_does_not_count(self, rule: str) -> None:
        bans = Bans()
        bans.add(rule, 4)
        assert [bans.last("/ab", above) for above in (-1, 3, 4, 9)] == [4, 4, 4, 9]

    def test_globs_that_begin_otherwise_are_not_even_compiled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compiled: list[str] = []

        def compiling(glob: str) -> Any:
            compiled.append(glob)
            return glob_pattern(glob)

        monkeypatch.setattr(bans_module, "glob_pattern", compiling)
        bans = Bans()
        for number, rule in enumerate(("g:/a/1/*", "g:/a/2/*", "g:/a/*/x", "g:**.js", "g:/a/2/**x"), 1):
            bans.add(rule, number)
        assert bans.last("/a/2/y") == 2
        assert bans.last("/a/2/y") == 2
        assert sorted(compiled) == sorted(["**.js", "/a/*/x", "/a/2/**x", "/a/2/*"])
        assert bans.last("/a/2/y", 5) == 5

    def test_globs_of_one_beginning_are_kept_apart(self) -> None:
        bans = Bans()
        bans.add("g:/a/*", 1)
        bans.add("g:/a/*.js", 2)
        bans.discard("g:/a/*.js")
        bans.discard("g:/a/*.js")
        assert bans.last("/a/x.js") == 1
        bans.discard("g:/a/*")
        assert (bans.last("/a/x.js"), bool(bans)) == (-1, False)

    def test_a_kind_that_is_not_known_covers_everything(self) -> None:
        bans = Bans()
        bans.add("z:/x", 4)
        assert bans.last("/anything") == 4

    @pytest.mark.parametrize("rule", ["p:/a", "g:/a**"])
    def test_one_is_discarded(self, rule: str) -> None:
        bans = Bans()
        bans.add(rule, 4)
        bans.add("p:/b", 5)
        bans.add("g:/b**", 6)
        bans.discard(rule)
        assert (bans.last("/a/b"), bans.last("/b")) == (-1, 6)

    def test_prune_forgets_what_the_floor_has_overtaken(self) -> None:
        bans = Bans()
        for number, rule in enumerate(("p:/a", "g:/a*", "p:/b", "g:/b*"), 1):
            bans.add(rule, number)
        bans.prune(2)
        assert (bans.last("/ab"), bans.last("/bb")) == (-1, 4)
        bans.prune(4)
        assert not bans
        bans.add("p:/ab", 5)
        assert bans.last("/ab") == 5


class TestTooManyGlobs:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bans_module, "GLOBS", 2)

    def test_the_oldest_cover_more_and_never_less(self) -> None:
        bans = Bans()
        for number, rule in enumerate(("g:/a/*.css", "g:/b/?/x", "g:/c/*", "g:**.js"), 1):
            bans.add(rule, number)
        assert [bans.last(path) for path in ("/a/x.css", "/a/x.png", "/b/1/x", "/b/")] == [1, 1, 2, 2]
        assert [bans.last(path) for path in ("/c/d", "/c/d/e", "/d.js")] == [3, -1, 4]

    def test_one_without_a_head_covers_everything(self) -> None:
        bans = Bans()
        for number, rule in enumerate(("g:**.css", "g:/b", "g:/c"), 1):
            bans.add(rule, number)
        assert bans.last("/x") == 1

    def test_one_raised_again_is_young(self) -> None:
        bans = Bans()
        for number, rule in enumerate(("g:/a/*", "g:/b/*", "g:/a/*", "g:/c/*"), 1):
            bans.add(rule, number)
        assert [bans.last(path) for path in ("/a/x/y", "/b/x/y")] == [-1, 2]

    def test_discarding_a_prefix_leaves_the_glob_that_it_stands_for(self) -> None:
        bans = Bans()
        bans.add("p:/a/", 1)
        for number, rule in enumerate(("g:/a/*.css", "g:/b", "g:/c"), 2):
            bans.add(rule, number)
        bans.discard("p:/a/")
        assert bans.last("/a/x.css") == 2
        bans.discard("g:/a/*.css")
        assert bans.last("/a/x.css") == 2  # Others may share the head: it costs misses until the floor has passed.
        bans.prune(2)
        assert bans.last("/a/x.css") == -1
        bans.add("p:/a/", 9)
        bans.discard("p:/a/")
        assert bans.last("/a/x.css") == -1

    def test_a_reader_meets_one_that_moves_meanwhile(self) -> None:
        """It is written among the prefixes before it leaves the globs, and looked for in that order."""
        bans = Bans()
        bans.add("p:/z", 1)
        bans.add("g:/a/*", 2)
        bans.add("g:/b/*", 3)

        class Path(str):
            """Adds one more glob as soon as somebody compares it with the prefixes, `/z` and the like."""

            __slots__ = ()

            def __getitem__(self, item: Any) -> str:
                if item.stop == len("/z"):
                    bans.add("g:/c/*", 4)
                return str.__getitem__(self, item)

        assert bans.last(Path("/a/x")) == 2
