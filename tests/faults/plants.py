"""Planted bugs, to see that the checker finds them: each changes tiercache in the process that calls it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import redis

import tiercache.engine.flows as flows
import tiercache.tiers.redis_scripts as scripts
from tiercache.core.ledger import Ledger
from tiercache.core.records import Message, SyncPage, SyncRequest
from tiercache.engine.clocks import boot_clock
from tiercache.engine.effects import Flow
from tiercache.engine.engine import Engine
from tiercache.tiers.pools import LoopPool, ThreadPool
from tiercache.tiers.redis_connections import AsyncConnection, BoundedConnection

PLANTS: dict[str, Callable[[], None]] = {}


def plant(change: Callable[[], None]) -> Callable[[], None]:
    PLANTS[change.__name__.replace("_", "-")] = change
    return change


def patch(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    setattr(owner, name, value)


@plant
def cancelled_connection_reused() -> None:
    """A pool that takes a connection back whatever became of its last question, and gives it out unseen."""

    def exchange(self: Any, command: tuple[Any, ...], deadline: float) -> Any:
        self.moment.at = deadline
        self.send_packed_command(self.pack_command(*command), check_health=False)
        try:
            return self.read_response(disconnect_on_error=False)
        except (TimeoutError, redis.TimeoutError, redis.ResponseError):
            raise
        except BaseException:
            self.drop()
            raise

    async def aexchange(self: Any, command: tuple[Any, ...]) -> Any:
        await self.send_packed_command(self.pack_command(*command), check_health=False)
        try:
            return await self.read_response(disconnect_on_error=False)
        except (TimeoutError, redis.TimeoutError, redis.ResponseError, asyncio.CancelledError):
            raise
        except BaseException:
            self.drop()
            raise

    patch(BoundedConnection, "exchange", exchange)
    patch(AsyncConnection, "exchange", aexchange)
    for pool, connection in ((ThreadPool, BoundedConnection), (LoopPool, AsyncConnection)):
        drop = pool._drop

        def give_back(self: Any, connection: Any, drop: Any = drop) -> None:
            drop(self, connection) if self._closed else self._give_back(connection)

        patch(pool, "_drop", give_back)
        patch(connection, "quiet", lambda self: True)


def rewrite_guard(old: str, new: str) -> None:
    assert old in scripts._GUARD, "the guard reads otherwise now"
    scripts._GUARD = scripts._GUARD.replace(old, new)
    scripts.PURGE = scripts.Script(scripts._PURGE)
    scripts.SYNC = scripts.Script(scripts._SYNC)


@plant
def run_id_not_compared() -> None:
    """A server that came back with an old snapshot goes on as if nothing were missing."""
    rewrite_guard("or (run and owner ~= run)", "")


@plant
def missing_ledger_keeps_its_epoch() -> None:
    """Where the ledger is lost, the caller's own history goes on, with what it knows of it."""
    rewrite_guard(
        "epoch, owner, head, floor = ARGV[1], run or '?', 0, 0",
        "epoch, owner, head, floor = ARGV[1], run or '?', 0, 0\n"
        "  if ARGV[2] ~= '' then epoch, head = ARGV[2], tonumber(ARGV[3]) end",
    )
    rewrite_guard("-10, 'q', -10, 'f')", "string.format('%.0f', -10 - head), 'q', -10, 'f')")


@plant
def queue_dropped_on_reconnect() -> None:
    """When Redis answers again, what it never confirmed is forgotten."""

    def replay(engine: Engine, deadline: float) -> Flow[bool]:
        ledger = engine.ledger
        for item in ledger.pending():
            ledger.confirmed(item, Message(ledger.stamp().epoch, 0, 0, 0, ()), engine.clock())
        yield from ()
        return False

    patch(flows, "replay", replay)


@plant
def skip_gap_catch_up() -> None:
    """A message that comes over a gap is taken for the next one."""

    def heard(self: Ledger, message: Message, now: float) -> bool:
        with self._lock:
            view = self._view
            if message.epoch == view.epoch and message.number > view.seq:
                message = Message(message.epoch, message.number, view.seq, message.floor, message.members)
            return self._heard(message, now)

    patch(Ledger, "heard", heard)


@plant
def trust_from_receipt() -> None:
    """Trust counts from the arrival of an answer in place of the sending of its question."""
    synced = Ledger.synced

    def late(self: Ledger, request: SyncRequest, page: SyncPage) -> bool:
        return synced(self, request._replace(sent=boot_clock()), page)

    patch(Ledger, "synced", late)


@plant
def bars_not_held() -> None:
    """A purge that was not confirmed is queued, but does not hold in the process that was asked."""
    patch(Ledger, "_barred", lambda self, entry: False)


@plant
def strong_reads_do_not_ask() -> None:
    """A strong route is content with the bound."""

    def reach(engine: Engine, request: Any) -> Flow[bool]:
        request.current = True
        yield from ()
        return True

    import tiercache.engine.consistency as consistency

    patch(consistency, "reach", reach)


@plant
def flush_on_return() -> None:
    """A process that was cut off begins with nothing when it is back."""
    succeeded = Engine.sync_succeeded

    def flush(self: Engine) -> None:
        if self.failing:
            with self.ledger._lock:
                self.ledger._bar((), True, self.clock())
        succeeded(self)

    patch(Engine, "sync_succeeded", flush)


@plant
def waits_as_long_as_redis_takes() -> None:
    """No deadline for what a request asks of L2: users wait for a Redis that does not answer."""

    def execute(self: Any, deadline: float, command: Any, execute: Any = ThreadPool.execute) -> Any:
        return execute(self, time.monotonic() + 60, command)

    async def aexecute(self: Any, deadline: float, command: Any, execute: Any = LoopPool.execute) -> Any:
        return await execute(self, time.monotonic() + 60, command)

    patch(ThreadPool, "execute", execute)
    patch(LoopPool, "execute", aexecute)
