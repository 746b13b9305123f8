"""What the judge must flag, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.judge import Judge, Purge, Read, kept_exactly
from tests.faults.terms import ROUTES, make_body, wrong_with

KEY = {route: f"/{route}/1" for route in ROUTES}
"""isolated_ttl: 0 for b, 3 s for i; s is strong, e of sessions, w may go out stale for 2 s. D is 1 s."""
ASKED, OTHER = 100, 200


def judge_with(route: str, **purge: Any) -> Judge:
    """A purge invoked at 10 and returned at 12, confirmed unless said otherwise."""
    judge = Judge(ROUTES, bound=1.0)
    judge.committed(KEY[route], 0.0)
    judge.invoked(Purge("p", frozenset({KEY[route]}), 10.0, ASKED, **{"returned": 12.0, "confirmed": 12.0, **purge}))
    return judge


def read(route: str, sent: float, *, began: float = 5.0, **more: Any) -> Read:
    fields = {"key": KEY[route], "worker": OTHER, "received": sent + 0.1, "version": 1, "tier": "l1", **more}
    return Read(sent=sent, began=began, **fields)


def kinds(judge: Judge, what: Read) -> list[str]:
    return [verdict.kind for verdict in judge.read(what).verdicts]


@pytest.mark.parametrize(
    ("route", "sent", "more", "kind"),
    [
        ("b", 13.01, {}, "bounded"),
        ("b", 13.01, {"tier": "l2"}, "bounded"),
        ("b", 13.01, {"tier": "collapsed"}, "bounded"),
        ("b", 13.01, {"tier": "isolated"}, "isolated"),
        ("i", 15.01, {"tier": "isolated"}, "isolated"),
        ("i", 13.01, {}, "bounded"),
        ("i", 15.01, {"tier": "collapsed"}, "isolated"),
        ("b", 12.01, {"worker": ASKED}, "served by the process that purged"),
        ("i", 12.01, {"worker": ASKED, "tier": "isolated"}, "served by the process that purged"),
        ("s", 12.01, {}, "strong"),
        ("s", 12.01, {"tier": "isolated"}, "strong"),
        ("w", 13.01, {}, "bounded"),
        ("b", 13.01, {"began": 9.99}, "bounded"),
        ("b", 13.01, {"received": 99.0}, "bounded"),
    ],
)
def test_an_answer_older_than_a_purge_is_flagged_past_the_limit(
    route: str, sent: float, more: dict[str, Any], kind: str
) -> None:
    assert kinds(judge_with(route), read(route, sent, **more)) == [kind]


@pytest.mark.parametrize(
    ("route", "sent", "more"),
    [
        ("b", 12.99, {}),
        ("i", 14.99, {"tier": "isolated"}),
        ("b", 12.99, {"tier": "isolated"}),
        ("i", 14.99, {"tier": "collapsed"}),
        ("b", 11.99, {"worker": ASKED}),  # while the call is under way
        ("s", 11.99, {}),
        ("b", 99.0, {"began": 10.0}),  # its app call began when the purge was invoked: it is not older
        ("b", 99.0, {"began": 11.0}),  # nor is one that began before the return
        ("b", 12.9, {"received": 99.0}),  # decided in time, and long on its way
    ],
)
def test_what_may_be_is_not_flagged(route: str, sent: float, more: dict[str, Any]) -> None:
    assert kinds(judge_with(route), read(route, sent, **more)) == []


def test_a_purge_that_has_not_returned_binds_nobody() -> None:
    judge = judge_with("s", returned=float("inf"), confirmed=float("inf"))
    for worker in (ASKED, OTHER):
        assert kinds(judge, read("s", 99.0, worker=worker)) == []


def test_one_that_was_not_confirmed_binds_the_process_that_was_asked() -> None:
    judge = judge_with("b", confirmed=float("inf"))
    assert kinds(judge, read("b", 12.01, worker=ASKED)) == ["served by the process that purged"]
    assert kinds(judge, read("b", 99.0)) == []


def test_and_the_others_from_when_it_was() -> None:
    judge = judge_with("b", confirmed=20.0)
    assert kinds(judge, read("b", 20.99)) == []
    assert kinds(judge, read("b", 21.01)) == ["bounded"]


def test_a_soft_purge_leaves_the_time_of_stale_while_revalidate() -> None:
    judge = judge_with("w", soft=True)
    assert kinds(judge, read("w", 14.99)) == []
    assert kinds(judge, read("w", 15.01)) == ["bounded"]
    finding = judge.read(read("w", 13.9))
    assert (finding.staleness, finding.softly) == (0.0, pytest.approx(1.9))
    finding = judge_with("b", soft=True).read(read("b", 12.9))
    assert (finding.staleness, finding.softly) == (pytest.approx(0.9), 0.0)
    assert kinds(judge, read("w", 13.9, worker=ASKED)) == []
    assert kinds(judge, read("w", 14.1, worker=ASKED)) == ["served by the process that purged"]


def test_a_client_with_a_session_sees_its_own_purges_at_once() -> None:
    judge = judge_with("e", session=7)
    assert kinds(judge, read("e", 12.01, session=7)) == ["session"]
    assert kinds(judge, read("e", 12.01, session=8)) == []
    assert kinds(judge, read("e", 12.01)) == []
    assert kinds(judge, read("e", 13.01)) == ["bounded"]


def test_even_if_they_were_not_confirmed() -> None:
    judge = judge_with("e", session=7, confirmed=float("inf"))
    assert kinds(judge, read("e", 12.01, session=7)) == ["session"]
    assert kinds(judge, read("e", 11.99, session=7)) == []
    assert kinds(judge, read("e", 99.0, session=8)) == []
    assert kinds(judge_with("b", session=7), read("b", 12.01, session=7)) == []


def test_nothing_is_served_behind_a_barrier() -> None:
    judge = judge_with("b", waited=True)
    assert kinds(judge, read("b", 11.99)) == []
    assert kinds(judge, read("b", 12.01)) == ["barrier"]
    assert kinds(judge, read("b", 12.01, tier="isolated")) == []
    assert kinds(judge, read("b", 13.01, tier="isolated")) == ["isolated"]


def test_a_barrier_that_raised_was_none() -> None:
    judge = judge_with("b", waited=True, confirmed=20.0)
    assert kinds(judge, read("b", 20.99)) == []
    assert kinds(judge, read("b", 21.01)) == ["bounded"]


def test_of_several_purges_each_counts_by_itself() -> None:
    judge = judge_with("b")
    judge.invoked(Purge("later", frozenset({KEY["b"]}), 12.5, ASKED, returned=12.6, confirmed=12.6))
    finding = judge.read(read("b", 13.2, began=10.5))
    assert finding.verdicts == []
    assert finding.staleness == pytest.approx(0.6)
    finding = judge.read(read("b", 13.2, began=9.0))
    assert [verdict.kind for verdict in finding.verdicts] == ["bounded"]
    assert finding.staleness == pytest.approx(1.2)
    assert finding.verdicts[0].late == pytest.approx(0.2)


def test_another_key_is_another_matter() -> None:
    judge = judge_with("b")
    judge.committed("/b/2", 0.0)
    assert kinds(judge, read("b", 99.0, key="/b/2")) == []


def test_a_version_that_the_app_cannot_have_seen_is_flagged() -> None:
    judge = Judge(ROUTES)
    for at in (0.0, 10.0, 20.0):
        judge.committed(KEY["b"], at)
    assert kinds(judge, read("b", 30.0, began=15.0, version=1)) == ["impossible version"]
    for version in (2, 3, 4):  # the last one is committed, and the commit not yet told
        assert kinds(judge, read("b", 30.0, began=15.0, version=version)) == []
    assert kinds(judge, read("b", 30.0, began=15.0, version=5)) == ["impossible version"]


def test_an_app_call_begins_after_its_request() -> None:
    judge = Judge(ROUTES)
    judge.committed(KEY["b"], 0.0)
    assert kinds(judge, read("b", 6.0, began=5.9, tier="app")) == ["answer of another request"]
    assert kinds(judge, read("b", 6.0, began=6.05, tier="app")) == []
    assert kinds(judge, read("b", 6.0, began=5.9, tier="collapsed")) == []


def test_what_nobody_purged_must_be_kept() -> None:
    judge = judge_with("i")
    before = [read("k", 1.0, began=0.5)]
    assert kept_exactly(judge, before, [read("k", 20.0, began=0.5)]) == []
    assert kept_exactly(judge, before, [read("k", 20.0, began=0.5, tier="isolated")]) == []
    for lost in (
        read("k", 20.0, began=20.05, tier="app"),
        read("k", 20.0, began=0.5, tier="l2"),
        read("k", 20.0, began=15.0),
    ):
        assert [verdict.kind for verdict in kept_exactly(judge, before, [lost])] == ["flushed"]


def test_and_what_was_purged_or_is_of_another_process_need_not_be() -> None:
    judge = judge_with("i")
    gone = [read("i", 20.0, began=20.05, tier="app")]
    assert kept_exactly(judge, [read("i", 9.0)], gone) == []
    assert kept_exactly(judge, [read("k", 9.0, worker=300)], [read("k", 20.0, began=20.05, tier="app")]) == []
    assert kept_exactly(judge, [], gone) == []


@pytest.mark.parametrize(("began", "found"), [(10.2, []), (12.9, []), (13.1, ["flushed"])])
def test_a_purge_may_be_heard_of_after_the_page_was_made_again(began: float, found: list[str]) -> None:
    """By the stamp such a page is older than the purge, though the app was called after it."""
    judge = judge_with("k")
    before = [read("k", 14.0, began=began)]
    assert [one.kind for one in kept_exactly(judge, before, [read("k", 20.0, began=20.05, tier="app")])] == found


def test_a_body_is_what_it_says() -> None:
    body = make_body("/b/1", "-", 3, 1.5)
    assert wrong_with(body, "/b/1", "-", 3) == ""
    assert "version" in wrong_with(body, "/b/1", "-", 4)
    assert "/b/1" in wrong_with(body, "/b/2", "-", 3)
    assert "/b/1 -" in wrong_with(body, "/b/1", "a", 3)
    half = len(body) // 2
    for broken in (b"", body[:-1], body[:half] + b"x" + body[half + 1 :], body + body, make_body("/b/2", "-", 3, 1.5)):
        assert wrong_with(broken, "/b/1", "-", 3)
    assert wrong_with(body[:half] + make_body("/b/1", "-", 4, 2.5)[half:], "/b/1", "-", 3)
