"""Changes of one value: the database first, then the ledger, then, if nobody came between, the tiers.

The number of the ledger is noted before the database is written, and the purge of the key tells which number its tag
had before. Two writers of one key are put in order by the numbers of their purges, not of their writes; a writer whose
note is older than the number before its own cannot know which of the two writes the database took last, stores
nothing, and the next read finds out. The one who stores does so under the number of its own purge: whoever purges
later, kills it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tiercache.core.records import HARD, Message, Stamp
from tiercache.engine import flows
from tiercache.engine.effects import Effect, Flow
from tiercache.engine.engine import Engine
from tiercache.engine.loading import Loading
from tiercache.engine.purging import unconfirmed
from tiercache.errors import PurgeUnconfirmed


class Call:
    """Call a function of the app's, such as one that writes to the database."""

    __slots__ = ("_afunction", "_arguments", "_function")

    def __init__(
        self,
        function: Callable[..., Any] | None,
        afunction: Callable[..., Awaitable[Any]] | None,
        *arguments: Any,
    ) -> None:
        self._function, self._afunction, self._arguments = function, afunction, arguments

    def run(self) -> Any:
        assert self._function is not None
        return self._function(*self._arguments)

    async def arun(self) -> Any:
        assert self._afunction is not None
        return await self._afunction(*self._arguments)


Written = tuple[list[Message], BaseException | None]


def written(
    engine: Engine, members: Sequence[str], call: Effect | None, uncertain: Callable[[Exception], bool]
) -> Flow[Written]:
    """Write to the database, then purge: the messages of the ledger.

    An error comes back in place of being raised: the writer's own, then the tiers are as they were, unless the write
    may have been made all the same; or `PurgeUnconfirmed`, then it has been made, and what it changes is barred here.
    """
    if call is not None:
        try:
            yield call
        except BaseException as error:
            if not isinstance(error, Exception) or uncertain(error):
                yield from doubt(engine, members, error)
            if isinstance(error, Exception):
                return [], error
            raise
    messages, problem = yield from flows.invalidate(engine, members, False, _patience(engine))
    if problem is not None:
        told = unconfirmed(problem)
        told.__cause__ = problem
        return [], told
    return messages, None


def change(
    loading: Loading,
    call: Effect | None,
    value: Any = None,
    *,
    keeps: bool,
    shares: bool = True,
    write: Callable[..., Flow[Written]] | None = None,
) -> Flow[BaseException | None]:
    """Write to the database, purge the key, and with `keeps` store the value if it is known to be the last one; in L2
    too, if it `shares` it. An error comes back, as from `written`, in place of which stands `write` if it is given.
    """
    engine, request = loading.engine, loading.request
    rule = request.route
    if engine.must_catch_up():
        yield from flows.catch_up(engine, time.monotonic() + engine.settings.l2_budget)
    noted = loading.begin().stamp
    members = rule.changed_by(request.subject, request.key)

    def uncertain(error: Exception) -> bool:
        return isinstance(error, rule.uncertain)

    if write is None:
        messages, problem = yield from written(engine, members, call, uncertain)
    else:
        messages, problem = yield from write(call, members, uncertain)
    if problem is None or isinstance(problem, PurgeUnconfirmed):
        loading.source.counts.writes += 1
    if problem is not None or not keeps or not engine.enabled:
        return problem
    try:
        if messages and _last(loading, value, messages[-1], noted, members):
            loading.fill.stamp = Stamp(messages[-1].epoch, messages[-1].number)
            loading.made(value)
            if not shares:
                loading.share = None
        yield from loading.close()
    except BaseException:
        loading.forsake()
        raise
    return None


def _last(loading: Loading, value: Any, message: Message, noted: Stamp, members: Sequence[str]) -> bool:
    try:
        tags = loading.tags_of(value)
    except Exception as error:  # a function of the app's: without its tags the value could not be invalidated
        problem = f"{loading.request.route.named}: {type(error).__name__}: {error}"
        loading.engine.complaints.swallow("value not kept", problem)
        return False
    return may_keep(loading.engine, message, noted, tags, members)


def _patience(engine: Engine) -> float:
    return time.monotonic() + engine.settings.purge_timeout


def doubt(engine: Engine, members: Sequence[str], error: BaseException) -> Flow[None]:
    """Nobody knows whether the database has been written: what is stored may be out of date."""
    if isinstance(error, GeneratorExit):
        engine.ledger.bar(members, False, engine.clock())
        return
    yield from flows.invalidate(engine, members, False, _patience(engine))


def may_keep(engine: Engine, message: Message, noted: Stamp, tags: Sequence[str], members: Sequence[str]) -> bool:
    """Whether nobody has purged the key, nor anything else that the value hangs on, since the number was noted."""
    ledger = engine.ledger
    before = dict(zip(message.members, message.previous, strict=True))
    return (
        message.epoch == noted.epoch
        and message.floor <= noted.number
        # What else a change purges (`invalidates`) may be purged all the time.
        and all(before.get(HARD + tag, 0) <= noted.number for tag in tags)
        # Of the other tags this process knows all up to its own purge, or does not tell.
        and ledger.reached(Stamp(message.epoch, message.number))
        and not ledger.overtaken(tags, noted.number, members)
    )
