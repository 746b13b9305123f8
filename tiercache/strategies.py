"""The strategies by which a cache keeps data: how each kind of store is made from what a user says."""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from tiercache.core.policy import parse_duration
from tiercache.core.policy_settings import Duration
from tiercache.core.stores import OWN, StoreRule, StoreSettings
from tiercache.core.validation import qualified, redacted, refuse_reference
from tiercache.core.values import Codec, MsgspecCodec
from tiercache.core.write_batch import WriteBatch
from tiercache.data import Aside, ReadThrough, WriteThrough
from tiercache.data_store import Wiring
from tiercache.engine.batching import Crowd, Ticks
from tiercache.engine.behind import Behind
from tiercache.engine.engine import Engine
from tiercache.engine.lifecycle import Lifecycle
from tiercache.engine.sources import Source
from tiercache.engine.writers import Worker
from tiercache.errors import ConfigError
from tiercache.loaders import ALoad, ALoadMany, ARemove, AWrite, Load, LoadMany, Remove, Write, is_async, pair, returned
from tiercache.memoize import Arguments, Memo, Memoized, MemoRule, memoized
from tiercache.write_behind import Awaited, QueueSettings, WriteBehind, queue_terms, worker_for

K = TypeVar("K")
P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


class Strategies:
    """The stores of one cache."""

    _engine: Engine
    _lifecycle: Lifecycle

    def _begin_stores(self) -> None:
        self._wiring = Wiring(self._engine, self._lifecycle, Behind(self._engine))
        self._names: set[str] = set()
        self._behind: dict[str, WriteBehind[Any, Any]] = {}

    # -- cache-aside -------------------------------------------------------------------------------------------------

    @overload
    def aside(self, name: str, *, type: type[V], **settings: Unpack[StoreSettings]) -> Aside[Any, V]: ...

    @overload
    def aside(self, name: str, *, type: Any = ..., **settings: Unpack[StoreSettings]) -> Aside[Any, Any]: ...

    def aside(self, name: str, *, type: Any = Any, **settings: Unpack[StoreSettings]) -> Aside[Any, Any]:
        """A store that the app looks into and fills: `get`, `get_or_load`, `set`, `delete`.

        Args:
            name: what its values and counters are called. One store of a cache has it; other processes give the same
                name to the same data.
            type: of the values; without, they are what JSON knows, and bytes.
            settings: see the reference of data; `ttl` is needed.

        Raises:
            ConfigError: a setting that cannot work, or a name that another store has.
        """
        return Aside(self._wiring, self._source(name, type, settings))

    # -- read-through ------------------------------------------------------------------------------------------------

    @overload
    def read_through(
        self,
        name: str,
        *,
        load: ALoad[K, V],
        load_many: ALoadMany[K, V] | None = None,
        type: Any = ...,
        **settings: Unpack[StoreSettings],
    ) -> ReadThrough[K, V]: ...

    @overload
    def read_through(
        self,
        name: str,
        *,
        load: Load[K, V],
        aload: ALoad[K, V] | None = None,
        load_many: LoadMany[K, V] | None = None,
        aload_many: ALoadMany[K, V] | None = None,
        type: Any = ...,
        **settings: Unpack[StoreSettings],
    ) -> ReadThrough[K, V]: ...

    @overload
    def read_through(
        self,
        name: str,
        *,
        load_many: ALoadMany[K, V],
        type: Any = ...,
        **settings: Unpack[StoreSettings],
    ) -> ReadThrough[K, V | None]: ...

    @overload
    def read_through(
        self,
        name: str,
        *,
        load_many: LoadMany[K, V],
        aload_many: ALoadMany[K, V] | None = None,
        type: Any = ...,
        **settings: Unpack[StoreSettings],
    ) -> ReadThrough[K, V | None]: ...

    def read_through(
        self,
        name: str,
        *,
        load: Any = None,
        aload: Any = None,
        load_many: Any = None,
        aload_many: Any = None,
        type: Any = Any,
        **settings: Unpack[StoreSettings],
    ) -> ReadThrough[Any, Any]:
        """A store that has its loader: the app asks, `get`, `get_many`, and the store loads what it lacks.

        Args:
            name: as for `aside`.
            load: gives the value of a key. Sync for `get`, async for `aget`.
            aload: the async one, where `load` is sync, for a store that threads and tasks use.
            load_many: gives a mapping for several keys; a key that is missing there has None. An exception as the
                value of a key is that key's error.
            aload_many: the async one, where `load_many` is sync.
            type: of the values; without, the one that `load` is annotated to return.
            settings: see the reference of data; `ttl` is needed.

        Raises:
            ConfigError: no loader, a setting that cannot work, or a name that another store has.
        """
        source = self._source(name, returned(type, load, aload), settings)
        self._loaders(source, load, aload, load_many, aload_many)
        return ReadThrough(self._wiring, source)

    # -- write-through -----------------------------------------------------------------------------------------------

    @overload
    def write_through(
        self,
        name: str,
        *,
        load: ALoad[K, V],
        write: AWrite[K, V],
        remove: ARemove[K] | None = None,
        load_many: ALoadMany[K, V] | None = None,
        type: Any = ...,
        **settings: Unpack[StoreSettings],
    ) -> WriteThrough[K, V]: ...

    @overload
    def write_through(
        self,
        name: str,
        *,
        load: Load[K, V],
        write: Write[K, V],
        remove: Remove[K] | None = None,
        aload: ALoad[K, V] | None = None,
        awrite: AWrite[K, V] | None = None,
        aremove: ARemove[K] | None = None,
        load_many: LoadMany[K, V] | None = None,
        aload_many: ALoadMany[K, V] | None = None,
        type: Any = ...,
        **settings: Unpack[StoreSettings],
    ) -> WriteThrough[K, V]: ...

    def write_through(
        self,
        name: str,
        *,
        load: Any,
        write: Any,
        remove: Any = None,
        aload: Any = None,
        awrite: Any = None,
        aremove: Any = None,
        load_many: Any = None,
        aload_many: Any = None,
        type: Any = Any,
        **settings: Unpack[StoreSettings],
    ) -> WriteThrough[Any, Any]:
        """`read_through` with writes: `set` calls `write(key, value)` and `delete` calls `remove(key)`, before the
        ledger and the tiers learn of it. They return once the database has it: let them commit.

        Raises:
            ConfigError: as for `read_through`.
        """
        source = self._source(name, returned(type, load, aload), settings)
        self._loaders(source, load, aload, load_many, aload_many)
        store: WriteThrough[Any, Any] = WriteThrough(self._wiring, source)
        store._write, store._awrite = pair(source.rule, "write", write, awrite)
        store._remove, store._aremove = pair(source.rule, "remove", remove, aremove)
        return store

    # -- write-behind ------------------------------------------------------------------------------------------------

    @overload
    def write_behind(
        self,
        name: str,
        *,
        load: ALoad[K, V],
        write: Callable[[WriteBatch[K, V]], object],
        load_many: ALoadMany[K, V] | None = None,
        type: Any = ...,
        **settings: Unpack[QueueSettings],
    ) -> WriteBehind[K, V]: ...

    @overload
    def write_behind(
        self,
        name: str,
        *,
        load: Load[K, V],
        write: Callable[[WriteBatch[K, V]], object],
        aload: ALoad[K, V] | None = None,
        load_many: LoadMany[K, V] | None = None,
        aload_many: ALoadMany[K, V] | None = None,
        type: Any = ...,
        **settings: Unpack[QueueSettings],
    ) -> WriteBehind[K, V]: ...

    def write_behind(
        self,
        name: str,
        *,
        load: Any,
        write: Any,
        aload: Any = None,
        load_many: Any = None,
        aload_many: Any = None,
        type: Any = Any,
        **settings: Unpack[QueueSettings],
    ) -> WriteBehind[Any, Any]:
        """`read_through` with writes that return once Redis has them: `set`, `delete`, and `add` for numbers. Workers
        (`tiercache worker`, or `worker()` in the app) call `write(batch)`, sync or async, in one thread each.

        Args:
            write: writes all of a batch, in one transaction, or raises. It may be given a write twice.
            settings: as for `read_through`, and those of the queue.

        Raises:
            ConfigError: as for `read_through`; no Redis; or a name with more than letters, digits and . _ - in it.
        """
        terms, rest = queue_terms(name, settings, self._engine)
        source = self._source(name, returned(type, load, aload), rest)
        self._loaders(source, load, aload, load_many, aload_many)
        if not callable(write):
            raise ConfigError(f"{source.rule.named}: write", write, "a function that takes a batch")
        store: WriteBehind[Any, Any] = WriteBehind(
            self._wiring, source, terms, Awaited(write) if is_async(write) else write
        )
        self._behind[name] = store
        return store

    def worker(self, *stores: WriteBehind[Any, Any], interval: Duration = "50ms", owned: Duration = "5s") -> Worker:
        """A worker that takes the queued writes of these stores (of all, where none is named) to the database. Call its
        `start()`, and `stop(seconds)` before the process ends. Several share the work, in one process or in many.

        Args:
            interval: how long to wait where there is nothing to do; what comes meanwhile is written together.
            owned: how long until another worker takes over from one that has died.

        Raises:
            ConfigError: there is no such store, or Redis does not keep what it acknowledges.
            TierError: Redis does not answer.
        """
        chosen = stores or tuple(self._behind.values())
        if not chosen or any(self._behind.get(store.name) is not store for store in chosen):
            raise ConfigError("worker", [store.name for store in chosen], "write-behind stores of this cache")
        seconds = parse_duration("worker: interval", interval), parse_duration("worker: owned", owned)
        return worker_for(self._engine, chosen, *seconds)

    def write_behind_stores(self) -> list[str]:
        """The names of the write-behind stores of this cache."""
        return list(self._behind)

    def write_behind_store(self, name: str) -> WriteBehind[Any, Any]:
        """One of them. Raises `ConfigError` for a name that none has."""
        if name not in self._behind:
            refuse_reference("store", name, self._behind, "a write-behind store of this cache")
        return self._behind[name]

    # -- what they share ---------------------------------------------------------------------------------------------

    def memoize(
        self, template: str, *, type: Any = Any, shared: bool = False, **settings: Unpack[StoreSettings]
    ) -> Callable[[Callable[P, R]], Memoized[P, R]]:
        """Keep what a function returns, by those of its arguments that the template names: `"products:{id}"`. For sync
        and async functions, and methods.

        Args:
            template: names what makes the key; an attribute may be named, `"{self.tenant}"`. It is also the name of
                the store. What it does not name does not count.
            type: of the values; without, the one that the function is annotated to return.
            shared: of a method whose template names nothing of `self` (or `cls`): that all objects are to be given what
                one of them has returned is meant.
            settings: as for `aside`. Templates of tags name what this template names.

        Raises:
            ConfigError: a template that is none or names no argument, one of a method that names nothing of its object,
                or as for `aside`.
        """
        given: Any = template
        if not isinstance(given, str):
            accepted = "the template of its key, and the function below: @cache.memoize('products:{id}', ttl='10m')"
            raise ConfigError("memoize", redacted(given), accepted)

        def decorate(function: Callable[P, R]) -> Memoized[P, R]:
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise ConfigError(f"memoize {template!r}", function, "a function that returns; this one yields")
            arguments = Arguments(template, function)
            if arguments.blind_to and not shared:
                # Else one user's orders are the next one's: `class Account: def orders(self, page)`.
                raise ConfigError(
                    f"memoize {template!r}",
                    function,
                    f"a template that names what of its object counts, such as {{{arguments.blind_to}.tenant}}, or "
                    "shared=True where all objects are to have the same values",
                )
            rule = functools.partial(MemoRule, arguments.fields)
            source = self._source(template, returned(type, function), settings, rule)
            memo = Memo(self._wiring, source)
            kept: Memoized[P, R] = memoized(memo, source, arguments, function, is_async=is_async(function))
            return kept

        return decorate

    def _source(
        self, name: str, type_: Any, settings: StoreSettings, make: Callable[..., StoreRule] = StoreRule
    ) -> Source:
        given: dict[str, Any] = dict(settings)
        where = f"store {name!r}"
        own = {one: row.kind(qualified(where, one), given.pop(one, row.default)) for one, row in OWN.items()}
        version, codec = given.pop("version", ""), given.pop("codec", None)
        uncertain = tuple(given.pop("uncertain", ()))
        if not isinstance(version, str | int):
            raise ConfigError(f"{where}: version", version, "text or a number")
        if codec is not None and (not isinstance(codec, Codec) or not codec.name):
            raise ConfigError(f"{where}: codec", codec, "an object with name, encode(value) and decode(data)")
        if not all(isinstance(one, builtins.type) and issubclass(one, Exception) for one in uncertain):
            raise ConfigError(f"{where}: uncertain", uncertain, "classes of exceptions, e.g. [OperationalError]")
        if name in self._names:
            raise ConfigError("store", name, "a name that no store of this cache has yet")
        rule = make(
            name,
            given,
            codec=codec or _codec(where, type_),
            version=version,
            none_ttl=own["none_ttl"],
            owner=self._engine.prefix,
            packer=_packer(own["compress_above"]),
            uncertain=uncertain,
        )
        self._names.add(name)
        source = Source(rule, self._engine.stats.of_store(name))
        source.max_batch = own["max_batch"]
        return source

    def _loaders(self, source: Source, load: Any, aload: Any, load_many: Any, aload_many: Any) -> None:
        source.load, source.aload = pair(source.rule, "load", load, aload)
        source.load_many, source.aload_many = pair(source.rule, "load_many", load_many, aload_many)
        if not (source.load or source.aload or source.load_many or source.aload_many):
            raise ConfigError(f"{source.rule.named}: load", None, "a function, as load, aload, load_many or aload_many")
        source.crowd, source.ticks = Crowd(self._engine.flights), Ticks(self._wiring.behind.keep)


def _codec(where: str, type_: Any) -> MsgspecCodec:
    try:
        return MsgspecCodec(type_)
    except ConfigError as error:
        raise ConfigError(f"{where}: type", type_, error.accepted) from error.__cause__


def _packer(above: int | None) -> Any:
    if above is None:
        return None
    try:
        from tiercache.tiers.zstd import Zstd
    except ImportError as error:
        accepted = "nothing without the extra: pip install 'tiercache[zstd]'"
        raise ConfigError("compress_above", above, accepted) from error
    return Zstd(above)

