"""One turn of wrk: its command line, and what it says at the end."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from benchmarks.drive import FIELDS
from benchmarks.peers.servers import pinned
from tools.debian_packages import find

CONNECTIONS = 16
_OMITTED = {b"host", b"connection"}
_TIMES = {"us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one turn; latencies in microseconds."""

    rate: float
    answers: int
    p50: float
    p99: float
    errors: str = ""
    """What wrk counted that is not an answer 2xx or 3xx, in its own words."""


class Wrk:
    """The wrk of this machine.

    Raises:
        FileNotFoundError: there is none.
    """

    def __init__(self) -> None:
        self.program = find("wrk")
        said = subprocess.run(
            [self.program.path, "--version"], capture_output=True, text=True, check=False, env=self.program.environment
        ).stdout
        found = re.search(r"wrk (\S+)", said)
        self.version = found[1] if found else "?"

    def turn(self, port: int, path: str, seconds: int, core: int | None) -> Turn:
        """Ask as fast as answers come, over some connections that stay open, with the fields of a browser."""
        command = [self.program.path, "--threads", "1", "--connections", str(CONNECTIONS), "--latency"]
        command += ["--duration", f"{seconds}s", "--timeout", "5s"]
        for name, value in FIELDS:
            if name not in _OMITTED:
                command += ["--header", f"{name.decode()}: {value.decode()}"]
        command = pinned(core, [*command, f"http://127.0.0.1:{port}{path}"])
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=seconds + 30, env=self.program.environment
        ).stdout
        return read(said)


def read(said: str) -> Turn:
    """A turn from what wrk has printed.

    Raises:
        ValueError: it is not what wrk prints.
    """
    rate = re.search(r"^Requests/sec:\s+([0-9.]+)", said, re.MULTILINE)
    answers = re.search(r"^\s+(\d+) requests in ", said, re.MULTILINE)
    shares = {share: _microseconds(time) for share, time in re.findall(r"^\s+(\d+)%\s+(\S+)$", said, re.MULTILINE)}
    if rate is None or answers is None or not {"50", "99"} <= shares.keys():
        raise ValueError(f"not a report of wrk: {said!r}")
    wrong = re.findall(r"^\s+(Socket errors: .*|Non-2xx or 3xx responses: .*)$", said, re.MULTILINE)
    return Turn(float(rate[1]), int(answers[1]), shares["50"], shares["99"], "; ".join(wrong))


def _microseconds(time: str) -> float:
    found = re.fullmatch(r"([0-9.]+)(us|ms|s)", time)
    if found is None:
        raise ValueError(f"not a time of wrk: {time!r}")
    return float(found[1]) * _TIMES[found[2]]
