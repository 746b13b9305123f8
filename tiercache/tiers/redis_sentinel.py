"""The primary of a service, as its sentinels name it.

The steps are those of Redis's guide for Sentinel clients: ask the sentinels in turn, connect, have the server confirm
by ROLE that it is a primary (each new connection does), and ask again whenever something fails.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from tiercache.errors import TierError, TierUnavailable
from tiercache.tiers.redis_connections import Address
from tiercache.tiers.redis_pipelines import Pipeline
from tiercache.tiers.redis_topology import Ask, Command, Route, casts_doubt

CONFIRMED_FOR = 1.0
"""Seconds after which a careful caller asks the sentinels again. A primary that is cut off from its sentinels, but not
from us, answers as if nothing had happened while another one has taken over."""
_HOPS = 3


class SentinelTopology:
    """`home` changes with each failover."""

    sharded = False

    def __init__(
        self, sentinels: tuple[Address, ...], address: Address, service: str, clock: Callable[[], float] = monotonic
    ) -> None:
        self._sentinels = sentinels
        self._address = address
        self._service = service
        self._clock = clock
        self._primary: Address | None = None
        self._confirm_at = 0.0
        self.version = 0

    def route(self, key: str, command: Command | Pipeline, *, careful: bool = False) -> Route:
        primary = self._primary
        if primary is None:
            primary = yield from self._find(1.0)
        elif careful and self._clock() >= self._confirm_at:
            # One lookup is enough for all who would come now.
            self._confirm_at = self._clock() + CONFIRMED_FOR
            try:
                primary = yield from self._find(0.25)
            except TierError:
                pass  # A primary does not end with its sentinels.
        for _ in range(_HOPS):
            try:
                return (yield Ask(primary, command))
            except TierError as error:
                if not casts_doubt(error):
                    raise
                known = self._primary
                if known is not None and known.where != primary.where:
                    primary = known  # somebody else has found it meanwhile
                    continue
                self._primary = None
                failed, trouble = primary, error
            try:
                primary = yield from self._find(0.5)
            except TierError:
                raise trouble from trouble.__cause__
            if primary.where == failed.where:
                raise trouble from trouble.__cause__
        raise TierUnavailable(f"the primary of {self._service!r} changes too fast")

    def home(self, key: str) -> str | None:
        primary = self._primary
        return None if primary is None else primary.where

    def keeps(self, where: str) -> bool:
        return where == self.home("")

    def _find(self, share: float) -> Any:
        sentinels = self._sentinels
        trouble: list[str] = []
        cause: TierError | None = None
        for position, sentinel in enumerate(sentinels):
            question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            try:
                reply = yield Ask(sentinel, question, share=share / (len(sentinels) - position))
            except TierError as error:
                trouble.append(str(error))
                cause = error
                continue
            if not reply:
                trouble.append(f"the sentinel at {sentinel.where} knows no such service")
                continue
            # The one that answered is asked first the next time.
            self._sentinels = (sentinel, *(other for other in sentinels if other is not sentinel))
            found = self._address.at(_text(reply[0]), int(reply[1]))
            self._confirm_at = self._clock() + CONFIRMED_FOR
            before, self._primary = self._primary, found
            if before is None or before.where != found.where:
                self.version += 1
            return found
        raise TierUnavailable(
            f"no sentinel tells the primary of {self._service!r}: {'; '.join(trouble)}"
        ) from (cause.__cause__ if cause is not None else None)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


