"""L2 and the ledger's wire on one Redis or Valkey server, for threads and for any number of event loops.

Every operation takes a deadline, a moment on `time.monotonic()`, and is over by then: answered, or with a
`TierError`. Nothing is retried here; what a failure means is for the circuit breaker and the caller to say.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import weakref
from collections.abc import Generator, Sequence
from time import monotonic
from typing import Any, TypeVar

from tiercache.core.ledger import Message, Stamp, SyncPage, SyncRequest
from tiercache.errors import ConfigError, TierError
from tiercache.tiers.redis_bus import Subscription
from tiercache.tiers.redis_connections import Resolver, close_inherited, make_connection, parse_url
from tiercache.tiers.redis_pools import LoopPool, ThreadPool
from tiercache.tiers.redis_scripts import LEDGER_LIMIT, PAGE, Command, LedgerScripts

T = TypeVar("T")

_log = logging.getLogger("tiercache")


def _check_namespace(value: object) -> None:
    if not (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._-]+", value)):
        raise ConfigError("namespace", value, "letters, digits, '.', '_' and '-', at least one")


def _check_number(setting: str, value: object, kinds: type | tuple[type, ...], accepted: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:  # type: ignore[operator]
        raise ConfigError(setting, value, accepted)


class RedisTier:
    """One Redis, addressed by URL: `redis://`, `rediss://` (TLS) or `unix://`. Connects when first used.

    `pool_size` bounds the connections of all threads together, and of each event loop by itself; who finds them all
    busy waits until its deadline. `listen_timeout` (seconds) is the deadline of `listen` where none is given,
    `heartbeat` the seconds of quiet after which a subscription asks for a sign of life. `ledger_limit` is the number
    of purge records kept, `page` the number of them in one answer to a sync.

    Raises `ConfigError` for a URL, namespace or number that cannot work.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        pool_size: int = 32,
        listen_timeout: float = 2.0,
        heartbeat: float = 5.0,
        ledger_limit: int = LEDGER_LIMIT,
        page: int = PAGE,
    ) -> None:
        self._address = parse_url(url)
        _check_namespace(namespace)
        for setting, value in (("pool_size", pool_size), ("ledger_limit", ledger_limit), ("page", page)):
            _check_number(setting, value, int, "a whole number above 0")
        for setting, seconds in (("listen_timeout", listen_timeout), ("heartbeat", heartbeat)):
            _check_number(setting, seconds, (int, float), "seconds, above 0")
        self.where = self._address.where
        """The server, for messages: host and port or path, never the password."""
        # No braces: values are to be spread over the slots of a Cluster. A namespace has no colon.
        self._prefix = f"tc:{namespace}:"
        self._scripts = LedgerScripts(namespace, limit=ledger_limit, page=page)
        self._pool_size = pool_size
        self._listen_timeout = listen_timeout
        self._heartbeat = heartbeat
        self._warned = False
        self._begin()

    def _begin(self) -> None:
        self._resolver = Resolver()
        self._threads = ThreadPool(self._address, self._pool_size, self._resolver)
        self._loops: dict[asyncio.AbstractEventLoop, LoopPool] = {}
        self._lock = threading.Lock()
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    # Values. `key` is what the caller calls the entry; the namespace is put before it.

    def get(self, key: str, deadline: float) -> bytes | None:
        """The value, or None where there is none."""
        reply: bytes | None = self._threads.execute(deadline, ("GET", self._prefix + key))
        return reply

    async def aget(self, key: str, deadline: float) -> bytes | None:
        """`get` for the running event loop."""
        pool = self._loops.get(asyncio.get_running_loop()) or await self._new_pool()
        reply: bytes | None = await pool.execute(deadline, ("GET", self._prefix + key))
        return reply

    def set(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        """Keep the value for `ttl_ms` milliseconds (at least 1)."""
        self._threads.execute(deadline, ("SET", self._prefix + key, value, "PX", max(1, ttl_ms)))

    async def aset(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        """`set` for the running event loop."""
        await self._aexecute(deadline, ("SET", self._prefix + key, value, "PX", max(1, ttl_ms)))

    def delete(self, key: str, deadline: float) -> None:
        """Remove the value, if there is one."""
        self._threads.execute(deadline, ("UNLINK", self._prefix + key))

    async def adelete(self, key: str, deadline: float) -> None:
        """`delete` for the running event loop."""
        await self._aexecute(deadline, ("UNLINK", self._prefix + key))

    # The ledger.

    def purge(
        self, members: Sequence[str], everything: bool, deadline: float, seen: Stamp | None = None
    ) -> list[Message]:
        """Record an invalidation and publish it; what is returned counts as heard.

        1,000 members at most share a number, more become several messages in rising order; `everything` raises the
        floor instead and names no members. `seen` is the caller's own epoch and number: a ledger that has fallen
        behind it has lost its end and is begun anew. When a later part of a long purge fails, the earlier parts
        stand: repeating the whole is harmless.
        """
        return self._drive(deadline, self._scripts.purge(members, everything, seen))

    async def apurge(
        self, members: Sequence[str], everything: bool, deadline: float, seen: Stamp | None = None
    ) -> list[Message]:
        """`purge` for the running event loop."""
        return await self._adrive(deadline, self._scripts.purge(members, everything, seen))

    def sync(self, request: SyncRequest, process_id: str, deadline: float) -> SyncPage:
        """One page of what `request` has not seen; leaves a row for this process in the table of members."""
        return self._drive(deadline, self._scripts.sync(request, process_id))

    async def asynchronise(self, request: SyncRequest, process_id: str, deadline: float) -> SyncPage:
        """`sync` for the running event loop."""
        return await self._adrive(deadline, self._scripts.sync(request, process_id))

    def listen(self, deadline: float | None = None) -> Subscription:
        """Subscribe to the bus; on return the server has confirmed it, so that a sync begun now misses nothing."""
        if deadline is None:
            deadline = monotonic() + self._listen_timeout
        connection = make_connection(self._address, self._resolver)
        subscription = Subscription(connection, self._scripts.bus, self.where, deadline, self._heartbeat)
        self._subscriptions.add(subscription)
        return subscription

    @property
    def guarded(self) -> bool:
        """Whether the server tells its run_id. If not, a restart from an old snapshot can bring purged entries back."""
        return self._scripts.guarded

    # Life and death.

    def close(self) -> None:
        """Close what is idle now and the rest when its operation ends, in every thread and loop; end subscriptions.

        The tier can be used again, and then connects anew.
        """
        with self._lock:
            threads, loops, subscriptions = self._threads, self._loops, list(self._subscriptions)
            self._threads = ThreadPool(self._address, self._pool_size, self._resolver)
            self._loops = {}
            self._subscriptions = weakref.WeakSet()
        for subscription in subscriptions:
            subscription.close()
        threads.close()
        for loop, pool in loops.items():
            try:
                loop.call_soon_threadsafe(pool.drop_all)
            except RuntimeError:  # the loop is closed, and closed the pool when it ended
                pass

    async def aclose(self) -> None:
        """`close` for the running event loop, whose own connections are closed on return."""
        with self._lock:
            pool = self._loops.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()
        self.close()

    def reset_after_fork(self) -> None:
        """In a forked child, before anything else: forget every connection, and say nothing to the server.

        The parent goes on using them.
        """
        threads, loops, subscriptions = self._threads, self._loops, list(self._subscriptions)
        # New locks too: another thread may have held one at the moment of the fork.
        self._begin()
        threads.forget()
        for pool in loops.values():
            pool.forget()
        for subscription in subscriptions:
            subscription.forget()
        close_inherited()

    async def _new_pool(self) -> LoopPool:
        loop = asyncio.get_running_loop()
        with self._lock:
            for other in [other for other in self._loops if other.is_closed()]:
                del self._loops[other]
            pool = self._loops[loop] = LoopPool(self._address, self._pool_size)
        await pool.bind()
        return pool

    async def _aexecute(self, deadline: float, command: Command) -> Any:
        pool = self._loops.get(asyncio.get_running_loop()) or await self._new_pool()
        return await pool.execute(deadline, command)

    def _drive(self, deadline: float, flow: Generator[Command, bytes, T]) -> T:
        try:
            command = next(flow)
            while True:
                try:
                    reply = self._threads.execute(deadline, command)
                except TierError as error:
                    command = flow.throw(error)
                else:
                    command = flow.send(reply)
        except StopIteration as end:
            result: T = self._finish(end)
            return result

    async def _adrive(self, deadline: float, flow: Generator[Command, bytes, T]) -> T:
        try:
            command = next(flow)
            while True:
                try:
                    reply = await self._aexecute(deadline, command)
                except TierError as error:
                    command = flow.throw(error)
                else:
                    command = flow.send(reply)
        except StopIteration as end:
            result: T = self._finish(end)
            return result

    def _finish(self, end: StopIteration) -> Any:
        if not self._scripts.guarded and not self._warned:
            self._warned = True
            _log.warning(
                "Redis at %s does not tell its run_id (INFO server is not allowed): a restart from an old snapshot, "
                "or a failover that lost writes, can bring purged entries back unnoticed",
                self.where,
            )
        return end.value
