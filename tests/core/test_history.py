"""One history: numbers only rise, what kills goes from members to the floor, soft purges know their time."""

from __future__ import annotations

from typing import Any

import pytest

from tiercache.core import history as history_module
from tiercache.core.history import History

A = ("t:a",)
PATH = ("t:a", "p:/a/b")


class TestMerge:
    def test_a_lower_number_that_comes_later_changes_nothing(self) -> None:
        history = History("E")
        assert history.merge([("h:t:a", 5)], 0, 1.0)
        assert not history.merge([("h:t:a", 3)], 0, 2.0)
        assert history.members == {"h:t:a": 5}

    def test_what_is_not_above_the_floor_is_not_kept(self) -> None:
        history = History("E")
        assert history.merge([("h:t:a", 4), ("h:t:b", 5)], 4, 1.0)
        assert history.members == {"h:t:b": 5}

    def test_the_floor_never_falls(self) -> None:
        history = History("E")
        assert history.merge((), 4, 1.0)
        assert not history.merge((), 3, 1.0)
        assert history.floor == 4

    def test_the_time_of_a_soft_purge_is_there_before_its_number(self) -> None:
        """A reader that meets the number must find the time."""
        history = History("E")
        history.merge([("s:t:a", 1)], 0, 10.0)

        class Members(dict[str, int]):
            seen: Any = None

            def __setitem__(self, member: str, number: int) -> None:
                self.seen = history.softened[member]
                super().__setitem__(member, number)

        members = history.members = Members(history.members)
        history.merge([("s:t:a", 2)], 0, 20.0)
        assert members.seen == 20.0

    def test_a_ban_is_in_force_before_its_number_is_known(self) -> None:
        """Not the other way round: who asks again with that number would never be told of the ban."""
        history = History("E")

        class Members(dict[str, int]):
            seen: Any = None

            def __setitem__(self, member: str, number: int) -> None:
                self.seen = history.bans.last("/a/b")
                super().__setitem__(member, number)

        members = history.members = Members()
        history.merge([("b:p:/a", 2)], 0, 1.0)
        assert members.seen == 2


class TestKills:
    @pytest.mark.parametrize("member", ["h:t:a", "b:p:/a", "b:g:/a/*", "b:g:/a**"])
    def test_what_is_older_and_nothing_else(self, member: str) -> None:
        history = History("E")
        history.merge([(member, 5)], 0, 1.0)
        assert history.kills(PATH, 4)
        assert not history.kills(PATH, 5)
        assert not history.kills(("t:b", "p:/c"), 4)

    def test_a_ban_is_of_the_path_and_not_of_tags_that_look_like_one(self) -> None:
        history = History("E")
        history.merge([("b:p:/a", 5)], 0, 1.0)
        assert not history.kills(("t:/a", "t:p:/a", "u:http://x/a", "r:/a"), 4)

    def test_the_floor_kills_what_is_below_it(self) -> None:
        history = History("E")
        history.merge((), 5, 1.0)
        assert history.kills((), 4)
        assert not history.kills((), 5)

    @pytest.mark.parametrize("member", ["s:t:a", "s:*", "s:p:/a/b"])
    def test_a_soft_purge_kills_nothing(self, member: str) -> None:
        history = History("E")
        history.merge([(member, 5)], 0, 1.0)
        assert not history.kills(PATH, 4)


class TestOutdates:
    def test_nothing_where_there_was_none(self) -> None:
        history = History("E")
        history.merge([("h:t:a", 5)], 0, 1.0)
        assert history.outdates(A, 4) is None

    @pytest.mark.parametrize("member", ["s:t:a", "s:*", "s:p:/a/b"])
    def test_from_when_it_was_learned(self, member: str) -> None:
        history = History("E")
        history.merge([(member, 5)], 0, 7.0)
        assert history.outdates(PATH, 4) == 7.0
        assert history.outdates(PATH, 5) is None

    def test_the_first_of_several_counts(self) -> None:
        history = History("E")
        history.merge([("s:t:a", 5)], 0, 7.0)
        history.merge([("s:*", 6)], 0, 9.0)
        assert history.outdates(A, 4) == 7.0
        assert history.outdates(A, 5) == 9.0

    def test_a_number_that_was_known_gets_no_new_time(self) -> None:
        """A sync says again what a message has said."""
        history = History("E")
        history.merge([("s:t:a", 5)], 0, 7.0)
        history.merge([("s:t:a", 5)], 0, 9.0)
        assert history.outdates(A, 4) == 7.0


class TestPrune:
    def test_only_at_doubled_sizes_and_of_everything_that_hangs_on_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(history_module, "_PRUNE_MIN", 4)
        history = History("E")
        history.prune_at = 4
        history.merge([("s:t:a", 1), ("b:p:/a", 2), ("b:g:/b/*", 3), ("h:t:c", 4)], 0, 1.0)
        history.merge((), 3, 1.0)
        assert len(history.members) == 4
        history.merge([("s:t:d", 5)], 3, 2.0)
        assert history.members == {"h:t:c": 4, "s:t:d": 5}
        assert history.softened == {"s:t:d": 2.0}
        assert not history.bans
        assert history.prune_at == 4
        assert history.kills(("p:/a",), 2)
