"""Ports for servers that tests and the demonstration start."""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path

_FIRST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_HELD = 1_000
_reserved: deque[int] = deque()
"""One UDP socket for each port that was given out: nobody talks to it, it only tells others to look elsewhere."""


def _end() -> int:
    """Where the ports begin that the kernel gives to connections: one of those may take a server's port at any time."""
    with suppress(OSError, ValueError, IndexError):
        return max(int(_RANGE.read_text().split()[0]), _FIRST + 10_000)
    return 32_768


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens, and which no other call gives, in whatever process.

    So it is still free when a server that was told of it has got so far as to take it.
    """
    ports = range(_FIRST, _end())
    # Not from the seeded generator of a test: that one would try the same ports in the same order everywhere.
    for port in islice(iter(lambda: random.SystemRandom().choice(ports), None), 1_000):
        reserved = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reserved.bind(("127.0.0.1", port))
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", port))
        except OSError:
            reserved.close()
            continue
        # Without its object, which would warn at the end of the process that nobody has closed it.
        _reserved.append(reserved.detach())
        if len(_reserved) > _HELD:
            os.close(_reserved.popleft())
        return port
    raise RuntimeError("no port is free")
