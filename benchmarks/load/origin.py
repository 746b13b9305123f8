"""The origin behind every app: as slow and as broken as it is told to be, and counted outside the workers.

Two files in one directory are all that the workers and the one who watches share. `control` says how long a call takes
and whether it fails; `journal` gets a record at the beginning and at the end of every call. Records are appended with
one `write` each, which the kernel does not interleave, so that nothing is lost when a worker is killed.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_CONTROL = struct.Struct("<d?")
_RECORD = struct.Struct("<dii")
_BEGIN, _END = 0, 1
BODY = "x" * 2000


class OriginFailed(Exception):
    """The origin has been told to fail."""


class Call(NamedTuple):
    """One call of the origin: when it began, on the clock that all processes of a machine share (seconds)."""

    began: float
    worker: int


class Origin:
    """The side of the workers. The answer is a small JSON document, the same for every app."""

    def __init__(self, directory: str) -> None:
        with Path(directory, "control").open("rb") as file:
            self._control = mmap.mmap(file.fileno(), _CONTROL.size, prot=mmap.PROT_READ)
        self._journal = os.open(Path(directory, "journal"), os.O_WRONLY | os.O_APPEND)
        self._pid = os.getpid()

    def fetch(self, key: str) -> dict[str, Any]:
        delay, failing = self._begin()
        try:
            time.sleep(delay)
        finally:
            self._record(_END)
        return self._answer(key, failing)

    async def afetch(self, key: str) -> dict[str, Any]:
        delay, failing = self._begin()
        try:
            await asyncio.sleep(delay)
        finally:
            self._record(_END)
        return self._answer(key, failing)

    def _begin(self) -> tuple[float, bool]:
        self._record(_BEGIN)
        delay, failing = _CONTROL.unpack(self._control[:])
        return delay, failing

    def _record(self, what: int) -> None:
        os.write(self._journal, _RECORD.pack(time.monotonic(), what, self._pid))

    @staticmethod
    def _answer(key: str, failing: bool) -> dict[str, Any]:
        if failing:
            raise OriginFailed(key)
        return {"key": key, "body": BODY}


class Watch:
    """The side of the one who watches: sets what the origin does, and reads what was asked of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._journal = directory / "journal"
        self._journal.touch()
        (directory / "control").write_bytes(_CONTROL.pack(0.0, False))
        with (directory / "control").open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), _CONTROL.size)

    def set(self, delay: float, *, failing: bool = False) -> None:
        """From the next call on: how long each takes, in seconds, and whether it fails at the end of that."""
        self._control[:] = _CONTROL.pack(delay, failing)

    def calls(self, since: float = 0.0, until: float = float("inf")) -> list[Call]:
        """The calls that began in this time, in order."""
        return sorted(
            Call(when, worker) for when, what, worker in self._records() if what == _BEGIN and since <= when < until
        )

    def most_at_once(self, since: float = 0.0, until: float = float("inf")) -> int:
        """The most calls that were under way at one moment of this time."""
        return most_at_once([(when, what == _BEGIN) for when, what, _ in self._records()], since, until)

    def _records(self) -> list[tuple[float, int, int]]:
        data = self._journal.read_bytes()
        return list(_RECORD.iter_unpack(data[: len(data) // _RECORD.size * _RECORD.size]))


def most_at_once(changes: Sequence[tuple[float, bool]], since: float, until: float) -> int:
    """The most that were open in `[since, until)`, of what opens (True) and closes (False) at these times."""
    open_now = most = 0
    for when, opens in sorted(changes):
        if when >= since:
            # Whatever was open before is still open at the beginning.
            most = max(most, open_now)
        if when >= until:
            break
        open_now += 1 if opens else -1
    else:
        most = max(most, open_now)
    return most
