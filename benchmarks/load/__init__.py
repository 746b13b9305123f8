"""A reproducible load against real workers, with and without the cache and beside its peers: `make load`."""

from __future__ import annotations
