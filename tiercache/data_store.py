"""What every store of data does: hand out what L1 has, load what it has not, and forget.

What L1 has is handed out by a plain function, without a lock, a generator or an `await`. Everything else goes through
`engine.loading` and `engine.writing`, driven here in the caller's thread or task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from tiercache.core.keys import Key
from tiercache.core.policy import parse_duration
from tiercache.core.policy_settings import BOUNDED, Duration
from tiercache.core.stores import Get
from tiercache.engine import loading, purging, writing
from tiercache.engine.batching import LoadMany
from tiercache.engine.behind import Behind
from tiercache.engine.effects import Effect, Flow, adrive, drive
from tiercache.engine.engine import Engine
from tiercache.engine.fill import current_fill
from tiercache.engine.lifecycle import Lifecycle
from tiercache.engine.loading import Loading
from tiercache.engine.purging import Purge
from tiercache.engine.sources import Outcome, Source
from tiercache.errors import ConfigError, DataError

K = TypeVar("K")
V = TypeVar("V")

MISS: Final[Any] = object()


class Wiring(NamedTuple):
    """What all stores of a cache share."""

    engine: Engine
    lifecycle: Lifecycle
    behind: Behind


class Store(Generic[K, V]):
    """What every store can: hand out what L1 has, forget one key or all, and take values."""

    def __init__(self, wiring: Wiring, source: Source) -> None:
        self._wiring = wiring
        self._engine = wiring.engine
        self._source = source
        self._rule = source.rule
        self._counts = source.counts
        self._prefix = self._rule.prefix
        policy = self._rule.policy
        wiring.engine.settings.check_consistency(f"store {self._rule.name!r}: consistency", policy.consistency)
        self._follows = policy.follow_data
        self._asks = policy.consistency != BOUNDED and wiring.engine.shared is not None
        """L1 may not answer by itself."""

    @property
    def name(self) -> str:
        """As it was given."""
        return self._rule.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # -- reading -----------------------------------------------------------------------------------------------------

    def _key(self, key: object) -> Key:
        kind = key.__class__
        return (self._prefix, key) if kind is str or kind is int else self._rule.key_for(key)

    def _hit(self, key: Key) -> Any:
        """What L1 answers now, or MISS."""
        engine = self._engine
        entry = engine.memory.lookup(key)
        if entry is None or self._asks:
            return MISS
        now = engine.clock()
        ledger = engine.ledger
        # Trust before version, as for a response.
        trusted = now < ledger.trusted_until
        if not trusted or (entry.checked != ledger.version and not ledger.alive(entry)) or now >= entry.soon:
            return MISS
        self._counts.hits_l1 += 1
        if self._follows:
            fill = current_fill()
            if fill is not None:
                fill.follow(entry, ledger, now)
        decode = entry.decode
        if decode is None:
            return entry.value
        try:
            return decode(entry.value)
        except Exception as error:  # a codec of the app's
            engine.complaints.swallow("value not kept", f"{self._rule.named}: {type(error).__name__}: {error}")
            engine.memory.discard(key)
            return MISS

    def _asked(self, subject: object, key: Key, source: Source, *, many: bool = False) -> Loading:
        self._wiring.lifecycle.ensure_running()
        made = Loading(self._engine, Get(self._rule, subject, key), source)
        if many:
            made.effect = LoadMany
        return made

    def _sync(self, source: Source, method: str) -> None:
        if source.load is None and source.load_many is None:
            raise DataError(
                f"{self._rule.named}: its loader is async; `await {self.name}.a{method}(...)` calls it, or give load=…"
            )
        self._off_loop(method)

    def _async(self, source: Source, method: str) -> None:
        if source.aload is None and source.aload_many is None:
            raise DataError(
                f"{self._rule.named}: its loader is sync; {method[1:]}(...) calls it, or give aload=…, for instance "
                "lambda key: asyncio.to_thread(load, key)"
            )

    def _load(self, subject: object, key: Key, source: Source) -> Any:
        asked = self._asked(subject, key, source, many=source.load_many is not None)
        asked.ask_behind = self._wiring.behind.ask
        outcome = drive(loading.read(asked))
        if asked.refresh:
            asked.around = None
            self._wiring.behind.refresh(asked)
        return self._taken(asked, outcome)

    async def _aload(self, subject: object, key: Key, source: Source) -> Any:
        many = source.aload_many is not None
        asked = self._asked(subject, key, source, many=many)
        behind = self._wiring.behind
        asked.ask_behind = behind.aask
        if many:
            outcome = await source.ticks.join(asked)
        else:
            opened = await adrive(loading.opened(asked))
            outcome = await self._own_load(asked) if opened is None else opened
        if asked.refresh:
            asked.around = None
            behind.arefresh(asked)
        return self._taken(asked, outcome)

    async def _own_load(self, asked: Loading) -> Outcome:
        """In a task of its own, so that a caller who is cancelled takes nothing from those who wait with it."""
        task = asyncio.get_running_loop().create_task(adrive(loading.load(asked)))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                if not asked.wanted() and asked.share is None:
                    task.cancel()
                self._wiring.behind.hold(task)
                # A task that is cancelled before its first step has not even reached the `finally` of its flow.
                task.add_done_callback(lambda _: asked.forsake())
            raise

    def _taken(self, asked: Loading, outcome: Outcome) -> Any:
        """The value for the caller, or the error; and what is being made with it learns of that."""
        raised(outcome.error)
        entry, engine, around = outcome.entry, self._engine, current_fill()
        if around is not None and self._follows and engine.enabled:
            if entry is None:
                around.foreign = True
            else:
                around.follow(entry, engine.ledger, engine.clock())
            around.refusal = around.refusal or outcome.refusal
        return outcome.value if outcome.made or entry is None else asked.request.take(entry)

    def _off_loop(self, method: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise DataError(
            f"{self._rule.named}: {method}() would block the running event loop; "
            f"use `await {self.name}.a{method}(...)` here"
        )

    # -- changing ----------------------------------------------------------------------------------------------------

    def _change(
        self,
        subject: Any,
        key: Key,
        value: Any = None,
        call: Effect | None = None,
        *,
        keeps: bool = False,
        shares: bool = True,
        write: Any = None,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
    ) -> Flow[BaseException | None]:
        made = self._asked(subject, key, self._source)
        made.choose(None if ttl is None else parse_duration(f"{self._rule.named}: ttl", ttl), self._named(tags))
        return writing.change(made, call, value, keeps=keeps, shares=shares, write=write)

    def _named(self, tags: Iterable[str]) -> tuple[str, ...]:
        named = (tags,) if isinstance(tags, str) else tuple(tags)
        for tag in named:
            if not tag or not isinstance(tag, str):
                raise ConfigError(f"{self._rule.named}: tags", tag, "non-empty strings, such as 'product:7'")
        return named

    def invalidate(self, key: K) -> None:
        """Invalidate one key in every process: the next read loads.

        Raises:
            PurgeUnconfirmed: the shared tier has not confirmed it; it holds here and is queued.
            DataError: called on a running event loop: `await ainvalidate(...)` there.
        """
        self._off_loop("invalidate")
        raised(drive(self._change(key, self._key(key))))

    async def ainvalidate(self, key: K) -> None:
        """`invalidate` for async code."""
        raised(await adrive(self._change(key, self._key(key))))

    def clear(self) -> None:
        """Invalidate every value of this store in every process.

        Raises:
            PurgeUnconfirmed: the shared tier has not confirmed it; it holds here and is queued.
            DataError: called on a running event loop: `await aclear()` there.
        """
        self._off_loop("clear")
        drive(self._clearing())

    async def aclear(self) -> None:
        """`clear` for async code."""
        await adrive(self._clearing())

    def _clearing(self) -> Flow[Any]:
        self._wiring.lifecycle.ensure_running()
        tag = self._rule.own_tag
        return purging.carry_out(self._engine, Purge((tag,), ("h:" + tag,), False, False, 0.0))


def raised(error: BaseException | None) -> None:
    """Raise the error that a flow has brought, if there is one."""
    if error is not None:
        try:
            raise error
        finally:
            del error  # it would hold this frame, which holds it
