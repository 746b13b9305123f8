"""Denial of service by way of the cache: error pages stored for all (CPDoS), and input that costs too much.

After Nguyen, Lo Iacono and Federrath, "Your Cache Has Fallen" (CCS 2019): HHO, HMC, HMO; and CVE-2011-4885 and its kin
for the costs. Costs are asserted as bounds on what is kept and on work counted, never as durations.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.conftest import RULE, Pair, World
from tests.parity.faces import Asked, Origin, Reply
from tiercache import TierCache
from tiercache.core import keys
from tiercache.core.decisions import MAX_FIELDS, MAX_VARY, REASONS
from tiercache.core.keys import MAX_SELECTING, picked_cookies, picked_query
from tiercache.core.policy_kinds import NEVER_STORED

TEXT = ("Content-Type", "text/plain")
STORED = "tiercache; fwd=miss; stored"
EXPLICIT = ("Cache-Control", "public, max-age=600")


@pytest.mark.parametrize("word", [(), (EXPLICIT,), (("Cache-Control", "s-maxage=600"), ("ETag", '"x"'))])
def test_nguyen_2019_hho_and_hmc_errors_that_the_request_caused(pair: Pair, word: Any) -> None:
    """Too long, malformed, conditional, expecting, unauthorised for the rate: never stored, not even by the app's own
    word (RFC 6585 §3 to §6 for 428, 429, 431 and 511)."""

    def answer(asked: Asked) -> Reply:
        bad = asked.fields.get("x-bad")
        return Reply(b"oops", [TEXT, *word], int(bad), "Oops") if bad else Reply(b"page")

    fill, read = pair(Origin(answer))
    for status in sorted(NEVER_STORED - {206, 304}):
        assert fill.get(f"/p/{status}", [("X-Bad", str(status))]).status == status
        assert read.get(f"/p/{status}").body == b"page"


@pytest.mark.parametrize("status", [400, 403, 404, 406, 429, 431, 500, 502, 503])
def test_nguyen_2019_errors_without_the_apps_word(pair: Pair, status: int) -> None:
    fill, read = pair(
        Origin(lambda asked: Reply(b"oops", [TEXT], status) if "x-bad" in asked.fields else Reply(b"page"))
    )
    assert fill.get("/p/1", [("X-Bad", "x")]).status == status
    assert read.get("/p/1").body == b"page"


@pytest.mark.parametrize(
    "line",
    [
        ("Range", "bytes=0-0"), ("Range", "bytes=9999-"), ("Range", "bytes=" + ",".join(["0-0"] * 1000)),
        ("If-Match", '"x"'), ("If-Unmodified-Since", "Sun, 01 Nov 2020 00:00:00 GMT"), ("If-None-Match", "*"),
        ("If-Modified-Since", "Sun, 01 Nov 2026 00:00:00 GMT"), ("Expect", "200-maybe"), ("Upgrade", "h2c"),
        ("Request-Range", "bytes=0-0"), ("If-Range", '"x"'),
    ],
)  # fmt: skip
def test_nguyen_2019_partial_and_conditional_answers(pair: Pair, line: tuple[str, str]) -> None:
    """What is cut down for one client is not the page (RFC 9110 §13, §14)."""

    def answer(asked: Asked) -> Reply:
        fields = asked.fields
        if "range" in fields or "request-range" in fields:
            return Reply(b"p", [TEXT, ("Content-Range", "bytes 0-0/4"), EXPLICIT], 206, "Partial Content")
        if "if-match" in fields or "if-unmodified-since" in fields:
            return Reply(b"", [TEXT, EXPLICIT], 412, "Precondition Failed")
        if "if-none-match" in fields or "if-modified-since" in fields:
            return Reply(b"", [EXPLICIT], 304, "Not Modified")
        if "expect" in fields:
            return Reply(b"", [TEXT, EXPLICIT], 417, "Expectation Failed")
        if "upgrade" in fields:
            return Reply(b"", [TEXT, EXPLICIT], 426, "Upgrade Required")
        return Reply(b"page")

    for rules in ({"/p/{id}": {"ttl": "10m"}}, {}):
        fill, read = pair(Origin(answer), rules=rules, namespace=f"n{len(rules)}")
        fill.get("/p/1", [line])
        clean = read.get("/p/1")
        assert (clean.status, clean.body) == (200, b"page")


def test_rfc9110_14_2_many_ranges_are_answered_with_the_whole(pair: Pair) -> None:
    """CVE-2011-3192, the Apache Killer: ranges by the thousand, overlapping."""
    fill, read = pair(Origin(Reply(b"x" * 10_000)))
    fill.get("/p/1")
    killer = "bytes=0-," + ",".join(f"5-{number}" for number in range(1_300))
    response = read.get("/p/1", [("Range", killer)])
    assert (response.status, len(response.body)) == (200, 10_000)


@pytest.mark.parametrize("huge", ["bytes=0-" + "9" * 5_000, "bytes=-" + "9" * 5_000, "bytes=" + "9" * 5_000 + "-"])
def test_cve_2020_10735_huge_numbers_in_ranges(pair: Pair, huge: str) -> None:
    fill, read = pair(Origin(Reply(b"x" * 10)))
    fill.get("/p/1")
    assert read.get("/p/1", [("Range", huge)]).status in (200, 206, 416)


@pytest.mark.parametrize("lines", [[("X-Long", "x" * (MAX_FIELDS + 1))], [(f"X-{n}", "x" * 90) for n in range(400)]])
def test_nguyen_2019_a_response_header_that_proxies_refuse(pair: Pair, lines: Any) -> None:
    """An app that repeats a long parameter in a field: the proxy answers 502, to its sender and not to all."""
    origin = Origin(lambda asked: Reply(b"page", [TEXT, *lines] if "x-bad" in asked.fields else [TEXT]))
    fill, read = pair(origin)
    assert fill.get("/p/1", [("X-Bad", "1")]).outcome.endswith("detail=malformed")
    assert read.get("/p/1").outcome == STORED


def test_head_is_not_the_page(pair: Pair) -> None:
    fill, read = pair(Origin())
    fill.get("/p/1", method="HEAD")
    assert read.get("/p/1").body != b""


# -- Vary ----------


def test_vary_by_hundreds_of_fields(pair: Pair) -> None:
    fill, read = pair(Origin(Reply(headers=[TEXT, ("Vary", ", ".join(f"x-{n}" for n in range(500)))])))
    assert fill.get("/p/1").outcome == "tiercache; fwd=miss; detail=vary"
    assert not read.get("/p/1").hit


def test_vary_by_other_fields_each_time(world: World, redis_url: str) -> None:
    """The fields of all answers of a URL are looked at together, and those are bounded too."""
    origin = Origin(lambda asked: Reply(headers=[TEXT, ("Vary", f"x-{asked.query}, x-{len(origin.asked)}")]))
    rules = {"/p/{id}": {"ttl": "10m", "query": "ignore"}}
    fill, read = (world.face(origin, redis_url, rules) for _ in range(2))
    for number in range(3 * MAX_SELECTING):
        fill.get("/p/1", [("X-1", str(number))])
        markers = [v for v in _values(fill) if hasattr(v, "names")]
        assert all(len(marker.names) <= MAX_SELECTING for marker in markers)
    read.get("/p/1")
    assert all(len(v.names) <= MAX_SELECTING for v in _values(read) if hasattr(v, "names"))
    assert MAX_VARY <= MAX_SELECTING


def _values(face: Any) -> list[Any]:
    memory = face.cache._engine.memory
    return [memory.lookup(key) for key in list(memory)]


def test_vary_explosion_is_capped_in_both_tiers(world: World, redis_url: str) -> None:
    import redis

    origin = Origin(lambda asked: Reply(headers=[TEXT, ("Vary", "User-Agent")]))
    face = world.face(origin, redis_url, max_variants=5)
    for number in range(40):
        face.get("/p/1", [("User-Agent", f"bot {number}")])
    kept = [v for v in _values(face) if not hasattr(v, "names")]
    assert len(kept) == 5
    with redis.Redis.from_url(redis_url) as client:
        assert len([key for key in client.keys("tc:*") if client.type(key) == b"string"]) <= 5 + 2


def test_vary_by_long_values_is_accounted_for(world: World) -> None:
    """Keys of variants that have been evicted stay with their URL: they count against the bound of L1 all the same."""
    face = world.face(Origin(Reply(headers=[TEXT, ("Vary", "Accept-Language")])), l1_size="256KiB")
    memory = face.cache._engine.memory
    for page in range(20):
        for number in range(10):
            face.get(f"/p/{page}", [("Accept-Language", f"{number}" * 5_000)])
    held = sum(len(value) for v in _values(face) if hasattr(v, "kept") for key in v.kept for value in key[2])
    assert held <= memory.maxsize
    assert memory.currsize <= memory.maxsize


# -- Memory and work ----------


def test_what_is_remembered_of_urls_is_bounded(world: World) -> None:
    """Clients choose URLs, their number and their length."""
    replies = {"p": Reply(headers=[TEXT, ("Cache-Control", "private")]), "down": Reply(status=500, reason="Failed")}
    replies["other"] = replies["p"]
    declared: Any = TierCache().cached(ttl="10m")(lambda: Reply())
    origin = Origin(lambda asked: replies.get(asked.path.split("/")[1]) or declared())
    face, hands = world.turnable(origin, rules={**RULE, "/down/{id}": {"ttl": "1s", "stale_if_error": "1h"}})
    engine = face.cache._engine
    memos: list[Any] = [engine.unshareable, engine.passing, engine.declared, engine.cooling]
    for memo in memos:
        memo._limit = 50
    down, replies["down"] = replies["down"], Reply()
    urls = [f"/{kind}/{number}" for number in range(60) for kind in ("p", "other", "declared", "down")]
    urls += [f"/{kind}/1?{'x' * 10_000}" for kind in ("p", "other", "declared", "down")]
    for url in urls:
        face.get(url)
    replies["down"] = down
    hands.turn(2)
    for url in urls:
        face.get(url)
    for memo in memos:
        assert 0 < len(memo) <= 50
        assert max(len(repr(key)) for key in memo._until) < 3_000
    assert len(engine.flights) == 0
    index = face.cache.routes._index
    assert index is not None
    face.get("/p/" + "y" * 5_000)
    assert max(map(len, index.memo)) <= 256


def test_counters_are_counted_by_known_names_only(world: World) -> None:
    origin = Origin(lambda asked: Reply(headers=[TEXT, ("Cache-Control", asked.fields.get("x-cc", "max-age=1"))]))
    face = world.face(origin)
    for value in ("private", "no-store", "x" * 500, 'no-cache="a'):
        for name in ("Cookie", "Authorization", "X-Forwarded-Host", "Range", "If-Match", "X-Cc", "Upgrade"):
            face.get(f"/p/{len(value)}", [("X-CC", value), (name, "bytes=1-")])
    stats = face.cache.stats()
    assert {*stats["refused"], *stats["bypassed"]} <= {*REASONS}
    assert not stats["swallowed"]


def test_normal_forms_of_long_values_are_not_remembered() -> None:
    memos = (keys._normal_list, keys.preference, keys._picked)
    before = [memo.cache_info().currsize for memo in memos]
    for number in range(20):
        long = b"de, %d, " % number + b"x" * 2_000
        assert keys.normal_value(long) == long
        keys._preferred(long)
        assert picked_query(b"a=%d&" % number + long, (b"a",)) == (b"a=%d" % number,)
    assert [memo.cache_info().currsize for memo in memos] == before
    assert all(memo.cache_info().maxsize is not None for memo in memos)


class _Counting(bytes):
    """Bytes that count how often they are taken apart."""

    splits = 0

    def split(self, *args: Any) -> Any:
        type(self).splits += 1
        return super().split(*args)


def test_cve_2011_4885_cookies_and_parameters_are_taken_apart_once() -> None:
    _Counting.splits = 0
    cookies = _Counting(b"; ".join(b"c%d=%d" % (n, n) for n in range(5_000)))
    assert picked_cookies(cookies, (b"c1", b"c4999", b"none")) == (b"1", b"4999", None)
    assert _Counting.splits == 1
    query = _Counting(b"&".join(b"c%d=%d" % (n, n) for n in range(5_000)))
    assert picked_query(query, (b"c1", b"c4999")) == (b"c1=1", b"c4999=4999")
    assert _Counting.splits == 2


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "Accept", "Cookie", "Forwarded", "If-None-Match", "Accept-Encoding"]
)
def test_oversized_and_repeated_request_fields_do_no_harm(world: World, name: str) -> None:
    face = world.face(Origin(Reply(headers=[TEXT, ("Vary", "Accept, Accept-Encoding")])))
    face.get("/p/1", [(name, f"a{n}=b") for n in range(2_000)])
    face.get("/p/1", [(name, "x" * 60_000)])
    assert face.get("/p/1").body == b"hello"
    assert not face.cache.stats()["swallowed"]
