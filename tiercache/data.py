"""Stores of data: values by key, through the same tiers, ledger and flights as responses.

A store is used from threads or from tasks, as its loaders are: `get` calls `load`, `aget` awaits `aload`, and a store
that has both may be used from both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, overload

from tiercache.core.policy_settings import Duration
from tiercache.core.values import body_of
from tiercache.data_store import MISS, K, Store, V, raised
from tiercache.engine import loading
from tiercache.engine.batching import together
from tiercache.engine.effects import Flow, adrive, drive
from tiercache.engine.loading import Loading
from tiercache.engine.sources import Outcome
from tiercache.engine.writing import Call
from tiercache.errors import DataError

D = TypeVar("D")


class _Deleting(Store[K, V]):
    def delete(self, key: K) -> None:
        """Invalidate one key in every process: the next read loads. Raises as `invalidate` does."""
        self._off_loop("delete")
        self.invalidate(key)

    async def adelete(self, key: K) -> None:
        """`delete` for async code."""
        await self.ainvalidate(key)


class Aside(_Deleting[K, V]):
    """Cache-aside: the app looks into the store, and fills it."""

    @overload
    def get(self, key: K) -> V | None: ...

    @overload
    def get(self, key: K, default: D) -> V | D: ...

    def get(self, key: K, default: Any = None) -> Any:
        """What the tiers have for a key and is fresh, else `default`."""
        whole = self._key(key)
        value = self._hit(whole)
        if value is not MISS:
            return value
        self._off_loop("get")
        asked = self._asked(key, whole, self._source)
        return self._peeked(asked, drive(loading.peek(asked)), default)

    @overload
    async def aget(self, key: K) -> V | None: ...

    @overload
    async def aget(self, key: K, default: D) -> V | D: ...

    async def aget(self, key: K, default: Any = None) -> Any:
        """`get` for async code; it does not suspend for what L1 has."""
        whole = self._key(key)
        value = self._hit(whole)
        if value is not MISS:
            return value
        asked = self._asked(key, whole, self._source)
        return self._peeked(asked, await adrive(loading.peek(asked)), default)

    def _peeked(self, asked: Loading, entry: Any, default: Any) -> Any:
        return default if entry is None else self._taken(asked, Outcome(entry))

    def get_or_load(self, key: K, load: Callable[[K], V]) -> V:
        """What the tiers have for a key, else what `load(key)` gives, once for all who ask meanwhile.

        Raises:
            LoadTimeout, LoadRefused: as the store's `fill_timeout` and `max_fills` say.
            DataError: called on a running event loop, which it would block: `await aget_or_load(...)` there.
            Exception: whatever `load` raises, where nothing stale stands in.
        """
        whole = self._key(key)
        value = self._hit(whole)
        if value is MISS:
            self._off_loop("get_or_load")
            value = self._load(key, whole, self._source.by(load, None))
        return value  # type: ignore[no-any-return]

    async def aget_or_load(self, key: K, load: Callable[[K], Awaitable[V]]) -> V:
        """`get_or_load` for async code and an async `load`."""
        whole = self._key(key)
        value = self._hit(whole)
        if value is MISS:
            value = await self._aload(key, whole, self._source.by(None, load))
        return value  # type: ignore[no-any-return]

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """What the tiers have of these keys, in their order; L2 is asked once for all that L1 lacks."""
        found, missing = self._split(keys)
        if missing:
            self._off_loop("get_many")
            outcomes: dict[int, Outcome] = {}
            drive(together([_peeked(asked) for _, asked in missing], outcomes.__setitem__))
            self._fill_in(found, missing, outcomes)
        return {key: value for key, value in found.items() if value is not MISS}

    async def aget_many(self, keys: Iterable[K]) -> dict[K, V]:
        """`get_many` for async code."""
        found, missing = self._split(keys)
        if missing:
            outcomes: dict[int, Outcome] = {}
            await adrive(together([_peeked(asked) for _, asked in missing], outcomes.__setitem__))
            self._fill_in(found, missing, outcomes)
        return {key: value for key, value in found.items() if value is not MISS}

    def _split(self, keys: Iterable[K]) -> tuple[dict[K, Any], list[tuple[K, Loading]]]:
        found: dict[K, Any] = {}
        missing = []
        for key in dict.fromkeys(keys):
            whole = self._key(key)
            found[key] = value = self._hit(whole)
            if value is MISS:
                missing.append((key, self._asked(key, whole, self._source)))
        return found, missing

    def _fill_in(self, found: dict[K, Any], missing: list[tuple[K, Loading]], outcomes: dict[int, Outcome]) -> None:
        for index, (key, asked) in enumerate(missing):
            if outcomes[index].entry is not None:
                found[key] = self._taken(asked, outcomes[index])

    def set(self, key: K, value: V, *, ttl: Duration | None = None, tags: Iterable[str] = ()) -> None:
        """Put a value in place of whatever any process has under the key. It is taken to be what the database has now;
        where several write, `write_through` puts them in order.

        Args:
            ttl: in place of the store's.
            tags: beside the store's.

        Raises:
            DataError: the value cannot be stored; or called on a running event loop: `await aset(...)` there.
            PurgeUnconfirmed: the shared tier has not confirmed that other values are out of date.
        """
        self._off_loop("set")
        self._storable(value)
        raised(drive(self._change(key, self._key(key), value, None, keeps=True, ttl=ttl, tags=tags)))

    async def aset(self, key: K, value: V, *, ttl: Duration | None = None, tags: Iterable[str] = ()) -> None:
        """`set` for async code."""
        self._storable(value)
        raised(await adrive(self._change(key, self._key(key), value, None, keeps=True, ttl=ttl, tags=tags)))

    def _storable(self, value: object) -> None:
        try:
            body_of(value, self._rule.codec)
        except Exception as error:
            raise DataError(f"{self._rule.named}: {error}") from error


def _peeked(asked: Loading) -> Flow[Outcome]:
    entry = yield from loading.peek(asked)
    return Outcome(entry)


class ReadThrough(_Deleting[K, V]):
    """Read-through: the store has the loader, and the app only asks."""

    def get(self, key: K) -> V:
        """The value of a key, loaded once for all who ask meanwhile.

        Raises:
            LoadTimeout, LoadRefused: as the store's `fill_timeout` and `max_fills` say.
            DataError: the loader is async, or this would block a running event loop: `await aget(...)` there.
            Exception: whatever the loader raises, where nothing stale stands in.
        """
        kind = key.__class__
        whole = (self._prefix, key) if kind is str or kind is int else self._rule.key_for(key)
        value = self._hit(whole)
        if value is MISS:
            self._sync(self._source, "get")
            value = self._load(key, whole, self._source)
        return value  # type: ignore[no-any-return]

    async def aget(self, key: K) -> V:
        """`get` for async code and an async loader; it does not suspend for what L1 has. What is asked for within one
        turn of the event loop goes to `load_many` together."""
        kind = key.__class__
        whole = (self._prefix, key) if kind is str or kind is int else self._rule.key_for(key)
        value = self._hit(whole)
        if value is MISS:
            self._async(self._source, "aget")
            value = await self._aload(key, whole, self._source)
        return value  # type: ignore[no-any-return]

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of several keys, in their order: L2 is asked once for all that L1 lacks, and `load_many` for all
        that are to be loaded. The first error of a key is raised, once all others are stored."""
        found: dict[K, Any] = {}
        missing = self._split(keys, found, many=self._source.load_many is not None)
        if missing:
            self._sync(self._source, "get_many")
            behind = self._wiring.behind
            for _, asked in missing:
                asked.ask_behind = behind.ask
            outcomes: dict[int, Outcome] = {}
            drive(together([loading.read(asked) for _, asked in missing], outcomes.__setitem__))
            self._fill_in(found, missing, outcomes, behind.refresh)
        return found

    async def aget_many(self, keys: Iterable[K]) -> dict[K, V]:
        """`get_many` for async code and an async loader."""
        found: dict[K, Any] = {}
        missing = self._split(keys, found, many=self._source.aload_many is not None)
        if missing:
            self._async(self._source, "aget_many")
            behind = self._wiring.behind
            for _, asked in missing:
                asked.ask_behind = behind.aask
            outcomes: dict[int, Outcome] = {}
            work = adrive(together([loading.read(asked) for _, asked in missing], outcomes.__setitem__))
            # As with one key: others may wait for what is loaded here.
            await asyncio.shield(behind.keep(work))
            self._fill_in(found, missing, outcomes, behind.arefresh)
        return found

    def _split(self, keys: Iterable[K], found: dict[K, Any], *, many: bool) -> list[tuple[K, Loading]]:
        missing = []
        for key in dict.fromkeys(keys):
            whole = self._key(key)
            found[key] = value = self._hit(whole)
            if value is MISS:
                missing.append((key, self._asked(key, whole, self._source, many=many)))
        return missing

    def _fill_in(
        self,
        found: dict[K, Any],
        missing: list[tuple[K, Loading]],
        outcomes: dict[int, Outcome],
        refresh: Callable[[Loading], None],
    ) -> None:
        failed: list[BaseException] = []
        for index, (key, asked) in enumerate(missing):
            if asked.refresh:
                asked.around = None
                refresh(asked)
            try:
                found[key] = self._taken(asked, outcomes[index])
            except Exception as error:
                failed.append(error)
        if failed:
            raise failed[0]


class WriteThrough(ReadThrough[K, V]):
    """Write-through: `set` writes the database first, then the ledger and the tiers."""

    _write: Callable[..., Any] | None = None
    _awrite: Callable[..., Awaitable[Any]] | None = None
    _remove: Callable[..., Any] | None = None
    _aremove: Callable[..., Awaitable[Any]] | None = None

    def set(self, key: K, value: V, *, ttl: Duration | None = None, tags: Iterable[str] = ()) -> None:
        """Write a value to the database, invalidate the key in every process, and store the value if it is known to be
        the last one written; else the next read loads it.

        Raises:
            Exception: whatever `write` raises; the tiers are then as they were. After a `TimeoutError` or
                `ConnectionError`, and after a cancellation, the write may have been made: the key is invalidated.
            PurgeUnconfirmed: it is written, and out of date values are barred here, but the shared tier has not
                confirmed that for the rest of the fleet, where it is queued.
            DataError: `write` is async, or this would block a running event loop: `await aset(...)` there.
        """
        self._off_loop("set")
        call = Call(self._known(self._write, "write", "awrite"), None, key, value)
        raised(drive(self._change(key, self._key(key), value, call, keeps=True, ttl=ttl, tags=tags)))

    async def aset(self, key: K, value: V, *, ttl: Duration | None = None, tags: Iterable[str] = ()) -> None:
        """`set` for async code and an async `write`."""
        call = Call(None, self._known(self._awrite, "awrite", "write"), key, value)
        raised(await adrive(self._change(key, self._key(key), value, call, keeps=True, ttl=ttl, tags=tags)))

    def delete(self, key: K) -> None:
        """Remove a value from the database, and invalidate the key in every process. Errors are as for `set`."""
        self._off_loop("delete")
        call = Call(self._known(self._remove, "remove", "aremove"), None, key)
        raised(drive(self._change(key, self._key(key), None, call)))

    async def adelete(self, key: K) -> None:
        """`delete` for async code and an async `remove`."""
        call = Call(None, self._known(self._aremove, "aremove", "remove"), key)
        raised(await adrive(self._change(key, self._key(key), None, call)))

    def _known(self, function: Any, name: str, other: str) -> Any:
        if function is None:
            raise DataError(f"{self._rule.named}: this needs {name}=…; {other}=… may stand beside it")
        return function
