"""Speed of the cache beside bare apps and frameworks, as ratios within one run: `python -m benchmarks`."""

from __future__ import annotations
