"""The fast way to hear of invalidations: a subscription to the bus, for one listener thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from time import monotonic
from typing import Any

from redis.exceptions import ResponseError

from tiercache.core.records import Message, Wake
from tiercache.errors import TierError, TierRejected, TierUnavailable
from tiercache.tiers.redis_calls import Command
from tiercache.tiers.redis_connections import BoundedConnection
from tiercache.tiers.redis_errors import FOREIGN, is_timeout, translate, unknown_command
from tiercache.tiers.redis_scripts import read_message


def publish_command(channel: str) -> Generator[Command, Any, str]:
    """Which command reaches a bus on a Cluster: `SPUBLISH` stays in one shard, `PUBLISH` goes to every node."""
    try:
        yield ("SPUBLISH", f"{channel}:probe", b"")
    except TierRejected as error:
        if not unknown_command(error.__cause__):  # Redis 6.2
            raise
        return "PUBLISH"
    return "SPUBLISH"


class Subscription:
    """A confirmed subscription. `wait` belongs to one thread; `close` may be called from any.

    A peer that vanishes without a word (a lost route, a forgotten NAT entry) looks like a quiet bus, so a quiet one
    is asked for a sign of life every `heartbeat` seconds, and counts as cut off when as long again brings none.
    """

    def __init__(
        self, connection: BoundedConnection, channel: str, deadline: float, heartbeat: float, *, sharded: bool = False
    ) -> None:
        self._connection = connection
        self._wire: Any = connection
        self.where = connection.address.where
        """The server that it hangs on."""
        self._permissions = connection.address.permissions
        self._heartbeat = heartbeat
        self._closed = False
        self._in_use = threading.RLock()
        self._asked = False
        try:
            if sharded:
                self._subscribe_shard(channel, deadline)
            # On a Cluster both: who purges may be the one that found no sharded bus, before an upgrade.
            connection.exchange(("SUBSCRIBE", channel), deadline)
        except FOREIGN as error:
            connection.drop()
            raise self._translated(error) from error
        except BaseException:
            connection.drop()
            raise
        self._heard = monotonic()

    def _subscribe_shard(self, channel: str, deadline: float) -> None:
        try:
            self._connection.exchange(("SSUBSCRIBE", channel), deadline)
        except ResponseError as error:
            if not unknown_command(error):  # Redis 6.2
                raise

    def _translated(self, error: BaseException) -> TierError:
        return translate(error, self.where, self._permissions)

    def wait(self, timeout: float) -> Message | Wake | None:
        """The next message; None when `timeout` seconds bring none.

        Raises `TierUnavailable` when the subscription is cut off or closed (messages may have been missed, and a new
        one must be followed by a sync), and `TierRejected` for a message that is not an invalidation.
        """
        # With nothing left a read would not look at the socket at all.
        until = monotonic() + max(timeout, 0.001)
        with self._in_use:
            while not self._closed:
                due = self._heard + self._heartbeat * (2 if self._asked else 1)
                reply = self._read(min(until, due))
                now = monotonic()
                if reply is not None:
                    self._heard = now
                    self._asked = False
                    if reply[0] in (b"message", b"smessage"):
                        return read_message(reply[2])
                    if reply[0] == b"sunsubscribe":
                        self.close()
                        raise TierUnavailable(f"the slot of the bus has left the node at {self.where}")
                elif now >= due and self._asked:
                    self.close()
                    raise TierUnavailable(f"Redis at {self.where} gives no sign of life on the bus")
                elif now >= due:
                    self._ask(now + self._heartbeat)
                if now >= until:
                    return None
        raise TierUnavailable("the subscription is closed")

    def _read(self, until: float) -> list[bytes] | None:
        self._connection.moment.at = until
        try:
            reply: list[bytes] = self._wire.read_response(disconnect_on_error=False)
            return reply
        except FOREIGN as error:
            # A message that has arrived in part stays in the parser, and the next read goes on with it.
            if is_timeout(error) and not self._closed:
                return None
            self.close()
            raise self._translated(error) from error

    def _ask(self, until: float) -> None:
        self._connection.moment.at = until
        try:
            self._wire.send_command("PING", check_health=False)
        except FOREIGN as error:
            self.close()
            raise self._translated(error) from error
        self._asked = True

    def cut(self) -> None:
        """Have `wait` raise `TierUnavailable`, now if a thread is in it. Blocks nobody; `close` is still to follow."""
        self._closed = True
        sock = self._wire._sock
        if sock is not None:
            sock.wake()

    def close(self) -> None:
        """End it; a `wait` in another thread raises `TierUnavailable`."""
        # Wake the reader first and close after it has left: its descriptor could be another file by then.
        self.cut()
        with self._in_use:
            self._connection.drop()

    def forget(self) -> None:
        """In a forked child: close its copy of the socket, without a word to the server."""
        self._closed = True
        self._connection.drop()
