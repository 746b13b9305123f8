"""Ports for servers that tests and the demonstration start."""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from itertools import islice

_FIRST, _END = 10_000, 20_000
"""Below those that the kernel gives to connections, which may take a server's port at any time. From the end on lie the
ports on which members of a Redis Cluster talk to each other: 10,000 above their own."""
_HELD = 1_000
_reserved: deque[int] = deque()
"""One UDP socket for each port that was given out: nobody talks to it, it only tells others to look elsewhere."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens, and which no other call gives, in whatever process.

    So it is still free when a server that was told of it has got so far as to take it.
    """
    ports = range(_FIRST, _END)
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
