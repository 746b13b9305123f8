"""The cache beside its peers: hits in process, and under wrk behind real servers."""

from __future__ import annotations
