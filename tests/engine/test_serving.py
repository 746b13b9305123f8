from __future__ import annotations

from typing import Any

import pytest

from tests.core.asked import Asked, lines_of
from tests.core.test_entries import entry as plain_entry
from tiercache.core.edge_headers import Edge
from tiercache.core.entries import Entry
from tiercache.engine.events import Stats
from tiercache.engine.serving import Answer, Presenter

TAG = b'"v1"'


def entry(**more: Any) -> Entry:
    """Made at 100, fresh until 160."""
    fields = lines_of("Content-Type: text/plain", 'ETag: "v1"', "Content-Length: 10")
    made = plain_entry(body=b"0123456789", fields=fields, **more)
    made.edge = Edge(fields, b"", 30.0, None, frozenset({b"cache-control", b"age"}))
    return made


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def presenter(stats: Stats) -> Presenter:
    return Presenter(stats, age=True, cache_status=True)


def asked(fields: dict[bytes, bytes] | None = None, **more: Any) -> Asked:
    request = Asked(fields, **more)
    request.conditional = "range" if b"range" in (fields or {}) else "condition" if fields else ""
    return request


def counted(stats: Stats) -> dict[str, Any]:
    return {name: count for name, count in stats.snapshot().items() if count}


@pytest.mark.parametrize(
    ("answer", "now", "status", "counts"),
    [
        (Answer(entry(), "l1"), 142.0, b"tiercache; hit; ttl=18; detail=l1", {"hits_l1": 1}),
        (Answer(entry(), "l2"), 142.0, b"tiercache; hit; ttl=18; detail=l2", {"hits_l2": 1}),
        (Answer(entry(), "isolated"), 142.0, b"tiercache; hit; ttl=18; detail=isolated", {"hits_l1": 1}),
        (Answer(entry(), "l1"), 165.0, b"tiercache; hit; ttl=-5; detail=l1", {"hits_l1": 1, "stale": 1}),
        (Answer(entry(), "l1", True), 142.0, b"tiercache; fwd=miss; collapsed; ttl=18", {"collapsed": 1}),
        (
            Answer(entry(), "validated", forward_status="304", stored=True),
            100.0,
            b"tiercache; fwd=stale; fwd-status=304; stored; ttl=60; detail=validated",
            {},
        ),
        (
            Answer(entry(), "stale-if-error", forward_status=""),
            170.0,
            b"tiercache; fwd=stale; ttl=-10; detail=stale-if-error",
            {"stale": 1},
        ),
    ],
)
def test_an_answer_says_how_it_came_about_and_is_counted(
    presenter: Presenter, stats: Stats, answer: Answer, now: float, status: bytes, counts: dict[str, int]
) -> None:
    reply = presenter.answer(answer, asked(), now)
    assert (reply.status, reply.reason, reply.body) == (200, b"OK", b"0123456789")
    assert dict(reply.headers)[b"cache-status"] == status
    assert counted(stats) == counts


def test_the_fields_are_those_of_its_age_and_the_receivers_own(presenter: Presenter) -> None:
    one = entry()
    reply = presenter.answer(Answer(one, "l1"), asked(), 142.9)
    assert reply.headers == [
        (b"content-type", b"text/plain"),
        (b"etag", TAG),
        (b"content-length", b"10"),
        (b"cache-control", b"max-age=72"),
        (b"age", b"42"),
        (b"cache-status", b"tiercache; hit; ttl=17; detail=l1"),
    ]
    reply.headers.clear()
    assert len(presenter.answer(Answer(one, "l1"), asked(), 142.9).headers) == 6
    assert presenter.hit_fields(one, 42, 142.9) == presenter.answer(Answer(one, "l1"), asked(), 142.9).headers


def test_nothing_is_younger_than_new(presenter: Presenter) -> None:
    headers = dict(presenter.answer(Answer(entry(), "l1"), asked(), 97.0).headers)
    assert (headers[b"age"], headers[b"cache-control"]) == (b"0", b"max-age=30")


@pytest.mark.parametrize(("age", "cache_status"), [(False, True), (True, False), (False, False)])
def test_what_is_switched_off_is_not_said(stats: Stats, age: bool, cache_status: bool) -> None:
    presenter = Presenter(stats, age=age, cache_status=cache_status)
    headers = dict(presenter.answer(Answer(entry(), "l1"), asked(), 142.0).headers)
    assert ((b"age" in headers), (b"cache-status" in headers)) == (age, cache_status)
    # Without an Age nothing is subtracted, so that nothing may be added.
    assert headers[b"cache-control"] == (b"max-age=72" if age else b"max-age=30")
    assert (presenter.bypassing("cookie") is None) is not cache_status
    assert (presenter.forwarded("miss", "") is None) is not cache_status
    assert (b"cache-status" in dict(presenter.failed("overload").headers)) is cache_status


def test_a_condition_that_holds_is_answered_with_the_head(presenter: Presenter, stats: Stats) -> None:
    reply = presenter.answer(Answer(entry(), "l1"), asked({b"if-none-match": TAG}), 142.0)
    assert (reply.status, reply.reason, reply.body) == (304, b"Not Modified", b"")
    names = [name for name, _ in reply.headers]
    assert b"content-length" not in names
    assert b"content-type" not in names
    assert {b"etag", b"age", b"cache-control", b"cache-status"} <= set(names)
    assert counted(stats) == {"hits_l1": 1, "not_modified": 1}
    assert presenter.answer(Answer(entry(), "l1"), asked({b"if-none-match": b'"v2"'}), 142.0).status == 200


def test_a_part_is_cut_out(presenter: Presenter) -> None:
    reply = presenter.answer(Answer(entry(), "l1"), asked({b"range": b"bytes=2-4"}), 142.0)
    assert (reply.status, reply.reason, reply.body) == (206, b"Partial Content", b"234")
    headers = dict(reply.headers)
    assert (headers[b"content-range"], headers[b"content-length"]) == (b"bytes 2-4/10", b"3")


def test_a_part_that_is_not_there(presenter: Presenter) -> None:
    reply = presenter.answer(Answer(entry(), "l1"), asked({b"range": b"bytes=20-"}), 142.0)
    assert (reply.status, reply.body) == (416, b"")
    assert sorted(name for name, _ in reply.headers) == [
        b"age", b"cache-status", b"content-length", b"content-range", b"content-type",
    ]  # fmt: skip
    assert dict(reply.headers)[b"content-range"] == b"bytes */10"


def test_conditions_count_only_where_they_were_seen(presenter: Presenter) -> None:
    """`conditional` is how the request was understood; a bypassing one brings its fields all the same."""
    request = Asked({b"range": b"bytes=2-4"})
    assert presenter.answer(Answer(entry(), "l1"), request, 142.0).status == 200


def test_a_head_has_the_fields_and_no_body(presenter: Presenter) -> None:
    reply = presenter.answer(Answer(entry(), "l1"), asked(method="HEAD"), 142.0)
    assert (reply.status, reply.body, dict(reply.headers)[b"content-length"]) == (200, b"", b"10")
    validated = presenter.answer(Answer(entry(), "l1"), asked({b"if-none-match": TAG}, method="HEAD"), 142.0)
    assert validated.status == 304
    part = presenter.answer(Answer(entry(), "l1"), asked({b"range": b"bytes=2-4"}, method="HEAD"), 142.0)
    assert (part.status, part.body) == (200, b"")


def test_a_client_that_wants_it_from_the_store_or_not_at_all(presenter: Presenter) -> None:
    reply = presenter.failed("only-if-cached")
    assert (reply.status, reply.reason, reply.body) == (504, b"Gateway Timeout", b"")
    told = [(b"cache-control", b"no-store"), (b"cache-status", b"tiercache; detail=only-if-cached")]
    assert reply.headers == [(b"content-type", b"text/plain"), (b"content-length", b"0"), *told]


def test_what_the_app_sends_leaves_as_it_came_but_for_what_l0_is_told(presenter: Presenter) -> None:
    raw = [(b"Set-Cookie", b"a=1"), (b"Cache-Control", b"private"), (b"Set-Cookie", b"b=2"), (b"Age", b"7")]
    line = presenter.forwarded("miss", "", stored=True)
    assert line == (b"cache-status", b"tiercache; fwd=miss; stored")
    assert presenter.outgoing(raw, None, 0.0, None) == raw
    assert presenter.outgoing(raw, None, 0.0, line) == [*raw, line]
    edge = Edge((), b"", 30.0, 60.0, frozenset({b"cache-control", b"age"}))
    assert presenter.outgoing(raw, edge, 7.9, line) == [
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
        (b"Age", b"7"),
        (b"cache-control", b"max-age=37"),
        (b"cdn-cache-control", b"max-age=67"),
        line,
    ]
    assert raw[1] == (b"Cache-Control", b"private")


def test_every_reason_to_pass_by_has_its_line(presenter: Presenter) -> None:
    assert presenter.bypassing("method") == (b"cache-status", b"tiercache; fwd=method")
    assert presenter.bypassing("cookie") == (b"cache-status", b"tiercache; fwd=bypass; detail=cookie")


def test_what_is_served_past_trust_says_so_however_it_was_found(presenter: Presenter) -> None:
    request = asked()
    request.isolated = True
    for tier, said in (("l1", b"isolated"), ("l2", b"l2"), ("slow", b"slow")):
        reply = presenter.answer(Answer(entry(), tier), request, 142.0)
        assert dict(reply.headers)[b"cache-status"].endswith(b"; detail=" + said)
