"""L1 keeps what is hot when it is flooded, and keeps to its limit: hits are counted, bytes are weighed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from benchmarks import eviction, footprint
from benchmarks.policies import L1, LRU, POLICIES, S3FIFO, Policy, Sieve, WTinyLFU
from benchmarks.traces import Trace, flooded, looped, plain, proxy, swept
from tiercache.tiers.memory import MemoryTier

KEYS, REQUESTS, SEED = 10_000, 20_000, 7


def hits(make: Callable[[int], Policy], trace: Trace, part: int = 10) -> float:
    return eviction.hit_ratio(make(trace.total // part), trace).objects


@pytest.mark.soak
@pytest.mark.parametrize("alpha", [0.7, 0.9, 1.1])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_under_a_flood_hits_stay_near_those_of_an_admission_filter(alpha: float, share: float) -> None:
    trace = flooded(alpha, KEYS, REQUESTS if share < 0.9 else REQUESTS // 2, SEED, share=share)
    ours = hits(L1, trace)
    assert ours > 0.95 * hits(WTinyLFU, trace)
    assert ours > 1.02 * hits(Sieve, trace)
    assert ours > 1.1 * hits(LRU, trace)


@pytest.mark.soak
def test_a_flood_of_nine_in_ten_takes_little_of_what_was_hit_without_it() -> None:
    calm, flood = plain(1.1, KEYS, REQUESTS, SEED), flooded(1.1, KEYS, REQUESTS, SEED, share=0.9)
    assert hits(L1, flood) > 0.9 * hits(L1, calm)
    assert hits(LRU, flood) < 0.8 * hits(LRU, calm)


@pytest.mark.parametrize("make", [swept, looped, plain])
def test_without_a_flood_it_is_no_worse_than_sieve_or_lru(make: Callable[..., Trace]) -> None:
    trace = make(0.9, KEYS, REQUESTS, SEED)
    assert hits(L1, trace) >= hits(Sieve, trace) > hits(LRU, trace)


def test_on_the_shape_of_web_traffic_it_is_no_worse_than_sieve_or_an_admission_filter() -> None:
    trace = proxy(30_000, SEED)
    assert hits(L1, trace) >= hits(Sieve, trace) > hits(LRU, trace)
    assert hits(L1, trace) > 0.95 * hits(WTinyLFU, trace)


def test_every_hot_page_survives_a_flood_of_twenty_times_the_store() -> None:
    """Two hundred pages that take two thirds of the store, each asked for once in 2,000 requests."""
    tier = MemoryTier(300)
    hot = [("hot", number) for number in range(200)]
    for key in hot * 2:
        if not tier.lookup(key):
            tier.store(key, 1, 1, math.inf)
    missed = 0
    for number in range(6000):
        tier.store(("flood", number), 1, 1, math.inf)
        if number % 10 == 0:
            key = hot[number // 10 % 200]
            if not tier.lookup(key):
                missed += 1
                tier.store(key, 1, 1, math.inf)
    assert missed == 0
    assert tier.currsize == 300


# -- the comparison ----------------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_the_table_has_every_trace_and_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert eviction.main(["--keys", "300", "--requests", "600"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + 2 * 16
    assert [cell.strip() for cell in printed[0].split("|")[3:-1]] == list(POLICIES)
    assert {line.split("|")[1].strip() for line in printed if "flood" in line} == {
        f"Zipf {alpha}, {share} flood" for alpha in (0.7, 0.9, 1.1) for share in ("50%", "90%")
    }


def test_the_cost_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    measure = eviction.speed
    monkeypatch.setattr(eviction, "speed", lambda rounds: measure(1))
    assert eviction.main(["--speed"]) == 0
    assert [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]] == [
        "a hit",
        "a store",
        "a store that evicts",
    ]


@pytest.mark.parametrize("make", [LRU, Sieve, WTinyLFU, S3FIFO])
def test_what_it_is_compared_with_keeps_to_its_bytes(make: Callable[[int], Policy]) -> None:
    policy = make(1000)
    assert not policy.ask(1, 400)
    assert policy.ask(1, 400)
    assert not policy.ask(2, 5000)
    assert not policy.ask(2, 5000)
    for key in range(100, 200):
        policy.ask(key, 90)
    assert sum(policy.ask(key, 90) for key in range(100, 200)) * 90 <= 1000


def test_a_trace_is_made_of_what_it_says() -> None:
    flood = flooded(0.9, 1000, 5000, SEED, share=0.9)
    alone = [key for key, counts in flood.requests if not counts]
    assert len(set(alone)) == len(alone)
    assert min(alone) >= flood.keys
    assert 0.88 < len(alone) / len(flood.requests) < 0.92
    assert flood.requests == flooded(0.9, 1000, 5000, SEED, share=0.9).requests
    assert flood.requests != flooded(0.9, 1000, 5000, SEED + 1, share=0.9).requests

    sweeps = [counts for _, counts in swept(0.9, 1000, 5000, SEED).requests]
    assert len(sweeps) - sum(sweeps) == 4 * 200

    web = [key for key, _ in proxy(30_000, SEED).requests]
    asked = dict.fromkeys(web, 0)
    for key in web:
        asked[key] += 1
    once = sum(count == 1 for count in asked.values())
    assert 0.68 < once / len(asked) < 0.85


# -- the limit ---------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.parametrize("face", ["wsgi", "asgi"])
@pytest.mark.parametrize(("pages", "limit", "requests"), [("mixed", 16 << 20, 1200), ("small", 2 << 20, 2400)])
def test_what_is_allocated_stays_within_a_tenth_of_the_limit(
    face: footprint.Face, pages: footprint.Pages, limit: int, requests: int
) -> None:
    """Under WSGI in four threads; with markers of `Vary` and everything else that the cache makes while it runs."""
    samples = footprint.watch(face, pages, limit, requests)
    assert all(sample.accounted <= limit for sample in samples)
    assert samples[-1].accounted > 0.9 * limit, "it was never full"
    assert max(sample.allocated for sample in samples) < 1.1 * limit
    assert samples[-1].allocated > 0.7 * limit
