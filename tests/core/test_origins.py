from __future__ import annotations

import pytest

from tiercache.core.origins import open_to_origins

ALLOW, CREDENTIALS, TIMING = (
    b"access-control-allow-origin", b"access-control-allow-credentials", b"timing-allow-origin",
)  # fmt: skip
A = b"https://a.example"


@pytest.mark.parametrize(
    ("fields", "asked", "expected"),
    [
        ((), A, None),
        (((b"vary", b"Origin"), (b"content-type", b"text/plain")), A, None),
        (((ALLOW, b"*"),), A, True),
        (((ALLOW, b" *\t"),), None, True),
        (((ALLOW, A),), A, False),
        (((ALLOW, A),), b"https://b.example", False),
        (((ALLOW, A),), None, False),
        (((ALLOW, b"null"),), b"null", False),
        (((ALLOW, b""),), A, False),
        (((ALLOW, b"*"), (ALLOW, A)), A, False),
        (((ALLOW, b"*, *"),), A, False),
        (((ALLOW, b"*"), (CREDENTIALS, b"true")), A, False),
        (((CREDENTIALS, b"true"), (ALLOW, b"*")), None, False),
        (((CREDENTIALS, b"true"),), A, None),
        (((TIMING, b"*"),), A, None),
        (((TIMING, A),), A, False),
        (((TIMING, A),), None, None),
        (((TIMING, A + b", https://b.example"),), A, None),
        (((ALLOW, b"*"), (TIMING, A)), A, False),
    ],
)
def test_what_a_response_says_of_origins(
    fields: tuple[tuple[bytes, bytes], ...], asked: bytes | None, expected: bool | None
) -> None:
    assert open_to_origins(fields, asked) is expected
