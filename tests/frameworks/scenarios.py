"""What holds of the site around which there is a cache, whatever framework, face or server it is seen through.

Each scenario asks for pages of its own, so that all of them may share one app. A subclass gives them a `site`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.frameworks.site import PIECES, Layout
from tests.frameworks.visitors import GUARD, Page, Visitor
from tiercache import TierCache

SESSIONS_OUTSIDE = ("starlette", "fastapi", "litestar")
"""Frameworks whose sessions can stand outside of the cache. All others have theirs inside, or in the app itself."""
_numbers = itertools.count(1000)


@dataclass
class Site:
    """One app with the cache around it, and what is known of it."""

    visitor: Visitor
    layout: Layout
    asgi: bool
    """Whether it is reached through ASGI."""
    framework: str
    purger: TierCache
    """A cache of the same namespace: the app's own, or that of another process."""
    server: str = ""
    """None within this process."""


def eventually(condition: Callable[[], bool], what: str) -> None:
    pause = threading.Event()
    for _ in range(int(GUARD / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError(f"not within {GUARD} s: {what}")


def call_of(page: Page) -> int:
    """How often the app had been called for this page when it made it."""
    return int(page.text.split(" call ")[1].split()[0])


class Basics:
    """What holds wherever the site is mounted."""

    @pytest.fixture
    def visitor(self, site: Site) -> Visitor:
        return site.visitor

    @pytest.fixture
    def n(self) -> int:
        return next(_numbers)

    # -- hits, and what else is answered from the store ----------------------------------------------------------------

    def test_a_page_is_made_once(self, visitor: Visitor, n: int) -> None:
        first, second, third = (visitor.get(f"/products/{n}") for _ in range(3))
        assert (first.status, first.outcome) == (200, "tiercache; fwd=miss; stored")
        assert first.text == f"product {n} call 1 costs 1"
        assert (second.outcome, third.outcome) == ("tiercache; hit; detail=l1",) * 2
        assert first.text == second.text == third.text
        assert second.headers["age"].isdigit()
        assert visitor.get(f"/products/{n}?other").text == f"product {n} call 2 costs 1"

    def test_a_head_a_condition_and_a_range_are_answered_from_the_store(self, visitor: Visitor, n: int) -> None:
        whole = visitor.get(f"/products/{n}")
        head = visitor.get(f"/products/{n}", "HEAD")
        assert (head.hit, head.content, head.headers["content-length"]) == (True, b"", str(len(whole.content)))
        etag = visitor.get(f"/products/{n}").headers["etag"]
        same = visitor.get(f"/products/{n}", if_none_match=etag)
        assert (same.status, same.hit, same.content, same.headers["etag"]) == (304, True, b"", etag)
        assert visitor.get(f"/products/{n}", if_none_match='"other"').text == whole.text
        part = visitor.get(f"/products/{n}", range="bytes=8-10")
        assert (part.status, part.hit, part.content) == (206, True, whole.content[8:11])
        assert part.headers["content-range"] == f"bytes 8-10/{len(whole.content)}"

    def test_a_stream_arrives_whole_and_is_kept_whole(self, visitor: Visitor, n: int) -> None:
        first, second = visitor.get(f"/streams/{n}"), visitor.get(f"/streams/{n}")
        assert (first.stored, second.hit) == (True, True)
        assert first.text.count("call 1 piece") == PIECES * 100
        assert second.content == first.content

    # -- what becomes of what has changed ------------------------------------------------------------------------------

    def test_a_post_invalidates_its_own_path(self, visitor: Visitor, n: int) -> None:
        other = visitor.get("/products/1")
        assert visitor.get(f"/products/{n}").text.endswith("costs 1")
        assert visitor.post(f"/products/{n}", "7").outcome == "tiercache; fwd=method"
        seen = visitor.get(f"/products/{n}")
        assert (seen.stored, seen.text) == (True, f"product {n} call 2 costs 7")
        assert visitor.get("/products/1").text == other.text

    def test_a_view_purges_a_tag(self, visitor: Visitor, n: int) -> None:
        both = f"/products/{n}", f"/products/{n}?again"
        assert [visitor.get(path).text.endswith("costs 1") for path in both] == [True, True]
        visitor.post(f"/reprice/{n}", "8")
        assert [visitor.get(path).text.endswith("costs 8") for path in both] == [True, True]

    def test_a_view_purges_the_url_that_its_framework_makes(self, visitor: Visitor, n: int) -> None:
        assert visitor.get(f"/products/{n}").text.endswith("costs 1")
        assert visitor.get(f"/products/{n}").hit
        visitor.post(f"/relink/{n}", "9")
        assert visitor.get(f"/products/{n}").text == f"product {n} call 2 costs 9"

    def test_a_purge_from_elsewhere_arrives(self, site: Site, visitor: Visitor, n: int) -> None:
        path = f"/products/{n}"
        url = f"http://shop.example{visitor.prefix}{path}"
        assert call_of(visitor.get(path)) == 1
        for what in ({"tags": [f"product:{n}"]}, {"urls": [url]}, {"urls": [visitor.prefix + path]}):
            # What is made while a process catches up with the purge before may be a miss once more.
            eventually(lambda: visitor.get(path).hit, "it is stored again")
            seen = call_of(visitor.get(path))
            site.purger.purge(**what)
            eventually(lambda: call_of(visitor.get(path)) > seen, f"{what} is gone")  # noqa: B023


class Scenarios(Basics):
    """What holds of the site as a whole."""

    # -- views that speak to the cache ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_what_a_view_says_is_heard(self, site: Site, visitor: Visitor, n: int, kind: str) -> None:
        tagged = f"/{kind}/tagged/{n}"
        assert visitor.get(tagged).stored
        assert visitor.get(tagged).hit
        site.purger.purge(tags=f"said:{n}")
        eventually(lambda: not visitor.get(tagged).hit, "what the view has tagged is gone")
        kept_out = [visitor.get(f"/{kind}/kept-out/{n}") for _ in range(2)]
        assert [(page.stored, page.hit, call_of(page)) for page in kept_out] == [(False, False, 1), (False, False, 2)]
        assert kept_out[1].outcome == "tiercache; fwd=miss; detail=view"
        visitor.get(f"/{kind}/brief/{n}")
        brief = visitor.get(f"/{kind}/brief/{n}")
        seconds = next(part for part in brief.headers["cache-status"].split("; ") if part.startswith("ttl="))
        assert 0 < int(seconds[4:]) <= 90

    def test_the_decorator_declares(self, site: Site, visitor: Visitor, n: int) -> None:
        first, second = visitor.get(f"/declared/{n}"), visitor.get(f"/declared/{n}")
        assert (first.stored, second.hit, call_of(second)) == (True, True, 1)
        site.purger.purge(tags=f"declared:{n + 1}")
        assert visitor.get(f"/declared/{n}").hit
        site.purger.purge(tags=f"declared:{n}")
        eventually(lambda: not visitor.get(f"/declared/{n}").hit, "what the decorator has tagged is gone")

    # -- users ---------------------------------------------------------------------------------------------------------

    def test_sessions_are_never_shared(self, visitor: Visitor) -> None:
        nobody = visitor.get("/me")
        assert (nobody.text.partition(" hello ")[2], nobody.cookie) == ("nobody", "")
        cookies = {name: visitor.post(f"/login/{name}").cookie for name in ("ann", "bob")}
        assert all(cookies.values())
        for _ in range(2):
            for name, cookie in cookies.items():
                own = visitor.get("/me", cookie=cookie)
                assert own.text.endswith(f"hello {name}")
                assert own.outcome == "tiercache; fwd=bypass; detail=cookie"
            anyone = visitor.get("/me")
            assert (anyone.text, anyone.hit, anyone.cookie) == (nobody.text, True, "")

    def test_a_page_that_begins_a_session_is_everybodys_own(self, site: Site, visitor: Visitor, n: int) -> None:
        seen = [visitor.get(f"/visits/{n}") for _ in range(3)]
        if site.layout == "outside" and site.framework in SESSIONS_OUTSIDE:
            # The cookie is set where the cache does not see it. Nobody gets another's; but only the first has one.
            assert [(page.hit, bool(page.cookie)) for page in seen] == [(False, True), (True, False), (True, False)]
            return
        assert [page.text.endswith("of you: 1") for page in seen] == [True] * 3
        assert [page.stored or page.hit for page in seen] == [False] * 3
        assert all(page.cookie for page in seen)
        assert len({call_of(page) for page in seen}) == 3
        assert visitor.get(f"/visits/{n}", cookie=seen[0].cookie).text.endswith("of you: 2")

    def test_a_page_behind_a_login_is_for_who_has_logged_in(self, visitor: Visitor, n: int) -> None:
        for _ in range(2):
            assert visitor.get(f"/secrets/{n}").status == 401
            for name in ("ann", "bob"):
                own = visitor.get(f"/secrets/{n}", authorization=f"Bearer token-of-{name}")
                assert (own.status, own.text.rpartition(" ")[2], own.hit, own.stored) == (200, name, False, False)
            assert visitor.get(f"/secrets/{n}", authorization="Bearer forged").status == 401

    # -- middleware ----------------------------------------------------------------------------------------------------

    def test_compressed_and_not(self, site: Site, visitor: Visitor, n: int) -> None:
        wanted = f"text {n} call "
        for round_number in range(2):
            plain = visitor.get(f"/texts/{n}")
            packed = visitor.get(f"/texts/{n}", accept_encoding="gzip")
            assert "content-encoding" not in plain.headers
            assert packed.headers["content-encoding"] == "gzip"
            for page in (plain, packed):
                assert page.text.startswith(wanted)
                assert page.text.count("word") == 800
                assert "accept-encoding" in page.varies()
            # Inside, each body is stored by itself; outside, each hit is compressed anew.
            assert (plain.hit, packed.hit) == (round_number == 1, round_number == 1 or site.layout == "outside")
        etags = [page.headers["etag"] for page in (plain, packed)]
        # One validator for two bodies may not claim to be strong; two bodies of our own have two.
        assert etags[0] != etags[1] or etags[0].startswith("W/")
        for encoding, etag in zip(("identity", "gzip"), etags, strict=True):
            assert visitor.get(f"/texts/{n}", accept_encoding=encoding, if_none_match=etag).status == 304

    def test_every_origin_is_told_its_own(self, visitor: Visitor, n: int) -> None:
        allowed = {"https://a.example": "https://a.example", "https://b.example": "https://b.example"}
        for _ in range(3):
            # Those first who are told nothing: what is stored for them tells nobody that others are allowed.
            assert visitor.get(f"/shared/{n}").headers.get("access-control-allow-origin") is None
            for origin in ("https://evil.example", *allowed):
                page = visitor.get(f"/shared/{n}", origin=origin)
                assert page.headers.get("access-control-allow-origin") == allowed.get(origin)
        assert page.hit

    # -- trouble -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("path", "status"), [("missing", 404), ("broken", 500)])
    def test_an_error_is_not_stored(self, visitor: Visitor, n: int, path: str, status: int) -> None:
        seen = [visitor.get(f"/{path}/{n}") for _ in range(2)]
        assert [page.status for page in seen] == [status, status]
        # The page for an exception may be made outside of the cache, which then says nothing.
        assert not any("cache-status" in page.headers and (page.stored or page.hit) for page in seen)

    def test_a_path_that_there_is_not(self, visitor: Visitor, n: int) -> None:
        assert [visitor.get(f"/nowhere/{n}").status for _ in range(2)] == [404, 404]
