"""A Cluster: which node has a slot, and what its redirections mean (Redis Cluster specification).

The map of the slots comes from any node. It is asked for anew when a node says that a slot has moved (`MOVED`) and when
one does not answer; `ASK` and `TRYAGAIN` belong to a slot that is on its way, and change nothing in the map.
"""

from __future__ import annotations

import random
from typing import Any

from redis.cluster import parse_cluster_slots
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, TryAgainError

from tiercache.errors import TierError, TierUnavailable
from tiercache.tiers.redis_connections import Address
from tiercache.tiers.redis_pipelines import Pipeline
from tiercache.tiers.redis_topology import Ask, Command, Rest, Route, casts_doubt

_HOPS = 8
"""Redirections of one command. A slot on its way needs one, a stale map two."""
_PAUSE = 0.01
"""Seconds before a command is tried again whose keys are on both sides; the deadline ends that."""
_SHARE = 0.4
"""Of the time that is left, for each node that is asked for the map: a mute one must not use it up."""


class ClusterTopology:
    """`home` changes as slots move and replicas take over."""

    sharded = True

    def __init__(self, seeds: tuple[Address, ...], address: Address) -> None:
        self._seeds = seeds
        self._address = address
        self._slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._nodes: frozenset[str] = frozenset()
        self._replicas: tuple[Address, ...] = ()
        self._outdated = True
        self._suspect = ""
        self.version = 0

    def route(self, key: str, command: Command | Pipeline, *, careful: bool = False) -> Route:
        slot = key_slot(key.encode())
        if self._outdated:
            self._outdated = False  # One is enough to ask; the others go on with what there is.
            try:
                yield from self._load()
            except TierError:
                self._outdated = True
                if self._slots[slot] is None:
                    raise
        node, asking = self._slots[slot], False
        if node is None:
            node = yield from self._owner(slot)
        hops = 0
        while True:
            try:
                return (yield Ask(node, command, asking))
            except TierError as error:
                cause, trouble = error.__cause__, error
            hops += 1
            if isinstance(cause, TryAgainError):
                yield Rest(_PAUSE)
                # Some versions redirect each try before they say so.
                node, asking, hops = self._slots[slot] or node, False, 0
            elif hops > _HOPS:
                raise trouble from cause
            elif isinstance(cause, MovedError):
                node, asking = self._at(cause, node), False
                self._learn(slot, node)
            elif isinstance(cause, AskError):
                node, asking = self._at(cause, node), True
            elif casts_doubt(trouble):
                self._outdated = True
                self._suspect = node.where
                failed, asking = node, False
                try:
                    node = yield from self._owner(slot)
                except TierError:
                    raise trouble from cause
                if node.where == failed.where:
                    raise trouble from cause
            else:
                raise trouble from cause

    def home(self, key: str) -> str | None:
        node = self._slots[key_slot(key.encode())]
        return None if node is None else node.where

    def keeps(self, where: str) -> bool:
        return where in self._nodes

    def _at(self, error: AskError, speaker: Address) -> Address:
        # A node that knows no name for the other says nothing, which means: where you found me.
        return self._address.at(error.host or speaker.options["host"], error.port)

    def _learn(self, slot: int, node: Address) -> None:
        self._slots[slot] = node
        self._nodes |= {node.where}
        self._outdated = True
        self.version += 1

    def _owner(self, slot: int) -> Any:
        yield from self._load()
        node = self._slots[slot]
        if node is None:
            raise TierUnavailable(f"no node of the Cluster serves slot {slot}")
        return node

    def _load(self) -> Any:
        known = list({node.where: node for node in self._slots if node is not None}.values())
        random.shuffle(known)
        candidates = {node.where: node for node in (*known, *self._replicas, *self._seeds)}
        trouble: TierError | None = None
        for node in sorted(candidates.values(), key=lambda node: node.where == self._suspect):
            try:
                reply = yield Ask(node, ("CLUSTER", "SLOTS"), share=_SHARE)
            except TierError as error:
                trouble = error
                continue
            if reply:
                self._read(reply, node)
                return
        raise TierUnavailable(f"no node of the Cluster tells the slots: {trouble or 'none is assigned'}") from (
            trouble.__cause__ if trouble is not None else None
        )

    def _read(self, reply: Any, speaker: Address) -> None:
        slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        replicas: dict[str, Address] = {}
        host = speaker.options["host"]
        for (first, last), shard in parse_cluster_slots(reply, current_host=host).items():
            node = self._named(shard["primary"], host)
            slots[first : last + 1] = [node] * (last + 1 - first)
            for replica in shard["replicas"]:
                found = self._named(replica, host)
                replicas[found.where] = found
        self._slots = slots
        self._replicas = tuple(replicas.values())
        self._nodes = frozenset(node.where for node in slots if node is not None)
        self._outdated = False
        self._suspect = ""
        self.version += 1

    def _named(self, server: tuple[str | None, int], speaker: str) -> Address:
        host, port = server
        # "?" is how a node writes a name that it has not been told.
        return self._address.at(speaker if host in (None, "", "?") else str(host), int(port))
