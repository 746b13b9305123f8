"""The clocks of a process. An engine is given its own, so that a test can turn them."""

from __future__ import annotations

import time

from tiercache.engine.ports import Clock

boot_clock: Clock
if hasattr(time, "CLOCK_BOOTTIME"):

    def boot_clock() -> float:
        """Seconds that go on while the machine sleeps: a process thawed from a snapshot must notice the time gone."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:
    boot_clock = time.monotonic
