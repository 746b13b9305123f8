"""The clocks of a process. An engine is given its own, so that a test can turn them."""

from __future__ import annotations

import time
from functools import partial

from tiercache.engine.ports import Clock

boot_clock: Clock
if hasattr(time, "CLOCK_BOOTTIME"):
    boot_clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
else:
    boot_clock = time.monotonic
"""Seconds that go on while the machine sleeps, where it can tell: a process thawed from a snapshot must notice the time
gone."""
