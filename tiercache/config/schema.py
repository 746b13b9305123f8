"""The JSON Schema of a configuration file, made from the tables of settings.

It says what JSON Schema can say. What it cannot say, the validator still refuses: that a policy which is named exists,
that a template can be read and its tags have values, and settings that contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tiercache.config.settings import Settings
from tiercache.config.toml import EVENT, EVENTS, PATH, POLICIES, POLICY, ROUTES
from tiercache.core.event_rules import EventRule
from tiercache.core.kinds import NONE
from tiercache.core.policy import Policy
from tiercache.core.validation import Setting

DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""What editors of TOML understand; later dialects they do not."""


def document_schema() -> dict[str, Any]:
    """The schema of a file by itself; in a `pyproject.toml` it holds for the table `tool.tiercache`."""
    policy = {row.name: _schema_of(row) for row in Policy.settings()}
    return {
        "$schema": DIALECT,
        "title": "tiercache",
        "description": "Settings of a cache, named policies and rules, as TierCache.from_toml reads them.",
        "type": "object",
        "properties": {
            **{row.name: _schema_of(row) for row in Settings.settings()},
            POLICIES: {
                "type": "object",
                "description": "Policies by name, for rules to refer to.",
                "additionalProperties": {
                    "type": "object",
                    "properties": policy,
                    "additionalProperties": False,
                    "minProperties": 1,
                },
            },
            ROUTES: {
                "type": "array",
                "description": "Rules in order: the first that matches a path decides.",
                "items": {
                    "type": "object",
                    "properties": {
                        PATH: {
                            "type": "string",
                            "description": "Template of the paths that the rule is for, such as /products/{id}.",
                            "pattern": "^/[^?#]*$",
                        },
                        POLICY: {
                            "type": "string",
                            "description": f"Name of a policy of this file, [{POLICIES}.NAME], which the other "
                            "settings are put over.",
                        },
                        **policy,
                    },
                    "required": [PATH],
                    "additionalProperties": False,
                    "minProperties": 2,
                },
            },
            EVENTS: _events(),
        },
        "additionalProperties": False,
    }


def _events() -> dict[str, Any]:
    """Each table names its event and something to purge."""
    return {
        "type": "array",
        "description": "What events of the application purge.",
        "items": {
            "type": "object",
            "properties": {
                EVENT: {"type": "string", "description": "Name of the event, as emit gives it.", "minLength": 1},
                **{row.name: _schema_of(row) for row in EventRule.settings()},
            },
            "required": [EVENT],
            "additionalProperties": False,
            "minProperties": 2,
        },
    }


def _schema_of(row: Setting) -> dict[str, Any]:
    described = {"description": row.doc, "default": _written(row.default)}
    return {**described, **_copied(row.kind.schema)}


def _written(default: object) -> Any:
    """A default as it would be written in TOML, which has no word for None."""
    if default is None:
        return NONE
    return list(default) if isinstance(default, tuple) else default


def _copied(schema: Any) -> Any:
    """As plain dicts and lists, which every JSON writer takes."""
    if isinstance(schema, Mapping | MappingProxyType):
        return {key: _copied(value) for key, value in schema.items()}
    return [_copied(value) for value in schema] if isinstance(schema, list | tuple) else schema
