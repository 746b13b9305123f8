"""What grows with the cache, and what does not: hits and memory by entries, purged tags, rules and tags of an entry."""

from __future__ import annotations
