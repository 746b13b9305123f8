"""What makes two requests the same, variants included, in memory and through L2."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parity.conftest import Pair, World
from tests.parity.faces import Asked, Origin, Reply
from tests.parity.test_flights import gets
from tests.servers import RedisServer

TEXT = ("Content-Type", "text/plain")
STORED = "tiercache; fwd=miss; stored"


def by(*names: str, vary: str = "") -> Origin:
    """An app whose answer names the values of some request fields."""

    def answer(asked: Asked) -> Reply:
        body = "|".join(asked.fields.get(name.lower(), "-") for name in names)
        return Reply(body.encode(), [TEXT, ("Vary", vary or ", ".join(names))])

    return Origin(answer)


@pytest.mark.parametrize(
    "other",
    [
        {"scheme": "https"},
        {"host": "other.example"},
        {"host": "shop.example:8080"},
        {"host": "SHOP.example"},
        {"url": "/p/1?"},
        {"url": "/p/1?b=2&a=1"},
        {"url": "/p/1?a=1&b=2&"},
        {"url": "/p/2?a=1&b=2"},
        {"url": "/%70/1?a=1&b=2"},
        {"url": "/p/1?a=%31&b=2"},
        {"url": "/p/1;x?a=1&b=2"},
        {"mount": "/p"},
    ],
)
def test_what_tells_two_requests_apart(pair: Pair, other: dict[str, Any]) -> None:
    rules = {"/p/{rest:path}": {"ttl": "10m"}}
    fill, read = pair(Origin(), rules=rules)
    one: dict[str, Any] = {"url": "/p/1?a=1&b=2"}
    assert fill.get(**one).outcome == STORED
    assert not read.get(**{**one, **other}).hit
    assert read.get(**one).hit


def test_encoded_delimiters_are_not_the_delimiters(pair: Pair) -> None:
    fill, read = pair(Origin(), rules={"/p/{rest:path}": {"ttl": "10m"}})
    for url in ("/p/a/b", "/p/a%2Fb", "/p/a%2fb", "/p/a%252Fb", "/p/a//b", "/p/./a/b"):
        assert fill.get(url).outcome == STORED
        assert read.get(url).hit


@pytest.mark.parametrize("setting", ["app", "version", "namespace"])
def test_apps_versions_and_namespaces_are_apart(world: World, redis_url: str, setting: str) -> None:
    one = world.face(Origin(), redis_url, **{setting: "one"})
    two = world.face(Origin(), redis_url, **{setting: "two"})
    again = world.face(Origin(), redis_url, **{setting: "one"})
    assert one.get("/p/1").outcome == STORED
    assert two.get("/p/1").outcome == STORED
    assert again.get("/p/1").hit


def test_apps_of_a_namespace_share_purges(world: World, redis_url: str) -> None:
    one, two = (world.face(Origin(), redis_url, app=name) for name in ("one", "two"))
    one.get("/p/1")
    two.get("/p/1")
    two.get("/p/2")
    receipt = one.cache.purge(tags="p:1")
    assert receipt.shared
    for _ in range(2_000):
        if not two.get("/p/1").hit:
            break
    else:
        raise AssertionError("the purge did not arrive")
    assert two.get("/p/2").hit


def test_picked_and_ignored_queries(pair: Pair) -> None:
    rules = {
        "/p/{id}": {"ttl": "10m", "query": ["page", "q[]"]},
        "/n/{id}": {"ttl": "10m", "query": "ignore"},
    }
    fill, read = pair(Origin(lambda asked: Reply(asked.query.encode())), rules=rules)
    fill.get("/p/1?page=1&utm_source=x")
    assert read.get("/p/1?page=1").hit
    assert read.get("/p/1?utm=2&%70age=1").outcome == STORED
    assert not read.get("/p/1?page=2").hit
    assert not read.get("/p/1").hit
    # Some parsers split at a semicolon and some do not.
    assert not read.get("/p/1?page=1;page=2").hit
    assert not read.get("/p/1?page=1&x=y;page=2").hit
    fill.get("/n/1?a=1")
    assert read.get("/n/1?b=2").hit


def test_fields_in_the_key(pair: Pair) -> None:
    origin = Origin(lambda asked: Reply(asked.fields.get("x-tenant", "-").encode()))
    fill, read = pair(origin, rules={"/p/{id}": {"ttl": "10m", "headers": ["X-Tenant"]}})
    for lines, body in (([("X-Tenant", "a")], b"a"), ([("X-Tenant", "")], b""), ([], b"-")):
        assert fill.get("/p/1", lines).outcome == STORED
        response = read.get("/p/1", lines)
        assert response.hit
        assert response.body == body


# -- variants --------------------------------------------------------------------------------------------------------


def test_variants_by_two_fields(pair: Pair) -> None:
    fill, read = pair(by("Accept-Language", "Accept-Encoding"))
    combinations = [
        [("Accept-Language", language), ("Accept-Encoding", encoding)]
        for language in ("de", "fr")
        for encoding in ("gzip", "br")
    ]
    combinations += [[("Accept-Language", "de")], [("Accept-Encoding", "gzip")], []]
    bodies = [fill.get("/p/1", lines).body for lines in combinations]
    assert bodies == [b"de|gzip", b"de|br", b"fr|gzip", b"fr|br", b"de|-", b"-|gzip", b"-|-"]
    for lines, body in zip(combinations, bodies, strict=True):
        response = read.get("/p/1", lines)
        assert response.hit
        assert response.body == body
    assert fill.origin.calls == 7


def test_an_empty_field_is_not_an_absent_one(pair: Pair) -> None:
    fill, read = pair(by("Accept-Language"))
    assert fill.get("/p/1", [("Accept-Language", "")]).body == b""
    response = read.get("/p/1")
    assert not response.hit
    assert response.body == b"-"
    assert read.get("/p/1", [("Accept-Language", "")]).body == b""


def test_vary_by_everything_is_not_stored(pair: Pair) -> None:
    fill, read = pair(by("Accept-Language", vary="*"))
    assert fill.get("/p/1").outcome == "tiercache; fwd=miss; detail=vary"
    assert not read.get("/p/1").hit


def test_vary_that_changes_from_answer_to_answer(pair: Pair) -> None:
    """Each stored response is given only to requests that its own `Vary` selects."""

    def answer(asked: Asked) -> Reply:
        language = asked.fields.get("accept-language", "-")
        vary = "Accept-Language" if language == "de" else "Accept-Language, Accept-Encoding"
        return Reply(f"{language}|{asked.fields.get('accept-encoding', '-')}".encode(), [TEXT, ("Vary", vary)])

    fill, read = pair(Origin(answer))
    for face in (fill, read, fill, read):
        for language in ("de", "fr"):
            for encoding in ("gzip", "br"):
                lines = [("Accept-Language", language), ("Accept-Encoding", encoding)]
                body = face.get("/p/1", lines).body.decode()
                assert body.startswith(language)
                assert language == "de" or body == f"{language}|{encoding}"


def test_a_cap_on_variants(world: World, one_redis: RedisServer, redis_url: str) -> None:
    face = world.face(by("Accept-Language"), redis_url, max_variants=3)
    languages = [f"l{number}" for number in range(10)]
    for language in languages:
        assert face.get("/p/1", [("Accept-Language", language)]).body == language.encode()
    kept = [language for language in languages if face.cache._engine.memory.lookup(_variant(face, language))]
    assert len(kept) == 3
    # The later ones stay out of L2 as well: three values, the marker, and the three keys of the ledger at most.
    assert int(one_redis.ask("DBSIZE").lstrip(":")) <= 3 + 1 + 3
    assert face.get("/p/1", [("Accept-Language", languages[-1])]).hit


def _variant(face: Any, language: str) -> Any:
    engine = face.cache._engine
    primary = next(key for key in engine.memory if type(engine.memory.lookup(key)).__name__ == "Variants")
    return (primary, (b"accept-language",), (language.encode(),))


def test_a_cold_process_needs_two_round_trips_for_a_variant(
    world: World, one_redis: RedisServer, redis_url: str
) -> None:
    lines = [("Accept-Language", "de")]
    world.face(by("Accept-Language"), redis_url).get("/p/1", lines)
    world.face(Origin(), redis_url).get("/p/2")
    cold = world.face(by("Accept-Language"), redis_url)
    cold.get("/other")
    before = gets(one_redis)
    assert cold.get("/p/1", lines).outcome == "tiercache; hit; detail=l2"
    assert gets(one_redis) - before == 2
    assert cold.get("/p/1", lines).outcome == "tiercache; hit; detail=l1"
    assert gets(one_redis) - before == 2
    plain = gets(one_redis)
    assert cold.get("/p/2").outcome == "tiercache; hit; detail=l2"
    assert gets(one_redis) - plain == 1
