"""Values in Memcached, for threads and for event loops. There is no ledger and no bus: see `apart`.

Several servers share the keys among them (rendezvous hashing, the same in every process): one that is gone takes its
own keys away and leaves the others where they were. Every operation takes a deadline, a moment on `time.monotonic()`,
and is over by then: answered, or with a `TierError`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil
from time import monotonic
from typing import Any

from pymemcache.client.rendezvous import RendezvousHash

from tiercache.errors import TierError, TierUnavailable
from tiercache.tiers.memcached_connections import FOREIGN, Ask, Delete, Dialect, Errand, Get, Set, Version
from tiercache.tiers.memcached_urls import Address, parse_url
from tiercache.tiers.pools import Pools
from tiercache.tiers.reads import Batch, LoopReads
from tiercache.tiers.sockets import Resolver, close_inherited

MOST = 100
"""Keys in one request at most."""
_MONTH = 30 * 86_400
"""Seconds up to which a lifetime is one: Memcached takes a larger number for a moment of Unix time."""
_PLAIN = re.compile(r"[!-~]{1,250}")
"""The keys that Memcached takes: no spaces and nothing that cannot be printed."""


class _Servers:
    """All of them, all the time."""

    version = 0

    def keeps(self, where: str) -> bool:
        return True


class MemcachedValues:
    """Memcached by URL (see `memcached_urls`). Connects when first used.

    `pool_size` bounds the connections of all threads together, and of each event loop by itself, over all servers; who
    finds them all busy waits until its deadline.

    Raises `ConfigError` for a URL that cannot work.
    """

    def __init__(self, url: str, namespace: str, *, pool_size: int = 32) -> None:
        self._addresses = {address.where: address for address in parse_url(url)}
        self.where = ",".join(self._addresses)
        """The servers, for messages."""
        self._hash = RendezvousHash(sorted(self._addresses), hash_function=_score)
        self._only = next(iter(self._addresses.values())) if len(self._addresses) == 1 else None
        self._prefix = f"tc:{namespace}:"
        self._pool_size = pool_size
        self._silent: frozenset[str] = frozenset()
        """The servers that did not answer the last probe."""
        self._ill: frozenset[str] = frozenset()
        """Those that are left alone."""
        self._begin()

    def _begin(self) -> None:
        self._pools = Pools(_Servers(), self._pool_size, Dialect(Resolver()))
        self._reads = LoopReads(self, f"Memcached at {self.where}")

    # Values. `key` is what the caller calls the entry; the namespace is put before it.

    def get(self, key: str, deadline: float) -> bytes | None:
        """The value, or None where there is none."""
        name = self._name(key)
        found: dict[str, bytes] = self._pools.execute(deadline, self._ask(name, Get((name,))))
        return found.get(name)

    async def aget(self, key: str, deadline: float) -> bytes | None:
        """`get` for the running event loop."""
        return await self._reads.here().get(self._name(key), deadline)

    def get_many(self, keys: Sequence[str], deadline: float) -> list[bytes | None]:
        """The values in the order of the keys, by one round trip to each server that has some; None where there is
        none. Raises as soon as one of them cannot be read.
        """
        names = [self._name(key) for key in keys]
        found: dict[str, bytes] = {}
        for ask in self._asks(names):
            found |= self._pools.execute(deadline, ask)
        return [found.get(name) for name in names]

    async def aget_many(self, keys: Sequence[str], deadline: float) -> list[bytes | None]:
        """`get_many` for the running event loop."""
        names = [self._name(key) for key in keys]
        found = await self._reads.here().get_many(names, deadline)
        return [found[name] for name in names]

    def set(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        """Keep the value for `ttl_ms` milliseconds, in whole seconds upwards. Raises `TierTooLarge` for one that is
        larger than what the server takes; then there is none under the key."""
        name = self._name(key)
        self._pools.execute(deadline, self._ask(name, Set(name, value, _expiry(ttl_ms))))

    async def aset(self, key: str, value: bytes, ttl_ms: int, deadline: float) -> None:
        """`set` for the running event loop."""
        name = self._name(key)
        await self._pools.aexecute(deadline, self._ask(name, Set(name, value, _expiry(ttl_ms))))

    def delete(self, key: str, deadline: float) -> None:
        """Remove the value, if there is one."""
        name = self._name(key)
        self._pools.execute(deadline, self._ask(name, Delete(name)))

    async def adelete(self, key: str, deadline: float) -> None:
        """`delete` for the running event loop."""
        name = self._name(key)
        await self._pools.aexecute(deadline, self._ask(name, Delete(name)))

    # Reads of tasks, which are put together.

    @property
    def topology(self) -> MemcachedValues:
        return self

    def home(self, key: str) -> str:
        """The server that has a name."""
        return self._place(key).where

    async def awalk(self, deadline: float, key: str, command: Any) -> Any:
        """Fetch one value, or those of a batch, which all lie on one server."""
        found: dict[str, bytes] = {}
        if not isinstance(command, Batch):
            found = await self._pools.aexecute(deadline, self._ask(key, Get((key,))))
            return found.get(key)
        commands: Any = command.begin()
        names = [name for _, name in commands]
        for ask in self._asks(names):
            found |= await self._pools.aexecute(deadline, ask)
        for position, name in enumerate(names):
            command.answer(position, found.get(name))
        return None

    def _name(self, key: str) -> str:
        name = self._prefix + key
        if _PLAIN.fullmatch(name):
            return name
        return f"{self._prefix}#{blake2b(key.encode(errors='surrogatepass'), digest_size=32).hexdigest()}"

    def _place(self, name: str) -> Address:
        return self._only or self._addresses[self._hash.get_node(name)]

    def _ask(self, name: str, errand: Errand) -> Ask:
        return self._of(self._place(name), errand)

    def _of(self, address: Address, errand: Errand) -> Ask:
        if address.where in self._ill:
            raise TierUnavailable(f"Memcached at {address.where} is left alone until it answers again")
        return Ask(address, errand)

    def _asks(self, names: Sequence[str]) -> list[Ask]:
        homes: dict[Address, list[str]] = {}
        for name in dict.fromkeys(names):
            homes.setdefault(self._place(name), []).append(name)
        return [
            self._of(address, Get(there[start : start + MOST]))
            for address, there in homes.items()
            for start in range(0, len(there), MOST)
        ]

    # How the servers are.

    def probe(self, deadline: float) -> None:
        """Ask each server for a sign of life. One that refuses, or gives none twice in a row, is left alone until it
        does: who asks it meanwhile need not wait for nothing. Raises `TierError` where more than half of all have given
        none this time. Only for one thread.
        """
        silent: dict[str, TierError] = {}
        ill: set[str] = set()
        for position, address in enumerate(self._addresses.values()):
            # A mute one must not eat the time of the others.
            now = monotonic()
            until = now + (deadline - now) / (len(self._addresses) - position)
            try:
                self._pools.execute(until, Ask(address, Version()))
            except TierError as error:
                cause = error.__cause__
                if not isinstance(cause, FOREIGN):  # This process is too busy itself, which says nothing of the server.
                    ill |= {address.where} & self._ill
                    continue
                # An answer can also be late because this process stood still.
                if not isinstance(cause, TimeoutError) or address.where in self._silent:
                    ill.add(address.where)
                silent[address.where] = error
        self._silent, self._ill = frozenset(silent), frozenset(ill)
        if 2 * len(silent) > len(self._addresses):
            raise next(iter(silent.values()))

    # Life and death.

    def close(self) -> None:
        """Close what is idle now and the rest when its operation ends, in every thread and loop.

        It can be used again, and then connects anew.
        """
        self._pools.close()

    async def aclose(self) -> None:
        """`close` for the running event loop, whose own connections are closed on return."""
        await self._pools.aclose()
        self.close()

    def reset_after_fork(self) -> None:
        """In a forked child, before anything else: forget every connection, and say nothing to the servers."""
        pools = self._pools
        self._begin()
        pools.forget()
        close_inherited()


def _score(text: str, seed: int) -> int:
    # The library's own is written in Python, and takes longer than Memcached for a few servers.
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _expiry(ttl_ms: int) -> Any:
    seconds = max(1, ceil(ttl_ms / 1000))
    return seconds if seconds <= _MONTH else int(time.time()) + seconds
