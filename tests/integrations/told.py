"""A cache that tells what it purges."""

from __future__ import annotations

from typing import Any

from tiercache import TierCache


class Told:
    """The tags that a cache has been asked to purge, since they were last taken; and how often it was asked."""

    def __init__(self, **settings: Any) -> None:
        self.cache = TierCache(**settings)
        self._told: list[str] = []
        self.cache._engine.purge_watcher = self._tell
        self.times = 0

    def _tell(self, members: Any, everything: bool) -> None:
        self.times += 1
        self._told += ["everything"] if everything else [member[4:] for member in members]

    def take(self) -> set[str]:
        told, self._told = set(self._told), []
        return told
