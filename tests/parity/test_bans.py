"""Bans of paths, in every tier and for what is on its way."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.parity.conftest import Pair, World
from tests.parity.faces import Asked, Face, Origin, Reply
from tests.parity.waiting import attach, eventually, purge

RULES: Any = {"/{rest:path}": {"ttl": "10m"}}
TEXT = ("Content-Type", "text/plain")
BANS = [{"prefix": "/a/"}, {"glob": "/a/*"}, {"glob": "**/1"}, {"glob": "/?/1"}, {"prefix": ["/z", "/a/1"]}]


def named(ban: Any) -> str:
    return " ".join(map(str, ban.values()))


@pytest.mark.parametrize("ban", BANS, ids=named)
def test_what_lies_under_the_path_is_dead_and_nothing_else(pair: Pair, ban: Any) -> None:
    fill, read = pair(Origin(), rules=RULES)
    for url in ("/a/1?x=1", "/a", "/b/2"):
        fill.get(url)
    attach(read)
    receipt = purge(read, **ban)
    assert all(member.startswith("b:") for member in receipt.members)
    assert not read.get("/a/1?x=1").hit
    assert read.get("/a").hit
    assert read.get("/b/2").hit
    # What is stored since is not.
    assert read.get("/a/1?x=1").hit


def test_it_reaches_another_process(world: World, redis_url: str) -> None:
    one, other = (world.face(Origin(), redis_url, RULES) for _ in range(2))
    one.get("/a/1")
    assert other.get("/a/1").hit
    purge(one, glob="/a/**")
    eventually(lambda: not other.get("/a/1").hit)


@pytest.mark.parametrize("ban", BANS[:2], ids=named)
def test_a_fill_that_began_before_is_dead_wherever_it_lands(pair: Pair, ban: Any) -> None:
    gate = threading.Event()
    origin = Origin(lambda asked: Reply(b"%d" % origin.calls, before=None if gate.is_set() else gate))
    fill, read = pair(origin, rules=RULES)
    attach(read)
    attach(fill)
    call = fill.begin("/a/1")
    origin.wait_for_call()
    purge(read, **ban)
    gate.set()
    assert call.result().body == b"1"
    # Written to L2 by now, and late.
    assert read.get("/a/1").body == b"2"
    assert read.get("/a/1").hit


def test_every_variant_is_dead(pair: Pair) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(asked.fields["accept-language"].encode(), [TEXT, ("Vary", "Accept-Language")])

    fill, read = pair(Origin(answer), rules=RULES)
    languages = [[("Accept-Language", language)] for language in ("de", "fr")]

    def hits(face: Face) -> list[bool]:
        return [face.get("/a/1", headers).hit for headers in languages]

    hits(fill)
    assert hits(read) == [True, True]
    purge(read, prefix="/a")
    assert hits(read) == [False, False]
    assert hits(read) == [True, True]


@pytest.mark.parametrize(
    "ban", [{"prefix": "/caf%C3%A9/"}, {"prefix": "/café/"}, {"glob": "/caf%C3%A9/*"}, {"glob": "/caf?/*"}], ids=named
)
def test_paths_are_meant_encoded_or_not(world: World, ban: Any) -> None:
    face = world.face(Origin(), rules=RULES)
    face.get("/caf%C3%A9/1")
    purge(face, **ban)
    assert not face.get("/caf%C3%A9/1").hit


def test_a_newline_in_a_path_hides_nothing(world: World) -> None:
    face = world.face(Origin(), rules=RULES)
    face.get("/a/%0A1")
    assert face.get("/a/%0A1").hit
    purge(face, glob="/a/*")
    assert not face.get("/a/%0A1").hit
