"""Reads that go to one server together, and come back one by one.

They are GETs behind each other on one connection, and no MGET. That costs a microsecond more for each (13 in place of
12 at 10 kB); in return every value is there as soon as its own bytes are, one key that is refused fails no other, a
node of a Cluster takes the keys of all its slots together, also while some of them move away, and the user needs no
further permission.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from tiercache.tiers.redis_connections import BoundedConnection
    from tiercache.tiers.redis_topology import Topology

LONGEST = 200
"""Reads in one pipeline at most. The server keeps its replies in memory for as long as it is being written to."""


class Pipeline:
    """Some keys, on their way to the server that has them all. What has been answered is not asked for again."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys
        self.values: dict[str, bytes | None] = {}
        self.refused: list[str] = []
        """What the server would not read. A flow that leads one command to its server knows what that means."""

    def run(self, connection: BoundedConnection, deadline: float) -> None:
        """Ask for what is missing, all at once. Raises what redis-py raises where the connection is of no more use."""
        wire: Any = connection
        keys = self._begin()
        connection.moment.at = deadline
        wire.send_packed_command(wire.pack_commands([("GET", key) for key in keys]), check_health=False)
        for key in keys:
            try:
                self.values[key] = wire.read_response()
            except ResponseError:
                self.refused.append(key)

    async def arun(self, connection: Any) -> None:
        """`run` for the running event loop."""
        keys = self._begin()
        await connection.send_packed_command(
            connection.pack_commands([("GET", key) for key in keys]), check_health=False
        )
        for key in keys:
            try:
                self.values[key] = await connection.read_response()
            except ResponseError:
                self.refused.append(key)

    def _begin(self) -> list[str]:
        self.refused = []
        return [key for key in self.keys if key not in self.values]


def rounds(topology: Topology, keys: Iterable[str]) -> Iterator[list[Pipeline]]:
    """Pipelines for all the keys, one for each server that is known to have some of them; those of a round need not
    wait for each other. A key of which the server is not known goes before the others of its kind: then it is known.
    """
    left = list(dict.fromkeys(keys))
    while left:
        unknown: list[str] = []
        groups: dict[str, list[str]] = {}
        for key in left:
            home = topology.home(key)
            (unknown if home is None else groups.setdefault(home, [])).append(key)
        known = [
            Pipeline(group[start : start + LONGEST])
            for group in groups.values()
            for start in range(0, len(group), LONGEST)
        ]
        yield known + [Pipeline([key]) for key in unknown[:1]]
        left = unknown[1:]
