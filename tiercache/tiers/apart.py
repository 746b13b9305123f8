"""A shared tier of two parts: values in one place, the ledger with its bus and leases in another.

Nothing in the protocol needs them together: an entry carries where in the history its fill began, and its reader
compares that with its own mirror, wherever it found the entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiercache.tiers.memcached import MemcachedValues
    from tiercache.tiers.own_ledger import OwnLedger
    from tiercache.tiers.redis import RedisTier


class ApartTier:
    """The two parts as one."""

    apart = True
    queue = None
    """Writes would lie elsewhere than their values."""

    def __init__(self, values: MemcachedValues, ledger: RedisTier | OwnLedger, *, alone: bool) -> None:
        self.alone = alone
        self._parts = (values, ledger)
        self.get, self.aget = values.get, values.aget
        self.get_many, self.aget_many = values.get_many, values.aget_many
        self.set, self.aset = values.set, values.aset
        self.delete, self.adelete = values.delete, values.adelete
        self.probe = values.probe
        self.purge, self.apurge = ledger.purge, ledger.apurge
        self.sync, self.asynchronise = ledger.sync, ledger.asynchronise
        self.acquire, self.aacquire = ledger.acquire, ledger.aacquire
        self.renew, self.arenew = ledger.renew, ledger.arenew
        self.release, self.arelease = ledger.release, ledger.arelease
        self.leave, self.aleave = ledger.leave, ledger.aleave
        self.listen = ledger.listen
        # Memcached may forget them at any moment.
        self.sessions = ledger.sessions

    def reset_after_fork(self) -> None:
        """In a forked child, before anything else."""
        for part in self._parts:
            part.reset_after_fork()

    def close(self) -> None:
        """Close what is idle now and the rest when its operation ends; end subscriptions. It can be used again."""
        for part in self._parts:
            part.close()

    async def aclose(self) -> None:
        """`close` for the running event loop, whose own connections are closed on return."""
        for part in self._parts:
            await part.aclose()
