"""The JSON Schema against documents: what it accepts the validator accepts, and the other way round, by setting.

Where the two cannot agree, a case here says so by name.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.config.test_sources import TEXTS
from tests.docs.blocks import blocks_of
from tiercache.config import Settings
from tiercache.config.schema import document_schema
from tiercache.config.toml import parse_document
from tiercache.core.event_rules import EventRule
from tiercache.core.policy import Policy
from tiercache.core.validation import Setting
from tiercache.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = document_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

DURATIONS = [0, 1, 2.5, 10**10, -1, "5s", "250ms", "1.5h", "0s", "5", "s", "5 m", "-5s", "5w", "", "5s ", True, [], {}]
SIZES = [0, 1, 2**50, 2**50 + 1, -1, 1.5, "1KiB", "0B", "64MiB", "64 MiB", "64mib", "5", "", False, []]
NAMES = [[], ["a"], ["a", "b"], ["a b"], [""], [1], "a", 3, {}, [["a"]], ["a*"], ["*"], ["a;b"], ["a\n"]]
SAMPLES: list[Any] = [
    *DURATIONS,
    *SIZES,
    *NAMES,
    *("none", "ignore", "process", "fleet", "bounded", "strong", "session", "weak", "probabilistic", "dead", "stale"),
    *(True, False, 0.1, 0.999, 1.0, 3, 10_000, 100_000, 100_001, "a" * 16, "a" * 64, "a" * 65, "a b", "a.b", "a:b"),
    *(["l1"], ["l2", "l1"], ["l3"], ["Accept"], ["accept-Language"], ["accept-foo"], ["p:{id}"], ["p:{"], ["p:{1}"]),
    *({"404": "10s"}, {"404": 10}, {"206": 5}, {"404": "x"}, {"20": 5}, {"999": 5}, {"ok": 5}, {"200": "none"}),
    *(["x-forwarded-host"], ["X-Forwarded-Proto"], ["x-forwarded-for"], ["forwarded"], "redis://h", "é", None),
]


def accepted(document: dict[str, Any]) -> bool:
    try:
        parse_document(document, "x")
    except ConfigError:
        return False
    return True


def cannot_say(row: Setting, value: Any) -> bool:
    """Whether the two may differ, and why."""
    if isinstance(value, str) and value != value.strip():
        return True  # the validator takes spaces around a duration or size
    if value == 1.0 and isinstance(value, float) and '"integer"' in json.dumps(row.kind.schema, default=dict):
        return True  # to JSON Schema 1.0 is a whole number
    if value == ["a\n"]:
        return True  # `$` is the end in an editor, and to Python's `re` also before a last line feed
    if value == ["x-forwarded-for"] or value == {"206": 5}:
        return True  # one of many in a long list, told by its absence
    if row.name in ("app", "version", "tags", "invalidates", "query") and _unprintable(value):
        return True  # no pattern says "printable"
    return row.name == "trust_forwarded" and isinstance(value, list) and any(str(v) != str(v).lower() for v in value)


def _unprintable(value: Any) -> bool:
    return any(not str(one).isprintable() for one in (value if isinstance(value, list) else [value]))


def pairs() -> list[tuple[Setting, str]]:
    return [(row, "cache") for row in Settings.settings()] + [(row, "rule") for row in Policy.settings()] + [
        (row, "event") for row in EventRule.settings()
    ]


def document(row: Setting, place: str, value: Any) -> dict[str, Any]:
    if place == "cache":
        return {row.name: value}
    if place == "event":
        return {"events": [{"event": "e", row.name: value}]}
    return {"routes": [{"path": "/{id}", row.name: value}], "policies": {"p": {row.name: value}}}


@pytest.mark.parametrize(("row", "place"), pairs(), ids=lambda one: getattr(one, "name", one))
def test_both_accept_the_same_values(row: Setting, place: str) -> None:
    differ = []
    seen = set()
    for value in SAMPLES:
        if value is None or cannot_say(row, value):
            continue  # JSON has a null, and TOML none
        # By itself: what contradicts another setting is more than a schema can say.
        try:
            row.kind("x", value)
            takes = True
        except ConfigError:
            takes = False
        seen.add(takes)
        if VALIDATOR.is_valid(document(row, place, value)) != takes:
            differ.append((value, takes))
    assert differ == []
    assert seen == {True, False}


def test_it_is_a_schema_and_describes_every_setting() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    rule = SCHEMA["properties"]["routes"]["items"]["properties"]
    for rows, properties in ((Settings.settings(), SCHEMA["properties"]), (Policy.settings(), rule)):
        for row in rows:
            assert properties[row.name]["description"] == row.doc
            assert "default" in properties[row.name]
    assert set(rule) == {"path", "policy", *Policy.names()}
    assert set(SCHEMA["properties"]) == {"policies", "routes", "events", *Settings.names()}


@pytest.mark.parametrize(("row", "place"), pairs(), ids=lambda one: getattr(one, "name", one))
def test_a_default_is_what_its_own_schema_accepts(row: Setting, place: str) -> None:
    properties = SCHEMA["properties"]
    if place != "cache":
        properties = properties[f"{place.replace('rule', 'route')}s"]["items"]["properties"]
    default = properties[row.name]["default"]
    assert VALIDATOR.is_valid(document(row, place, default))
    assert row.kind("x", default) == row.kind("x", row.default)


@pytest.mark.parametrize(
    "bad",
    [
        {"unknown": 1},
        {"routes": {}},
        {"routes": [{"ttl": 60}]},
        {"routes": [{"path": "/x"}]},
        {"routes": [{"path": "x", "ttl": 60}]},
        {"routes": [{"path": "/x?y", "ttl": 60}]},
        {"routes": [{"path": "/x", "policy": 3}]},
        {"routes": [{"path": "/x", "tll": 60}]},
        {"policies": {"p": {}}},
        {"events": [{"event": "e"}]},
        {"events": [{"tags": "x"}]},
        {"policies": {"p": 3}},
        {"policies": {"p": {"path": "/x", "ttl": 60}}},
    ],
)
def test_documents_that_both_refuse(bad: dict[str, Any]) -> None:
    assert not accepted(bad)
    assert not VALIDATOR.is_valid(bad)


def test_a_document_with_everything_is_accepted_by_both() -> None:
    whole = {
        "namespace": "shop",
        "l1_size": "64MiB",
        "policies": {"pages": {"ttl": "10m", "stale_if_error": "1h"}},
        "routes": [
            {"path": "/p/{id}", "policy": "pages", "tags": ["p:{id}"], "ttl_by_status": {"404": "10s"}},
            {"path": "/q", "ttl": "none", "query": ["a"], "cookies": "ignore", "early_refresh": 0.8},
            {"path": "/{rest:path}", "cache": False},
        ],
    }
    assert accepted(whole)
    VALIDATOR.validate(whole)


def test_the_files_in_the_documentation_are_valid() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    files = [tomllib.loads(b.code) for page in pages for b in blocks_of(page) if b.language == "toml"]
    ours = [one for one in files if "routes" in one or "policies" in one]
    assert ours
    for one in ours:
        VALIDATOR.validate(one)


def test_numbers_that_the_environment_writes_as_text_are_no_text_in_a_file() -> None:
    """`TIERCACHE_L2_BUDGET=0.1` is a number; in a file it is written without quotes."""
    assert TEXTS["TIERCACHE_L2_BUDGET"] == "0.1"
    assert not VALIDATOR.is_valid({"l2_budget": "0.1"})
    assert not accepted({"l2_budget": "0.1"})
    assert VALIDATOR.is_valid({"l2_budget": 0.1})
