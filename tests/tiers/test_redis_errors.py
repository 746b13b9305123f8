"""Errors of the client library, said in tiercache's own terms."""

from __future__ import annotations

import pytest
from redis.exceptions import InvalidResponse

from tiercache.errors import TierRejected
from tiercache.tiers.redis_errors import translate


@pytest.mark.parametrize(
    ("text", "http"),
    [
        ('Protocol error, got "H" as reply type byte', True),
        ('Protocol error, got "<" as reply type byte', True),
        ("Protocol Error: b'HTTP/1.1 400 Bad Request'", True),
        ("Protocol Error: b'<!DOCTYPE HTML>'", True),
        ('Protocol error, got "S" as reply type byte', False),
        ("Protocol Error: b'SSH-2.0-OpenSSH_9.6'", False),
    ],
)
def test_a_server_of_another_protocol_is_named_where_it_shows(text: str, http: bool) -> None:
    error = translate(InvalidResponse(text), "localhost:80")
    assert isinstance(error, TierRejected)
    assert ("it looks like an HTTP server, so the port is likely wrong" in str(error)) is http
    assert str(error).startswith("what answers at localhost:80 does not speak the Redis protocol")
    assert text in str(error)
