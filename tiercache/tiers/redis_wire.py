"""How a command gets to its server and its reply back, for threads and for event loops: topology and pools together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from time import monotonic
from typing import Any

from redis.exceptions import ResponseError

from tiercache.errors import TierError
from tiercache.tiers.pools import Pools
from tiercache.tiers.reads import LoopReads, Reads
from tiercache.tiers.redis_cluster import ClusterTopology
from tiercache.tiers.redis_connections import (
    Address,
    AsyncConnection,
    BoundedConnection,
    make_async_connection,
    make_connection,
)
from tiercache.tiers.redis_credentials import CredentialProvider, Login
from tiercache.tiers.redis_errors import FOREIGN, spoils_connection, translate
from tiercache.tiers.redis_pipelines import Pipeline
from tiercache.tiers.redis_sentinel import SentinelTopology
from tiercache.tiers.redis_topology import Ask, Command, Rest, Standalone, Topology
from tiercache.tiers.redis_urls import Target
from tiercache.tiers.sockets import Resolver

Visit = Callable[[Ask, float], Any]
"""What is done at a server, until a moment on `time.monotonic()`. Raises `TierError` as a command does."""


class _Redis:
    """The dialect of the pools."""

    name = "Redis"
    foreign: tuple[type[BaseException], ...] = FOREIGN

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def connect(self, address: Address) -> BoundedConnection:
        return make_connection(address, self._resolver)

    def aconnect(self, address: Address) -> AsyncConnection:
        return make_async_connection(address)

    def harmless(self, error: BaseException) -> bool:
        return isinstance(error, ResponseError) and not spoils_connection(error)

    def translate(self, error: BaseException, address: Address) -> TierError:
        return translate(error, address.where, address.permissions)


class Wire(Pools):
    """One for each tier; a forked child makes its own, with locks of its own."""

    def __init__(self, target: Target, credentials: CredentialProvider | None, pool_size: int) -> None:
        self.resolver = Resolver()
        self.topology = _topology(target, credentials)
        super().__init__(self.topology, pool_size, _Redis(self.resolver))
        self._reads = LoopReads(self, f"Redis at {target.where}")

    def walk(
        self,
        deadline: float,
        key: str,
        command: Command | Pipeline,
        *,
        careful: bool = False,
        visit: Visit | None = None,
    ) -> Any:
        """Drive the flow that leads a command to the server of `key`. `visit`: done there in place of sending it."""
        flow = self.topology.route(key, command, careful=careful)
        try:
            step = next(flow)
            while True:
                if isinstance(step, Rest):
                    time.sleep(max(0.0, min(step.seconds, deadline - monotonic())))
                    step = flow.send(None)
                    continue
                act = self._send if visit is None or step.command is not command else visit
                try:
                    reply: Any = act(step, _share(deadline, step))
                except TierError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(reply)
        except StopIteration as end:
            return end.value

    def _send(self, ask: Ask, deadline: float) -> Any:
        return self.threads.execute(deadline, ask)

    async def awalk(self, deadline: float, key: str, command: Command | Pipeline, *, careful: bool = False) -> Any:
        """`walk` for the running event loop."""
        pool = self.loops.get(asyncio.get_running_loop()) or await self.new_pool()
        flow = self.topology.route(key, command, careful=careful)
        try:
            step = next(flow)
            while True:
                if isinstance(step, Rest):
                    await asyncio.sleep(max(0.0, min(step.seconds, deadline - monotonic())))
                    step = flow.send(None)
                    continue
                try:
                    reply = await pool.execute(_share(deadline, step), step)
                except TierError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(reply)
        except StopIteration as end:
            return end.value

    def reads(self) -> Reads:
        """Those of the running event loop."""
        return self._reads.here()


def _share(deadline: float, ask: Ask) -> float:
    if ask.share == 1.0:
        return deadline
    now = monotonic()
    return now + (deadline - now) * ask.share


def _topology(target: Target, credentials: CredentialProvider | None) -> Topology:
    address, seeds = target.address, target.seeds
    if credentials is not None:
        login = Login(credentials)
        address = address._replace(login=login)
        if target.kind != "sentinel":
            seeds = tuple(seed._replace(login=login) for seed in seeds)
    if target.kind == "sentinel":
        return SentinelTopology(seeds, address, target.service)
    if target.kind == "cluster":
        return ClusterTopology(seeds, address)
    return Standalone(seeds[0])
