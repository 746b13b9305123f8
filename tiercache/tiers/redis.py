"""L2 and the ledger's wire on Redis or Valkey (a server, Sentinel or Cluster), for threads and for event loops.

Every operation takes a deadline, a moment on `time.monotonic()`, and is over by then: answered, or with a
`TierError`. A command is sent again only where another server has taken over; what a failure means else is for the
circuit breaker and the caller to say.
"""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections.abc import Generator, Sequence
from time import monotonic
from typing import Any, TypeVar

from tiercache.core.records import KEYS_KEPT, TAGS_KEPT, Message, Stamp, SyncPage, SyncRequest
from tiercache.errors import ConfigError, TierError
from tiercache.tiers.redis_bus import Subscription, publish_command
from tiercache.tiers.redis_calls import Command
from tiercache.tiers.redis_connections import make_connection
from tiercache.tiers.redis_credentials import CredentialProvider, Login
from tiercache.tiers.redis_leases import LeaseCommands
from tiercache.tiers.redis_pipelines import rounds
from tiercache.tiers.redis_queue import QueueCommands
from tiercache.tiers.redis_scripts import PAGE, LedgerScripts
from tiercache.tiers.redis_sessions import RedisSessions
from tiercache.tiers.redis_topology import Ask
from tiercache.tiers.redis_urls import parse_url
from tiercache.tiers.redis_wire import Wire
from tiercache.tiers.sockets import close_inherited

T = TypeVar("T")

_log = logging.getLogger("tiercache.ledger")


_SUBSCRIBE: Command = ("SUBSCRIBE",)
"""Stands for a subscription on its way to its server."""


def _check_namespace(value: object) -> None:
    if not (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._-]+", value)):
        raise ConfigError("namespace", value, "letters, digits, '.', '_' and '-', at least one")


def _check_number(setting: str, value: object, kinds: type | tuple[type, ...], accepted: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:  # type: ignore[operator]
        raise ConfigError(setting, value, accepted)


class RedisTier(LeaseCommands, QueueCommands):
    """Redis or Valkey by URL: `redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://` or `redis+cluster://` (see
    `redis_urls`). Connects when first used.

    `credentials` is asked for user and password at each new connection to a server, in place of those in the URL.

    `pool_size` bounds the connections of all threads together, and of each event loop by itself, over all servers; who
    finds them all busy waits until its deadline. `listen_timeout` (seconds) is the deadline of `listen` where none is
    given, `heartbeat` the seconds of quiet after which a subscription asks for a sign of life. `ledger_limit` is the
    number of purge records kept, `ledger_keys` of those of keys of data beside them, `page` the number of either in one
    answer to a sync, `setting` what errors call the URL.

    Raises `ConfigError` for a URL, namespace or number that cannot work.
    """

    apart = alone = False

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        credentials: CredentialProvider | None = None,
        pool_size: int = 32,
        listen_timeout: float = 2.0,
        heartbeat: float = 5.0,
        ledger_limit: int = TAGS_KEPT,
        ledger_keys: int = KEYS_KEPT,
        page: int = PAGE,
        setting: str = "url",
    ) -> None:
        self._target = parse_url(url, setting)
        if credentials is not None:
            if self._target.address.options.keys() & {"username", "password"}:
                raise ConfigError("credentials", type(credentials), "no user or password in the URL beside a provider")
            Login(credentials)
        self._credentials = credentials
        _check_namespace(namespace)
        numbers = {"pool_size": pool_size, "ledger_limit": ledger_limit, "ledger_keys": ledger_keys, "page": page}
        for setting, value in numbers.items():
            _check_number(setting, value, int, "a whole number above 0")
        for setting, seconds in (("listen_timeout", listen_timeout), ("heartbeat", heartbeat)):
            _check_number(setting, seconds, (int, float), "seconds, above 0")
        self.where = self._target.where
        """The server or servers, for messages: hosts and ports or path, never the password."""
        # No braces: values are to be spread over the slots of a Cluster. A namespace has no colon.
        self._prefix = f"tc:{namespace}:"
        self.namespace = namespace
        self._scripts = LedgerScripts(namespace, limit=ledger_limit, keys=ledger_keys, page=page)
        self.bus = self._scripts.bus
        self._pool_size = pool_size
        self._listen_timeout = listen_timeout
        self._heartbeat = heartbeat
        self._warned = False
        self._publishes: str | None = None
        self._begin()

    def _begin(self) -> None:
        self._wire = Wire(self._target, self._credentials, self._pool_size)
        self._lock = threading.Lock()
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    @property
    def queue(self) -> QueueCommands:
        """Where writes wait for the database."""
        return self

    @property
    def sessions(self) -> RedisSessions:
        """Those of users."""
        return RedisSessions(self)

    # Values. `key` is what the caller calls the entry; the namespace is put before it.

    def get(self, key: str, deadline: float) -> bytes | None:
        """The value, or None where there is none."""
        reply: bytes | None = self._execute(deadline, self._prefix + key, "GET")
        return reply

    async def aget(self, key: str, deadline: float) -> bytes | None:
        """`get` for the running event loop."""
        return await self._wire.reads().get(self._prefix + key, deadline)

    def get_many(self, keys: Sequence[str], deadline: float) -> list[bytes | None]:
        """The values in the order of the keys, by one round trip to each server that has some; None where there is
        none. Raises as soon as one of them cannot be read.
        """
        names = [self._prefix + key for key in keys]
        found: dict[str, bytes | None] = {}
        for together in rounds(self._wire.topology, names):
            for pipeline in together:
                self._wire.walk(deadline, pipeline.keys[0], pipeline)
                for name in pipeline.refused:
                    pipeline.values[name] = self._wire.walk(deadline, name, ("GET", name))
                found |= pipeline.values
        return [found[name] for name in names]

    async def aget_many(self, keys: Sequence[str], deadline: float) -> list[bytes | None]:
        """`get_many` for the running event loop."""
        names = [self._prefix + key for key in keys]
        found = await self._wire.reads().get_many(names, deadline)
        return [found[name] for name in names]

    def set(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        """Keep the value for `ttl_ms` milliseconds (at least 1)."""
        self._execute(deadline, self._prefix + key, "SET", value, "PX", max(1, ttl_ms))

    async def aset(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        """`set` for the running event loop."""
        await self._aexecute(deadline, self._prefix + key, "SET", value, "PX", max(1, ttl_ms))

    def delete(self, key: str, deadline: float) -> None:
        """Remove the value, if there is one."""
        self._execute(deadline, self._prefix + key, "UNLINK")

    async def adelete(self, key: str, deadline: float) -> None:
        """`delete` for the running event loop."""
        await self._aexecute(deadline, self._prefix + key, "UNLINK")

    # The ledger.

    def purge(
        self,
        members: Sequence[str],
        everything: bool,
        deadline: float,
        seen: Stamp | None = None,
        *,
        ack: bool = False,
    ) -> list[Message]:
        """Record an invalidation and publish it; what is returned counts as heard.

        1,000 members at most share a number, more become several messages in rising order; `everything` raises the
        floor instead and names no members. `seen` is the caller's own epoch and number: a ledger that has fallen
        behind it has lost its end and is begun anew. When a later part of a long purge fails, the earlier parts
        stand: repeating the whole is harmless. `ack`: every process is to sync as soon as it hears of it.
        """
        return self._drive(deadline, self._purging(members, everything, seen, ack=ack))

    async def apurge(
        self,
        members: Sequence[str],
        everything: bool,
        deadline: float,
        seen: Stamp | None = None,
        *,
        ack: bool = False,
    ) -> list[Message]:
        """`purge` for the running event loop."""
        return await self._adrive(deadline, self._purging(members, everything, seen, ack=ack))

    def sync(
        self, request: SyncRequest, process_id: str, deadline: float, bound: float = 1.0, *, fleet: bool = False
    ) -> SyncPage:
        """One page of what `request` has not seen; leaves a row for this process, with its staleness bound in seconds.
        With `fleet`, the rows of all processes come back beside it.
        """
        return self._drive(deadline, self._scripts.sync(request, process_id, bound, fleet=fleet))

    async def asynchronise(
        self, request: SyncRequest, process_id: str, deadline: float, bound: float = 1.0, *, fleet: bool = False
    ) -> SyncPage:
        """`sync` for the running event loop."""
        return await self._adrive(deadline, self._scripts.sync(request, process_id, bound, fleet=fleet))

    def leave(self, process_id: str, deadline: float) -> None:
        """Remove the row of a process that no longer trusts what it knows."""
        self._drive(deadline, self._scripts.leave(process_id))

    async def aleave(self, process_id: str, deadline: float) -> None:
        """`leave` for the running event loop."""
        await self._adrive(deadline, self._scripts.leave(process_id))

    def listen(self, deadline: float | None = None) -> Subscription:
        """Subscribe to the bus; on return the server has confirmed it, so that a sync begun now misses nothing."""
        if deadline is None:
            deadline = monotonic() + self._listen_timeout
        subscription: Subscription = self._wire.walk(deadline, self._scripts.bus, _SUBSCRIBE, visit=self._subscribe)
        with self._lock:
            self._subscriptions.add(subscription)
        return subscription

    def _subscribe(self, ask: Ask, deadline: float) -> Subscription:
        connection = make_connection(ask.address, self._wire.resolver)
        bus, sharded = self._scripts.bus, self._wire.topology.sharded
        return Subscription(connection, bus, deadline, self._heartbeat, sharded=sharded)

    def _purging(
        self, members: Sequence[str], everything: bool, seen: Stamp | None, *, ack: bool
    ) -> Generator[Command, Any, list[Message]]:
        home = self._wire.topology.home(self._scripts.ledger)
        if self._wire.topology.sharded and (home is None or home != self._publishes):
            # Known for one node; the next one may be of another version.
            self._scripts.publish = yield from publish_command(self._scripts.bus)
            self._publishes = self._wire.topology.home(self._scripts.ledger)
        return (yield from self._scripts.purge(members, everything, seen, ack=ack))

    def _follow(self) -> None:
        """End the subscriptions to a server that has the ledger no longer: it may live on, cut off from the others."""
        home = self._wire.topology.home(self._scripts.bus)
        with self._lock:
            elsewhere = [one for one in self._subscriptions if one.where != home] if home is not None else []
        for subscription in elsewhere:
            subscription.cut()

    @property
    def guarded(self) -> bool:
        """Whether the server tells its run_id. If not, a restart from an old snapshot can bring purged entries back."""
        return self._scripts.guarded

    def probe(self, deadline: float) -> None:
        """Syncs tell how it is."""

    # Life and death.

    def close(self) -> None:
        """Close what is idle now and the rest when its operation ends, in every thread and loop; end subscriptions.

        The tier can be used again, and then connects anew.
        """
        with self._lock:
            subscriptions = list(self._subscriptions)
            self._subscriptions = weakref.WeakSet()
        for subscription in subscriptions:
            subscription.close()
        self._wire.close()

    async def aclose(self) -> None:
        """`close` for the running event loop, whose own connections are closed on return."""
        await self._wire.aclose()
        self.close()

    def reset_after_fork(self) -> None:
        """In a forked child, before anything else: forget every connection, and say nothing to the server.

        The parent goes on using them.
        """
        wire, subscriptions = self._wire, list(self._subscriptions)
        # New locks too: another thread may have held one at the moment of the fork.
        self._begin()
        wire.forget()
        for subscription in subscriptions:
            subscription.forget()
        close_inherited()

    def _execute(self, deadline: float, key: str, name: str, *more: Any) -> Any:
        return self._wire.walk(deadline, key, (name, key, *more))

    async def _aexecute(self, deadline: float, key: str, name: str, *more: Any) -> Any:
        return await self._wire.awalk(deadline, key, (name, key, *more))

    def _lease_key(self, name: str) -> str:
        return f"tc:{{{self._prefix}{name}}}:lease"

    def _drive(self, deadline: float, flow: Generator[Command, Any, T], key: str | None = None) -> T:
        """Run scripts where `key` lies, or the ledger."""
        careful = key is None
        key = key or self._scripts.ledger
        try:
            command = next(flow)
            while True:
                try:
                    reply = self._wire.walk(deadline, key, command, careful=careful)
                except TierError as error:
                    command = flow.throw(error)
                else:
                    command = flow.send(reply)
        except StopIteration as end:
            result: T = self._finish(end)
            return result

    async def _adrive(self, deadline: float, flow: Generator[Command, Any, T], key: str | None = None) -> T:
        careful = key is None
        key = key or self._scripts.ledger
        try:
            command = next(flow)
            while True:
                try:
                    reply = await self._wire.awalk(deadline, key, command, careful=careful)
                except TierError as error:
                    command = flow.throw(error)
                else:
                    command = flow.send(reply)
        except StopIteration as end:
            result: T = self._finish(end)
            return result

    def _finish(self, end: StopIteration) -> Any:
        self._follow()
        if not self._scripts.guarded and not self._warned:
            self._warned = True
            _log.warning(
                "Redis at %s does not tell its run_id (INFO server is not allowed): a restart from an old snapshot, "
                "or a failover that lost writes, can bring purged entries back unnoticed",
                self.where,
            )
        return end.value
