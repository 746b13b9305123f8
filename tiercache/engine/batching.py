"""Several gets as one: flows that go on side by side, and loaders that take many keys at once.

What the flows ask for is answered together: their reads of L2 by one round trip, their loads by one call of
`load_many`. A flow that waits for somebody else's load is answered last, so that no two groups wait for each other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Hashable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tiercache.core.values import Codec, body_of
from tiercache.engine.effects import Effect, Fetch, FetchMany, Flow, Wait, adrive
from tiercache.engine.engine import Engine
from tiercache.engine.fill import Fill, enter, leave
from tiercache.engine.flights import Flights
from tiercache.engine.loading import Loading, read
from tiercache.engine.sources import Load, Outcome, Source, copies, plain
from tiercache.errors import DataError

LONGEST_TURN = 60.0
"""Seconds that a thread waits for its turn to load with others, before it loads alone."""

Told = Callable[[int, Outcome], None]
_WIDEST = 500
"""Flows whose wishes are answered at once."""


class Raised:
    """The error of one of several."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class LoadMany(Load):
    """Load one key by a loader that may take several: those that are asked for meanwhile go with the next call."""

    __slots__ = ()

    def run(self) -> Any:
        crowd: Crowd = self.loading.source.crowd
        return _single(crowd.load(self.loading))

    async def arun(self) -> Any:
        (result,) = await Loads([self.loading]).arun()
        return _single(result)


def _single(result: Any) -> Any:
    if isinstance(result, Raised):
        raise result.error
    return result


class Loads:
    """Load several keys of one store; brings a value or a `Raised` for each."""

    __slots__ = ("_loadings",)

    def __init__(self, loadings: Sequence[Loading]) -> None:
        self._loadings = loadings

    def _batches(self) -> Iterator[Batch]:
        most = self._loadings[0].source.max_batch
        for first in range(0, len(self._loadings), most):
            yield Batch(self._loadings[first : first + most])

    def run(self) -> list[Any]:
        results: list[Any] = []
        for batch in self._batches():
            source = batch.source
            with batch:
                if batch.one and source.load is not None:
                    batch.results = [plain(source.load(batch.keys[0]), source)]
                else:
                    assert source.load_many is not None
                    batch.take(plain(source.load_many(batch.keys), source))
            results += batch.results
        return results

    async def arun(self) -> list[Any]:
        results: list[Any] = []
        for batch in self._batches():
            source = batch.source
            with batch:
                if batch.one and source.aload is not None:
                    batch.results = [await source.aload(batch.keys[0])]
                else:
                    assert source.aload_many is not None
                    batch.take(await source.aload_many(batch.keys))
            results += batch.results
        return results


def another(value: Any, codec: Codec) -> Any:
    """The same value once more; itself, where nobody can change it or its codec cannot take it."""
    try:
        body = body_of(value, codec)
        return value if body.size >= 0 else codec.decode(body.data)
    except Exception:
        return value


class Batch:
    """One call of a loader: what it says of the values while it runs holds for all of them."""

    def __init__(self, loadings: Sequence[Loading]) -> None:
        self._loadings = loadings
        self.source = loadings[0].source
        self.keys = [one.request.subject for one in loadings]
        self.one = len(loadings) == 1
        self.results: list[Any] = []

    def __enter__(self) -> None:
        first = self._loadings[0]
        ledger = first.engine.ledger
        around = [fill for one in self._loadings if one.around is not None for fill in one.around.line()]
        subjects: list[Hashable] = [one.request.key for one in self._loadings]
        subjects += [subject for fill in around for subject in fill.subjects]
        mark = ledger.mark
        self._fill = Fill(ledger.stamp(), mark, first.engine.clock(), tuple(subjects), ledger)
        self._token = enter(self._fill)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        leave(self._token)
        for one in self._loadings:
            one.fill.merge(self._fill)
        if isinstance(error, Exception):
            self.results = [Raised(each) for each in copies(error, len(self.keys))]
            return True
        return False

    def take(self, found: Any) -> None:
        """What `load_many` has given, by key; a key that is missing has no value."""
        if not isinstance(found, Mapping):
            raise DataError(
                f"{self.source.rule.named}: load_many has given a {type(found).__name__}, and no mapping from keys"
            )
        asked: set[Hashable] = set()
        for one in self._loadings:
            value = found.get(one.request.subject)
            if isinstance(value, BaseException):
                value = Raised(value)
            elif one.request.key in asked:
                # Two who did not wait for each other: neither may change what the other has, or has yet to store.
                value = another(value, self.source.rule.codec)
            asked.add(one.request.key)
            self.results.append(value)


class _Line:
    """Threads that stand in one line; those of a forked child, and of an engine that begins anew, stand in another."""

    __slots__ = ("busy", "flights", "lock", "waiting")

    def __init__(self, flights: Flights) -> None:
        self.flights = flights
        self.lock = threading.Lock()
        self.busy = False
        self.waiting: list[_Turn] = []


class Crowd:
    """Threads that load from one store: while one call is under way, those that come wait, and go with the next."""

    def __init__(self, flights: Flights) -> None:
        self._line = _Line(flights)

    def _line_of(self, engine: Engine) -> _Line:
        line = self._line
        if line.flights is not engine.flights:
            # In a forked child the thread that loads is not there. One line for all who find that out at once: who
            # stood in another would wait for ever.
            with engine.lock:
                line = self._line
                if line.flights is not engine.flights:
                    line = self._line = _Line(engine.flights)
        return line

    def load(self, loading: Loading) -> Any:
        if _within(loading):
            return Loads([loading]).run()[0]  # such a call is under way around it, and would wait for itself
        line, turn = self._line_of(loading.engine), _Turn(loading)
        with line.lock:
            if line.busy:
                line.waiting.append(turn)
            else:
                line.busy, turn.batch = True, [turn]
        if not turn.batch and not turn.ready.wait(LONGEST_TURN) and not self._leads(line, turn):
            return Loads([loading]).run()[0]
        if turn.batch:
            self._lead(line, turn.batch)
        # Where the one who called it was cut off, each of the others loads for itself.
        return Loads([loading]).run()[0] if turn.result is _CUT_OFF else turn.result

    @staticmethod
    def _leads(line: _Line, turn: _Turn) -> bool:
        """For one whose patience is over: whether its turn has come after all."""
        with line.lock:
            if turn in line.waiting:
                line.waiting.remove(turn)
                return False
        turn.ready.wait()
        return True

    @staticmethod
    def _lead(line: _Line, batch: list[_Turn]) -> None:
        results: list[Any] = []
        try:
            results = Loads([turn.loading for turn in batch]).run()
        finally:
            with line.lock:
                most = batch[0].loading.source.max_batch
                following, line.waiting = line.waiting[:most], line.waiting[most:]
                line.busy = bool(following)
            if following:
                following[0].batch = following
                following[0].ready.set()
            for turn, result in zip(batch, results or [_CUT_OFF] * len(batch), strict=True):
                turn.result = result
                turn.ready.set()


_CUT_OFF = object()


def _within(loading: Loading) -> bool:
    """Whether it is asked for by a load of its own store."""
    around, store = loading.around, loading.request.key[0]
    return around is not None and any(
        isinstance(subject, tuple) and subject[0] == store for fill in around.line() for subject in fill.subjects
    )


class _Turn:
    __slots__ = ("batch", "loading", "ready", "result")

    def __init__(self, loading: Loading) -> None:
        self.loading = loading
        self.ready = threading.Event()
        self.batch: list[_Turn] = []
        """Whom it loads for, where it is the one to do so."""
        self.result: Any = None


class All:
    """Several effects; brings what each brought, or a `Raised`."""

    __slots__ = ("_effects",)

    def __init__(self, effects: Sequence[Effect]) -> None:
        self._effects = effects

    def run(self) -> list[Any]:
        results: list[Any] = []
        for effect in self._effects:
            try:
                results.append(effect.run())
            except Exception as error:
                results.append(Raised(error))
        return results

    async def arun(self) -> list[Any]:
        results = await asyncio.gather(*[effect.arun() for effect in self._effects], return_exceptions=True)
        return [Raised(result) if isinstance(result, BaseException) else result for result in results]


class Reads:
    """Several reads of L2 as one; what fails fails once."""

    __slots__ = ("_fetch",)

    def __init__(self, fetches: Sequence[Fetch]) -> None:
        first = fetches[0]
        self._fetch = FetchMany(first.store, [one.name for one in fetches], min(one.deadline for one in fetches))

    def run(self) -> list[Any]:
        try:
            return [*self._fetch.run()]
        except Exception as error:
            return self._failed(error)

    async def arun(self) -> list[Any]:
        try:
            return [*await self._fetch.arun()]
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> list[Any]:
        # The circuit breaker judges by calls, and this was one.
        return [Raised(error), *[None] * (len(self._fetch.names) - 1)]


def together(flows: Sequence[Flow[Outcome]], told: Told) -> Flow[None]:
    """Run flows side by side; `told` hears of each that ends."""
    asking: dict[int, Effect] = {}

    def step(index: int, answer: Any) -> None:
        asking.pop(index, None)
        flow = flows[index]
        try:
            effect = flow.throw(answer.error) if isinstance(answer, Raised) else flow.send(answer)
        except StopIteration as end:
            told(index, end.value)
        except Exception as error:
            told(index, Outcome(error=error))
        else:
            asking[index] = effect

    for index in range(len(flows)):
        step(index, None)
    try:
        while asking:
            chosen, effect = _next(asking)
            answers = yield effect
            for index, answer in zip(chosen, answers, strict=True):
                step(index, answer)
    except BaseException as error:
        for index in list(asking):
            try:
                flows[index].throw(error)
            except BaseException as own:
                told(index, Outcome(error=own))
        raise


def _next(asking: Mapping[int, Effect]) -> tuple[list[int], Effect]:
    """Who is answered next, and by what: first whatever may come before a read, last those who wait for others."""
    chosen = [index for index, effect in asking.items() if not _stays(effect)][:_WIDEST]
    if chosen:
        return chosen, All([asking[index] for index in chosen])
    reads = [index for index, effect in asking.items() if effect.__class__ is Fetch][:_WIDEST]
    if reads:
        return reads, Reads([asking[index] for index in reads])  # type: ignore[misc]
    loads: dict[Source, list[int]] = {}
    for index, effect in asking.items():
        if isinstance(effect, LoadMany):
            loads.setdefault(effect.loading.source, []).append(index)
    for chosen in loads.values():
        return chosen, Loads([asking[index].loading for index in chosen])  # type: ignore[attr-defined]
    chosen = list(asking)[:_WIDEST]
    return chosen, All([asking[index] for index in chosen])


def _stays(effect: Effect) -> bool:
    """Whether it is worth waiting for more of its kind, or others have to be answered before it."""
    if isinstance(effect, Wait):
        return effect.flight.outcome is None
    return isinstance(effect, Fetch | LoadMany)


class Ticks:
    """Gets that are asked for within one turn of an event loop, carried out together in its next."""

    def __init__(self, keep: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._keep = keep
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, list[tuple[Loading, asyncio.Future[Outcome]]]]
        self._waiting = WeakKeyDictionary()

    def join(self, loading: Loading) -> asyncio.Future[Outcome]:
        loop = asyncio.get_running_loop()
        waiting = self._waiting.get(loop)
        if waiting is None:
            waiting = self._waiting[loop] = []
            loop.call_soon(self._go, loop)
        future = loop.create_future()
        waiting.append((loading, future))
        return future

    def _go(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting.pop(loop)

        def told(index: int, outcome: Outcome) -> None:
            future = waiting[index][1]
            if not future.done():
                future.set_result(outcome)

        self._keep(adrive(together([read(loading) for loading, _ in waiting], told)))
