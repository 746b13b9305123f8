"""The fast way to hear of invalidations: a subscription to the bus, for one listener thread."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from tiercache.core.ledger import Message
from tiercache.errors import TierUnavailable
from tiercache.tiers.redis_connections import BoundedConnection
from tiercache.tiers.redis_errors import FOREIGN, is_timeout, translate
from tiercache.tiers.redis_scripts import read_message


class Subscription:
    """A confirmed subscription. `wait` belongs to one thread; `close` may be called from any.

    A peer that vanishes without a word (a lost route, a forgotten NAT entry) looks like a quiet bus, so a quiet one
    is asked for a sign of life every `heartbeat` seconds, and counts as cut off when as long again brings none.
    """

    def __init__(
        self, connection: BoundedConnection, channel: str, where: str, deadline: float, heartbeat: float
    ) -> None:
        self._connection = connection
        self._wire: Any = connection
        self._where = where
        self._heartbeat = heartbeat
        self._closed = False
        self._in_use = threading.RLock()
        self._asked = False
        try:
            connection.exchange(("SUBSCRIBE", channel), deadline)
        except FOREIGN as error:
            connection.drop()
            raise translate(error, where) from error
        except BaseException:
            connection.drop()
            raise
        self._heard = monotonic()

    def wait(self, timeout: float) -> Message | None:
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
                    if reply[0] == b"message":
                        return read_message(reply[2])
                elif now >= due and self._asked:
                    self.close()
                    raise TierUnavailable(f"Redis at {self._where} gives no sign of life on the bus")
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
            raise translate(error, self._where) from error

    def _ask(self, until: float) -> None:
        self._connection.moment.at = until
        try:
            self._wire.send_command("PING", check_health=False)
        except FOREIGN as error:
            self.close()
            raise translate(error, self._where) from error
        self._asked = True

    def close(self) -> None:
        """End it; a `wait` in another thread raises `TierUnavailable`."""
        self._closed = True
        sock = self._wire._sock
        if sock is not None:
            # Wake the reader first and close after it has left: its descriptor could be another file by then.
            sock.wake()
        with self._in_use:
            self._connection.drop()

    def forget(self) -> None:
        """In a forked child: close its copy of the socket, without a word to the server."""
        self._closed = True
        self._connection.drop()
