"""Readers: clients that ask all the time, from every app, and hand what they get to the judge."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping

from tests.faults.client import BadReply, Connection, Reply
from tests.faults.fleet import App
from tests.faults.judge import Judge, Read, Verdict
from tests.faults.report import Tally
from tests.faults.terms import KEPT, LANGUAGES, SHOPPED, terms_of, wrong_with

NONE: Mapping[str, str] = {}
HOT_FOR = 2.5
"""Seconds for which readers look most of the time at what was purged."""


def tier_of(status: str) -> str:
    """From `Cache-Status` to who answered."""
    words = status.split("; ")
    detail = next((word.removeprefix("detail=") for word in words if word.startswith("detail=")), "")
    if "hit" in words:
        return detail
    if "collapsed" in words:
        return "collapsed"
    return detail if detail in ("validated", "stale-if-error") else "app"


class Readers:
    """All of them, and what they share."""

    def __init__(self, apps: list[App], judge: Judge, tally: Tally, rng: random.Random) -> None:
        self.apps, self.judge, self.tally = apps, judge, tally
        self._rng = rng
        self.hot: deque[tuple[float, str]] = deque(maxlen=2_000)
        """What has been purged, and when."""

    def choose(self) -> str:
        """What was purged a moment ago, or anything."""
        hot = self.hot
        while hot and hot[0][0] < time.monotonic() - HOT_FOR:
            hot.popleft()
        if hot and self._rng.random() < 0.7:
            return hot[self._rng.randrange(len(hot))][1]
        return self._rng.choice(SHOPPED)

    async def run(self, app: App, rate: float, until: asyncio.Event) -> None:
        """One client of one app, at so many requests a second if the app keeps up."""
        connection = Connection(app.port)
        due = time.monotonic()
        while not until.is_set():
            due = max(due + 1 / rate, time.monotonic() - 0.5)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.one(app, connection, self.choose())
        connection.close()

    async def one(
        self, app: App, connection: Connection, key: str, session: int | None = None, mark: Mapping[str, str] = NONE
    ) -> Read | None:
        """Read a key and have it judged. None where nothing came."""
        language = self._rng.choice(LANGUAGES)
        begun = time.monotonic()
        try:
            reply = await connection.get(key, {"x-language": language, **mark})
        except (OSError, TimeoutError, BadReply) as error:
            if app.was_away(begun, time.monotonic()):
                self.tally.excused += 1
            else:
                await asyncio.sleep(0.05)  # a crash is noticed, and then it is one as well
                self.tally.error(app.name, f"{key}: {type(error).__name__}: {error}")
            return None
        return self.judged(app, key, language, reply, session)

    def judged(self, app: App, key: str, language: str, reply: Reply, session: int | None) -> Read | None:
        tally = self.tally
        if reply.status != 200:
            tally.error(app.name, f"{key}: status {reply.status}: {reply.fields}")
            return None
        try:
            worker, version = int(reply.fields["x-worker"]), int(reply.fields["x-version"])
            began = float(reply.fields["x-began"])
            status = reply.fields["cache-status"]
        except (KeyError, ValueError):
            tally.verdicts("", [Verdict("wrong body", f"{key}: a head that is not of this app: {reply.fields}")])
            return None
        wrong = wrong_with(reply.body, key, language if terms_of(key).varies else "-", version)
        if wrong:
            tally.verdicts("", [Verdict("wrong body", f"{key} by {app.name}: {wrong}; {status}")])
            return None
        read = Read(key, worker, reply.sent, reply.received, began, version, tier_of(status), session)
        finding = self.judge.read(read)
        tally.read(read, finding)
        tally.verdicts(app.name, finding.verdicts)
        return read

    async def kept(self) -> list[Read]:
        """What each app holds of what nobody purges."""

        async def of(app: App) -> list[Read]:
            connection = Connection(app.port)
            found = [await self.one(app, connection, key) for key in KEPT]
            connection.close()
            return [read for read in found if read is not None]

        return [read for reads in await asyncio.gather(*map(of, self.apps)) for read in reads]


