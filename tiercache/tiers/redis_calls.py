"""How a tier asks a server for several things in turn: flows of commands, and scripts that the server may lack."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from redis.exceptions import NoScriptError

from tiercache.errors import TierRejected

T = TypeVar("T")
Command = tuple[bytes | str | int, ...]
Commands = Generator[Command, Any, T]


class Driver(Protocol):
    """A tier, as those see it who have it run flows of commands where `key` lies."""

    namespace: str

    def _drive(self, deadline: float, flow: Commands[T], key: str | None = None) -> T: ...

    async def _adrive(self, deadline: float, flow: Commands[T], key: str | None = None) -> T: ...


def run(script: str, keys: Sequence[str], *args: bytes | str | int) -> Commands[Any]:
    """Run a script: by its name, and by its text where the server does not have it."""
    text, name = _named(script)
    try:
        return (yield ("EVALSHA", name, len(keys), *keys, *args))
    except TierRejected as error:
        if not isinstance(error.__cause__, NoScriptError):
            raise
    return (yield ("EVAL", text, len(keys), *keys, *args))


@lru_cache(maxsize=64)
def _named(script: str) -> tuple[bytes, str]:
    text = script.encode()
    # Redis names scripts by their SHA-1; nothing secret hangs on it.
    return text, hashlib.sha1(text, usedforsecurity=False).hexdigest()
