"""The scenarios, and who goes through each of them.

The peers are set up in the words of their own documentation, with the same Redis, lifetimes and app. Where a library
has a way of its own against what a scenario does (a lock, an early refresh), a line with that way is there too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load.results import Limits
from benchmarks.load.runs import Bursts, Run, Scale, Timeline
from benchmarks.load.subjects import Subject, bare, cashews, fastapi_cache, flask_caching, tiercache

HEADLINE_WORKERS = 4
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    about: str
    run: Run
    subjects: Sequence[Subject]
    absent: str = ""
    """Which peers have no line here, and why."""


def _of_a_burst(workers: int) -> Bursts:
    def judge(subject: Subject, phase: str, scale: Scale) -> Limits:
        if subject.library != "tiercache":
            return Limits()
        coalesce = subject.rule.get("coalesce", "process")
        return Limits({"fleet": 1, "process": workers}.get(coalesce), errors=0)

    return Bursts(workers, 0.2, judge)


def _of_an_expiry(subject: Subject, phase: str, scale: Scale) -> Limits:
    refresh = subject.rule.get("early_refresh", 1.0)
    if subject.library != "tiercache" or refresh == "probabilistic":
        return Limits(errors=0 if subject.library == "tiercache" else None)
    return Limits(calls=math.ceil(scale.long / (2.0 * refresh)) + 1, errors=0)


def _no_errors(subject: Subject, phase: str, scale: Scale) -> Limits:
    return Limits(errors=0) if subject.library == "tiercache" else Limits()


def _no_errors_with_stale(subject: Subject, phase: str, scale: Scale) -> Limits:
    return Limits(errors=0) if "stale_if_error" in subject.rule else Limits()


HEADLINE = Scenario(
    "headline",
    "A burst on a cold key, 4 processes",
    "The app takes 200 ms and admits everybody. App calls are those of the worst burst.",
    _of_a_burst(HEADLINE_WORKERS),
    [
        bare("asgi"),
        *(tiercache("asgi", f"coalesce={c!r}", ttl="60s", coalesce=c) for c in (False, "process", "fleet")),
    ],
)

STAMPEDE = Scenario(
    "stampede",
    "A burst on a cold key, 2 processes, beside the peers",
    "The app takes 200 ms; each Flask worker has 64 threads. App calls are those of the worst burst.",
    _of_a_burst(WORKERS),
    [
        bare("asgi"),
        tiercache("asgi", "process", ttl="60s", coalesce="process"),
        tiercache("asgi", "fleet", ttl="60s", coalesce="fleet"),
        cashews("", ttl="60s"),
        cashews("lock=True", ttl="60s", lock=True),
        fastapi_cache(60),
        bare("wsgi"),
        tiercache("wsgi", "process", ttl="60s", coalesce="process"),
        tiercache("wsgi", "fleet", ttl="60s", coalesce="fleet"),
        flask_caching(60),
    ],
)

EXPIRY = Scenario(
    "expiry",
    "A hot key that expires every 2 s",
    "One key, 200 ms to make, asked for all the time. The fewest calls that keep it fresh are one in 2 s.",
    Timeline(1, 0.2, [""], {}, _of_an_expiry),
    [
        bare("asgi"),
        tiercache("asgi", "fleet", ttl="2s", coalesce="fleet"),
        tiercache("asgi", "early_refresh=0.8", ttl="2s", coalesce="fleet", early_refresh=0.8),
        tiercache("asgi", "probabilistic", ttl="2s", coalesce="fleet", early_refresh="probabilistic"),
        cashews("lock=True", ttl="2s", lock=True),
        cashews("early", ttl="2s", early=1.6),
        fastapi_cache(2),
        bare("wsgi"),
        tiercache("wsgi", "early_refresh=0.8", ttl="2s", coalesce="fleet", early_refresh=0.8),
        flask_caching(2),
    ],
)

_KEEPS_STALE = tiercache(
    "asgi", "keeps stale", {"on_lost_history": "stale"}, ttl="60s", coalesce="fleet", stale_while_revalidate="60s"
)
_OUTAGE = [
    bare("asgi"),
    tiercache("asgi", "", ttl="60s", coalesce="fleet"),
    _KEEPS_STALE,
    cashews("", ttl="60s"),
    cashews("client_side", {"client_side": True}, ttl="60s"),
    fastapi_cache(60),
    bare("wsgi"),
    tiercache("wsgi", "", ttl="60s", coalesce="fleet"),
    flask_caching(60),
]

KILLED = Scenario(
    "outage",
    "Redis is killed, and comes back empty",
    "Zipf traffic on 300 keys that are all stored; the app takes 50 ms. Libraries as their documentation sets them up.",
    Timeline(
        300,
        0.05,
        ["before", "no Redis", "back"],
        {"no Redis": lambda fleet: fleet.redis.kill(), "back": lambda fleet: fleet.redis.start()},
        _no_errors,
    ),
    _OUTAGE,
)

SILENT = Scenario(
    "silence",
    "Redis answers nothing for a while (stopped, its connections open)",
    "As above, but nothing is refused: whoever asks waits for as long as his own timeouts say.",
    Timeline(
        300,
        0.05,
        ["before", "silent Redis", "back"],
        {"silent Redis": lambda fleet: fleet.redis.pause(), "back": lambda fleet: fleet.redis.resume()},
        _no_errors,
    ),
    _OUTAGE,
)

SLOW = Scenario(
    "slow",
    "The app gets slow, then fails, then is well again",
    "Zipf traffic on 100 keys that are fresh for 1 s; the app takes 50 ms, then 2 s, then answers 503.",
    Timeline(
        100,
        0.05,
        ["before", "slow app", "failing app", "after"],
        {
            "slow app": lambda fleet: fleet.origin.set(2.0),
            "failing app": lambda fleet: fleet.origin.set(0.05, failing=True),
            "after": lambda fleet: fleet.origin.set(0.05),
        },
        _no_errors_with_stale,
    ),
    [
        subject
        for face in ("asgi", "wsgi")
        for subject in (
            bare(face),
            tiercache(face, "ttl alone", ttl="1s", coalesce="fleet"),
            tiercache(
                face,
                "stale",
                ttl="1s",
                coalesce="fleet",
                jitter=0.1,
                serve_stale_after="300ms",
                retry_after_error="1s",
                max_fills=20,
                stale_while_revalidate="10s",
                stale_if_error="60s",
            ),
        )
    ],
    "The peers are left out: the scenario is about this app, not about Redis, and none of the four sets a limit to it.",
)

ZIPF = Scenario(
    "zipf",
    "Zipf traffic from a cold start, with and without the cache",
    "1,000 keys by Zipf's law, alpha 1; the app takes 50 ms; the cache starts empty.",
    Timeline(1000, 0.05, [""], {}, _no_errors, warm=False),
    [
        subject
        for face in ("asgi", "wsgi")
        for subject in (bare(face), tiercache(face, "", ttl="60s", coalesce="fleet"))
    ],
)

SCENARIOS = {scenario.name: scenario for scenario in (HEADLINE, STAMPEDE, EXPIRY, KILLED, SILENT, SLOW, ZIPF)}
