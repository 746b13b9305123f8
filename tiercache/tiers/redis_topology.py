"""Which server is asked: what one server, a Sentinel set-up and a Cluster have in common.

A topology is a set of flows that yield what is to be asked of which server, and are sent the answer or thrown the
`TierError`; so threads and event loops share them. What a topology has learned is replaced whole, never changed half,
so no lock is needed.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

from redis.exceptions import ClusterDownError, ReadOnlyError

from tiercache.errors import TierError, TierUnavailable
from tiercache.tiers.pools import Servers
from tiercache.tiers.redis_connections import Address, AsyncConnection, BoundedConnection
from tiercache.tiers.redis_errors import FOREIGN, no_longer_primary
from tiercache.tiers.redis_pipelines import Pipeline

Command = tuple[Any, ...]


_ASKING = ("ASKING",)


class Ask(NamedTuple):
    """Send a command to a server: the errand of a pool."""

    address: Address
    command: Command | Pipeline
    asking: bool = False
    """Whether the server is to answer for a slot that is still on its way there."""
    share: float = 1.0
    """Of the time that is left."""

    def run(self, connection: BoundedConnection, deadline: float) -> Any:
        if self.asking:
            connection.exchange(_ASKING, deadline)
        command = self.command
        return (
            connection.exchange(command, deadline) if isinstance(command, tuple) else command.run(connection, deadline)
        )

    async def arun(self, connection: AsyncConnection) -> Any:
        if self.asking:
            await connection.exchange(_ASKING)
        command = self.command
        return await (connection.exchange(command) if isinstance(command, tuple) else command.arun(connection))


class Rest(NamedTuple):
    """Wait."""

    seconds: float


Route = Generator[Ask | Rest, Any, Any]


class Topology(Servers, Protocol):
    """How the server for a key is found, and what an error says about that."""

    sharded: bool
    """Whether the bus may be one of a Cluster's shards."""

    def route(self, key: str, command: Command | Pipeline, *, careful: bool = False) -> Route:
        """Have a command carried out by the server that has the key.

        A command that fails because another server has taken over is sent to that one: each one of ours may be
        repeated. `careful`: make sure from time to time that it is still the right server, though it answers.
        """

    def home(self, key: str) -> str | None:
        """`where` of the server that has the key, as far as is known; None: not yet, or in doubt."""


class Standalone:
    """One server, whatever happens."""

    sharded = False
    version = 0

    def __init__(self, address: Address) -> None:
        self._address = address

    def route(self, key: str, command: Command | Pipeline, *, careful: bool = False) -> Route:
        return (yield Ask(self._address, command))

    def home(self, key: str) -> str | None:
        return self._address.where

    def keeps(self, where: str) -> bool:
        return True


def casts_doubt(error: TierError) -> bool:
    """Whether another server may have the job by now: this one is gone, mute, not ready, or not a primary."""
    cause = error.__cause__
    if isinstance(error, TierUnavailable):
        # Without such a cause it is a matter of this process: too busy, out of time before it began.
        return isinstance(cause, FOREIGN)
    return isinstance(cause, ReadOnlyError | ClusterDownError) or (cause is not None and no_longer_primary(cause))
