"""Ends what the demonstration has started, should it be killed before it could do so itself.

Its standard input is a pipe from the demonstration, which names a process group per line: `+123` when one begins and
`-123` when it has ended. The pipe closes when the demonstration is gone, for whatever reason.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    alive: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            alive.add(group)
        else:
            alive.discard(group)
    for group in alive:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    main()
