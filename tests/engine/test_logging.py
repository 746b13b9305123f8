"""Who logs what: by area, nothing on a hit, never a secret, and nothing by itself but warnings."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from tests.parity.conftest import World
from tests.parity.faces import FACES, Asked, Origin, Reply
from tests.servers import free_port
from tiercache import PurgeUnconfirmed
from tiercache.engine.events import Complaints, Stats
from tiercache.engine.troubles import TROUBLES

SECRET = "s3cr3t-Zq81-and-more"


@pytest.mark.parametrize("kind", TROUBLES)
def test_each_kind_has_its_logger(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    Complaints(Stats(), lambda: 0.0).swallow(kind, "no")
    assert [record.name for record in caplog.records] == [TROUBLES[kind].logger]


@pytest.mark.parametrize("face_kind", sorted(FACES))
def test_a_hit_writes_no_line_at_any_level(face_kind: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World(face_kind)
    face = world.face(Origin())
    face.get("/p/1")
    with caplog.at_level(logging.DEBUG):
        assert face.get("/p/1").hit
        assert face.get("/p/1", [("If-None-Match", face.get("/p/1").header("etag") or "")]).status == 304
        assert face.get("/p/1", method="HEAD").hit
    assert [record for record in caplog.records if record.name.startswith("tiercache")] == []
    world.close()


@pytest.mark.parametrize("face_kind", sorted(FACES))
def test_no_line_shows_a_secret_that_an_app_or_a_server_repeats(
    face_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    problems = [
        f"Authorization: Bearer {SECRET}",
        f"bad cookie: session={SECRET}",
        f"cannot connect to postgresql://shop:{SECRET}@db/shop",
        f"/p/1?token={SECRET}\nCookie: x={SECRET}",
        # As it stands, where nothing tells what it is.
        f"{SECRET} is not a user",
    ]

    failing: list[str] = []

    def answer(asked: Asked) -> Reply:
        return Reply(failure=ValueError(failing.pop())) if failing else Reply(b"page")

    caplog.set_level(logging.DEBUG)
    world = World(face_kind)
    rule = {"/p/{id}": {"ttl": "10s", "stale_if_error": "1h", "retry_after_error": 0}}
    face, hands = world.turnable(Origin(answer), rules=rule, session_secret=SECRET)
    face.get("/p/1")
    for problem in problems:
        hands.turn(61)
        failing.append(problem)
        assert face.get("/p/1").body == b"page"
    url = f"redis://me:{SECRET}@127.0.0.1:{free_port()}/0"
    cut_off = world.face(Origin(), url, rule)
    cut_off.get(f"/p/1?password={SECRET}", [("Cookie", f"sid={SECRET}"), ("Authorization", f"Bearer {SECRET}")])
    cut_off.cache._engine.complaints.swallow("L2 write", f"AUTH me {SECRET} was refused")
    with pytest.raises(PurgeUnconfirmed):
        cut_off.cache.purge(tags="p:1")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("tiercache")]
    assert sum(line.startswith("app failed, answered stale: ValueError: ") for line in lines) == len(problems)
    assert sum("***" in line for line in lines) == len(problems) + 1
    assert [line for line in lines if SECRET[:8] in line] == []
    world.close()


def test_a_secret_is_not_shown_by_half_where_a_line_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    for room in range(940, 1_010):
        Complaints(Stats(), lambda: 0.0).swallow("L2 read", "x" * room + f" redis://me:{SECRET}@host")
    assert [record for record in caplog.records if SECRET[:6] in record.getMessage()] == []


def test_without_any_configuration_only_warnings_are_written() -> None:
    code = (
        "from tiercache.engine.events import Complaints, Stats, remark\n"
        "complaints = Complaints(Stats(), lambda: 0.0)\n"
        "complaints.swallow('L2 read', 'gone')\n"
        "complaints.settle('L2 read', 'it answers again')\n"
        "remark('not stored', 'the view said so')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "L2 read: gone (further ones are counted in stats() and logged once a minute)"
    ]
