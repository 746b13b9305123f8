"""What an unsafe request invalidates."""

from __future__ import annotations

import pytest

from tests.core.asked import Asked, lines_of
from tiercache.core.decisions import invalidated_by, invalidates, is_unsafe
from tiercache.core.keys import bucket_of


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"])
def test_safe_methods_invalidate_nothing(method: str) -> None:
    assert not is_unsafe(method)
    assert not invalidates(method, 200)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW", "get"])
@pytest.mark.parametrize(("status", "does"), [(200, True), (204, True), (303, True), (399, True), (400, False)])
def test_others_do_where_they_succeed(method: str, status: int, does: bool) -> None:
    assert invalidates(method, status) is does
    assert not invalidates(method, 199)
    assert not invalidates(method, 500)


HERE = bucket_of("/p/1")


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        ([], []),
        (["Location: /p/2"], ["/p/2"]),
        (["Location: 2"], ["/p/2"]),
        (["Location: ../q?x=1#y"], ["/q"]),
        (["Location: ?x=1"], ["/p/1"]),
        (["Location: http://shop.example/p/2"], ["/p/2"]),
        (["Location: HTTP://SHOP.example:80/p/2"], ["/p/2"]),
        (["Location: http://shop.example"], ["/"]),
        (["Location: //shop.example"], ["/"]),
        (["Location: /caf%C3%A9"], ["/caf\u00e9"]),
        (["Location: https://shop.example/p/2"], []),
        (["Location: http://shop.example:8080/p/2"], []),
        (["Location: //evil.example/p/2"], []),
        (["Location: http://shop.example@evil.example/p/2"], []),
        (["Location: http://[bad/p/2"], []),
        (["Location: mailto:a@shop.example"], []),
        (["Content-Location: /p/2", "Location: /p/3"], ["/p/3", "/p/2"]),
    ],
)
def test_what_a_successful_unsafe_request_has_changed(lines: list[str], tags: list[str]) -> None:
    asked = Asked(method="POST")
    assert invalidated_by(asked, lines_of(*lines)) == [HERE, *map(bucket_of, tags)]


def test_a_rule_may_leave_its_own_paths_out() -> None:
    asked = Asked(method="POST", path="/p/7", invalidates_target=False)
    assert invalidated_by(asked, lines_of("Location: /p/2", "Content-Location: /p/3")) == []
    more = Asked(method="POST", path="/p/7", invalidates_target=False, invalidates=["views:{id}"])
    fields = lines_of("Location: /p/2", 'Cache-Group-Invalidation: "a"')
    assert invalidated_by(more, fields) == ["g:http://shop.example a", "t:views:7"]


def test_its_rule_and_its_app_may_name_more() -> None:
    asked = Asked(method="POST", path="/p/7", invalidates=["product:{id}", "catalog"])
    fields = lines_of('Cache-Group-Invalidation: "a", "b"', 'Cache-Groups: "c"')
    assert invalidated_by(asked, fields) == [
        bucket_of("/p/7"),
        "g:http://shop.example a",
        "g:http://shop.example b",
        "t:product:7",
        "t:catalog",
    ]
