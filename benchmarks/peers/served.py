"""What servers load: the subject that the environment names, over a store in memory."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from benchmarks.peers.subjects import MEMORY, SUBJECTS, Place

VARIABLE = "BENCH_SUBJECT"


def make() -> Any:
    return SUBJECTS[os.environ[VARIABLE]].app(Place(MEMORY, ExitStack()))
