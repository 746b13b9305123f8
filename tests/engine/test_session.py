"""What the client of a purge is told to bring along."""

from __future__ import annotations

from contextvars import copy_context

from tiercache import TierCache
from tiercache.core.records import Message, Stamp
from tiercache.core.session_mark import FIELD, UNCONFIRMED, read
from tiercache.engine import session
from tiercache.engine.session import Purges

SECRET = "a secret of many characters"


def told(cache: TierCache, purges: Purges) -> Stamp | None:
    lines = dict(session.lines(cache._engine, purges, secure=True))
    return read(SECRET, lines[FIELD].decode()) if lines else None


def test_it_is_told_all_that_its_process_knows_of() -> None:
    """Of two answers to one client the later one may be that of the earlier purge."""
    cache = TierCache(session_secret=SECRET)

    def purging() -> None:
        purges = session.watch()
        assert told(cache, purges) is None
        session.note(cache._engine, [Message(epoch, 1, 0, 0, ("h:t:a",))])
        for _ in range(3):
            cache.purge(tags="b")
        purges.last = Stamp(epoch, 1)
        assert told(cache, purges) == Stamp(epoch, 3)
        # Of another history this process knows nothing that could be compared.
        purges.last = Stamp("another", 1)
        assert told(cache, purges) == Stamp("another", 1)

    epoch = cache._engine.ledger.stamp().epoch
    copy_context().run(purging)


def test_one_that_was_not_confirmed_counts_however_many_follow() -> None:
    cache = TierCache(session_secret=SECRET)
    engine = cache._engine

    def purging() -> None:
        purges = session.watch()
        session.note(engine, [Message("E", 4, 3, 0, ("h:t:a",))])
        assert purges.last == Stamp("E", 4)
        session.note(engine, [])
        session.note(engine, [Message("E", 5, 4, 0, ("h:t:b",))])
        assert purges.last is not None
        assert purges.last.epoch == UNCONFIRMED
        assert purges.last.number >= engine.wall() + 1

    copy_context().run(purging)
